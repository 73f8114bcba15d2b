"""Strategies A to D of Ghosh et al., arXiv:2408.11191, section "Active learning"."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from quarry.errors import QuarryError
from quarry.query.base import PoolView, Strategy

SEEDING_LIMIT = 1e9
"""Candidates x clusters x features up to which k-means++ starts the clustering; above it (seconds to minutes) a random
start, which ends within 1 % of the same inertia."""

LLOYD_LIMIT = 2e10
"""Candidates x clusters x features up to which k-means runs on all candidates at once; above it on mini-batches."""

BLOCK_ELEMENTS = 8_000_000
"""Numbers per work array beside the float32 copy of the features."""

MAX_ITERATIONS = 100
"""Rounds of k-means; it usually converges in fewer."""


class RandomStrategy:
    """A: candidates drawn at random."""

    def select(self, pool: PoolView, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return ``n`` candidates in random order."""
        return rng.permutation(len(pool))[:n].astype(np.int64)


class UncertaintyStrategy:
    """B: the candidates with the largest standard deviation."""

    def select(self, pool: PoolView, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return ``n`` candidates by falling standard deviation; the lower index wins a tie."""
        return _by_uncertainty(pool, "uncertainty")[:n]


class ClusterStrategy:
    """C: k-means with one cluster per wanted structure; of each cluster the candidate closest to its centre."""

    def select(self, pool: PoolView, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the ``n`` candidates closest to their cluster's centre, that of the largest cluster first."""
        return _cluster_representatives(pool.features, n, rng)


class UncertaintyClusterStrategy:
    """D: strategy C among the half of the candidates with the largest standard deviations."""

    def select(self, pool: PoolView, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return ``n`` of the most uncertain 50 % (more if ``n`` is more), that of the largest cluster first."""
        wanted = max((len(pool) + 1) // 2, n)
        uncertain = np.sort(_by_uncertainty(pool, "uncertainty_clusters")[:wanted])
        return uncertain[_cluster_representatives(pool.features[uncertain], n, rng)]


STRATEGIES: dict[str, type[Strategy]] = {
    "random": RandomStrategy,
    "uncertainty": UncertaintyStrategy,
    "clusters": ClusterStrategy,
    "uncertainty_clusters": UncertaintyClusterStrategy,
}
"""What ``query.strategy`` may name."""


def make_strategy(name: str) -> Strategy:
    """Return the strategy that ``query.strategy`` names. Raises QuarryError for an unknown name."""
    if name not in STRATEGIES:
        raise QuarryError(f"query.strategy: '{name}' is not one of {', '.join(STRATEGIES)}")
    return STRATEGIES[name]()


def _by_uncertainty(pool: PoolView, name: str) -> NDArray[np.int64]:
    """Return all candidates by falling standard deviation."""
    if pool.std is None:
        raise QuarryError(f"query.strategy: {name} needs a model that predicts uncertainties; set model.kind to gpr")
    return np.argsort(-pool.std, kind="stable").astype(np.int64)


def _cluster_representatives(features: NDArray[np.floating], n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return one candidate for each of ``n`` clusters, distinct, by falling size of the cluster.

    Clusters the features as they are, without standardisation, as Ghosh et al. do, in float32. A cluster that came out
    empty (fewer distinct features than clusters) gives the untaken candidate closest to its centre.
    The result depends on the number of threads (sums in another order): callers fix the threads.
    """
    if n >= len(features):
        return np.arange(len(features), dtype=np.int64)
    if n == 0 or features.shape[1] == 0:
        return np.arange(n, dtype=np.int64)
    points = _centered(features)
    centers, labels = _k_means(points, n, rng)
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


def _centered(features: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the features minus their mean, float32, in blocks.

    Centred first: features with a large common part (Coulomb matrices) would lose their differences in float32.
    """
    mean = features.mean(axis=0)
    points = np.empty(features.shape, dtype=np.float32)
    for rows in _blocks(features):
        points[rows] = features[rows] - mean
    return points


def _blocks(array: NDArray[np.floating]) -> Iterator[slice]:
    """Yield slices of rows with at most ``BLOCK_ELEMENTS`` numbers each."""
    size = max(1, BLOCK_ELEMENTS // array.shape[1])
    return (slice(start, start + size) for start in range(0, len(array), size))


def _k_means(
    points: NDArray[np.float32], k: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the centres, shape (k, d), and each point's cluster, shape (n,)."""
    # Imported here: scikit-learn takes a second of CPU that the other strategies need not pay.
    from sklearn.cluster import KMeans, MiniBatchKMeans
    from sklearn.exceptions import ConvergenceWarning

    work = float(len(points)) * k * points.shape[1]
    start = "k-means++" if work <= SEEDING_LIMIT else "random"
    seed = int(rng.integers(2**31))
    if work <= LLOYD_LIMIT:
        model = KMeans(k, init=start, n_init=1, max_iter=MAX_ITERATIONS, random_state=seed)
    else:
        model = MiniBatchKMeans(k, init=start, n_init=1, batch_size=max(4096, 4 * k), random_state=seed)
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
    for rows in _blocks(points):
        difference = points[rows] - centers[labels[rows]]
        distances[rows] = np.einsum("ij,ij->i", difference, difference)
    return distances
