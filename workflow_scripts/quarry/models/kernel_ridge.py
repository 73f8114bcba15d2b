"""Hyperparameters of kernel ridge regression by a grid on validation data: numbers in, numbers out.

The weights alpha solve (K + lambda I) alpha = y (P. O. Dral et al., Top. Curr. Chem. 379, 27 (2021)), by a Cholesky
factorisation for each pair of hyperparameters, which serves all targets. One symmetric eigendecomposition for all lambda
of a sigma would cost more than these 11 factorisations together, and where K + lambda I is singular in double precision
it gives numbers that mean nothing, where the factorisation fails and the pair is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from quarry.models.hyperparameters import ROUNDING_FLOOR, squared_distances

Criterion = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Makes of validation errors, shape (n, n_targets), one number for each target."""

EPSILON = float(np.finfo(float).eps)

Axis = tuple[float, ...]
"""Values of a hyperparameter that are tried, ascending, evenly spaced in the logarithm; one number: it is fixed."""


class Kernels(Protocol):
    """Kernel matrices of training and validation points, for a search.

    n_values: how many of the first validation rows are values. rounding_share: largest rounding error of predicted values
    that is allowed, as a share of their error.
    """

    n_values: int
    rounding_share: float

    def matrices(self, sigma: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return K of the training points, shape (m, m), and of validation (rows) with training points, (n, m)."""
        ...


class GaussianKernels:
    """The kernel exp(-|x - x'|^2 / (2 sigma^2)) between values."""

    rounding_share = 1e-2

    def __init__(self, training: NDArray[np.floating], validation: NDArray[np.floating]) -> None:
        """training, validation: features, shapes (m, d) and (n, d)."""
        origin = training.mean(axis=0, dtype=np.float64)
        centred = training - origin
        self._training = squared_distances(centred, centred)
        # By a matrix product, which leaves rounding of the size of |x|^2.
        np.fill_diagonal(self._training, 0.0)
        self._validation = squared_distances(validation - origin, centred)
        self.n_values = len(validation)

    def matrices(self, sigma: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return K of the training points, shape (m, m), and of validation (rows) with training points, (n, m)."""
        rate = -0.5 / sigma**2
        return np.exp(rate * self._training), np.exp(rate * self._validation)


@dataclass(frozen=True)
class Choice:
    """Hyperparameters that were chosen; error: the criterion's value on the validation data, NaN if there were none."""

    sigma: float
    regularisation: float
    error: float


def root_mean_squares(errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the root mean square error of each column, shape (n_targets,), of errors of shape (n, n_targets)."""
    return np.sqrt(np.mean(np.square(errors), axis=0))


def search_grid(
    kernels: Kernels,
    targets: NDArray[np.float64],
    validation: NDArray[np.float64],
    sigmas: Axis,
    regularisations: Axis,
    depth: int,
    criterion: Criterion = root_mean_squares,
) -> list[Choice]:
    """Return the hyperparameters of the smallest validation error, for each target.

    targets, validation: shapes (m, n_targets) and (n, n_targets), for the matrices of ``kernels``. depth: passes; each
    after the first has as many points, evenly from one step of the last below the best so far to one above. Regularisations
    below ``ROUNDING_FLOOR`` of the matrix's trace are left out: there, the smallest eigenvalues are rounding. So are pairs
    whose weights are so large that predictions, sums of terms that cancel, are uncertain by rounding. Of equal
    errors those of the larger sigma, then of the larger regularisation win: the smoother function.
    Raises scipy.linalg.LinAlgError if no pair gives a matrix that is positive definite in double precision.
    """
    best = [Choice(math.nan, math.nan, math.inf)] * targets.shape[1]
    groups: dict[tuple[Axis, Axis], list[int]] = {(sigmas, regularisations): list(range(targets.shape[1]))}
    for _ in range(depth):
        for axes, columns in groups.items():
            found = _best_of_grid(kernels, targets[:, columns], validation[:, columns], *axes, criterion)
            for column, choice in zip(columns, found, strict=True):
                best[column] = choice if choice.error < best[column].error else best[column]
        if any(math.isinf(choice.error) for choice in best):
            raise LinAlgError("no point of the grid gives a positive definite kernel matrix")
        refined: dict[tuple[Axis, Axis], list[int]] = {}
        for axes, columns in groups.items():
            for column in columns:
                centres = (best[column].sigma, best[column].regularisation)
                finer = tuple(_around(axis, centre) for axis, centre in zip(axes, centres, strict=True))
                refined.setdefault((finer[0], finer[1]), []).append(column)
        groups = refined
    return best


def powers_of_two(minimum: float, maximum: float, points: int) -> Axis:
    """Return ``points`` numbers from 2^minimum to 2^maximum, evenly spaced in the logarithm."""
    return tuple(2.0 ** float(x) for x in np.linspace(minimum, maximum, points))


def _around(axis: Axis, centre: float) -> Axis:
    """Return as many points within one step of an axis around ``centre``."""
    if len(axis) == 1:
        return axis
    step = math.log2(axis[-1] / axis[0]) / (len(axis) - 1)
    return powers_of_two(math.log2(centre) - step, math.log2(centre) + step, len(axis))


def _best_of_grid(
    kernels: Kernels,
    targets: NDArray[np.float64],
    validation: NDArray[np.float64],
    sigmas: Axis,
    regularisations: Axis,
    criterion: Criterion,
) -> list[Choice]:
    """Return the best pair of a grid for each target; an infinite error if no matrix could be factorised."""
    best = [Choice(math.nan, math.nan, math.inf)] * targets.shape[1]
    for sigma in reversed(sigmas):
        kernel, across = kernels.matrices(sigma)
        diagonal = kernel.diagonal().copy()
        smallest = ROUNDING_FLOOR * float(diagonal.sum()) if len(regularisations) > 1 else 0.0
        for regularisation in reversed(regularisations):
            if regularisation < smallest:
                break
            # The transpose of the symmetric matrix is column-major, which LAPACK factorises where it stands.
            matrix = kernel.T.copy(order="F")
            np.fill_diagonal(matrix, diagonal + regularisation)
            try:
                factor = cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
            except LinAlgError:
                # So for all smaller regularisations.
                break
            weights = cho_solve(factor, targets, check_finite=False)
            residuals = across @ weights - validation
            errors = criterion(residuals)
            better = [column for column, error in enumerate(errors) if error < best[column].error]
            if not better:
                continue
            # Terms are rounded at random: their errors add up as squares do.
            values = slice(kernels.n_values)
            rounding = EPSILON * np.sqrt(np.mean(np.square(across[values]) @ np.square(weights), axis=0))
            for column in better:
                if rounding[column] <= kernels.rounding_share * root_mean_squares(residuals[values])[column]:
                    best[column] = Choice(sigma, regularisation, float(errors[column]))
    return best
