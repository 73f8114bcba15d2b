"""The campaign beside its control arms: learning curves by each measure and labels saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from quarry.evaluation.curves import Array, Curve, grid, smoothing_weights
from quarry.evaluation.inversion import Differences, of_arms, of_pairs, on_axis, point, shared_test_variance
from quarry.evaluation.savings import Saving, summary_messages
from quarry.stopping.facts import Facts

MEASURES = {"rmse": ("RMSE", "{} RMSE"), "mae": ("MAE", "{} MAE"), "maxe": ("the largest error", "largest {} error")}
"""Errors that are judged, the deciding one first, and their words: alone, and with the metric."""


Influences = tuple[Sequence[Array], Sequence[Array]]
"""For each arm (main, repeats) and for each control, what every test structure adds to the logarithm of each error, shape
(n_test, n_sizes); empty where that is not known."""


@dataclass(frozen=True)
class Measure:
    """One measure of quality of all arms, and the labels saved by it.

    name: rmse, mae, maxe, accuracy (curves: the share of wrong classes) or finds; words: its short name; quality: that with
    the metric, as 'test RMSE'. arms: main and its repeats; controls: random arms; splits: pairs (main, random), each with
    another initial batch and test set. savings: at each size of arm main; None where the arms have no common size, or only the
    initial one.
    """

    name: str
    words: str
    quality: str
    arms: list[Curve]
    controls: list[Curve]
    splits: list[tuple[Curve, Curve]]
    savings: list[Saving | None]

    @staticmethod
    def of(
        name: str,
        words: str,
        quality: str,
        arms: list[Curve],
        controls: list[Curve],
        splits: list[tuple[Curve, Curve]] | None = None,
        influences: Influences = ((), ()),
    ) -> Measure:
        """Return the measure of these curves; arguments as of ``savings_of`` and above."""
        found = savings_of(arms, controls, splits or [], influences)
        return Measure(name, words, quality, arms, controls, splits or [], found)

    @staticmethod
    def from_json(data: dict[str, Any]) -> Measure:
        """Return the measure that ``dataclasses.asdict`` gave and JSON kept."""
        curves: dict[str, Any] = {key: [_curve(c) for c in data[key]] for key in ("arms", "controls")}
        curves["splits"] = [(_curve(main), _curve(control)) for main, control in data["splits"]]
        return Measure(**{**data, **curves, "savings": [s and Saving(**s) for s in data["savings"]]})


def _curve(data: dict[str, Any]) -> Curve:
    return Curve(tuple(data["labels"]), tuple(data["quality"]), data["finds"])


def savings_of(
    arms: Sequence[Curve], controls: Sequence[Curve], splits: Sequence[tuple[Curve, Curve]], influences: Influences
) -> list[Saving | None]:
    """Return the labels saved at each size of the first arm.

    With splits, the pairs of each are compared (the campaign's own initial batch is one more pair, of its arms' means);
    without, arms and controls that share initial batch and test set, and the finite test set's part of the chance is added
    from the influences. A single control does not show the chance: an estimate without an interval.
    """
    curves = [*arms, *controls, *(curve for pair in splits for curve in pair)]
    first, last = max(c.labels[0] for c in curves), min(c.labels[-1] for c in curves)
    sizes = arms[0].labels
    if first >= last:
        return [None] * len(sizes)
    at, floor = grid(first, last, sizes), _floor(curves)
    mains, randoms = (np.array([_smoothed(c, at, floor) for c in group]) for group in (arms, controls))
    pairs = np.array([[_smoothed(c, at, floor) for c in pair] for pair in splits])
    n_test = len(influences[0][0]) if influences[0] else 0
    shared = None
    if not splits and len(controls) > 1 and n_test > 1:
        shared = shared_test_variance(
            [values @ smoothing_weights(c.labels, at).T for values, c in zip(influences[0], arms, strict=True)],
            [values @ smoothing_weights(c.labels, at).T for values, c in zip(influences[1], controls, strict=True)],
        )

    def differences(index: int) -> Differences:
        if splits:
            ours = np.vstack([mains.mean(axis=0), pairs[:, 0]]), np.vstack([randoms.mean(axis=0), pairs[:, 1]])
            return of_pairs(*ours, at, index)
        if len(controls) == 1:
            return point(mains.mean(axis=0), randoms.mean(axis=0), at, index)
        found = of_arms(mains, randoms, at, index)
        return found if shared is None else found.with_shared(on_axis(shared, at, index), n_test - 1.0)

    return [
        _saving(n, n - first, differences(int(np.searchsorted(at, n)))) if first < n <= last else None for n in sizes
    ]


def _smoothed(curve: Curve, at: Array, floor: float) -> Array:
    """Return smoothed logarithms of errors, or finds with the negative sign, so that less is better."""
    quality = np.asarray(curve.quality)
    values = -quality if curve.finds else np.log(np.maximum(quality, floor))
    smoothed: Array = smoothing_weights(curve.labels, at, curve.finds) @ values
    return smoothed


def _floor(curves: Sequence[Curve]) -> float:
    """Return what an error of 0 counts as: half the smallest other one (a share of wrong classes may be 0)."""
    positive = [q for curve in curves for q in curve.quality if q > 0]
    return min(positive) / 2 if positive else 1.0


def _saving(labels: int, limit: float, differences: Differences) -> Saving:
    # Rounded, so that equal curves do not differ by the last bit.
    rounded = [round(float(value), 6) + 0.0 for value in (differences.estimate(), *differences.interval())]
    low, high = rounded[1:] if differences.errors else (None, None)
    return Saving(labels, rounded[0], low, high, limit)


@dataclass(frozen=True)
class Comparison:
    """Arm main, its repeats, the random arms and the splits by every measure, the deciding one first."""

    measures: list[Measure]

    @staticmethod
    def of(
        arms: Sequence[Sequence[Facts]],
        controls: Sequence[Sequence[Facts]],
        splits: Sequence[tuple[Sequence[Facts], Sequence[Facts]]] = (),
        influences: Mapping[str, Influences] | None = None,
    ) -> Comparison:
        """Return the comparison by the facts of each iteration of each arm, main first.

        influences: by measure.
        """
        first = arms[0][0]
        measures = []
        for name, (message, quality) in _names(first).items():
            of_splits = [(curve_of(arm, name), curve_of(control, name)) for arm, control in splits]
            groups = [curve_of(a, name) for a in arms], [curve_of(c, name) for c in controls]
            measures.append(
                Measure.of(name, message, quality, *groups, of_splits, (influences or {}).get(name, ((), ())))
            )
        return Comparison(measures)

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as JSON-able data, with its messages and columns."""
        return {"measures": [asdict(m) for m in self.measures], "columns": self.columns(), "words": self.words}

    @staticmethod
    def from_json(data: dict[str, Any]) -> Comparison:
        """Return the comparison that ``to_json`` gave."""
        return Comparison([Measure.from_json(measure) for measure in data["measures"]])

    @property
    def words(self) -> list[str]:
        """The lines that end a campaign: the saving at the last size that all arms have."""
        if not self.measures:
            return []
        main = self.measures[0]
        found = {m.words: next((s for s in reversed(m.savings) if s is not None), None) for m in self.measures}
        counts = len(main.arms), len(main.controls), len(main.splits)
        return summary_messages(found, [m.quality for m in self.measures], *counts)

    def columns(self) -> list[dict[str, object]]:
        """Return the columns of the history, for each size of arm main: without a suffix those of the deciding measure."""
        rows: list[dict[str, object]] = [{} for measure in self.measures[:1] for _ in measure.savings]
        for number, measure in enumerate(self.measures):
            suffix = f"_{measure.name}" if number else ""
            for row, found in zip(rows, measure.savings, strict=True):
                if found is not None:
                    ends = {"labels_saved_low": found.low, "labels_saved_high": found.high, "verdict": found.verdict}
                    row |= {f"{key}{suffix}": value for key, value in {"labels_saved": found.saved, **ends}.items()}
        return rows


def curve_of(facts: Sequence[Facts], name: str) -> Curve:
    """Return an arm's learning curve by a measure. Errors are of the test set where there is one, else of the stop metric."""
    labels = tuple(f.n_train for f in facts)
    if name == "finds":
        return Curve(labels, tuple(float(f.search["found"]) for f in facts), finds=True)
    errors = [f.errors[metric_of(f)] for f in facts]
    return Curve(labels, tuple(1 - e["accuracy"] if name == "accuracy" else e[name] for e in errors))


def metric_of(facts: Facts) -> str:
    """Return the metric whose errors are compared."""
    return "test" if "test" in facts.errors else facts.metric


def _names(facts: Facts) -> dict[str, tuple[str, str]]:
    """Return what is judged: by name, words for it alone and with the metric; nothing where no error is measured."""
    if "found" in facts.search:
        return {"finds": ("finds", "number of structures in range")}
    metric = metric_of(facts).replace("_", "-")
    errors: dict[str, Any] = facts.errors.get(metric_of(facts), {})
    if "accuracy" in errors:
        return {"accuracy": ("accuracy", f"{metric} accuracy")}
    return {name: (message, quality.format(metric)) for name, (message, quality) in MEASURES.items() if name in errors}
