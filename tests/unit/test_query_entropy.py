"""Entropies of classes against scipy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy

from quarry.query.base import PoolView
from support.query import full_pool, select, strategy

VOTES = np.array([[1, 0, 0], [0.6, 0.4, 0], [0.2, 0.4, 0.4], [0.4, 0.6, 0], [0, 0.6, 0.4]])


def test_entropies_are_scipys():
    pool = full_pool(np.random.default_rng(0), 30, 1)
    for name, shares in {"vote_entropy": pool.votes, "predictive_entropy": pool.probabilities}.items():
        np.testing.assert_allclose(strategy(name).score(pool), entropy(shares, axis=1), atol=1e-14)


def test_by_hand():
    """Five members: 5 to 0 has no entropy, 2:2:1 has the most, and 3 to 2 is the same for whichever classes."""
    found = strategy("vote_entropy").score(PoolView(np.zeros((5, 1)), votes=VOTES))
    two = -0.6 * np.log(0.6) - 0.4 * np.log(0.4)
    np.testing.assert_allclose(found, [0, two, -0.2 * np.log(0.2) - 0.8 * np.log(0.4), two, two], atol=1e-15)
    assert found[0] == 0


def test_equal_votes_are_drawn_at_random():
    pool = PoolView(np.zeros((5, 1)), votes=VOTES)
    orders = {tuple(select("vote_entropy", pool, 4, seed)) for seed in range(60)}
    assert {order[0] for order in orders} == {2}
    assert {order[1:] for order in orders} == {(1, 3, 4), (1, 4, 3), (3, 1, 4), (3, 4, 1), (4, 1, 3), (4, 3, 1)}


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.integers(0, 25))
def test_predictive_entropy_sorts(seed, size, n):
    pool = full_pool(np.random.default_rng(seed), size, 1)
    values = entropy(pool.probabilities, axis=1)
    assert select("predictive_entropy", pool, n) == sorted(range(size), key=lambda i: -values[i])[:n]


@pytest.mark.parametrize("name", ["vote_entropy", "predictive_entropy"])
def test_no_classes_no_entropy(name):
    pool = PoolView(np.zeros((3, 1)), votes=np.ones((3, 1)), probabilities=np.ones((3, 1)))
    assert strategy(name).score(pool).tolist() == [0, 0, 0]
