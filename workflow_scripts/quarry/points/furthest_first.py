"""Furthest-first traversal: again and again the point furthest from all that are there or chosen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quarry.points.distances import Closest, between, blocks
from quarry.points.greedy import choose_highest


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
