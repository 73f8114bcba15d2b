"""What the terminal says when a campaign ends or breaks off."""

from __future__ import annotations

from pathlib import Path

from quarry.campaign.campaign import Campaign


def closing_words(campaign: Campaign) -> str:
    """Return why each arm stopped and where the results are."""
    lines = []
    for arm in campaign.arms:
        last = _count(campaign, arm) - 1
        if last >= 0:
            reason = campaign.stop_reason(arm, last)
            facts = campaign.facts(arm, last)[-1]
            why = f"stopped: {reason.words}" if reason else "not finished"
            lines.append(f"Quarry: arm {arm}: {facts.n_labels} labels in {last + 1} iterations; {why}")
    root = campaign.paths.root
    if not lines:
        return f"Quarry: no iteration of {root} is finished yet"
    lines.append(
        f"Quarry: results in {root}: history.csv, dataset.extxyz, dataset.h5, model/model.h5, failures.csv, "
        "outliers.csv, figures/"
    )
    lines.append(f"Quarry: report: the same command with --report {root}/report.html")
    return "\n".join(lines)


def error_words(campaign: Campaign) -> str:
    """Return what to do after a run that broke off."""
    return (
        f"Quarry: the run of {campaign.paths.root} broke off; finished labels are kept. The messages above name the job and "
        "its log. Mend the cause and give the same command again: it goes on from here."
    )


def _count(campaign: Campaign, arm: str) -> int:
    count = 0
    while Path(campaign.paths.facts(arm, count)).exists():
        count += 1
    return count
