"""The hyperparameters of the Gaussian process that predict best: a search in which nothing is random.

For every length scale one reduction of the kernel matrix to a tridiagonal one gives the likelihood for all noise variances
at once, and the best signal variance in closed form. So the length scale alone is searched, on an even grid in its logarithm
and then about the best point of the grid. The same data give the same hyperparameters, in whatever order they come (up to
rounding). What is compared is a criterion less its rounding error: otherwise the nearly singular kernel matrices of very long
length scales would win or lose by processor, library and number of threads.

Two criteria. *Likelihood*: the log marginal likelihood. *Predictive*: how probable each half of the labels is, given the
other half: the conditional marginal likelihood (S. Lotfi et al., ICML 2022, equation 4), summed over both halves. The
marginal likelihood also counts how badly a model predicted when it had seen next to nothing, and so prefers, for energies of
flexible molecules, a model that has learnt nothing long after others predict well; leave-one-out trusts chance at few
labels. docs/studies.md has the comparison.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, lapack
from scipy.optimize import minimize_scalar

from quarry.models.hyperparameters import (
    NOISE_RANGE,
    NOISE_START,
    SIGNAL_RANGE,
    Hyperparameters,
    Optimum,
    Start,
    floors,
    pairwise_lower,
)

LENGTHS_PER_DECADE = 4
"""Points of the grid of length scales."""

RATIOS_PER_DECADE = 4
"""Points of the grid of ratios of noise to signal variance."""

ZOOMS = 2
"""Further grids about the best ratio, each ten times as fine, where the length scale is nearly known."""

LENGTH_TOLERANCE = 0.01
"""The length scale is found to about this share of itself; criteria are flat there."""

SAFE_FLOOR = 1e-14
"""Smallest ratio, per point, for which likelihoods are compared: the reduction leaves rounding errors in the smallest
eigenvalues, and differences of likelihoods of nearly singular matrices would be sums of these."""

FEWEST = 8
"""With fewer points the criterion is the likelihood: nothing can be predicted from the half of so few."""

Terms = list[tuple[float, NDArray[np.int64]]]
"""A criterion as a sum of log marginal likelihoods: weights, and the rows whose likelihood it is."""


def terms_of(n: int, criterion: str, groups: NDArray[np.int64] | None = None) -> Terms:
    """Return a criterion of ``n`` points as a sum of likelihoods. criterion: likelihood or predictive.

    log p(half | other half) = log p(all) - log p(other half). The halves hold every second point: callers give the points
    in an order that depends on what they are, not on when they came. groups: shape (n,), points of equal numbers (copies of
    one structure) are in the same half, or each would be predicted by its twin; None: each is its own.
    """
    everything = np.arange(n)
    of_group = everything
    if groups is not None:
        _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
        of_group = np.argsort(np.argsort(first))[inverse]
    if criterion == "likelihood" or of_group.max(initial=0) + 1 < FEWEST:
        return [(1.0, everything)]
    return [(2.0, everything), *((-1.0, np.flatnonzero(of_group % 2 == half)) for half in (0, 1))]


@dataclass(frozen=True)
class Likelihoods:
    """Sums of log marginal likelihoods for ratios of noise to signal variance, at one length scale.

    quadratic: of y^T (K / signal)^-1 y. log_determinant: of log det (K / signal). Both of shape (n_ratios,), NaN where a
    matrix is not positive definite in double precision. count: number of points (weighted).
    """

    quadratic: NDArray[np.float64]
    log_determinant: NDArray[np.float64]
    count: float

    def value(self, signal: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sums, shape (n_ratios,), for a signal variance for each ratio, shape (n_ratios,).

        C. E. Rasmussen, C. K. I. Williams, Gaussian Processes for Machine Learning (2006), equation 2.30.
        """
        constant = self.count * math.log(2 * math.pi)
        return -0.5 * (self.quadratic / signal + self.log_determinant + self.count * np.log(signal) + constant)


class Tridiagonal:
    """A kernel matrix K and its targets in a basis in which K is tridiagonal: K + r I costs n operations for each r."""

    def __init__(self, kernel: NDArray[np.float64], targets: NDArray[np.float64]) -> None:
        """kernel: its lower triangle, shape (n, n), column-major; it is overwritten. targets: shape (n,)."""
        n = len(targets)
        work, _ = lapack.dsytrd_lwork(n, lower=1)
        reflectors, self.diagonal, self.beside, tau, _ = lapack.dsytrd(
            kernel, lower=1, lwork=max(1, int(work)), overwrite_a=1
        )
        self.targets = np.array(targets, dtype=np.float64)
        if n > 1:
            # Householder's reflectors stand below the subdiagonal, as those of a QR factorisation of n - 1 rows.
            column = np.asfortranarray(self.targets[1:, None])
            rotated, _, _ = lapack.dormqr("L", "T", reflectors[1:, :-1], tau, column, max(1, 64 * n))
            self.targets[1:] = rotated[:, 0]

    def likelihoods(self, ratios: NDArray[np.float64]) -> Likelihoods:
        """Return what likelihoods are made of, by the factorisation L D L^T of K + ratio I. ratios: shape (n_ratios,)."""
        with np.errstate(all="ignore"):
            pivot, solved = self.diagonal[0] + ratios, np.full(len(ratios), self.targets[0])
            smallest, quadratic, log_determinant = pivot.copy(), solved**2 / pivot, np.log(pivot)
            for row in range(1, len(self.diagonal)):
                factor = self.beside[row - 1] / pivot
                pivot = self.diagonal[row] + ratios - self.beside[row - 1] * factor
                solved = self.targets[row] - factor * solved
                quadratic += solved**2 / pivot
                log_determinant += np.log(pivot)
                np.minimum(smallest, pivot, out=smallest)
        bad = ~(smallest > 0)
        quadratic[bad], log_determinant[bad] = np.nan, np.nan
        return Likelihoods(quadratic, log_determinant, len(self.diagonal))

    def rounding(self, ratios: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how large the rounding error of the log marginal likelihood may be, shape (n_ratios,).

        The reduction leaves errors of about n epsilon in the eigenvalues of K, whose largest is n at most; the likelihood has
        the logarithms of n eigenvalues, and as many terms of the quadratic form, of which the smallest are the ratio.
        """
        n = len(self.diagonal)
        return 0.5 * n * (n * np.finfo(np.float64).eps / ratios)


@dataclass(frozen=True)
class Bounds:
    """Lowest and highest length scale, signal and noise variance; equal ones fix a value."""

    length: tuple[float, float]
    signal: tuple[float, float]
    noise: tuple[float, float]

    @staticmethod
    def of(start: Start, length: float) -> Bounds:
        """Return the bounds about what is known before the data. length: starting value of the length scale.

        Units as of ``Hyperparameters``.
        """
        factor, signal, noise = start.bounds_factor, start.signal_variance, start.noise_variance
        return Bounds(
            (length / factor, length * factor),
            SIGNAL_RANGE if signal is None else (signal / factor, signal * factor),
            NOISE_RANGE if noise is None else (noise, noise),
        )

    def signal_for(self, ratios: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the signal variances nearest to those wanted for which signal and noise keep within their bounds.

        ratios, wanted: shape (n_ratios,), and so is what is returned.
        """
        lowest = np.maximum(self.signal[0], self.noise[0] / ratios)
        highest = np.minimum(self.signal[1], self.noise[1] / ratios)
        return np.clip(wanted, lowest, np.maximum(lowest, highest))

    def ratios(self) -> tuple[float, float]:
        """Return the lowest and the highest ratio of noise to signal variance."""
        return self.noise[0] / self.signal[1], self.noise[1] / self.signal[0]


@dataclass(frozen=True)
class Best:
    """The best point at one length scale: criterion's value, ratio of noise to signal variance, signal variance."""

    value: float
    ratio: float
    signal: float


class _Search:
    """The criterion as a function of the length scale."""

    def __init__(
        self, lower: NDArray[np.float64], targets: NDArray[np.float64], terms: Terms, bounds: Bounds, floor: float
    ) -> None:
        self.lower, self.targets, self.terms, self.bounds, self.floor = lower, targets, terms, bounds, floor

    def at(self, length: float, zooms: int = 0) -> Best:
        """Return the best ratio and signal variance for a length scale. zooms: finer grids of ratios after the first."""
        kernel = self.lower * (-0.5 / length**2)
        np.exp(kernel, out=kernel)
        parts = []
        for weight, rows in self.terms:
            whole = len(rows) == len(self.targets)
            matrix = kernel.copy(order="F") if whole else np.asfortranarray(kernel[np.ix_(rows, rows)])
            parts.append((weight, Tridiagonal(matrix, self.targets[rows])))
        lowest, highest = self.bounds.ratios()
        # Below the floor ratios are all alike.
        low, high = np.log10([min(max(lowest, 0.1 * self.floor), highest), highest])
        points = max(2, math.ceil(RATIOS_PER_DECADE * (high - low)) + 1)
        best, step = Best(-math.inf, math.nan, math.nan), (high - low) / (points - 1)
        grid = np.linspace(low, high, points)
        for _ in range(1 + zooms):
            found = self._best_of(parts, 10.0**grid)
            best = max(best, found, key=lambda b: b.value)
            if not math.isfinite(best.value) or step == 0:
                break
            centre = math.log10(best.ratio)
            grid = np.clip(np.linspace(centre - step, centre + step, 21), low, high)
            step /= 10
        return best

    def _best_of(self, parts: Sequence[tuple[float, Tridiagonal]], ratios: NDArray[np.float64]) -> Best:
        quadratic, log_determinant, rounding, count = *np.zeros((3, len(ratios))), 0.0
        floored = ratios + max(self.floor, SAFE_FLOOR * len(self.targets))
        for weight, part in parts:
            found = part.likelihoods(floored)
            rounding += abs(weight) * part.rounding(floored)
            quadratic += weight * found.quadratic
            log_determinant += weight * found.log_determinant
            count += weight * found.count
        total = Likelihoods(np.maximum(quadratic, 0.0), log_determinant, count)
        signal = self.bounds.signal_for(ratios, total.quadratic / count)
        values = total.value(signal) - rounding
        values[~np.isfinite(values)] = -np.inf
        index = int(np.argmax(values))
        return Best(float(values[index]), float(ratios[index]), float(signal[index]))


def optimise_hyperparameters(
    features: NDArray[np.float64],
    targets: NDArray[np.float64],
    start: Start,
    criterion: str = "predictive",
    rows: int | None = None,
    groups: NDArray[np.int64] | None = None,
) -> Optimum:
    """Return the hyperparameters that maximise a criterion.

    features: shape (n, d). targets: shape (n,), in units of their scale. criterion: likelihood or predictive. rows:
    training points of the model in the end, of which the features may be a subset (its floor counts); None: n. groups: see
    ``terms_of``. The log marginal likelihood is not computed. Targets that are zero say nothing about hyperparameters: then
    the start is returned.
    Raises scipy.linalg.LinAlgError if no point of the search gives a positive definite matrix even with the highest floor.
    """
    wanted = floors(len(targets) if rows is None else rows, start.exact_noise)
    if start.length_scale is None or start.optimise:
        lower = pairwise_lower(features - features.mean(axis=0))
    length = start.length_scale or median_distance(lower)
    signal, noise = start.signal_variance or 1.0, start.noise_variance or NOISE_START
    if not start.optimise or not np.any(targets):
        return Optimum(Hyperparameters(signal, length, noise), math.nan, wanted[0])
    bounds, terms = Bounds.of(start, length), terms_of(len(targets), criterion, groups)
    for floor in wanted:
        found = _search_lengths(_Search(lower, targets, terms, bounds, floor), bounds.length)
        if found is not None:
            best, chosen, end = found
            parameters = Hyperparameters(best.signal, chosen, best.ratio * best.signal)
            if bounds.noise[0] == bounds.noise[1]:
                parameters = Hyperparameters(best.signal, chosen, bounds.noise[0])
            return Optimum(parameters, math.nan, floor, end)
    raise LinAlgError("the kernel matrix is not positive definite; the features may not be finite numbers")


def _search_lengths(search: _Search, ends: tuple[float, float]) -> tuple[Best, float, str] | None:
    """Return the best point, its length scale, and at which end of its bounds that is; None if there is no point."""
    low, high = math.log(ends[0]), math.log(ends[1])
    count = max(3, math.ceil(LENGTHS_PER_DECADE * (high - low) / math.log(10)) + 1)
    grid = np.linspace(low, high, count)
    seen = {float(x): search.at(math.exp(x)) for x in grid}
    centre = max(seen, key=lambda x: seen[x].value)
    if not math.isfinite(seen[centre].value):
        return None

    def loss(x: float) -> float:
        seen[x] = search.at(math.exp(x), ZOOMS)
        return -seen[x].value if math.isfinite(seen[x].value) else math.inf

    loss(centre)
    step = float(grid[1] - grid[0])
    if step > LENGTH_TOLERANCE:
        around = (max(low, centre - step), min(high, centre + step))
        minimize_scalar(loss, bounds=around, method="bounded", options={"xatol": LENGTH_TOLERANCE})
    chosen = max(seen, key=lambda x: seen[x].value)
    end = "lowest" if chosen - low < LENGTH_TOLERANCE else "highest" if high - chosen < LENGTH_TOLERANCE else ""
    return seen[chosen], math.exp(chosen), end


def median_distance(lower: NDArray[np.float64]) -> float:
    """Return the median distance of two different points, 1 if there are none.

    lower: squared distances, shape (n, n), as ``pairwise_lower`` gives them.
    """
    distances = lower[lower > 0]
    return float(np.sqrt(np.median(distances))) if distances.size else 1.0
