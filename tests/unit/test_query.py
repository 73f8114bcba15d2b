"""Query strategies against brute force, and batch sizes against the paper's training set sizes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarry.config.query import STRATEGIES, ConstantBatch, DoublingBatch, FractionBatch
from quarry.errors import QuarryError
from quarry.points import distances
from quarry.query import base, clustering
from quarry.query.base import MEANINGS, PoolView, Ranks
from quarry.query.batch import batch_size
from quarry.query.strategies import MAKERS, chosen_by, make_strategy, needs_of
from support.query import full_pool, permuted, query, select, strategy

DETERMINISTIC = sorted(set(STRATEGIES) - {"random", "sequence", "property_search", "clusters", "uncertainty_clusters"})
DETERMINISTIC.remove("k_means_plus_plus")
DETERMINISTIC.remove("vote_entropy")


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
    pool = full_pool(np.random.default_rng(seed), size, d, distinct=distinct)
    chosen = strategy(name).select(pool, n, np.random.default_rng(seed))
    assert chosen.dtype == np.int64
    assert len(chosen) == len(set(chosen.tolist())) == min(n, size)
    assert np.all((chosen >= 0) & (chosen < size))
    np.testing.assert_array_equal(chosen, strategy(name).select(pool, n, np.random.default_rng(seed)))


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(DETERMINISTIC), st.integers(0, 2**32 - 1), st.integers(2, 30), st.integers(1, 12))
def test_the_order_of_the_pool_does_not_matter(name, seed, size, n):
    rng = np.random.default_rng(seed)
    pool = full_pool(rng, size, 3)
    pool.std = np.abs(rng.normal(size=size))
    order = rng.permutation(size)
    assert order[select(name, permuted(pool, order), n)].tolist() == select(name, pool, n)


def test_sequence_follows_the_order_of_the_pool():
    pool = full_pool(np.random.default_rng(0), 7, 2)
    assert select("sequence", pool, 3) == [0, 1, 2] and select("sequence", pool, 9) == list(range(7))


@pytest.mark.parametrize("name", sorted(set(STRATEGIES) - {"random"}))
def test_what_a_strategy_reads_is_all_it_reads(name):
    """Without any one of the fields that its traits name it fails; without all others it does not."""
    pool = full_pool(np.random.default_rng(0), 12, 2)
    reads = needs_of(query(name), strategy(name))
    optional = {"labelled", "labelled_embedding", "targets", "features"}
    for field in set(MEANINGS) - optional - reads:
        setattr(pool, field, None)
    if "range" not in reads:
        pool.minimum = pool.maximum = None
    assert len(select(name, pool, 3)) == 3
    for field in reads:
        lacking = PoolView(**{**vars(pool), **({"minimum": None} if field == "range" else {field: None})})
        with pytest.raises(QuarryError, match=rf"query\.strategy: {name} needs"):
            select(name, lacking, 3)


def test_nan_is_named_with_what_it_is_of(monkeypatch):
    monkeypatch.setattr(base, "BLOCK_ELEMENTS", 4)
    pool = full_pool(np.random.default_rng(0), 12, 2)
    pool.features[7, 1] = np.nan
    for name in ("clusters", "max_min"):
        with pytest.raises(
            QuarryError, match=f"{name} cannot go on: the descriptor is not finite for candidate number 7"
        ):
            select(name, pool, 3)
    pool.labelled_embedding[1, 0] = np.inf
    with pytest.raises(
        QuarryError,
        match="the model's embedding of the training structures is not finite for training structure number 1",
    ):
        select("lcmd", pool, 3)
    pool.std[0] = np.nan
    with pytest.raises(QuarryError, match="model's prediction is not finite for candidate number 0"):
        select("uncertainty", pool, 3)


def test_features_of_another_length_are_one_line():
    pool = full_pool(np.random.default_rng(0), 12, 2)
    pool.labelled, pool.labelled_embedding = pool.labelled[:, :1], np.zeros((3, 5))
    for name, lengths in {"max_min": "2 features, training structures 1", "bait": "4 .* 5", "lcmd": "4 .* 5"}.items():
        with pytest.raises(QuarryError, match=lengths):
            select(name, pool, 3)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(0, 40))
def test_uncertainty_is_a_sort_by_standard_deviation_then_index(seed, size, n):
    pool = full_pool(np.random.default_rng(seed), size, 1)
    assert select("uncertainty", pool, n) == sorted(range(size), key=lambda i: (-pool.std[i], i))[:n]


def test_random_draws_every_candidate_equally_often():
    rng = np.random.default_rng(0)
    pool = PoolView(np.zeros((10, 1)))
    counts = np.bincount(np.concatenate([strategy("random").select(pool, 3, rng) for _ in range(2000)]), minlength=10)
    # 600 expected, standard deviation sqrt(2000 * 0.3 * 0.7) = 20.
    assert np.all(np.abs(counts - 600) < 100)


def test_clusters_takes_one_candidate_of_each_blob_the_one_closest_to_its_mean():
    rng = np.random.default_rng(1)
    features, owner = blobs(rng, 8, 12)
    chosen = strategy("clusters").select(PoolView(features), 8, rng)
    assert sorted(owner[chosen]) == list(range(8))
    for i in chosen:
        members = np.flatnonzero(owner == owner[i])
        distances = np.linalg.norm(features[members] - features[members].mean(axis=0), axis=1)
        assert i == members[np.argmin(distances)]


def test_clusters_takes_the_largest_cluster_first():
    rng = np.random.default_rng(2)
    features, owner = blobs(rng, 2, 10)
    keep = np.flatnonzero((owner == 1) | (np.cumsum(owner == 0) <= 4))
    chosen = strategy("clusters").select(PoolView(features[keep]), 2, rng)
    assert owner[keep][chosen].tolist() == [1, 0]


def test_clusters_keeps_small_differences_on_a_large_common_value():
    # In float32 without centring, 1e6 + 0.01 and 1e6 are the same number.
    rng = np.random.default_rng(3)
    features, owner = blobs(rng, 4, 10, d=2)
    chosen = strategy("clusters").select(PoolView(1e6 + 1e-4 * features), 4, rng)
    assert sorted(owner[chosen]) == [0, 1, 2, 3]


def test_clusters_of_identical_candidates_are_still_distinct():
    for distinct in (1, 3):
        pool = PoolView(np.repeat(np.eye(3)[:distinct], 10, axis=0))
        chosen = strategy("clusters").select(pool, 7, np.random.default_rng(0))
        assert len(set(chosen.tolist())) == 7
        assert len({tuple(pool.features[i]) for i in chosen}) == distinct


def test_uncertainty_clusters_takes_one_of_each_blob_in_the_uncertain_half():
    rng = np.random.default_rng(4)
    features, owner = blobs(rng, 8, 10)
    std = np.where(owner < 4, 1.0, 0.1) + 0.01 * rng.random(80)
    chosen = strategy("uncertainty_clusters").select(PoolView(features, std=std), 4, rng)
    assert sorted(owner[chosen]) == [0, 1, 2, 3]


def test_uncertainty_clusters_takes_more_than_half_if_the_batch_is_more():
    rng = np.random.default_rng(5)
    pool = full_pool(rng, 10, 2)
    chosen = strategy("uncertainty_clusters").select(pool, 8, rng)
    assert set(chosen.tolist()) == set(np.argsort(-pool.std, kind="stable")[:8].tolist())


def test_uncertainty_clusters_takes_the_share_it_is_told():
    rng = np.random.default_rng(5)
    pool = full_pool(rng, 40, 2)
    most = np.argsort(-pool.std, kind="stable")
    for share, n in {0.1: 4, 0.5: 20, 1.0: 40}.items():
        for name in ("uncertainty_clusters", "uncertainty_max_min"):
            assert set(select(name, pool, min(n, 3), share=share)) <= set(most[:n].tolist())
            assert set(select(name, pool, n, share=share)) == set(most[:n].tolist())


def test_few_rounds_in_small_blocks_also_find_the_blobs(monkeypatch):
    monkeypatch.setattr(clustering, "WORK", 0)
    monkeypatch.setattr(distances, "BLOCK_ELEMENTS", 100)
    rng = np.random.default_rng(6)
    features, owner = blobs(rng, 4, 300)
    chosen = strategy("clusters").select(PoolView(features), 24, rng)
    # With 24 centres none of the 4 blobs is left out.
    assert len(set(chosen.tolist())) == 24
    assert set(owner[chosen]) == {0, 1, 2, 3}


class Own:
    """A user's strategy: the candidates with the lowest first feature, or whatever a test wants."""

    needs = ("std", "labelled")

    def __init__(self, answer=None):
        self.answer = answer

    def select(self, pool, n, rng):
        return np.argsort(pool.features[:, 0])[:n] if self.answer is None else self.answer


class TestOwn:
    MODULE = """
class Lowest:
    needs = ("mean", "std", "labelled", "range")
    def __init__(self, sign=1):
        self.sign = sign
    def select(self, pool, n, rng):
        return (self.sign * pool.features[:, 0]).argsort()[:n]
class Wrong(Lowest):
    needs = ("energies",)
class NoSelect:
    pass
"""

    @pytest.fixture(autouse=True)
    def module(self, tmp_path, monkeypatch):
        import sys

        monkeypatch.setattr(sys, "path", list(sys.path))
        (tmp_path / "lowest_first.py").write_text(self.MODULE)
        yield
        sys.modules.pop("lowest_first", None)

    def make(self, tmp_path, name="Lowest", **arguments):
        return make_strategy(query(f"lowest_first:{name}", arguments=arguments), tmp_path)

    def test_it_is_found_beside_the_campaign_file(self, tmp_path):
        pool = PoolView(np.array([[3.0], [1.0], [2.0]]))
        own = self.make(tmp_path)
        assert chosen_by(own, "own", pool, 2, np.random.default_rng(0)).tolist() == [1, 2]
        assert chosen_by(self.make(tmp_path, sign=-1), "own", pool, 2, np.random.default_rng(0)).tolist() == [0, 2]
        assert needs_of(query("lowest_first:Lowest"), own) == {"mean", "std", "range"}

    @pytest.mark.parametrize(
        ("name", "arguments", "message"),
        [
            ("Lowest", {"sgn": 1}, r"query\.arguments: .*has no argument 'sgn'; did you mean 'sign'"),
            ("Wrong", {}, "has 'energies' in needs; known are features, mean"),
            ("NoSelect", {}, r"has no method select\(pool, n, rng\)"),
            ("Missing", {}, "cannot import 'lowest_first:Missing'"),
        ],
    )
    def test_mistakes_are_one_line(self, tmp_path, name, arguments, message):
        with pytest.raises(QuarryError, match=message):
            self.make(tmp_path, name, **arguments)

    @pytest.mark.parametrize("answer", [[0], [0, 0], [0, 3], [-1, 0], [0.0, 1.0], [[0, 1]], None])
    def test_only_distinct_candidates_are_taken(self, answer):
        own = Own(np.asarray(answer) if answer is not None else "all")
        with pytest.raises(QuarryError, match="must return 2 distinct indices below 3"):
            chosen_by(own, "own", PoolView(np.zeros((3, 1))), 2, np.random.default_rng(0))

    def test_all_of_a_pool_that_has_fewer(self):
        assert chosen_by(Own(), "own", PoolView(np.zeros((3, 1))), 5, np.random.default_rng(0)).tolist() == [0, 1, 2]


def test_every_name_of_the_configuration_has_a_strategy():
    assert MAKERS.keys() == STRATEGIES.keys()
    ranked = {name for name in STRATEGIES if isinstance(strategy(name), Ranks)}
    assert ranked == {
        name
        for name, traits in STRATEGIES.items()
        if {"std", "votes", "probabilities", "informativeness_energy", "informativeness_forces"} & {*traits.reads}
    } | {"greedy_mean"}


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
