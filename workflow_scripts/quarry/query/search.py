"""Targeted search: candidates whose target is predicted to lie in a wanted range (``search``).

The range is open at an infinite end. Of several candidates with the same rank the lower index comes first.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtr

from quarry.query.base import PoolView
from quarry.query.ranking import highest_first, without_rounding


class PropertySearch:
    """E of Ghosh et al., arXiv:2408.11191: random ones of those whose predicted mean lies in the range.

    Where fewer are predicted in range than wanted, all of them come first and then those predicted closest to the range.
    (The paper does not say what then happens; its published code adds one structure that is not in range.)
    """

    def select(self, pool: PoolView, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return ``n`` candidates, those predicted in range first, in random order."""
        outside = distance_outside(pool, "property_search")
        mean = pool.given("mean", "property_search")
        low, high = pool.wanted_range("property_search")
        inside = (mean > low) & (mean < high)
        chosen = rng.permutation(np.flatnonzero(inside))[:n]
        others = np.flatnonzero(~inside)
        closest = others[np.argsort(without_rounding(outside[others]), kind="stable")]
        return np.concatenate([chosen, closest[: max(0, n - len(chosen))]]).astype(np.int64)


class GreedyMean:
    """The predicted means furthest inside the range: highest or lowest of an open one, closest to the centre of a closed."""

    def score(self, pool: PoolView) -> NDArray[np.float64]:
        """Return the mean, its negative, or minus the distance to the centre (target's unit), shape (n,)."""
        mean = pool.given("mean", "greedy_mean").astype(np.float64)
        low, high = pool.wanted_range("greedy_mean")
        if np.isinf(high):
            return mean
        return -mean if np.isinf(low) else -np.abs(mean - (low + high) / 2)

    def select(self, pool: PoolView, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return ``n`` candidates by falling score."""
        return highest_first(self.score(pool))[:n]


class ProbabilityInRange:
    """The highest probability that the target lies in the range, for a normal distribution with mean and std.

    The expected number of finds is largest for this choice if nothing is to be learnt for later batches.
    """

    def score(self, pool: PoolView) -> NDArray[np.float64]:
        """Return the probabilities, shape (n,)."""
        return np.exp(self._logarithms(pool))

    def select(self, pool: PoolView, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return ``n`` candidates by falling probability; those of equal probability by closeness to the range."""
        outside = distance_outside(pool, "probability_in_range")
        return np.lexsort((without_rounding(outside), -without_rounding(self._logarithms(pool))))[:n].astype(np.int64)

    def _logarithms(self, pool: PoolView) -> NDArray[np.float64]:
        """Return the logarithms of the probabilities: those near 0 and 1 keep their order."""
        mean, std = _normal(pool, "probability_in_range")
        low, high = pool.wanted_range("probability_in_range")
        certain = np.where((mean > low) & (mean < high), 0.0, -np.inf)
        spread = np.where(std > 0, std, 1.0)
        lower, upper = (low - mean) / spread, (high - mean) / spread
        # Mirrored where the range lies above the mean: the tails below zero are the ones that are known precisely.
        above = lower > 0
        a, b = np.where(above, -upper, lower), np.where(above, -lower, upper)
        with np.errstate(divide="ignore", invalid="ignore"):
            tail = log_ndtr(b) + np.log1p(-np.exp(log_ndtr(a) - log_ndtr(b)))
            around = np.log1p(-(ndtr(a) + ndtr(-b)))
        found = np.where((a < 0) & (b > 0), around, tail)
        return np.where(std > 0, found, certain)


class ExpectedGain:
    """The largest expected depth inside the range, max(0, min(y - minimum, maximum - y)) of a normally distributed y.

    For an open range this is the expected improvement of D. R. Jones et al., J. Glob. Optim. 13, 455 (1998), equation
    15, over the end of the range instead of the best value so far: uncertain candidates gain where the mean alone says no.
    For a closed one it is the sum of three such terms (the depth is a tent).
    """

    def score(self, pool: PoolView) -> NDArray[np.float64]:
        """Return the expected gains (target's unit), shape (n,)."""
        mean, std = _normal(pool, "expected_gain")
        low, high = pool.wanted_range("expected_gain")
        if np.isinf(high):
            return _improvement(mean - low, std)
        if np.isinf(low):
            return _improvement(high - mean, std)
        # From the nearer end, so that large terms do not cancel.
        offset = np.minimum(mean - low, high - mean)
        width = high - low
        terms = _improvement(offset, std), _improvement(offset - width / 2, std), _improvement(offset - width, std)
        return np.maximum(terms[0] - 2 * terms[1] + terms[2], 0.0)

    def select(self, pool: PoolView, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return ``n`` candidates by falling expected gain; those of equal gain by closeness to the range."""
        outside = distance_outside(pool, "expected_gain")
        return np.lexsort((without_rounding(outside), -without_rounding(self.score(pool))))[:n].astype(np.int64)


def distance_outside(pool: PoolView, strategy: str) -> NDArray[np.float64]:
    """Return how far each predicted mean lies outside the range (0 inside; target's unit), shape (n,)."""
    mean = pool.given("mean", strategy)
    low, high = pool.wanted_range(strategy)
    return np.maximum(np.maximum(low - mean, mean - high), 0.0).astype(np.float64)


def _normal(pool: PoolView, strategy: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    mean, std = pool.given("mean", strategy), pool.given("std", strategy)
    return mean.astype(np.float64), std.astype(np.float64)


def _improvement(excess: NDArray[np.float64], std: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return E[max(0, excess + std z)] of a standard normal z, shape (n,)."""
    z = excess / np.where(std > 0, std, 1.0)
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    return np.where(std > 0, np.maximum(excess * ndtr(z) + std * density, 0.0), np.maximum(excess, 0.0))
