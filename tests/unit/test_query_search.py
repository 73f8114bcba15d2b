"""Targeted strategies against sorting by hand and numerical integration."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from quarry.query.base import PoolView
from support.query import full_pool, select, strategy

RANGES = [(0.2, 1.0), (0.5, np.inf), (-np.inf, -0.3)]


def pool_with(mean, std=None, low=0.0, high=np.inf):
    mean = np.asarray(mean, dtype=float)
    std = None if std is None else np.broadcast_to(np.asarray(std, dtype=float), mean.shape)
    return PoolView(np.zeros((len(mean), 1)), mean=mean, std=std, minimum=low, maximum=high)


def depth(y, low, high):
    return max(0.0, min(y - low, high - y))


class TestPropertySearch:
    MEAN = (0.5, -0.1, 1.5, 0.9, 0.1, -2.0, 1.2)

    def test_enough_in_range_random_ones_of_them(self):
        pool = pool_with(self.MEAN, low=0.0, high=1.0)
        pairs = [tuple(select("property_search", pool, 2, seed)) for seed in range(600)]
        counts = {pair: pairs.count(pair) for pair in set(pairs)}
        # Six ordered pairs of the three in range, 100 expected of each, standard deviation 9.
        assert set(counts) == {(i, j) for i in (0, 3, 4) for j in (0, 3, 4) if i != j}
        assert all(60 < count < 140 for count in counts.values())

    def test_too_few_in_range_all_of_them_then_the_closest(self):
        pool = pool_with(self.MEAN, low=0.0, high=1.0)
        chosen = select("property_search", pool, 6)
        assert set(chosen[:3]) == {0, 3, 4}
        assert chosen[3:] == [1, 6, 2]

    def test_none_in_range_the_closest(self):
        assert select("property_search", pool_with(self.MEAN, low=5.0), 3) == [2, 6, 3]
        assert select("property_search", pool_with(self.MEAN, low=-np.inf, high=-3.0), 2) == [5, 1]

    def test_the_ends_are_not_in_range(self):
        assert set(select("property_search", pool_with([0.0, 1.0, 0.5], low=0.0, high=1.0), 1)) == {2}


def test_greedy_mean_is_furthest_inside():
    mean = [0.5, 0.9, 1.5, -3.0, 0.1]
    assert select("greedy_mean", pool_with(mean, low=0.3), 5) == [2, 1, 0, 4, 3]
    assert select("greedy_mean", pool_with(mean, low=-np.inf, high=0.3), 2) == [3, 4]
    assert select("greedy_mean", pool_with(mean, low=0.3, high=1.3), 3) == [1, 0, 2]
    assert select("greedy_mean", pool_with([1.0, 1.0, 1.0], low=0.0), 2) == [0, 1]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(RANGES), st.integers(1, 12))
def test_scores_are_the_integrals_over_the_normal_distribution(seed, ends, n):
    rng = np.random.default_rng(seed)
    mean, std = rng.normal(size=8), 0.1 + rng.random(8)
    pool = pool_with(mean, std, *ends)
    probability, gain = [], []
    for m, s in zip(mean, std, strict=True):
        density = norm(m, s)
        probability.append(density.cdf(ends[1]) - density.cdf(ends[0]))
        low, high = max(ends[0], m - 12 * s), min(ends[1], m + 12 * s)
        centre = sum(ends) / 2 if np.isfinite(ends).all() else m
        integral = quad(
            lambda y, d=density: depth(y, *ends) * d.pdf(y), low, high, points=[min(max(centre, low), high)]
        )
        gain.append(integral[0] if low < high else 0.0)
    np.testing.assert_allclose(strategy("probability_in_range").score(pool), probability, atol=1e-12)
    np.testing.assert_allclose(strategy("expected_gain").score(pool), gain, atol=1e-7)
    for name, values in {"probability_in_range": probability, "expected_gain": gain}.items():
        found = select(name, pool, n)
        assert len(found) == min(n, 8)
        assert all(values[i] >= values[j] - 1e-7 for i, j in pairwise(found))


def test_an_uncertain_candidate_can_gain_more_than_a_likelier_one():
    pool = pool_with([0.05, -0.1], [0.01, 1.0], low=0.0)
    assert select("probability_in_range", pool, 1) == select("greedy_mean", pool, 1) == [0]
    assert select("expected_gain", pool, 1) == [1]


@pytest.mark.parametrize("name", ["probability_in_range", "expected_gain"])
@pytest.mark.parametrize("ends", [(0.0, np.inf), (-np.inf, 0.0), (0.0, 1e-3), (0.0, 1.0)])
def test_far_tails_keep_their_order(name, ends):
    """Where probabilities are below the smallest number, or 1 up to rounding."""
    below = -np.arange(1.0, 60.0)
    mean = below if np.isfinite(ends[0]) else -below
    assert select(name, pool_with(mean, 1.0, *ends), 59) == list(range(59))
    if np.isfinite(ends).all():
        above = ends[1] - below
        assert select(name, pool_with(above, 1.0, *ends), 59) == list(range(59))


def test_near_certainty_keeps_its_order():
    pool = pool_with(np.arange(1.0, 30.0), 1.0, 0.0)
    assert select("probability_in_range", pool, 29) == list(range(29))[::-1]


@pytest.mark.parametrize("ends", RANGES)
def test_no_uncertainty_is_the_plain_range(ends):
    pool = full_pool(np.random.default_rng(1), 20, 1)
    pool.std, (pool.minimum, pool.maximum) = np.zeros(20), ends
    inside = (pool.mean > ends[0]) & (pool.mean < ends[1])
    assert strategy("probability_in_range").score(pool).tolist() == inside.astype(float).tolist()
    np.testing.assert_allclose(
        strategy("expected_gain").score(pool), [depth(y, *ends) for y in pool.mean], rtol=1e-12, atol=1e-15
    )
