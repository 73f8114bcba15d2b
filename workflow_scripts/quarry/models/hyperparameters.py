"""Hyperparameters of the Gaussian process: what they are, their marginal likelihood, and its maximum.

For targets in units of their scale. The last digits depend on the number of threads of the linear algebra: callers fix
the threads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve, lapack
from scipy.optimize import Bounds, minimize

from quarry.models.linear_algebra import panels

BOUNDS_FACTOR = 1e2
"""Bounds of a starting value, as a factor below and above: of the length scale, and of a signal variance that is given."""

SIGNAL_RANGE = (1e-3, 1e5)
"""Bounds of a signal variance that is not given, relative to the targets' variance. Energies are so smooth in the
geometry that a large signal with a long length scale is the most likely one."""

NOISE_RANGE = (1e-12, 1.0)
"""Bounds of the noise variance, relative to the targets' variance."""

NOISE_START = 1e-4
"""Noise variance of the first start, relative to the targets' variance."""

ROUNDING_FLOOR = 1e-15
"""Smallest noise variance per training point, relative to the signal variance: below it the Cholesky factorisation in
double precision loses the smallest eigenvalues, and the likelihood is one of rounding errors. With it, the optimum for
300 noise-free water energies agrees with extended precision to 0.2 (of 2,075), with a hundredth of it to 1.6."""

FLOOR_STEPS = (1.0, 1e2, 1e4, 1e6)
"""Factors by which the floor is raised when the factorisation fails all the same."""

INFEASIBLE = 1e25
"""Stands for the negative log likelihood where the kernel matrix cannot be factorised (finite, for the line search)."""


@dataclass(frozen=True)
class Hyperparameters:
    """signal_variance, noise_variance: in units of the targets' variance. length_scale: in units of the features."""

    signal_variance: float
    length_scale: float
    noise_variance: float

    def log(self) -> NDArray[np.float64]:
        """Return the logarithms, in the order of the fields."""
        return np.log([self.signal_variance, self.length_scale, self.noise_variance])

    @staticmethod
    def from_log(theta: NDArray[np.float64]) -> Hyperparameters:
        """Make them from their logarithms."""
        signal, length, noise = (float(x) for x in np.exp(theta))
        return Hyperparameters(signal, length, noise)


@dataclass(frozen=True)
class Start:
    """What is known of the hyperparameters before the data, in the units of ``Hyperparameters``; None: nothing.

    noise_variance: a fixed value. exact_noise: it is all that is added to the kernel matrix (no floor, see
    ``floors``). bounds_factor: see ``BOUNDS_FACTOR``. optimise: False keeps the starting values.
    """

    signal_variance: float | None = None
    length_scale: float | None = None
    noise_variance: float | None = None
    exact_noise: bool = False
    bounds_factor: float = BOUNDS_FACTOR
    optimise: bool = True


@dataclass(frozen=True)
class Optimum:
    """The most likely hyperparameters, their log marginal likelihood (NaN: not computed), and the floor they need."""

    hyperparameters: Hyperparameters
    log_marginal_likelihood: float
    floor: float


def floors(n: int, exact_noise: bool = False) -> tuple[float, ...]:
    """Return the floors to try for ``n`` training points, the wanted one first (see ``diagonal``)."""
    raised = tuple(ROUNDING_FLOOR * n * step for step in FLOOR_STEPS)
    return (0.0, *raised) if exact_noise else raised


def diagonal(hyperparameters: Hyperparameters, floor: float) -> float:
    """Return what is added to the diagonal of K: the noise variance plus ``floor`` times the signal variance."""
    return hyperparameters.noise_variance + floor * hyperparameters.signal_variance


def squared_distances(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the squared Euclidean distances (equation 7, squared) of the rows, shape (n_a, n_b), never negative.

    By a matrix product; subtract a common origin first, because rounding is relative to the length of the rows.
    """
    result = a @ b.T
    result *= -2.0
    result += np.einsum("ij,ij->i", a, a)[:, None]
    result += np.einsum("ij,ij->i", b, b)
    return np.maximum(result, 0.0, out=result)


def pairwise_lower(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return squared distances of all pairs of rows below the diagonal, zero elsewhere, shape (n, n), column-major."""
    result = np.zeros((len(features), len(features)), order="F")
    for begin, end in panels(len(features)):
        result[begin:, begin:end] = np.tril(squared_distances(features[begin:], features[begin:end]), -1)
    return result


def log_marginal_likelihood(
    lower: NDArray[np.float64], targets: NDArray[np.float64], theta: NDArray[np.float64], floor: float = 0.0
) -> tuple[float, NDArray[np.float64]]:
    """Return the log marginal likelihood and its gradient with respect to ``theta``, shape (3,).

    C. E. Rasmussen, C. K. I. Williams, Gaussian Processes for Machine Learning (2006), equations 2.30 and 5.9.
    lower: as ``pairwise_lower`` gives it. targets: shape (n,). theta: logarithms of the hyperparameters.
    Needs the memory of ``lower`` once more. Raises scipy.linalg.LinAlgError if the kernel matrix is not positive
    definite in double precision.
    """
    parameters = Hyperparameters.from_log(theta)
    n = len(targets)
    rate = -0.5 / parameters.length_scale**2
    kernel = lower * rate
    np.exp(kernel, out=kernel)
    kernel *= parameters.signal_variance
    np.fill_diagonal(kernel, parameters.signal_variance + diagonal(parameters, floor))
    factor, _ = cho_factor(kernel, lower=True, overwrite_a=True, check_finite=False)
    weights = cho_solve((factor, True), targets, check_finite=False)
    fit = float(targets @ weights)
    value = likelihood_of_factor(fit, np.diag(factor))
    inverse, _ = lapack.dpotri(factor, lower=True, overwrite_c=True)
    by_length = 0.0
    for begin, end in panels(n):
        # Strictly lower triangle of dK / d log l; K's diagonal does not depend on l.
        slope = lower[begin:, begin:end] * rate
        np.exp(slope, out=slope)
        slope *= lower[begin:, begin:end]
        by_length += float(weights[begin:] @ (slope @ weights[begin:end]))
        by_length -= float(np.einsum("ij,ij->", inverse[begin:, begin:end], slope))
    by_length *= parameters.signal_variance / parameters.length_scale**2
    noise = parameters.noise_variance
    trace = float(np.trace(inverse))
    square = float(weights @ weights)
    # dK / d log signal = K - noise I, because the floor is proportional to the signal.
    by_signal = 0.5 * (fit - noise * square - n + noise * trace)
    by_noise = 0.5 * noise * (square - trace)
    return value, np.array([by_signal, by_length, by_noise])


def likelihood_of_factor(fit: float, factor_diagonal: NDArray[np.float64]) -> float:
    """Return the log marginal likelihood (equation 2.30) from y^T K^-1 y and the diagonal of the Cholesky factor."""
    n = len(factor_diagonal)
    return -0.5 * fit - float(np.sum(np.log(factor_diagonal))) - 0.5 * n * math.log(2 * math.pi)


def optimise_hyperparameters(
    features: NDArray[np.float64],
    targets: NDArray[np.float64],
    start: Start,
    restarts: int,
    rng: np.random.Generator,
    rows: int | None = None,
) -> Optimum:
    """Return the hyperparameters that maximise the log marginal likelihood (L-BFGS-B).

    features: shape (n, d). targets: shape (n,), in units of their scale. Starts from what ``start`` says, else from the
    data's scales, and from ``restarts`` points drawn evenly in the logarithms within the bounds. rows: training points
    of the model in the end, of which the features may be a subset (its floor counts); None: n.
    Fewer than two points or targets that are zero say nothing about hyperparameters: then the start is returned.
    Raises scipy.linalg.LinAlgError if no start gave a positive definite kernel matrix even with the highest floor.
    """
    wanted = floors(len(targets) if rows is None else rows, start.exact_noise)
    if start.length_scale is None or start.optimise:
        lower = pairwise_lower(features - features.mean(axis=0))
    scale = start.length_scale or _median_distance(lower)
    signal, noise = start.signal_variance or 1.0, start.noise_variance or NOISE_START
    first = Hyperparameters(signal, scale, noise)
    if not start.optimise:
        return Optimum(first, math.nan, wanted[0])
    length_range = (scale / start.bounds_factor, scale * start.bounds_factor)
    signal_range = (
        SIGNAL_RANGE if start.signal_variance is None else (signal / start.bounds_factor, signal * start.bounds_factor)
    )
    noise_range = NOISE_RANGE if start.noise_variance is None else (noise, noise)
    low, high = np.log([signal_range, length_range, noise_range]).T
    starts = [first.log(), *rng.uniform(low, high, size=(restarts, 3))]
    if not np.any(targets):
        starts = [first.log()]
    for floor in wanted:
        search = _Search(lower, targets, floor)
        for theta in starts:
            if np.any(targets):
                minimize(search, theta, jac=True, method="L-BFGS-B", bounds=Bounds(low, high))
            else:
                search(theta)
        if search.best is not None:
            return Optimum(Hyperparameters.from_log(search.best), search.best_value, floor)
    raise LinAlgError("the kernel matrix is not positive definite; the features may not be finite numbers")


class _Search:
    """The negative log marginal likelihood as L-BFGS-B wants it; keeps the best point that was seen."""

    def __init__(self, lower: NDArray[np.float64], targets: NDArray[np.float64], floor: float) -> None:
        self.lower, self.targets, self.floor = lower, targets, floor
        self.best: NDArray[np.float64] | None = None
        self.best_value = -math.inf

    def __call__(self, theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        try:
            value, gradient = log_marginal_likelihood(self.lower, self.targets, theta, self.floor)
        except LinAlgError:
            return INFEASIBLE, np.zeros_like(theta)
        if value > self.best_value:
            self.best, self.best_value = theta.copy(), value
        return -value, -gradient


def _median_distance(lower: NDArray[np.float64]) -> float:
    """Return the median distance of two different points, 1 if there are none."""
    distances = lower[lower > 0]
    return float(np.sqrt(np.median(distances))) if distances.size else 1.0
