"""Clustering: representatives of the candidates (strategies C and D of Ghosh et al., arXiv:2408.11191)."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from quarry.points.distances import Closest, blocks
from quarry.query.base import PoolView
from quarry.query.batch_diversity import k_means_plus_plus
from quarry.query.diversity import most_uncertain

MOST_ROUNDS = 100
"""Rounds of k-means at most; it usually converges in fewer."""

LEAST_ROUNDS = 5
"""Rounds of k-means that are done for any size."""

WORK = 1e13
"""Candidates x clusters x features x rounds that k-means may spend between these two: about six minutes of a core. Rounds of
all candidates came further than mini-batches of them for the same time (benchmarks/clustering.py)."""


class Clusters:
    """C: k-means with one cluster per wanted structure; of each cluster the candidate closest to its centre."""

    def select(self, pool: PoolView, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the ``n`` candidates closest to their cluster's centre, that of the largest cluster first."""
        return cluster_representatives(pool.given("features", "clusters"), n, rng)


class UncertaintyClusters:
    """D: strategy C among the candidates with the largest standard deviations, half of all in the paper."""

    def __init__(self, share: float = 0.5) -> None:
        """share: of the candidates."""
        self.share = share

    def score(self, pool: PoolView) -> NDArray[np.float64]:
        """Return the standard deviations (target's unit), shape (n,)."""
        return pool.given("std", "uncertainty_clusters").astype(np.float64)

    def select(self, pool: PoolView, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return ``n`` of the most uncertain share (of more if ``n`` is more), that of the largest cluster first."""
        uncertain = most_uncertain(self.score(pool), self.share, n)
        return uncertain[cluster_representatives(pool.given("features", "uncertainty_clusters")[uncertain], n, rng)]


def cluster_representatives(features: NDArray[np.floating], n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return one candidate for each of ``n`` clusters, distinct, by falling size of the cluster, shape (n,).

    features: shape (n_all, d).
    Clusters the features as they are, without standardisation, as Ghosh et al. do, in float32. A cluster that came out
    empty (fewer distinct features than clusters) gives the untaken candidate closest to its centre.
    The result depends on the number of threads (sums in another order): callers fix the threads.
    """
    if n >= len(features):
        return np.arange(len(features), dtype=np.int64)
    if n == 0 or features.shape[1] == 0:
        return np.arange(n, dtype=np.int64)
    closest = Closest(features)
    points = closest.points
    centers, labels = k_means(closest, n, rng)
    distances = _squared_distances_to(points, centers, labels)
    order = np.lexsort((np.arange(len(points)), distances, labels))
    found, starts, sizes = np.unique(labels[order], return_index=True, return_counts=True)
    chosen = order[starts]
    representatives = list(chosen[np.lexsort((chosen, -sizes))])
    free = np.ones(len(points), dtype=bool)
    free[chosen] = False
    for empty in np.setdiff1d(np.arange(n), found):
        left = np.flatnonzero(free)
        nearest = left[np.argmin(np.sum((points[left] - centers[empty]) ** 2, axis=1))]
        free[nearest] = False
        representatives.append(nearest)
    return np.array(representatives, dtype=np.int64)


def k_means(closest: Closest, k: int, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the centres, shape (k, d), and each point's cluster, shape (n,). ``closest`` has no centre yet.

    Lloyd's algorithm from a start by k-means++.
    """
    # Imported here: scikit-learn takes a second of CPU that the other strategies need not pay.
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    points = closest.points
    rounds = int(np.clip(WORK / (float(len(points)) * k * points.shape[1]), LEAST_ROUNDS, MOST_ROUNDS))
    start = points[k_means_plus_plus(closest, k, rng)]
    model = KMeans(k, init=start, n_init=1, max_iter=rounds, random_state=int(rng.integers(2**31)))
    with warnings.catch_warnings():
        # Fewer distinct points than clusters is dealt with by the caller.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(points)
    return model.cluster_centers_, model.labels_.astype(np.int64)


def _squared_distances_to(
    points: NDArray[np.float32], centers: NDArray[np.float32], labels: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return each point's squared distance to its own centre, in blocks."""
    distances = np.empty(len(points), dtype=np.float32)
    for rows in blocks(points):
        difference = points[rows] - centers[labels[rows]]
        distances[rows] = np.einsum("ij,ij->i", difference, difference)
    return distances
