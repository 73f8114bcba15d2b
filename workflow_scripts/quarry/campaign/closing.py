"""What the terminal says when a campaign ends or breaks off."""

from __future__ import annotations

from pathlib import Path

from quarry.campaign.campaign import Campaign
from quarry.config.campaign import MAIN_ARM
from quarry.evaluation.comparison import Comparison
from quarry.evaluation.savings import saving_words


def closing_words(campaign: Campaign) -> str:
    """Return why each arm stopped and where the results are."""
    lines = []
    for arm in campaign.arms:
        last = _count(campaign, arm) - 1
        if last >= 0:
            reason = campaign.stop_reason(arm, last)
            facts = campaign.facts(arm, last)[-1]
            why = f"stopped: {reason.words}" if reason else "not finished"
            if reason and campaign.configuration.spectrum:
                why = f"ML-NEA {why}"
            lines.append(f"Quarry: arm {arm}: {facts.n_labels} labels in {last + 1} iterations; {why}")
    comparison = _comparison(campaign)
    if comparison:
        lines.append(f"Quarry: {saving_words(comparison.savings()[-1], comparison.quality)}")
    root = campaign.paths.root
    if not lines:
        return f"Quarry: no iteration of {root} is finished yet"
    lines.append(
        f"Quarry: results in {root}: history.csv, dataset.extxyz, dataset.h5, model/model.h5, failures.csv, "
        f"outliers.csv, {'cross-section/, ensemble.h5, ' if campaign.configuration.spectrum else ''}figures/"
    )
    lines.append(f"Quarry: report: the same command with --report {root}/report.html")
    return "\n".join(lines)


def error_words(campaign: Campaign) -> str:
    """Return what to do after a run that broke off."""
    return (
        f"Quarry: the run of {campaign.paths.root} broke off; finished labels are kept. The messages above name the job and "
        "its log. Mend the cause and give the same command again: it goes on from here."
    )


def _comparison(campaign: Campaign) -> Comparison | None:
    """Return arm main beside its control arms, or None if there are none or one has no iteration yet."""
    configuration = campaign.configuration
    groups = [[MAIN_ARM, *configuration.repeats], configuration.controls]
    facts = [[campaign.facts(arm, _count(campaign, arm) - 1) for arm in group] for group in groups]
    return (
        Comparison.of(*facts) if configuration.controls and all(found for group in facts for found in group) else None
    )


def _count(campaign: Campaign, arm: str) -> int:
    count = 0
    while Path(campaign.paths.facts(arm, count)).exists():
        count += 1
    return count
