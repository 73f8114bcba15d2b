"""When to stop, and the reason in words. Standard library only: evaluated whenever the Snakefile is read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from quarry.config.campaign import Configuration
from quarry.stopping.facts import Cost, Facts, ratio_at_most
from quarry.stopping.words import how_good, interval_words


@dataclass(frozen=True)
class StopReason:
    """Why an arm ends: the rule's name in the configuration and one sentence."""

    rule: str
    words: str


def stop_reason(facts: Sequence[Facts], costs: Sequence[Cost], configuration: Configuration) -> StopReason | None:
    """Return the first rule that ends the arm after the last of ``facts``, or None to go on.

    facts, costs: of iterations 0, 1, ... of one arm.
    """
    last = facts[-1]
    converged = () if absurd_words(last) else CONVERGED
    for rule in (*converged, _pool_exhausted, _max_labels, _max_core_hours, _max_iterations):
        words = rule(facts, costs, configuration)
        if words:
            said = (words, how_good(last.errors.get(last.metric), last.goal.unit), absurd_words(last))
            return StopReason(rule.__name__.removeprefix("_"), "; ".join(part for part in said if part))
    return None


def absurd_words(facts: Facts) -> str:
    """Return what labels with absurd values do to the error, empty if none is learnt from or measured by.

    One of them is enough: such a value is off by more than all others together, wherever it is.
    """
    flagged = facts.flagged
    used = flagged.get("train", 0), flagged.get("evaluated", 0)
    if not any(used):
        return ""
    share = f", which carry {100 * flagged['error_share']:.0f} % of the squared error" if used[1] else ""
    return (
        f"{used[0]} training labels and {used[1]} {_metric(facts)} labels have absurd values{share} (ids "
        f"{', '.join(flagged['ids'])}; see audit.csv, and labeling.leave_out)"
    )


def _target_rmse(facts: Sequence[Facts], costs: Sequence[Cost], configuration: Configuration) -> str | None:
    limit, last = configuration.target_rmse(), facts[-1]
    if limit is None or last.rmse is None:
        return None
    upper = configuration.stop.target_rmse_bound == "upper"
    value = last.errors[last.metric].get("rmse_high") if upper else last.rmse
    if value is None or value >= limit:
        return None
    name = last.goal.error_name
    of = (
        f"the upper end {value:.6g} of the 95 % interval of the {_metric(last)} {name}"
        if upper
        else (f"{_metric(last)} {name} {value:.6g}")
    )
    return f"{of} is below target_rmse = {limit:.6g} {last.goal.unit}".rstrip()


def _target_accuracy(facts: Sequence[Facts], costs: Sequence[Cost], configuration: Configuration) -> str | None:
    limit, last = configuration.stop.target_accuracy, facts[-1]
    if limit is None or last.accuracy is None or last.accuracy < limit:
        return None
    return f"{_metric(last)} accuracy {last.accuracy:.4g} has reached target_accuracy = {limit:g}"


def _rrmse(facts: Sequence[Facts], costs: Sequence[Cost], configuration: Configuration) -> str | None:
    """Lecture of P. O. Dral (2024): stop when |RMSE(N) - RMSE(N - step)| / RMSE(N) < 0.1; 1.0 in the first iteration."""
    stop, last = configuration.stop, facts[-1]
    if stop.rrmse is None or len(facts) <= stop.patience or not has_learnt(last, stop.min_r2):
        return None
    recent = facts[-stop.patience :]
    if not all(
        not absurd_words(f) and (_upper(f) if stop.rrmse_bound == "upper" else f.rrmse) < stop.rrmse for f in recent
    ):
        return None
    often = "" if stop.patience == 1 else f", {stop.patience} iterations in a row"
    interval = f"95 % interval {interval_words(last.rrmse_low, last.rrmse_high, '.3f')}"
    words = f"rRMSE {last.rrmse:.3f} ({interval}) is below {stop.rrmse:g}{often}"
    if _upper(last) >= stop.rrmse:
        words += "; the interval reaches beyond it: perhaps a chance plateau (see stop.rrmse_bound and test.size)"
    return words


def held_back(facts: Facts, configuration: Configuration) -> str | None:
    """Return why an error that would stop the campaign stops nothing, or None."""
    stop, absurd = configuration.stop, absurd_words(facts)
    if absurd:
        small = stop.rrmse is not None and facts.iteration > 0 and facts.rrmse < stop.rrmse
        reached = [words for rule in (_target_rmse, _target_accuracy) if (words := rule([facts], [], configuration))]
        reached += [f"rRMSE {facts.rrmse:.3f} is below {stop.rrmse:g}"] if small else []
        return f"{reached[0]}, but stops nothing: {absurd}" if reached else None
    if facts.iteration == 0 or stop.rrmse is None or facts.rrmse >= stop.rrmse or has_learnt(facts, stop.min_r2):
        return None
    return (
        f"rRMSE is below {stop.rrmse:g}, but stops nothing: the model is not shown to be better than the mean of the labels "
        f"(stop.min_r2 = {stop.min_r2:g})"
    )


def has_learnt(facts: Facts, min_r2: float | None) -> bool:
    """Return whether a model is better than the mean of the labels (or the most frequent class) by a margin.

    min_r2: ``stop.min_r2``; None: not asked. The lower end of the interval of R^2 counts (``ratio_at_most``). Facts of an
    earlier version, which do not hold it, pass.
    """
    errors = facts.errors.get(facts.metric, {})
    if min_r2 is None or not errors:
        return True
    if facts.accuracy is not None:
        majority, low = errors.get("majority"), errors["accuracy_low"]
        # Where there is one class only, the model cannot be better than its name.
        return majority is None or (majority < 1 and 1 - (1 - low) / (1 - majority) > min_r2)
    if "rmse_over_std_high" not in errors:
        return True
    high = ratio_at_most(errors)
    return high is not None and 1 - high**2 > min_r2


CONVERGED = (_target_rmse, _target_accuracy, _rrmse)
"""Rules that ask how small the error is, or how little it changes."""


def _upper(facts: Facts) -> float:
    return math.inf if facts.rrmse_high is None else facts.rrmse_high


def _pool_exhausted(facts: Sequence[Facts], costs: Sequence[Cost], configuration: Configuration) -> str | None:
    last = facts[-1]
    if last.pool_left is None:
        return None if last.iteration == 0 or last.pool_size else "the sampler gave no new candidate"
    if last.pool_left:
        return None
    return f"the pool is exhausted: all {last.pool_size} structures are labelled or failed"


def _max_labels(facts: Sequence[Facts], costs: Sequence[Cost], configuration: Configuration) -> str | None:
    limit, used = configuration.stop.max_labels, facts[-1].n_labels
    return f"the budget of max_labels = {limit} is spent ({used} labels used)" if limit and used >= limit else None


def _max_core_hours(facts: Sequence[Facts], costs: Sequence[Cost], configuration: Configuration) -> str | None:
    limit, used = configuration.stop.max_core_hours, core_hours(costs)
    return (
        f"the budget of max_core_hours = {limit:g} is spent ({used:.3g} core-hours)"
        if limit and used >= limit
        else None
    )


def _max_iterations(facts: Sequence[Facts], costs: Sequence[Cost], configuration: Configuration) -> str | None:
    limit, done = configuration.stop.max_iterations, facts[-1].iteration
    return f"the budget of max_iterations = {limit} is spent" if limit and done >= limit else None


def core_hours(costs: Sequence[Cost]) -> float:
    """Return what the campaign spent on the labels that this arm uses, and on its models."""
    return sum(c.campaign_label_core_hours + c.train_core_hours for c in costs)


def labels_left(facts: Facts, configuration: Configuration) -> float:
    """Return how many labels the pool and max_labels still allow; infinity where there is no end."""
    limit, left = configuration.stop.max_labels, math.inf if facts.pool_left is None else facts.pool_left
    return left if limit is None else max(0, min(left, limit - facts.n_labels))


def _metric(facts: Facts) -> str:
    return {"test": "test-set", "validation": "validation", "cross_validation": "cross-validation"}[facts.metric]
