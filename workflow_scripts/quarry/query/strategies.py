"""The strategies by their names in ``query.strategy``, and user-defined ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quarry.config.query import STRATEGIES as TRAITS
from quarry.config.query import Query
from quarry.errors import QuarryError
from quarry.imports import call_user_code, make_user_object
from quarry.query.base import MEANINGS, PoolView, Ranks, RanksLabelled, Strategy
from quarry.query.batch_diversity import KMeansPlusPlus, Lcmd
from quarry.query.clustering import Clusters, UncertaintyClusters
from quarry.query.diversity import MaxMin, UncertaintyMaxMin
from quarry.query.entropy import PredictiveEntropy, VoteEntropy
from quarry.query.optimal_design import BETA, ExpectedChange
from quarry.query.posterior import Bait, MaxDet
from quarry.query.ranking import highest_first
from quarry.query.search import ExpectedGain, GreedyMean, ProbabilityInRange, PropertySearch

DEFAULT_SHARE = 0.5
"""Strategy D of Ghosh et al. chooses among this share of the candidates."""


class Random:
    """A: candidates drawn at random."""

    def select(self, pool: PoolView, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return ``n`` candidates in random order."""
        return rng.permutation(len(pool))[:n].astype(np.int64)


class Sequence:
    """The candidates in the pool's own order, as ML-NEA takes them (lecture of P. O. Dral, 2024)."""

    def select(self, pool: PoolView, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the first ``n`` candidates."""
        return np.arange(min(n, len(pool)), dtype=np.int64)


class Uncertainty:
    """B: the candidates with the largest standard deviation."""

    def score(self, pool: PoolView) -> NDArray[np.float64]:
        """Return the standard deviations (target's unit), shape (n,)."""
        return pool.given("std", "uncertainty").astype(np.float64)

    def select(self, pool: PoolView, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return ``n`` candidates by falling standard deviation; the lower index wins a tie."""
        return highest_first(self.score(pool))[:n]


MAKERS: dict[str, Callable[[Query], Strategy]] = {
    "random": lambda query: Random(),
    "sequence": lambda query: Sequence(),
    "uncertainty": lambda query: Uncertainty(),
    "clusters": lambda query: Clusters(),
    "uncertainty_clusters": lambda query: UncertaintyClusters(query.share or DEFAULT_SHARE),
    "property_search": lambda query: PropertySearch(),
    "max_min": lambda query: MaxMin(_in_embedding(query)),
    "uncertainty_max_min": lambda query: UncertaintyMaxMin(query.share or DEFAULT_SHARE, _in_embedding(query)),
    "greedy_mean": lambda query: GreedyMean(),
    "probability_in_range": lambda query: ProbabilityInRange(),
    "expected_gain": lambda query: ExpectedGain(),
    "lcmd": lambda query: Lcmd(),
    "k_means_plus_plus": lambda query: KMeansPlusPlus(),
    "maxdet": lambda query: MaxDet(),
    "bait": lambda query: Bait(),
    "vote_entropy": lambda query: VoteEntropy(),
    "predictive_entropy": lambda query: PredictiveEntropy(),
    "oed_energy": lambda query: ExpectedChange("oed_energy", {"energy": 1.0}),
    "oed_forces": lambda query: ExpectedChange("oed_forces", {"forces": 1.0}),
    "oed_total": lambda query: ExpectedChange("oed_total", {"energy": 1.0, "forces": query.beta or BETA}),
}
assert MAKERS.keys() == TRAITS.keys()


def make_strategy(query: Query, base: Path | None = None) -> Strategy:
    """Return the strategy that ``query.strategy`` names; base: folder of the campaign file, for user-defined ones.

    Raises QuarryError if a user-defined one cannot be imported or made with ``query.arguments``, or names needs that are unknown.
    """
    if not query.is_user_defined:
        return MAKERS[query.strategy](query)
    strategy: Strategy = make_user_object(query.strategy, "query.strategy", query.arguments, base)
    if not callable(getattr(strategy, "select", None)):
        raise QuarryError(f"query.strategy: {query.strategy} has no method select(pool, n, rng); add it")
    needs = getattr(strategy, "needs", ())
    wrong = (
        [need for need in needs if need not in (*MEANINGS, "range")] if isinstance(needs, (tuple, list)) else [needs]
    )
    if wrong:
        known = ", ".join((*MEANINGS, "range"))
        raise QuarryError(f"query.strategy: {query.strategy} has {wrong[0]!r} in needs; known are {known}")
    return strategy


def needs_of(query: Query, strategy: Strategy) -> frozenset[str]:
    """Return what a strategy reads of model and campaign, as ``config.query.Traits.reads``."""
    if not query.is_user_defined:
        return query.reads
    named = {need.removeprefix("labelled_") for need in getattr(strategy, "needs", ())}
    return frozenset(named - {"features", "labelled", "targets"})


def chosen_by(strategy: Strategy, name: str, pool: PoolView, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the strategy's choice, indices of shape (n,).

    Raises QuarryError unless it is ``n`` distinct candidates (all, if there are fewer).
    name: ``query.strategy``, for messages; a user-defined strategy may give anything.
    """
    wanted = min(n, len(pool))
    chosen = _asked(name, lambda: np.asarray(strategy.select(pool, wanted, rng)))
    if (
        chosen.shape != (wanted,)
        or (wanted and chosen.dtype.kind not in "iu")
        or len(np.unique(chosen)) != wanted
        or not np.all((chosen >= 0) & (chosen < len(pool)))
    ):
        raise QuarryError(
            f"query.strategy: {name} must return {wanted} distinct indices below {len(pool)}; "
            f"got {chosen.dtype} of shape {chosen.shape}"
        )
    return chosen.astype(np.int64)


def ranks_of(
    strategy: Strategy, name: str, pool: PoolView
) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
    """Return what candidates are ranked by, shape (n,), and the same of the training structures; None where it says neither.

    Raises QuarryError if a user-defined strategy gives anything else. name: as of ``chosen_by``.
    """
    ranks = _asked(name, lambda: np.asarray(strategy.score(pool))) if isinstance(strategy, Ranks) else None
    if ranks is not None and (ranks.shape != (len(pool),) or ranks.dtype.kind not in "iuf"):
        raise QuarryError(
            f"query.strategy: score of {name} must return {len(pool)} numbers; got {ranks.dtype} of shape {ranks.shape}"
        )
    known = None
    if isinstance(strategy, RanksLabelled):
        known = _asked(name, lambda: np.asarray(strategy.score_labelled(pool)))
        if known.ndim != 1 or known.dtype.kind not in "iuf":
            raise QuarryError(
                f"query.strategy: score_labelled of {name} must return a number for each training structure; got "
                f"{known.dtype} of shape {known.shape}"
            )
    return ranks, known


def _asked(name: str, call: Callable[[], NDArray[Any]]) -> NDArray[Any]:
    """Return what a strategy answers; only that of the user's own is to blame where it fails."""
    return call() if name in MAKERS else call_user_code(call, f"query.strategy: {name} failed")


def _in_embedding(query: Query) -> bool:
    return query.distance not in (None, "features")
