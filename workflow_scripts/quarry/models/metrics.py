"""Errors of a model, and the relative change of the error between iterations; intervals: quarry.evaluation.intervals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Statistic = Callable[[NDArray[np.float64]], float]


def rmse(errors: NDArray[np.float64]) -> float:
    """Return the root mean square error, in the unit of errors of any shape."""
    return float(np.sqrt(np.mean(np.square(errors))))


def mae(errors: NDArray[np.float64]) -> float:
    """Return the mean absolute error, in the unit of errors of any shape."""
    return float(np.mean(np.abs(errors)))


def maxe(errors: NDArray[np.float64]) -> float:
    """Return the largest absolute error, in the unit of errors of any shape."""
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


def state_metrics(errors: NDArray[np.float64]) -> dict[str, Any]:
    """Return the errors of the energies of states, shape (n, n_states), in their unit.

    rmse, mae: geometric means over the states (RMSE_geom). maxe: the largest of all. states: RMSE of each, from the ground
    state on.
    """
    return {
        "rmse": geometric(rmse)(errors),
        "mae": geometric(mae)(errors),
        "maxe": maxe(errors.ravel()),
        "states": [rmse(column) for column in errors.T],
    }


METRICS: dict[str, Statistic] = {"rmse": rmse, "mae": mae, "maxe": maxe}


def regression_metrics(errors: NDArray[np.float64]) -> dict[str, float]:
    """Return RMSE, MAE and largest absolute error (rmse, mae, maxe) in the unit of the errors, shape (n,), n > 0.

    Raises ValueError if there are no errors.
    """
    if len(errors) == 0:
        raise ValueError("no errors to take metrics of")
    return {name: metric(errors) for name, metric in METRICS.items()}


def confusion_matrix(labels: NDArray[np.float64], predicted: NDArray[np.float64], n_classes: int) -> NDArray[np.int64]:
    """Return how many structures of each class (rows) were predicted to be of each class (columns), (n_classes, n_classes).

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
