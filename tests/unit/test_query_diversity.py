"""Distance-based strategies against plain loops over explicit distance and kernel matrices, in float64."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from quarry.points import distances, greedy
from quarry.points.distances import Closest
from quarry.points.furthest_first import furthest_first
from quarry.query import batch_diversity
from quarry.query.base import PoolView
from quarry.query.batch_diversity import k_means_plus_plus
from support.query import full_pool, select

SEEDS = st.integers(0, 2**32 - 1)


def squared_distances(a, b):
    return np.sum((a[:, None, :] - b[None, :, :]) ** 2, axis=-1)


def max_min_by_hand(candidates, labelled, n):
    """Equation 9 of the lecture, literally."""
    chosen = []
    for _ in range(n):
        centres = np.concatenate([labelled, candidates[chosen]])
        left = [i for i in range(len(candidates)) if i not in chosen]
        chosen.append(max(left, key=lambda i: (min(np.linalg.norm(candidates[i] - c) for c in centres), -i)))
    return chosen


def lcmd_by_hand(candidates, labelled, n):
    """Largest cluster, largest distance; all clusters made anew for every choice."""
    chosen = []
    for _ in range(n):
        to_centres = squared_distances(candidates, np.concatenate([labelled, candidates[chosen]]))
        owner, squared = to_centres.argmin(axis=1), to_centres.min(axis=1)
        clusters = {k: np.flatnonzero(owner == k) for k in set(owner)}
        largest = max(clusters, key=lambda k: squared[clusters[k]].sum())
        chosen.append(int(clusters[largest][squared[clusters[largest]].argmax()]))
    return chosen


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.integers(1, 30), st.integers(1, 4), st.integers(1, 5), st.integers(1, 30))
def test_max_min_and_lcmd_are_the_plain_loops(seed, size, d, m, n):
    pool = full_pool(np.random.default_rng(seed), size, d, m)
    n = min(n, size)
    assert select("max_min", pool, n) == max_min_by_hand(pool.features, pool.labelled, n)
    embedded = max_min_by_hand(pool.embedding, pool.labelled_embedding, n)
    assert select("max_min", pool, n, distance="kernel") == embedded
    assert select("lcmd", pool, n) == lcmd_by_hand(pool.embedding, pool.labelled_embedding, n)


@pytest.mark.parametrize("least", [1, 7])
def test_work_put_off_gives_the_same_choice(monkeypatch, least):
    """Blocks and focus so small that bounds, refreshes and several products are all needed."""
    for n, seed in itertools.product((1, 20, 40), range(2)):
        pool = full_pool(np.random.default_rng(seed), 40, 3, 30)
        monkeypatch.undo()
        expected = select("max_min", pool, n), select("maxdet", pool, n), select("lcmd", pool, n)
        monkeypatch.setattr(greedy, "LEAST_FOCUS", least)
        monkeypatch.setattr(greedy, "FOCUS_SHARE", 100)
        monkeypatch.setattr(distances, "BLOCK_ELEMENTS", 20)
        monkeypatch.setattr(distances, "CENTRES_AT_A_TIME", 4)
        assert (select("max_min", pool, n), select("maxdet", pool, n), select("lcmd", pool, n)) == expected
        assert expected[0] == max_min_by_hand(pool.features, pool.labelled, n)


def test_uncertainty_max_min_is_max_min_of_the_uncertain():
    rng = np.random.default_rng(1)
    pool = full_pool(rng, 40, 2)
    pool.std = rng.permutation(40) / 40.0
    uncertain = np.sort(np.argsort(-pool.std)[:10])
    expected = uncertain[max_min_by_hand(pool.features[uncertain], pool.labelled, 6)]
    assert select("uncertainty_max_min", pool, 6, share=0.25) == expected.tolist()


def test_without_labelled_points_the_largest_norm_is_first():
    features = np.array([[1.0, 0.0], [-2.0, 1.0], [0.0, 2.0], [2.0, 0.5]])
    assert furthest_first(features, None, 3).tolist() == [1, 3, 2]
    pool = PoolView(features, embedding=features)
    assert select("lcmd", pool, 2) == [1, 3]


def test_ties_go_to_the_lower_index():
    grid = np.array([[x, y] for x in (0.0, 4.0) for y in (0.0, 4.0)])
    pool = PoolView(grid, labelled=np.array([[2.0, 2.0]]), embedding=grid, labelled_embedding=np.array([[2.0, 2.0]]))
    assert select("max_min", pool, 4) == [0, 1, 2, 3]
    assert select("lcmd", pool, 2) == [0, 1]


@pytest.mark.parametrize("name", ["max_min", "lcmd", "k_means_plus_plus", "maxdet", "bait"])
def test_duplicates_come_last(name):
    """Also where features are large against their differences."""
    rng = np.random.default_rng(2)
    distinct = 1000 + rng.normal(size=(6, 5))
    features = np.concatenate([distinct[:2], distinct, distinct[:3]])
    pool = PoolView(features, labelled=features[8:], embedding=features - 1000, labelled_embedding=features[8:] - 1000)
    new = {tuple(distinct[i]) for i in range(3, 6)}
    # Three labelled and two new points span all five dimensions: to a linear model the sixth is no news.
    told_apart = 2 if name in ("maxdet", "bait") else 3
    for seed in range(3):
        chosen = select(name, pool, 11, seed)
        assert sorted(chosen) == list(range(11))
        found = {tuple(features[i]) for i in chosen[:told_apart]}
        assert found <= new and len(found) == told_apart


def test_zero_embeddings_still_give_a_batch():
    pool = PoolView(np.zeros((5, 2)), embedding=np.zeros((5, 2)), labelled_embedding=np.zeros((1, 2)))
    for name in ("lcmd", "k_means_plus_plus", "maxdet", "bait"):
        assert len(set(select(name, pool, 4))) == 4


class TestKMeansPlusPlus:
    FEATURES = np.array([[0.0], [1.0], [3.0], [3.5], [7.0]])
    LABELLED = np.array([[0.5]])

    def probabilities(self, centres):
        """Of each ordered pair, by D^2 weights."""
        found = {}
        for i in range(5):
            first = squared_distances(self.FEATURES, centres).min(axis=1) if len(centres) else np.ones(5)
            second = squared_distances(self.FEATURES, np.concatenate([centres, self.FEATURES[[i]]])).min(axis=1)
            for j in set(range(5)) - {i}:
                found[i, j] = first[i] / first.sum() * second[j] / second.sum()
        return found

    @pytest.mark.parametrize("put_off", [1, 256])
    @pytest.mark.parametrize("labelled", [True, False])
    def test_pairs_are_drawn_with_their_probabilities(self, monkeypatch, labelled, put_off):
        monkeypatch.setattr(batch_diversity, "CHOICES_AT_A_TIME", put_off)
        centres = self.LABELLED if labelled else np.zeros((0, 1))
        expected = self.probabilities(centres)
        rng = np.random.default_rng(3)
        counts = dict.fromkeys(expected, 0)
        for _ in range(2000):
            i, j = k_means_plus_plus(Closest(self.FEATURES, centres), 2, rng)
            counts[i, j] += 1
        pairs = [pair for pair in expected if expected[pair] * 2000 > 5]
        rest = 2000 - sum(counts[p] for p in pairs)
        frequencies = np.array([*(2000 * expected[p] for p in pairs), 2000 * (1 - sum(expected[p] for p in pairs))])
        assert chisquare([*(counts[p] for p in pairs), rest], frequencies * (2000 / frequencies.sum())).pvalue > 1e-3

    def test_small_refreshes_find_every_blob(self, monkeypatch):
        monkeypatch.setattr(batch_diversity, "CHOICES_AT_A_TIME", 3)
        monkeypatch.setattr(batch_diversity, "REJECTIONS", 2)
        rng = np.random.default_rng(4)
        owner = np.repeat(np.arange(8), 10)
        features = 1e4 * rng.normal(size=(8, 3))[owner] + rng.normal(size=(80, 3))
        chosen = k_means_plus_plus(Closest(features, features[:1]), 7, rng)
        assert sorted(owner[chosen]) == list(range(1, 8))
