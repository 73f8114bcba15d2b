"""Clustering at the paper's size: what seeding and iterations of k-means cost, and what they are worth (inertia).

Seeding: random points; k-means++ of scikit-learn, plain and greedy (its default); Quarry's k-means++, which draws from the
same distribution as the plain one but in few matrix products. Then rounds of Lloyd's algorithm from each, and mini-batches.
Points: random blobs, or the features of an HDF5 file. The inertia is relative to that of random seeding.
"""

import argparse
import time

import h5py
import numpy as np
from common import machine, print_table
from sklearn.cluster import KMeans, MiniBatchKMeans, kmeans_plusplus
from threadpoolctl import threadpool_limits

from quarry.query.batch_diversity import k_means_plus_plus
from quarry.query.distances import Closest, centred
from quarry.randomness import generator

ROUNDS = (1, 3, 10, 30)
"""Rounds of Lloyd's algorithm after which the inertia is noted."""


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


def seedings(points: np.ndarray, k: int, seed: int, slow: bool) -> dict[str, tuple[str, np.ndarray]]:
    """Return seconds and centres of each way to begin."""

    def ours() -> np.ndarray:
        return points[k_means_plus_plus(Closest(points), k, generator(seed, "ours"))]

    ways = {
        "random": lambda: points[generator(seed, "random").choice(len(points), k, replace=False)],
        "k-means++, Quarry": ours,
    }
    if slow:
        ways["k-means++, scikit-learn, plain"] = lambda: kmeans_plusplus(
            points, k, random_state=seed, n_local_trials=1
        )[0]
        ways["k-means++, scikit-learn, greedy"] = lambda: kmeans_plusplus(points, k, random_state=seed)[0]
    return {name: timed(way) for name, way in ways.items()}


def timed(way: Callable[[], np.ndarray]) -> tuple[str, np.ndarray]:
    """Return wall and CPU seconds as text, and what was made."""
    start, cpu = time.perf_counter(), time.process_time()
    made = way()
    return f"{time.perf_counter() - start:.1f} ({time.process_time() - cpu:.1f})", made


def rounds_of(points: np.ndarray, centres: np.ndarray) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield what was done, wall and CPU seconds so far, and centres: more and more rounds of Lloyd, then mini-batches."""
    k, start, cpu, done, made = len(centres), time.perf_counter(), time.process_time(), 0, centres
    measuring = 0.0
    for target in ROUNDS:
        model = KMeans(k, init=made, n_init=1, max_iter=target - done, tol=0).fit(points)
        done, made = done + model.n_iter_, model.cluster_centers_
        yield f"Lloyd, {done} rounds", f"{time.perf_counter() - start:.1f} ({time.process_time() - cpu:.1f})", made
        if done < target:
            break


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
        points, k = points_of(arguments), arguments.clusters
        print(f"{machine()}, {arguments.threads} threads, seed {arguments.seed}")
        print(
            f"{points.shape[0]} points x {points.shape[1]} features, {k} clusters ({arguments.file or 'random blobs'})"
        )
        begun = seedings(points, k, arguments.seed, not arguments.fast)
        unit = inertia_of(points, begun["random"][1])
        rows = [
            [name, seconds, f"{inertia_of(points, centres) / unit:.4f}"] for name, (seconds, centres) in begun.items()
        ]
        print_table("Seeding", ["way", "s", "inertia"], rows)
        rows = []
        for name in ("random", "k-means++, Quarry"):
            for done, seconds, centres in rounds_of(points, begun[name][1]):
                rows.append([name, f"Lloyd, {done} rounds", seconds, f"{inertia_of(points, centres) / unit:.4f}"])
            start = time.perf_counter()
            batches = MiniBatchKMeans(
                k, init=begun[name][1], n_init=1, batch_size=max(4096, 4 * k), random_state=arguments.seed
            ).fit(points)
            seconds = time.perf_counter() - start
            worth = inertia_of(points, batches.cluster_centers_) / unit
            rows.append([name, f"mini-batches, {batches.n_steps_} steps", seconds, f"{worth:.4f}"])
        print_table("Iterations, seeding not counted", ["seeding", "way", "s", "inertia"], rows)


if __name__ == "__main__":
    main()
