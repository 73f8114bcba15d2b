"""Max-min sampling: candidates far from all that is labelled or already chosen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quarry.query.base import PoolView
from quarry.query.distances import Closest, between, blocks
from quarry.query.greedy import choose_highest
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


def furthest_first(
    candidates: NDArray[np.floating], labelled: NDArray[np.floating] | None, n: int
) -> NDArray[np.int64]:
    """Return ``n`` points, shape (n,), each the furthest from labelled points and those before it.

    candidates: shape (n_all, d). labelled: shape (m, d), None: begin with the candidate of the largest norm.
    Cost: a matrix product of all points with labelled and chosen ones, in float32.
    """
    n = min(n, len(candidates))
    if n == 0:
        return np.zeros(0, dtype=np.int64)
    closest = Closest(candidates, labelled)
    first = [] if closest.n_centres else [largest_norm(candidates)]
    for index in first:
        closest.add_point(index)
    return choose_highest(_Distances(closest), len(candidates), n, first)


def largest_norm(features: NDArray[np.floating]) -> int:
    """Return the row of the largest norm (of the largest prior variance, for an embedding of a kernel).

    features: shape (n, d).
    """
    return int(np.argmax(np.concatenate([np.einsum("ij,ij->i", features[r], features[r]) for r in blocks(features)])))


class _Distances:
    """The distances to the closest centre as values that fall with each choice."""

    def __init__(self, closest: Closest) -> None:
        self._closest = closest
        self._pending: list[int] = []

    def settle(self) -> NDArray[np.float32]:
        closest = self._closest
        if self._pending:
            closest.add(closest.points[self._pending])
            self._pending = []
        return closest.squared

    def focus(self, rows: NDArray[np.int64]) -> None:
        self._points, self._norms = self._closest.points[rows], self._closest.norms[rows]
        self._values = self._closest.squared[rows]

    def choose(self, index: int) -> NDArray[np.float32]:
        self._pending.append(index)
        points, norms = self._closest.points[index : index + 1], self._closest.norms[index : index + 1]
        self._values = np.minimum(self._values, between(self._points, self._norms, points, norms)[:, 0])
        return self._values
