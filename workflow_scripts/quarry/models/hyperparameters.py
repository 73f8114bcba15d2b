"""Hyperparameters of the Gaussian process: what they are, their bounds, and what keeps a factorisation sound.

For targets in units of their scale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quarry.models.linear_algebra import panels

BOUNDS_FACTOR = 1e2
"""Bounds of a starting value, as a factor below and above: of the length scale, and of a signal variance that is given."""

SIGNAL_RANGE = (1e-3, 1e15)
"""Bounds of a signal variance that is not given, relative to the targets' variance. Energies are so smooth in the
geometry that a large signal with a long length scale predicts best."""

NOISE_RANGE = (1e-12, 1.0)
"""Bounds of the noise variance, relative to the targets' variance."""

NOISE_START = 1e-4
"""Noise variance that stands where there is nothing to learn it from, relative to the targets' variance."""

ROUNDING_FLOOR = 1e-15
"""Smallest noise variance per training point, relative to the signal variance: below it the Cholesky factorisation in
double precision loses the smallest eigenvalues, and the likelihood is one of rounding errors. With it, the optimum for
300 noise-free water energies agrees with extended precision to 0.2 (of 2,075), with a hundredth of it to 1.6."""

FLOOR_STEPS = (1.0, 1e2, 1e4, 1e6)
"""Factors by which the floor is raised when the factorisation fails all the same."""


@dataclass(frozen=True)
class Hyperparameters:
    """signal_variance, noise_variance: in units of the targets' variance. length_scale: in units of the features."""

    signal_variance: float
    length_scale: float
    noise_variance: float


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
    """The chosen hyperparameters, their log marginal likelihood (NaN: not computed), and the floor they need.

    length_end: at which end of its bounds the length scale is, lowest or highest; empty within them.
    """

    hyperparameters: Hyperparameters
    log_marginal_likelihood: float
    floor: float
    length_end: str = ""


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
    """Return squared distances of all pairs of rows below the diagonal, zero elsewhere, shape (n, n), column-major.

    features: shape (n, d).
    """
    result = np.zeros((len(features), len(features)), order="F")
    for begin, end in panels(len(features)):
        result[begin:, begin:end] = np.tril(squared_distances(features[begin:], features[begin:end]), -1)
    return result


def likelihood_of_factor(fit: float, factor_diagonal: NDArray[np.float64]) -> float:
    """Return the log marginal likelihood from y^T K^-1 y (``fit``) and the diagonal of the Cholesky factor of K, shape (n,).

    C. E. Rasmussen, C. K. I. Williams, Gaussian Processes for Machine Learning (2006), equation 2.30.
    """
    n = len(factor_diagonal)
    return -0.5 * fit - float(np.sum(np.log(factor_diagonal))) - 0.5 * n * math.log(2 * math.pi)
