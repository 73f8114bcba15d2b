"""Clustering at the paper's size: what seeding and iterations of k-means cost, and what they are worth (inertia).

Seeding: random points; k-means++ of scikit-learn, plain and greedy (its default); Quarry's k-means++, which draws from the
same distribution as the plain one but in few matrix products. Then rounds of Lloyd's algorithm, and mini-batches.
Points: random blobs, or the features of an HDF5 file. The inertia is relative to that of random seeding.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

import h5py
import numpy as np
from common import machine, print_table
from sklearn.cluster import KMeans, MiniBatchKMeans, kmeans_plusplus
from threadpoolctl import threadpool_limits

from quarry.points.distances import Closest, centred
from quarry.query.batch_diversity import k_means_plus_plus
from quarry.randomness import generator

ROUNDS = (1, 3, 10)
"""Rounds of Lloyd's algorithm, each number from the seeding on."""


def points_of(arguments: argparse.Namespace) -> np.ndarray:
    """Return the points, float32, centred."""
    rng = generator(arguments.seed, "points")
    if arguments.file:
        with h5py.File(arguments.file, "r") as handle:
            data = handle["features"]
            rows = np.sort(rng.choice(data.shape[0], min(arguments.points, data.shape[0]), replace=False))
            features = data[()][rows, : arguments.features]
    else:
        centres = rng.normal(size=(arguments.clusters, arguments.features)).astype(np.float32)
        owner = rng.integers(arguments.clusters, size=arguments.points)
        features = centres[owner] + rng.normal(size=(arguments.points, arguments.features)).astype(np.float32)
    return centred(features, features.mean(axis=0, dtype=np.float64))


def inertia_of(points: np.ndarray, centres: np.ndarray) -> float:
    """Return the sum of the squared distances of points to their closest centre."""
    return float(Closest(points, centres).squared.sum(dtype=np.float64))


def timed(way: Callable[[], np.ndarray]) -> tuple[str, np.ndarray]:
    """Return wall and CPU seconds as text, and what was made."""
    start, cpu = time.perf_counter(), time.process_time()
    made = way()
    return f"{time.perf_counter() - start:.1f} ({time.process_time() - cpu:.1f})", made


def random_points(points: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Return random points."""
    return points[generator(seed, "random").choice(len(points), k, replace=False)]


def seed_here(points: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Return the points that Quarry's k-means++ draws."""
    return points[k_means_plus_plus(Closest(points), k, generator(seed, "ours"))]


def seed_there(points: np.ndarray, k: int, seed: int, trials: int | None) -> np.ndarray:
    """Return the points that scikit-learn's k-means++ draws; trials: per draw, None: its default."""
    return kmeans_plusplus(points, k, random_state=seed, n_local_trials=trials)[0]


def lloyd(points: np.ndarray, centres: np.ndarray, rounds: int) -> np.ndarray:
    """Return the centres after so many rounds of Lloyd's algorithm."""
    return KMeans(len(centres), init=centres, n_init=1, max_iter=rounds, tol=0).fit(points).cluster_centers_


def mini_batches(points: np.ndarray, centres: np.ndarray, seed: int) -> np.ndarray:
    """Return the centres of scikit-learn's k-means on mini-batches, to its own end."""
    k = len(centres)
    model = MiniBatchKMeans(k, init=centres, n_init=1, batch_size=max(4096, 4 * k), random_state=seed)
    return model.fit(points).cluster_centers_


def measure(points: np.ndarray, k: int, seed: int, fast: bool) -> None:
    """Measure and print both tables."""
    ways = {
        "random": partial(random_points, points, k, seed),
        "k-means++, Quarry": partial(seed_here, points, k, seed),
    }
    if not fast:
        ways["k-means++, scikit-learn, plain"] = partial(seed_there, points, k, seed, 1)
        ways["k-means++, scikit-learn, greedy"] = partial(seed_there, points, k, seed, None)
    found = {name: timed(way) for name, way in ways.items()}
    unit = inertia_of(points, found["random"][1])
    rows = [[name, used, f"{inertia_of(points, centres) / unit:.4f}"] for name, (used, centres) in found.items()]
    print_table("Seeding", ["way", "s (CPU-s)", "inertia"], rows)
    rows = []
    for name, (_, first) in found.items():
        rounds = {f"Lloyd, {n} rounds": partial(lloyd, points, first, n) for n in ROUNDS}
        for step, way in {**rounds, "mini-batches": partial(mini_batches, points, first, seed)}.items():
            used, centres = timed(way)
            rows.append([name, step, used, f"{inertia_of(points, centres) / unit:.4f}"])
    print_table("Iterations, seeding not counted", ["seeding", "way", "s (CPU-s)", "inertia"], rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--points", type=int, default=64_000)
    parser.add_argument("--features", type=int, default=1_000)
    parser.add_argument("--clusters", type=int, default=1_000)
    parser.add_argument("--file", help="HDF5 file with a data set 'features'; without it: random blobs")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fast", action="store_true", help="leave scikit-learn's own seedings out")
    arguments = parser.parse_args()
    with threadpool_limits(limits=arguments.threads):
        points = points_of(arguments)
        print(f"{machine()}, {arguments.threads} threads, seed {arguments.seed}")
        print(f"{points.shape[0]} points x {points.shape[1]} features, {arguments.clusters} clusters")
        measure(points, arguments.clusters, arguments.seed, arguments.fast)


if __name__ == "__main__":
    main()
