"""MaxDet and BAIT against their definitions with explicit kernel matrices, determinants and sums of variances."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarry.query import posterior
from quarry.query.base import PoolView
from quarry.query.posterior import posterior_features
from support.query import full_pool, select

NOISE = 1e-6


def prior_kernel(pool, labelled):
    """Kernel of candidates and labelled points together, scaled to 1 on average over the labelled."""
    points = np.concatenate([pool, labelled])
    return points @ points.T / np.mean(np.sum((labelled if len(labelled) else pool) ** 2, axis=1))


def conditioned(kernel, on):
    """Posterior kernel of all points after noisy observations of some."""
    if not len(on):
        return kernel
    gain = np.linalg.solve(kernel[np.ix_(on, on)] + NOISE * np.eye(len(on)), kernel[on])
    return kernel - kernel[:, on] @ gain


def maxdet_by_hand(pool, labelled, n):
    kernel = conditioned(prior_kernel(pool, labelled), np.arange(len(pool), len(pool) + len(labelled)))
    chosen = []
    for _ in range(n):
        determinants = {}
        for i in set(range(len(pool))) - set(chosen):
            batch = [*chosen, i]
            determinants[i] = np.linalg.slogdet(kernel[np.ix_(batch, batch)] + NOISE * np.eye(len(batch)))[1]
        chosen.append(max(determinants, key=determinants.get))
    return chosen


def bait_by_hand(pool, labelled, n):
    kernel = prior_kernel(pool, labelled)
    known = list(range(len(pool), len(pool) + len(labelled)))
    chosen = []
    for _ in range(n):
        sums = {i: np.trace(conditioned(kernel, [*known, *chosen, i])) for i in set(range(len(pool))) - set(chosen)}
        chosen.append(min(sums, key=sums.get))
    return chosen


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 16), st.integers(1, 4), st.integers(1, 5))
def test_maxdet_and_bait_are_their_definitions(seed, size, m, n):
    """As many choices as the space has dimensions; after that all variances are noise."""
    rng = np.random.default_rng(seed)
    pool = full_pool(rng, size, 2, m)
    pool.embedding, pool.labelled_embedding = rng.normal(size=(size, 9)), 2 * rng.normal(size=(m, 9))
    n = min(n, size)
    assert select("maxdet", pool, n) == maxdet_by_hand(pool.embedding, pool.labelled_embedding, n)
    assert select("bait", pool, n) == bait_by_hand(pool.embedding, pool.labelled_embedding, n)


def test_without_labelled_points_they_begin_with_the_prior():
    rng = np.random.default_rng(1)
    embedding = rng.normal(size=(12, 5))
    pool = PoolView(embedding, embedding=embedding)
    nothing = np.zeros((0, 5))
    assert select("maxdet", pool, 4) == maxdet_by_hand(embedding, nothing, 4)
    assert select("bait", pool, 4) == bait_by_hand(embedding, nothing, 4)


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
def test_the_unit_of_the_embedding_does_not_matter(factor):
    pool = full_pool(np.random.default_rng(2), 30, 3, 4)
    scaled = PoolView(
        pool.features,
        embedding=factor * pool.embedding,
        labelled_embedding=(factor * pool.labelled_embedding).astype(np.float64),
    )
    for name in ("maxdet", "bait"):
        assert select(name, scaled, 4) == select(name, pool, 4)


def test_posterior_features_have_the_posterior_kernel():
    rng = np.random.default_rng(3)
    pool, labelled = rng.normal(size=(7, 6)), rng.normal(size=(20, 6))
    expected = conditioned(prior_kernel(pool, labelled), np.arange(7, 27))
    found = np.concatenate(posterior_features(pool, labelled))
    # Variances are about 1e-6 here, of a prior of 1.
    np.testing.assert_allclose(found @ found.T, expected, atol=1e-12)
    assert np.max(np.abs(expected)) < 1e-5


def test_bait_keeps_exact_sums_through_many_choices(monkeypatch):
    rng = np.random.default_rng(4)
    pool = full_pool(rng, 60, 2, 5)
    pool.embedding, pool.labelled_embedding = rng.normal(size=(60, 24)), rng.normal(size=(5, 24))
    monkeypatch.setattr(posterior, "EXACT_AGAIN_AFTER", 1)
    exact = select("bait", pool, 18)
    monkeypatch.setattr(posterior, "EXACT_AGAIN_AFTER", 5)
    assert select("bait", pool, 18) == exact == bait_by_hand(pool.embedding, pool.labelled_embedding, 18)


def test_far_more_choices_than_dimensions_stay_greedy():
    """The determinant of maxdet's batch stays above those of random batches when noise is all that is left."""
    rng = np.random.default_rng(5)
    embedding, labelled = rng.normal(size=(80, 4)), rng.normal(size=(6, 4))
    pool = PoolView(embedding, embedding=embedding, labelled_embedding=labelled)
    kernel = prior_kernel(embedding, labelled)
    known = list(range(80, 86))

    def determinant(batch):
        k = conditioned(kernel, known)[np.ix_(batch, batch)]
        return np.linalg.slogdet(k + NOISE * np.eye(len(batch)))[1]

    def variances(batch):
        return np.trace(conditioned(kernel, [*known, *batch]))

    others = [rng.choice(80, 30, replace=False).tolist() for _ in range(30)]
    assert determinant(select("maxdet", pool, 30)) > max(determinant(batch) for batch in others)
    assert variances(select("bait", pool, 30)) < min(variances(batch) for batch in others)
