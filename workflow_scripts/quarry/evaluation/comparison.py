"""The campaign beside its control arms: learning curves and labels saved (standard library only: read at parse time)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quarry.evaluation.savings import Curve, Saving, saving
from quarry.stopping.facts import Facts


def curve_of(facts: Sequence[Facts]) -> Curve:
    """Return an arm's learning curve: finds of a targeted search, share of wrong classes, or the RMSE.

    Errors are of the test set where there is one, otherwise of the stop metric.
    """
    labels = tuple(f.n_train for f in facts)
    if "found" in facts[0].search:
        return Curve(labels, tuple(float(f.search["found"]) for f in facts), finds=True)
    return Curve(labels, tuple(_error(f) for f in facts))


def quality_of(facts: Facts) -> str:
    """Return what the curve shows, in words."""
    if "found" in facts.search:
        return "number of structures in range"
    metric = _metric_of(facts).replace("_", "-")
    return f"{metric} accuracy" if facts.accuracy is not None else f"{metric} RMSE"


def _metric_of(facts: Facts) -> str:
    return "test" if "test" in facts.errors else facts.metric


def _error(facts: Facts) -> float:
    errors = facts.errors[_metric_of(facts)]
    return 1 - errors["accuracy"] if "accuracy" in errors else errors["rmse"]


@dataclass(frozen=True)
class Comparison:
    """Curves of arm main and its repeats, and of the random arms."""

    arms: list[Curve]
    controls: list[Curve]
    quality: str

    @staticmethod
    def of(arms: Sequence[Sequence[Facts]], controls: Sequence[Sequence[Facts]]) -> Comparison:
        """Make it from the facts of each arm, main first."""
        return Comparison([curve_of(a) for a in arms], [curve_of(c) for c in controls], quality_of(arms[0][0]))

    def savings(self) -> list[Saving | None]:
        """Return the labels saved at each size of arm main's training set."""
        return [saving(self.arms, self.controls, labels) for labels in self.arms[0].labels]
