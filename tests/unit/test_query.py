"""Query strategies against brute force, and batch sizes against the paper's training set sizes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarry.config.query import ConstantBatch, DoublingBatch, FractionBatch
from quarry.errors import QuarryError
from quarry.query import strategies
from quarry.query.base import PoolView
from quarry.query.batch import batch_size
from quarry.query.strategies import STRATEGIES, make_strategy


def pool_of(rng, n, d, distinct=None):
    features = rng.normal(size=(n, d))
    if distinct is not None and n:
        features = features[rng.integers(0, min(distinct, n), size=n)]
    return PoolView(features, mean=rng.normal(size=n), std=np.abs(rng.normal(size=n)).round(1))


def blobs(rng, k, per_blob, d=4):
    """Points around k corners of a grid of spacing 100, and the blob of each point."""
    corners = 100.0 * np.array([[(i >> b) & 1 for b in range(d)] for i in range(k)])
    owner = rng.permutation(np.repeat(np.arange(k), per_blob))
    return corners[owner] + rng.normal(scale=0.5, size=(len(owner), d)), owner


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(STRATEGIES)),
    st.integers(0, 2**32 - 1),
    st.integers(0, 40),
    st.integers(1, 3),
    st.integers(0, 45),
    st.sampled_from([None, 1, 3]),
)
def test_every_strategy_gives_n_distinct_candidates_and_the_same_for_the_same_seed(name, seed, size, d, n, distinct):
    pool = pool_of(np.random.default_rng(seed), size, d, distinct)
    chosen = make_strategy(name).select(pool, n, np.random.default_rng(seed))
    assert chosen.dtype == np.int64
    assert len(chosen) == len(set(chosen.tolist())) == min(n, size)
    assert np.all((chosen >= 0) & (chosen < size))
    np.testing.assert_array_equal(chosen, make_strategy(name).select(pool, n, np.random.default_rng(seed)))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(0, 40))
def test_uncertainty_is_a_sort_by_standard_deviation_then_index(seed, size, n):
    rng = np.random.default_rng(seed)
    pool = pool_of(rng, size, 1)
    expected = sorted(range(size), key=lambda i: (-pool.std[i], i))[:n]
    assert make_strategy("uncertainty").select(pool, n, rng).tolist() == expected


def test_random_draws_every_candidate_equally_often():
    rng = np.random.default_rng(0)
    pool = PoolView(np.zeros((10, 1)))
    counts = np.bincount(
        np.concatenate([make_strategy("random").select(pool, 3, rng) for _ in range(2000)]), minlength=10
    )
    # 600 expected, standard deviation sqrt(2000 * 0.3 * 0.7) = 20.
    assert np.all(np.abs(counts - 600) < 100)


def test_clusters_takes_one_candidate_of_each_blob_the_one_closest_to_its_mean():
    rng = np.random.default_rng(1)
    features, owner = blobs(rng, 8, 12)
    chosen = make_strategy("clusters").select(PoolView(features), 8, rng)
    assert sorted(owner[chosen]) == list(range(8))
    for i in chosen:
        members = np.flatnonzero(owner == owner[i])
        distances = np.linalg.norm(features[members] - features[members].mean(axis=0), axis=1)
        assert i == members[np.argmin(distances)]


def test_clusters_takes_the_largest_cluster_first():
    rng = np.random.default_rng(2)
    features, owner = blobs(rng, 2, 10)
    keep = np.flatnonzero((owner == 1) | (np.cumsum(owner == 0) <= 4))
    chosen = make_strategy("clusters").select(PoolView(features[keep]), 2, rng)
    assert owner[keep][chosen].tolist() == [1, 0]


def test_clusters_keeps_small_differences_on_a_large_common_value():
    # In float32 without centring, 1e6 + 0.01 and 1e6 are the same number.
    rng = np.random.default_rng(3)
    features, owner = blobs(rng, 4, 10, d=2)
    chosen = make_strategy("clusters").select(PoolView(1e6 + 1e-4 * features), 4, rng)
    assert sorted(owner[chosen]) == [0, 1, 2, 3]


def test_clusters_of_identical_candidates_are_still_distinct():
    for distinct in (1, 3):
        pool = PoolView(np.repeat(np.eye(3)[:distinct], 10, axis=0))
        chosen = make_strategy("clusters").select(pool, 7, np.random.default_rng(0))
        assert len(set(chosen.tolist())) == 7
        assert len({tuple(pool.features[i]) for i in chosen}) == distinct


def test_uncertainty_clusters_takes_one_of_each_blob_in_the_uncertain_half():
    rng = np.random.default_rng(4)
    features, owner = blobs(rng, 8, 10)
    std = np.where(owner < 4, 1.0, 0.1) + 0.01 * rng.random(80)
    chosen = make_strategy("uncertainty_clusters").select(PoolView(features, std=std), 4, rng)
    assert sorted(owner[chosen]) == [0, 1, 2, 3]


def test_uncertainty_clusters_takes_more_than_half_if_the_batch_is_more():
    rng = np.random.default_rng(5)
    pool = pool_of(rng, 10, 2)
    chosen = make_strategy("uncertainty_clusters").select(pool, 8, rng)
    assert set(chosen.tolist()) == set(np.argsort(-pool.std, kind="stable")[:8].tolist())


@pytest.mark.parametrize(("seeding", "lloyd"), [(0, 1e12), (0, 0)])
def test_the_ways_for_big_pools_also_find_the_blobs(monkeypatch, seeding, lloyd):
    monkeypatch.setattr(strategies, "SEEDING_LIMIT", seeding)
    monkeypatch.setattr(strategies, "LLOYD_LIMIT", lloyd)
    monkeypatch.setattr(strategies, "BLOCK_ELEMENTS", 100)
    rng = np.random.default_rng(6)
    features, owner = blobs(rng, 4, 300)
    chosen = make_strategy("clusters").select(PoolView(features), 24, rng)
    # A random start may put two centres into one blob, but with 24 of them none of the 4 blobs is left out.
    assert len(set(chosen.tolist())) == 24
    assert set(owner[chosen]) == {0, 1, 2, 3}


@pytest.mark.parametrize("name", ["uncertainty", "uncertainty_clusters"])
def test_a_model_without_uncertainty_is_an_error_of_the_configuration(name):
    with pytest.raises(QuarryError, match=rf"query\.strategy: {name} "):
        make_strategy(name).select(PoolView(np.zeros((3, 1)), mean=np.zeros(3)), 1, np.random.default_rng(0))


def test_an_unknown_strategy_is_an_error():
    with pytest.raises(QuarryError, match=r"query\.strategy: 'best'"):
        make_strategy("best")


def test_constant_and_doubling_batches_give_the_training_set_sizes_of_the_paper():
    constant = ConstantBatch(schedule="constant", size=2000)
    assert [1000 + sum(batch_size(constant, t, 0) for t in range(1, k + 1)) for k in range(4)] == [
        1000,
        3000,
        5000,
        7000,
    ]
    doubling = DoublingBatch(schedule="doubling", size=1000)
    sizes = [1000]
    for t in range(1, 5):
        sizes.append(sizes[-1] + batch_size(doubling, t, sizes[-1]))
    assert sizes == [1000, 2000, 4000, 8000, 16000]


@pytest.mark.parametrize(
    ("fraction", "n_train", "expected"),
    [(0.1, 30, 3), (0.1, 31, 4), (0.07, 100, 7), (0.01, 5, 1), (1.5, 10, 15), (0.1, 0, 1)],
)
def test_fraction_batches_are_rounded_up(fraction, n_train, expected):
    assert batch_size(FractionBatch(schedule="fraction", fraction=fraction), 1, n_train) == expected


def test_iteration_zero_has_no_batch():
    with pytest.raises(ValueError, match="iteration 0"):
        batch_size(ConstantBatch(schedule="constant", size=1), 0, 5)
