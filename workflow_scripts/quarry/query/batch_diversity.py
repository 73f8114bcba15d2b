"""Batch diversity methods by distances, of D. Holzmueller et al., JMLR 24 (164), 1 (2023).

Both run in the mode in which the published tables have them ("TP"): labelled points count as chosen. They work on an
embedding, finite feature maps whose inner products are the kernel of the model.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quarry.points.distances import Closest, between
from quarry.points.furthest_first import largest_norm
from quarry.query.base import PoolView
from quarry.query.diversity import space

CHOICES_AT_A_TIME = 256
"""Chosen points of k-means++ after which all distances are brought up to date, in one matrix product."""

REJECTIONS = 64
"""Rejected draws of k-means++ after which they are, too."""


class Lcmd:
    """LCMD-TP: the furthest point of the largest cluster (section 3.2 and appendix, "largest cluster maximum distance").

    Every candidate belongs to the closest labelled or chosen point; the size of such a cluster is the sum of the squared
    distances in it. Cost for each choice: a matrix-vector product with all candidates, in float32.
    """

    def select(self, pool: PoolView, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return ``n`` candidates in the order of choice; the lower index wins a tie.

        Where all that is left equals chosen points, the rest is random.
        """
        candidates, labelled = space(pool, "lcmd", in_embedding=True)
        n = min(n, len(candidates))
        chosen: list[int] = []
        if n == 0:
            return np.zeros(0, dtype=np.int64)
        closest = Closest(candidates, labelled)
        if not closest.n_centres:
            chosen.append(largest_norm(candidates))
            closest.add_point(chosen[0])
        while len(chosen) < n:
            sizes = np.bincount(closest.owner, weights=closest.squared)
            largest = sizes.max()
            if largest <= 0:
                break
            chosen.append(int(np.argmax(np.where(sizes[closest.owner] == largest, closest.squared, -1))))
            closest.add_point(chosen[-1])
        return filled_up(chosen, len(candidates), n, rng)


class KMeansPlusPlus:
    """k-means++-TP: drawn with a probability that grows with the squared distance to labelled and chosen points."""

    def select(self, pool: PoolView, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return ``n`` candidates in the order of choice; where all that is left equals chosen points, at random."""
        candidates, labelled = space(pool, "k_means_plus_plus", in_embedding=True)
        n = min(n, len(candidates))
        if n == 0:
            return np.zeros(0, dtype=np.int64)
        return k_means_plus_plus(Closest(candidates, labelled), n, rng)


def k_means_plus_plus(closest: Closest, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return ``n`` points, shape (n,), each drawn in proportion to its squared distance to centres and points before it.

    D. Arthur and S. Vassilvitskii, SODA 2007; the first one evenly where there is no centre yet. ``closest`` is used up.
    Draws come from distances that the last choices are missing from, and are accepted with the probability
    (true squared distance) / (that squared distance): the result has the same distribution as the plain loop, and nearly
    all of the work is one matrix product for many choices.
    """
    size = len(closest.points)
    chosen: list[int] = []
    if not closest.n_centres:
        chosen.append(int(rng.integers(size)))
        closest.add_point(chosen[0])
    pending: list[int] = []
    while len(chosen) < n:
        if pending:
            closest.add(closest.points[pending])
        pending = []
        total = np.cumsum(closest.squared, dtype=np.float64)
        if total[-1] <= 0:
            break
        rejected = 0
        recent = np.empty((CHOICES_AT_A_TIME, closest.points.shape[1]), dtype=np.float32)
        norms = np.empty(CHOICES_AT_A_TIME, dtype=np.float32)
        while len(chosen) < n and len(pending) < CHOICES_AT_A_TIME and rejected < REJECTIONS:
            drawn = min(int(np.searchsorted(total, rng.random() * total[-1], side="right")), size - 1)
            squared = float(closest.squared[drawn])
            one = slice(drawn, drawn + 1)
            if pending:
                k = len(pending)
                to_recent = between(recent[:k], norms[:k], closest.points[one], closest.norms[one])
                squared = min(squared, float(to_recent.min()))
            if rng.random() * closest.squared[drawn] >= squared:
                rejected += 1
                continue
            recent[len(pending)], norms[len(pending)] = closest.points[drawn], closest.norms[drawn]
            pending.append(drawn)
            chosen.append(drawn)
    return filled_up(chosen, size, n, rng)


def filled_up(chosen: list[int], size: int, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return ``n`` of the points 0 to size - 1, shape (n,): the chosen ones, and random others if these are fewer."""
    others = rng.permutation(np.setdiff1d(np.arange(size), chosen)) if len(chosen) < n else np.zeros(0)
    return np.concatenate([chosen, others[: n - len(chosen)]]).astype(np.int64)
