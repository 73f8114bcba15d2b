"""Uncertainty of a class (seed lecture, section 2.1.3): the entropy of votes or of probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quarry.query.base import PoolView
from quarry.query.ranking import highest_first


class VoteEntropy:
    """Query by committee: the largest entropy of the members' votes, -sum_k v_k/M log v_k/M (lecture, equation 5)."""

    def score(self, pool: PoolView) -> NDArray[np.float64]:
        """Return the entropies (nats), shape (n,)."""
        return entropy(pool.given("votes", "vote_entropy"))

    def select(self, pool: PoolView, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return ``n`` candidates by falling entropy; those of equal votes in random order.

        M votes have few possible outcomes: hundreds of candidates may share one.
        """
        values = self.score(pool).round(12)
        return np.lexsort((rng.random(len(pool)), -values))[:n].astype(np.int64)


class PredictiveEntropy:
    """The largest entropy of the mean class probabilities, -sum_k p_k log p_k (lecture, equations 6 and 7)."""

    def score(self, pool: PoolView) -> NDArray[np.float64]:
        """Return the entropies (nats), shape (n,)."""
        return entropy(pool.given("probabilities", "predictive_entropy"))

    def select(self, pool: PoolView, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return ``n`` candidates by falling entropy; the lower index wins a tie."""
        return highest_first(self.score(pool))[:n]


def entropy(shares: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return -sum_k p_k log p_k of each row (nats), with 0 log 0 = 0; shares: shape (n, n_classes)."""
    p = shares.astype(np.float64)
    terms = np.where(p > 0, p * np.log(np.where(p > 0, p, 1.0)), 0.0)
    return -terms.sum(axis=1)
