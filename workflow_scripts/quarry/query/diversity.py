"""Max-min sampling: candidates far from all that is labelled or already chosen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quarry.points.furthest_first import furthest_first
from quarry.query.base import PoolView
from quarry.query.ranking import highest_first


class MaxMin:
    """Again and again the candidate whose closest labelled or chosen point is furthest (lecture, equations 8 and 9).

    Also known as farthest-point sampling, core-set and MaxDist-TP. Without labelled points it begins with the candidate
    of the largest norm.
    """

    def __init__(self, in_embedding: bool = False) -> None:
        """in_embedding: measure distances in the model's embedding (of a kernel: the kernel distance)."""
        self.in_embedding = in_embedding

    def select(self, pool: PoolView, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return ``n`` candidates in the order of choice; the lower index wins a tie."""
        candidates, labelled = space(pool, "max_min", self.in_embedding)
        return furthest_first(candidates, labelled, n)


class UncertaintyMaxMin:
    """Max-min sampling among the candidates with the largest standard deviations (lecture, section 2.3)."""

    def __init__(self, share: float = 0.5, in_embedding: bool = False) -> None:
        """share: of the candidates. in_embedding: as for MaxMin."""
        self.share = share
        self.in_embedding = in_embedding

    def score(self, pool: PoolView) -> NDArray[np.float64]:
        """Return the standard deviations (target's unit), shape (n,)."""
        return pool.given("std", "uncertainty_max_min").astype(np.float64)

    def select(self, pool: PoolView, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return ``n`` of the most uncertain share (of more if ``n`` is more), in the order of choice."""
        candidates, labelled = space(pool, "uncertainty_max_min", self.in_embedding)
        uncertain = most_uncertain(self.score(pool), self.share, n)
        return uncertain[furthest_first(candidates[uncertain], labelled, n)]


def space(
    pool: PoolView, strategy: str, in_embedding: bool
) -> tuple[NDArray[np.floating], NDArray[np.floating] | None]:
    """Return candidates, shape (n, d), and labelled points, shape (m, d) or None, in the space that distances are taken in.

    in_embedding: the model's feature map, else the descriptor. Raises QuarryError, naming the strategy, if it is not there.
    """
    candidates, labelled = ("embedding", "labelled_embedding") if in_embedding else ("features", "labelled")
    points = pool.given(candidates, strategy)
    return points, None if getattr(pool, labelled) is None else pool.given(labelled, strategy)


def most_uncertain(std: NDArray[np.float64], share: float, n: int) -> NDArray[np.int64]:
    """Return the share of candidates with the largest standard deviations, at least ``n``, as ascending indices.

    std: shape (n_all,). share: from 0 to 1.
    """
    wanted = max(int(np.ceil(round(share * len(std), 9))), n)
    return np.sort(highest_first(std)[:wanted])
