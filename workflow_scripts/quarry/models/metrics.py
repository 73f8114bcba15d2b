"""Errors of a model, their bootstrap intervals, and the relative change of the error between iterations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Statistic = Callable[[NDArray[np.float64]], float]


def rmse(errors: NDArray[np.float64]) -> float:
    """Return the root mean square error."""
    return float(np.sqrt(np.mean(np.square(errors))))


def mae(errors: NDArray[np.float64]) -> float:
    """Return the mean absolute error."""
    return float(np.mean(np.abs(errors)))


def maxe(errors: NDArray[np.float64]) -> float:
    """Return the largest absolute error."""
    return float(np.max(np.abs(errors)))


def geometric(statistic: Statistic) -> Statistic:
    """Return a statistic of errors of several quantities, shape (n, n_quantities): the geometric mean over them.

    RMSE_geom of ML-NEA (B.-X. Xue, M. Barbatti, P. O. Dral, J. Phys. Chem. A 124, 7199 (2020)): the mean of logarithms,
    so that quantities of different units count alike. A quantity without any error (0.0) is left out, as in the
    published program; if all are, the mean is 0. Errors of shape (n,) get the statistic itself.
    """

    def of_all(errors: NDArray[np.float64]) -> float:
        if errors.ndim == 1:
            return statistic(errors)
        values = np.array([statistic(column) for column in errors.T])
        wrong = values[values > 0]
        return float(np.exp(np.mean(np.log(wrong)))) if len(wrong) else 0.0

    return of_all


def excitation_metrics(errors: NDArray[np.float64]) -> dict[str, Any]:
    """Return the errors of excitation energies and oscillator strengths, shape (n, 2 n_states), energies first.

    rmse, mae: geometric means over all quantities (RMSE_geom; of mixed units, good for comparisons only).
    rmse_energies_eV, rmse_strengths: over all structures and states. states: RMSE of each quantity, in their order.
    """
    n_states = errors.shape[1] // 2
    return {
        "rmse": geometric(rmse)(errors),
        "mae": geometric(mae)(errors),
        "rmse_energies_eV": rmse(errors[:, :n_states].ravel()),
        "rmse_strengths": rmse(errors[:, n_states:].ravel()),
        "states": [rmse(column) for column in errors.T],
    }


METRICS: dict[str, Statistic] = {"rmse": rmse, "mae": mae, "maxe": maxe}


def regression_metrics(errors: NDArray[np.float64]) -> dict[str, float]:
    """Return RMSE, MAE and largest absolute error (rmse, mae, maxe) in the unit of the errors, shape (n,), n > 0."""
    if len(errors) == 0:
        raise ValueError("no errors to take metrics of")
    return {name: metric(errors) for name, metric in METRICS.items()}


def bootstrap_interval(
    errors: NDArray[np.float64],
    statistic: Statistic,
    rng: np.random.Generator,
    samples: int = 1000,
    level: float = 0.95,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of a statistic of the errors, shape (n,), n > 0.

    B. Efron, R. J. Tibshirani, An Introduction to the Bootstrap (1993), section 13.3. For a maximum the upper end is
    never above the largest error seen, so that interval is too short.
    """
    size = len(errors)
    values = np.array([statistic(errors[rng.integers(size, size=size)]) for _ in range(samples)])
    return _percentile_interval(values, level)


def confusion_matrix(labels: NDArray[np.float64], predicted: NDArray[np.float64], n_classes: int) -> NDArray[np.int64]:
    """Return how many structures of each class (rows) were predicted to be of each class (columns).

    labels, predicted: numbers of the classes, counted from 0, shape (n,).
    """
    matrix = np.zeros((n_classes, n_classes), dtype=np.int64)
    np.add.at(matrix, (labels.astype(np.int64), predicted.astype(np.int64)), 1)
    return matrix


def rrmse(previous: float | None, current: float) -> float:
    """Return |RMSE(N) - RMSE(N - step)| / RMSE(N), 1 if there is no previous RMSE.

    P. O. Dral, lecture "Active learning" (5 July 2024), whose printed values are absolute. If the current RMSE is 0:
    0 if the previous one is 0 too, otherwise 1.
    """
    if previous is None:
        return 1.0
    if current == 0.0:
        return 0.0 if previous == 0.0 else 1.0
    return abs(current - previous) / current


def rrmse_interval(
    previous_errors: NDArray[np.float64] | None,
    current_errors: NDArray[np.float64],
    paired: bool,
    rng: np.random.Generator,
    samples: int = 1000,
    level: float = 0.95,
    statistic: Statistic = rmse,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of ``rrmse`` between two sets of errors; (1, 1) without previous ones.

    statistic: what the relative change is of; ``mae`` of errors 0 (right) and 1 (wrong) is the error rate of classes.

    paired: the errors are of the same structures in the same order (a fixed test set), which are then drawn together;
    otherwise each set is drawn by itself. Resampling moves the two RMSEs apart more often than together, so the lower
    end is above 0 even when nothing changed; compare the upper end with a threshold.
    """
    if previous_errors is None:
        return 1.0, 1.0
    before, now = len(previous_errors), len(current_errors)
    if paired and before != now:
        raise ValueError(f"paired errors must be of the same structures: got {before} and {now}")
    values = np.empty(samples)
    for i in range(samples):
        drawn = rng.integers(now, size=now)
        drawn_before = drawn if paired else rng.integers(before, size=before)
        values[i] = rrmse(statistic(previous_errors[drawn_before]), statistic(current_errors[drawn]))
    return _percentile_interval(values, level)


def _percentile_interval(values: NDArray[np.float64], level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
