"""Ranks of candidates: what is equal by its mathematics stays in the pool's order, whatever rounding made of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarry.query.base import PoolView
from quarry.query.diversity import most_uncertain
from quarry.query.entropy import PredictiveEntropy
from quarry.query.ranking import highest_first, without_rounding
from quarry.query.search import ExpectedGain, GreedyMean, ProbabilityInRange
from quarry.query.strategies import Uncertainty


def noisy(values, seed):
    """The values as other machines have them: other last bits."""
    return np.asarray(values) * (1 + np.random.default_rng(seed).uniform(-4e-15, 4e-15, np.shape(values)))


@settings(max_examples=50)
@given(st.lists(st.floats(-1e6, 1e6, allow_nan=False), min_size=1, max_size=20))
def test_scores_that_differ_keep_their_order(values):
    assert without_rounding(np.array(values)) == pytest.approx(values, rel=2e-10, abs=0)
    spread = np.unique(np.round(values, 3))[::-1]
    assert highest_first(spread).tolist() == list(range(len(spread)))


def test_infinities_stay():
    assert highest_first(np.array([-np.inf, 0.0, np.inf])).tolist() == [2, 1, 0]


@pytest.mark.parametrize(
    "strategy", [Uncertainty(), GreedyMean(), ProbabilityInRange(), ExpectedGain(), PredictiveEntropy()]
)
def test_rounding_does_not_choose_among_equal_candidates(strategy):
    """All candidates far from the labels have the standard deviation and the mean of the prior."""
    std, mean = np.array([0.1, *[0.7] * 30, 0.3]), np.array([1.0, *[0.2] * 30, 0.9])
    shares = np.array([[0.9, 0.1], *[[0.3, 0.7]] * 30, [0.8, 0.2]])
    chosen = set()
    for seed in range(5):
        pool = PoolView(
            np.zeros((32, 0)),
            mean=noisy(mean, seed),
            std=noisy(std, seed + 10),
            probabilities=noisy(shares, seed + 20),
            minimum=0.5,
            maximum=np.inf,
        )
        chosen.add(tuple(strategy.select(pool, 10, np.random.default_rng(0)).tolist()))
    assert len(chosen) == 1
    (of_all,) = chosen
    equal = [index for index in of_all if 0 < index < 31]
    assert equal == list(range(1, len(equal) + 1))


def test_nor_among_the_most_uncertain_share():
    assert most_uncertain(noisy([0.1, *[0.7] * 30], 1), 0.2, 3).tolist() == [1, 2, 3, 4, 5, 6, 7]
