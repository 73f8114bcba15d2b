"""Exact Gaussian process regression with an RBF kernel: numbers in, numbers out.

Equations 3 to 6 of Ghosh et al., arXiv:2408.11191, for targets of zero mean and unit variance. What is printed there as
sigma_f in equation 6 is the signal variance sigma_f^2 here. Written here rather than taken from scikit-learn because
that is three to six times slower at 1,000 to 8,000 structures and keeps no bound on the memory of a prediction.
The last digits depend on the number of threads of the linear algebra: callers fix the threads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve, lapack, solve_triangular
from scipy.optimize import Bounds, minimize

LENGTH_SCALE_RANGE = (1e-2, 1e2)
"""Bounds of the length scale, relative to the median distance of two training points."""

SIGNAL_RANGE = (1e-3, 1e5)
"""Bounds of the signal variance, relative to the targets' variance. Energies are so smooth in the geometry that a large
signal with a long length scale is the most likely one."""

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

BLOCK_ELEMENTS = 8_000_000
"""Elements of K(X*, X) at a time in a prediction (64 MB)."""


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
class Optimum:
    """The most likely hyperparameters and their log marginal likelihood.

    floor: see ``diagonal``. floor_raised: whether it had to be more than ``ROUNDING_FLOOR``, because the kernel matrix
    could not be factorised.
    """

    hyperparameters: Hyperparameters
    log_marginal_likelihood: float
    floor: float
    floor_raised: bool


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
    return np.asfortranarray(np.tril(squared_distances(features, features), -1))


def log_marginal_likelihood(
    lower: NDArray[np.float64], targets: NDArray[np.float64], theta: NDArray[np.float64], floor: float = 0.0
) -> tuple[float, NDArray[np.float64]]:
    """Return the log marginal likelihood and its gradient with respect to ``theta``, shape (3,).

    C. E. Rasmussen, C. K. I. Williams, Gaussian Processes for Machine Learning (2006), equations 2.30 and 5.9.
    lower: as ``pairwise_lower`` gives it. targets: shape (n,). theta: logarithms of the hyperparameters.
    Raises scipy.linalg.LinAlgError if the kernel matrix is not positive definite in double precision.
    """
    parameters = Hyperparameters.from_log(theta)
    n = len(targets)
    kernel = _kernel(lower, parameters, diagonal(parameters, floor))
    # Strictly lower triangle of dK / d log l; K's diagonal does not depend on l.
    slope = kernel * lower
    slope /= parameters.length_scale**2
    factor, _ = cho_factor(kernel, lower=True, overwrite_a=True, check_finite=False)
    weights = cho_solve((factor, True), targets, check_finite=False)
    fit = float(targets @ weights)
    value = -0.5 * fit - float(np.sum(np.log(np.diag(factor)))) - 0.5 * n * math.log(2 * math.pi)
    inverse, _ = lapack.dpotri(factor, lower=True, overwrite_c=True)
    noise = parameters.noise_variance
    trace = float(np.trace(inverse))
    square = float(weights @ weights)
    # dK / d log signal = K - noise I, because the floor is proportional to the signal.
    by_signal = 0.5 * (fit - noise * square - n + noise * trace)
    by_length = float(weights @ (slope @ weights)) - float(np.vdot(inverse, slope))
    by_noise = 0.5 * noise * (square - trace)
    return value, np.array([by_signal, by_length, by_noise])


def optimise_hyperparameters(
    features: NDArray[np.float64],
    targets: NDArray[np.float64],
    restarts: int,
    noise: float | None,
    rng: np.random.Generator,
) -> Optimum:
    """Return the hyperparameters that maximise the log marginal likelihood (L-BFGS-B).

    features: shape (n, d). targets: shape (n,), zero mean, unit variance. Starts from the data's scales and from
    ``restarts`` points drawn evenly in the logarithms within the bounds. noise: fixed noise variance, or None.
    Fewer than two points or targets that do not vary say nothing about hyperparameters: then the start is returned.
    Raises scipy.linalg.LinAlgError if no start gave a positive definite kernel matrix even with the highest floor.
    """
    lower = pairwise_lower(features - features.mean(axis=0))
    scale = _median_distance(lower)
    start = Hyperparameters(1.0, scale, NOISE_START if noise is None else noise).log()
    length_range = (LENGTH_SCALE_RANGE[0] * scale, LENGTH_SCALE_RANGE[1] * scale)
    low, high = np.log([SIGNAL_RANGE, length_range, NOISE_RANGE if noise is None else (noise, noise)]).T
    starts = [start, *rng.uniform(low, high, size=(restarts, 3))]
    if not np.any(targets):
        starts = [start]
    for step in FLOOR_STEPS:
        floor = ROUNDING_FLOOR * len(targets) * step
        search = _Search(lower, targets, floor)
        for theta in starts:
            if np.any(targets):
                minimize(search, theta, jac=True, method="L-BFGS-B", bounds=Bounds(low, high))
            else:
                search(theta)
        if search.best is not None:
            return Optimum(Hyperparameters.from_log(search.best), search.best_value, floor, step > 1)
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


class GaussianProcess:
    """A Gaussian process with given hyperparameters, conditioned on training points (targets of zero mean)."""

    def __init__(
        self,
        features: NDArray[np.float64],
        targets: NDArray[np.float64],
        hyperparameters: Hyperparameters,
        floor: float = 0.0,
    ) -> None:
        """features: shape (n, d). targets: shape (n,). floor: see ``diagonal``.

        Raises scipy.linalg.LinAlgError if the kernel matrix is not positive definite in double precision.
        """
        self.hyperparameters = hyperparameters
        self.floor = floor
        self._origin = features.mean(axis=0)
        self._features = features - self._origin
        kernel = _kernel(pairwise_lower(self._features), hyperparameters, diagonal(hyperparameters, floor))
        self._factor, _ = cho_factor(kernel, lower=True, overwrite_a=True, check_finite=False)
        self._weights: NDArray[np.float64] = cho_solve((self._factor, True), targets, check_finite=False)

    def predict(self, features: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mean (equation 3) and standard deviation (equation 4, of the function: without noise), shape (n,).

        Variances that rounding makes negative are set to zero. Works in blocks of bounded memory.
        """
        mean = np.empty(len(features))
        variance = np.empty(len(features))
        block = max(1, BLOCK_ELEMENTS // len(self._features))
        for begin in range(0, len(features), block):
            rows = slice(begin, begin + block)
            distances = squared_distances(features[rows] - self._origin, self._features)
            kernel = _kernel(distances.T, self.hyperparameters)
            mean[rows] = self._weights @ kernel
            half = solve_triangular(self._factor, kernel, lower=True, overwrite_b=True, check_finite=False)
            variance[rows] = self.hyperparameters.signal_variance - np.einsum("ij,ij->j", half, half)
        return mean, np.sqrt(np.maximum(variance, 0.0, out=variance))


def _kernel(squared: NDArray[Any], parameters: Hyperparameters, added: float | None = None) -> NDArray[np.float64]:
    """Return the RBF kernel (equation 6) of squared distances; ``added`` goes on the diagonal (equation 5)."""
    kernel = squared * (-0.5 / parameters.length_scale**2)
    np.exp(kernel, out=kernel)
    kernel *= parameters.signal_variance
    if added is not None:
        np.fill_diagonal(kernel, parameters.signal_variance + added)
    return kernel


def _median_distance(lower: NDArray[np.float64]) -> float:
    """Return the median distance of two different points, 1 if there are none."""
    distances = lower[lower > 0]
    return float(np.sqrt(np.median(distances))) if distances.size else 1.0
