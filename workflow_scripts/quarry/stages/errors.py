"""Labels beside predictions, and the errors of a metric as facts hold them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quarry.config.targets import Target
from quarry.evaluation.calibration import calibration
from quarry.evaluation.intervals import (
    error_interval,
    share_interval,
    spread_ratio,
    spread_ratio_at_most,
    spread_ratio_interval,
)
from quarry.models.base import Prediction, TrainingData, main_std, main_values
from quarry.models.baselines import CompositionBaseline
from quarry.models.metrics import confusion_matrix, excitation_metrics, mae, regression_metrics, rmse, state_metrics
from quarry.structures import StructureSet

CALIBRATION_BESIDE = ("rank_correlation", "rms_z", "coverage_68", "coverage_95")
"""What is said of the standard deviations of properties beside the main one (``quarry.evaluation.calibration``)."""

NEGLIGIBLE = 1e-5
"""Below this share of the root mean square of the labels both an error and its standard deviation are zero but for rounding."""


@dataclass(frozen=True, eq=False)
class Evaluated:
    """Labels of some structures and what a model says of them.

    labels, mean, std: of the main property, shape (n,), of excited states (n, 2 n_states); std is None without standard
    deviations. noise_variance: of a label, in the unit squared; 0 where nothing is known of it.
    """

    target: Target
    data: TrainingData
    prediction: Prediction
    labels: NDArray[np.float64]
    mean: NDArray[np.float64]
    std: NDArray[np.float64] | None
    noise_variance: float

    @staticmethod
    def of(target: Target, data: TrainingData, prediction: Prediction) -> Evaluated:
        """Return the labels of data beside a prediction for them."""
        return Evaluated(
            target,
            data,
            prediction,
            main_values(target, data.targets),
            main_values(target, prediction.mean),
            main_std(target, prediction),
            prediction.noise_variance.get(target.main[0], 0.0),
        )

    @property
    def structures(self) -> StructureSet:
        """The structures."""
        return self.data.structures

    @property
    def errors(self) -> NDArray[np.float64]:
        """Errors of numbers, shaped as ``labels`` and in their unit; 1 for a wrong class and 0 for a right one."""
        if self.target.classes:
            return (self.mean != self.labels).astype(np.float64)
        return self.mean - self.labels

    @property
    def std_with_noise(self) -> NDArray[np.float64] | None:
        """Standard deviation of a label about the prediction, shaped as ``std``, or None."""
        return None if self.std is None else np.hypot(self.std, self.noise_variance**0.5)

    def beside(self) -> Iterator[tuple[str, NDArray[np.float64], NDArray[np.float64]]]:
        """Yield name, labels and predictions (arrays of the property's shape) of what is learnt beside the main property."""
        for name in self.target.beside:
            if name in self.prediction.mean:
                yield name, self.data.targets[name], self.prediction.mean[name]


def summary_of(found: Evaluated, target: Target, rng: np.random.Generator) -> dict[str, Any]:
    """Return the errors of a metric as ``Facts.errors`` holds them. rng: draws the resamples of the intervals."""
    if target.classes:
        return _class_summary(found)
    errors, labels = found.errors, found.labels
    rmse_low, rmse_high = error_interval(errors, 2, rng)
    mae_low, mae_high = error_interval(errors, 1, rng)
    intervals = {"rmse_low": rmse_low, "rmse_high": rmse_high, "mae_low": mae_low, "mae_high": mae_high}
    intervals |= _beside_the_spread(errors, _about_elements(found), rng)
    if target.transitions:
        fit = {} if found.std is None else calibration(*_by_spread(labels, errors, found.std))
        return {**excitation_metrics(errors), **intervals, **fit, "n": len(errors)}
    # Told apart from the errors themselves: a model without uncertainties has none of these.
    fit = {} if found.std_with_noise is None else calibration(errors.ravel(), found.std_with_noise.ravel())
    for name, label, mean in found.beside():
        of_property = regression_metrics((mean - label).ravel())
        spread = float(label.std())
        ratio = of_property["rmse"] / spread if spread else None
        fit |= {f"{name}_rmse": of_property["rmse"], f"{name}_mae": of_property["mae"], f"{name}_rmse_over_std": ratio}
        fit |= _calibration_beside(found, name, label, mean - label)
    sizes = np.diff(found.structures.offsets)
    if target.total_energy and (sizes > 0).all():
        per_atom = errors / sizes
        fit |= {"rmse_per_atom": rmse(per_atom), "mae_per_atom": mae(per_atom)}
    metrics = state_metrics(errors) if target.per_state else regression_metrics(errors)
    return {**metrics, **intervals, **fit, "n": len(errors)}


def _calibration_beside(
    found: Evaluated, name: str, label: NDArray[np.float64], errors: NDArray[np.float64]
) -> dict[str, float | None]:
    """Return how errors of what is learnt beside the main property fit its standard deviations, number by number.

    Numbers that model and label have as zero are left out, and what rounding leaves of them: forces out of the plane of a planar
    molecule, or across a straight one, say nothing of an error bar, and are one or two thirds of all.
    """
    if name not in found.prediction.std:
        return {}
    std = found.prediction.std[name]
    known = np.isfinite(errors) & np.isfinite(std)
    least = NEGLIGIBLE * float(np.sqrt(np.mean(label[known] ** 2))) if known.any() else 0.0
    judged = known & ~((np.abs(errors) < least) & (std < least))
    if not judged.any():
        return {f"{name}_{key}": None for key in CALIBRATION_BESIDE}
    fit = calibration(errors[judged], std[judged])
    return {f"{name}_{key}": fit[key] for key in CALIBRATION_BESIDE}


def _class_summary(found: Evaluated) -> dict[str, Any]:
    """Return accuracy and confusion, beside what always naming the most frequent class of the labels would reach."""
    n, confusion = len(found.labels), confusion_matrix(found.labels, found.mean, len(found.data.classes))
    right, majority = int(np.trace(confusion)), int(confusion.sum(axis=1).max())
    low, high = share_interval(right, n)
    return {
        "accuracy": right / n,
        "accuracy_low": low,
        "accuracy_high": high,
        "majority": majority / n,
        "error_over_majority_error": (n - right) / (n - majority) if majority < n else None,
        "confusion": confusion.tolist(),
        "n": n,
    }


def _about_elements(found: Evaluated) -> NDArray[np.float64]:
    """Return labels whose spread a model must beat: total energies less their best sum over elements, others as they are.

    Total energies of different molecules are thousands of eV apart, which counting atoms explains but for a few. Those of
    one composition lose their mean only.
    """
    if not found.target.total_energy or not len(found.structures.numbers):
        return found.labels
    return found.labels - CompositionBaseline.fit(found.structures, found.labels).mean(found.structures)


def _beside_the_spread(
    errors: NDArray[np.float64], targets: NDArray[np.float64], rng: np.random.Generator
) -> dict[str, float | None]:
    """Return RMSE / std of the targets and, of one quantity, R^2 = 1 - (RMSE / std)^2, with intervals.

    rmse_over_std_at_most: see ``spread_ratio_at_most``.
    """
    ratio, (low, high) = spread_ratio(errors, targets), spread_ratio_interval(errors, targets, rng)
    found = {"rmse_over_std": ratio, "rmse_over_std_low": low, "rmse_over_std_high": high}
    found["rmse_over_std_at_most"] = spread_ratio_at_most(errors, targets)
    if errors.ndim == 1:
        for name, value in (("r2", ratio), ("r2_low", high), ("r2_high", low)):
            found[name] = None if value is None else 1 - value**2
    return found


def _by_spread(
    targets: NDArray[np.float64], errors: NDArray[np.float64], std: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return errors and standard deviations of all quantities in units of each quantity's spread, flat."""
    spread = targets.std(axis=0)
    varying = spread > 0
    return (errors[:, varying] / spread[varying]).ravel(), (std[:, varying] / spread[varying]).ravel()
