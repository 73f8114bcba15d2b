"""What a dry run says in words: what would be computed, and what nobody knows yet."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from quarry.campaign.batch_table import read_batch
from quarry.campaign.campaign import Campaign
from quarry.campaign.iterations import count_with
from quarry.config.campaign import Configuration
from quarry.errors import QuarryError

OF_LABELS = "label_structure"


def dry_run_lines(campaign: Campaign, jobs: Mapping[str, int]) -> list[str]:
    """Return the lines. jobs: number of jobs that Snakemake would run as far as it can see, by rule, and their total."""
    counts = {rule: number for rule, number in jobs.items() if rule not in ("total", "all")}
    labels = sum(number for rule, number in counts.items() if rule.endswith(OF_LABELS))
    others = sum(counts.values()) - labels
    lines = [f"Quarry: dry run of {campaign.paths.root}: nothing is computed and nothing is changed"]
    lines += [f"Quarry: {_arm(campaign, arm)}" for arm in campaign.arms]
    # Iterations that are not chosen yet have no jobs; those that are known are named.
    named = ", ".join(
        f"{number} {rule}" if number > 1 else rule for rule, number in counts.items() if not rule.endswith(OF_LABELS)
    )
    jobs_words = f"{labels} label jobs and {others} others" if labels else f"{others} jobs, no labels among them"
    lines.append(f"Quarry: jobs that are known now: {jobs_words}" + (f" ({named})" if named else ""))
    with suppress(QuarryError):  # What is damaged is said above.
        if all(_has_ended(campaign, arm) for arm in campaign.arms):
            return lines
    lines.append(
        "Quarry: not known yet: which structures later batches hold and how many iterations there are; each batch is chosen "
        "when the one before it is labelled and the stop rules are asked"
    )
    lines.append(
        "Quarry: `snakemake forecast` says what it will cost; with --verbose this lists every job that is known now"
    )
    return lines


def _arm(campaign: Campaign, arm: str) -> str:
    """Return what is known of an arm: its labels, those of its next batch, and how many there may be; or what is wrong."""
    try:
        return _known(campaign, arm)
    except QuarryError as error:
        return f"arm {arm}: {error}"


def _known(campaign: Campaign, arm: str) -> str:
    done = count_with(partial(campaign.paths.facts, arm))
    known = campaign.facts(arm, done - 1)[-1].n_labels if done else 0
    stop = campaign.configuration.stop
    table = Path(campaign.paths.batch(arm, done))
    if _has_ended(campaign, arm):
        return f"arm {arm}: {known} labels in {done} iterations; it has ended"
    words = [f"arm {arm}: {known} labels in {done} finished iterations" if done else f"arm {arm}: not begun"]
    if table.exists():
        words.append(f"the batch of iteration {done} has {_rows(table)} labels")
    elif not done:
        words.append(f"the first batch has {first_batch(campaign.configuration)} labels (query.initial and test.size)")
    if stop.max_labels is not None:
        words.append(f"at most {stop.max_labels} labels in all (stop.max_labels)")
    elif stop.max_iterations is not None:
        words.append(f"at most {stop.max_iterations} iterations after the first batch (stop.max_iterations)")
    elif stop.max_core_hours is not None:
        words.append(f"at most about {stop.max_core_hours:g} core-hours (stop.max_core_hours)")
    elif campaign.configuration.pool.is_sampled:
        words.append(
            "no budget: new structures are made as long as its stop rules let it go on; stop.max_labels, max_iterations or "
            "max_core_hours ends it for certain"
        )
    else:
        words.append("no budget of labels: it ends by its other stop rules, or with the pool")
    return "; ".join(words)


def _has_ended(campaign: Campaign, arm: str) -> bool:
    done = count_with(partial(campaign.paths.facts, arm))
    return bool(done) and not Path(campaign.paths.batch(arm, done)).exists() and campaign.has_stopped(arm, done - 1)


def first_batch(configuration: Configuration) -> int:
    """Return how many labels iteration 0 asks for."""
    return configuration.query.initial + configuration.test.size


def _rows(table: Path) -> int:
    try:
        return len(read_batch(table))
    except (OSError, ValueError):
        return 0
