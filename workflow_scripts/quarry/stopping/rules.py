"""When to stop, and the reason in words. Standard library only: evaluated whenever the Snakefile is read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from quarry.config.campaign import Configuration
from quarry.stopping.facts import Cost, Facts
from quarry.stopping.words import interval_words


@dataclass(frozen=True)
class StopReason:
    """Why an arm ends: the rule's name in the configuration and one sentence."""

    rule: str
    words: str


def stop_reason(facts: Sequence[Facts], costs: Sequence[Cost], configuration: Configuration) -> StopReason | None:
    """Return the first rule that ends the arm after the last of ``facts``, or None to go on.

    facts, costs: of iterations 0, 1, ... of one arm.
    """
    for rule in (
        _target_rmse,
        _target_accuracy,
        _rrmse,
        _pool_exhausted,
        _max_labels,
        _max_core_hours,
        _max_iterations,
    ):
        words = rule(facts, costs, configuration)
        if words:
            return StopReason(rule.__name__.removeprefix("_"), words)
    return None


def _target_rmse(facts: Sequence[Facts], costs: Sequence[Cost], configuration: Configuration) -> str | None:
    limit, last = configuration.target_rmse(), facts[-1]
    if limit is None or last.rmse is None or last.rmse >= limit:
        return None
    name = "RMSE_geom" if last.target == "excitations" else "RMSE"
    words = f"{_metric(last)} {name} {last.rmse:.6g} is below target_rmse = {limit:.6g} {unit_of(last.target)}"
    return words.rstrip()


def _target_accuracy(facts: Sequence[Facts], costs: Sequence[Cost], configuration: Configuration) -> str | None:
    limit, last = configuration.stop.target_accuracy, facts[-1]
    if limit is None or last.accuracy is None or last.accuracy < limit:
        return None
    return f"{_metric(last)} accuracy {last.accuracy:.4g} has reached target_accuracy = {limit:g}"


def _rrmse(facts: Sequence[Facts], costs: Sequence[Cost], configuration: Configuration) -> str | None:
    """Lecture of P. O. Dral (2024): stop when |RMSE(N) - RMSE(N - step)| / RMSE(N) < 0.1; 1.0 in the first iteration."""
    stop, last = configuration.stop, facts[-1]
    if stop.rrmse is None or len(facts) <= stop.patience:
        return None
    recent = facts[-stop.patience :]
    if not all((_upper(f) if stop.rrmse_bound == "upper" else f.rrmse) < stop.rrmse for f in recent):
        return None
    often = "" if stop.patience == 1 else f", {stop.patience} iterations in a row"
    interval = f"95 % interval {interval_words(last.rrmse_low, last.rrmse_high, '.3f')}"
    words = f"rRMSE {last.rrmse:.3f} ({interval}) is below {stop.rrmse:g}{often}"
    if _upper(last) >= stop.rrmse:
        words += "; the interval reaches beyond it: perhaps a chance plateau (see stop.rrmse_bound and test.size)"
    return words


def _upper(facts: Facts) -> float:
    return math.inf if facts.rrmse_high is None else facts.rrmse_high


def _pool_exhausted(facts: Sequence[Facts], costs: Sequence[Cost], configuration: Configuration) -> str | None:
    last = facts[-1]
    return (
        f"the pool is exhausted: all {last.pool_size} structures are labelled or failed"
        if last.pool_left == 0
        else None
    )


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


def labels_left(facts: Facts, configuration: Configuration) -> int:
    """Return how many labels the pool and max_labels still allow."""
    limit = configuration.stop.max_labels
    return facts.pool_left if limit is None else max(0, min(facts.pool_left, limit - facts.n_labels))


def unit_of(target: str) -> str:
    """Return the unit of a target's errors; empty for a value, which has none, and for RMSE_geom, where units are mixed."""
    return {"dipole": "e*Angstrom", "value": "", "excitations": ""}.get(target, "eV")


def _metric(facts: Facts) -> str:
    return {"test": "test-set", "validation": "validation", "cross_validation": "cross-validation"}[facts.metric]
