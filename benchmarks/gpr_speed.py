"""How close do the standard deviations of a whole pool come to this machine's matrix-multiply rate, beside scikit-learn?

The triangular solve takes n_pool x n_train^2 operations (a multiplication and an addition count as two), the distances
2 x n_pool x n_train x n_features. The rate of matrix multiplication is that of 4096 x 4096 matrices in the same process,
before and after each repeat, by the quicker of torch and numpy. On a machine with other work the CPU-seconds say more
than the wall time: rates are given for both.
"""

import argparse
import importlib.metadata
import os
import resource
import statistics
import time
from collections.abc import Callable

from common import print_table

from quarry.campaign.job import set_threads

SQUARE = 4096


def seconds(call: Callable[[], object]) -> tuple[float, float]:
    """Return wall and CPU seconds of a call."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file", help="HDF5 file with a data set 'features'; otherwise random numbers")
    parser.add_argument("--train", type=int, default=8000)
    parser.add_argument("--pool", type=int, default=128_744)
    parser.add_argument("--features", type=int, default=1000, help="of random numbers")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--reference", default="2000x4000", help="training and pool size beside scikit-learn")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    set_threads(arguments.threads)

    import h5py
    import numpy as np
    import torch
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel

    from quarry.models.gaussian_process import GaussianProcess
    from quarry.models.hyperparameters import Hyperparameters
    from quarry.randomness import generator

    rng = generator(arguments.seed, "gpr speed")
    n, m = arguments.train, arguments.pool
    if arguments.file:
        with h5py.File(arguments.file, "r") as handle:
            stored = handle["features"]
            everything = stored[()][rng.permutation(stored.shape[0])]
    else:
        everything = rng.normal(size=(max(n, m), arguments.features)).astype(np.float32)
    train, pool, d = everything[:n], everything[-m:], everything.shape[1]
    targets = rng.normal(size=n)
    length = float(np.sqrt(2 * np.sum(np.var(train, axis=0, dtype=np.float64))))
    parameters = Hyperparameters(1.0, length, 0.05)
    square = torch.from_numpy(rng.normal(size=(SQUARE, SQUARE))).to(arguments.device)
    product = torch.empty_like(square)
    on_host, host_product = square.cpu().numpy(), product.cpu().numpy()

    def multiply() -> tuple[float, float]:
        """Return the matrix-multiply rate in GFLOP/s of wall and of CPU time."""

        def by_torch() -> None:
            torch.mm(square, square, out=product)
            if arguments.device == "cuda":
                torch.cuda.synchronize()

        calls = (
            [by_torch]
            if arguments.device == "cuda"
            else [by_torch, lambda: np.matmul(on_host, on_host, out=host_product)]
        )
        times = [seconds(call) for call in calls]
        return tuple(2 * SQUARE**3 / min(found) / 1e9 for found in zip(*times, strict=True))

    multiply()
    before = peak_mb()
    made: list[GaussianProcess] = []

    def train_it() -> None:
        made.append(GaussianProcess(train, targets, parameters, device=arguments.device))

    wall, cpu = seconds(train_it)
    process = made[0]
    rows: list[list[object]] = [["train", wall, cpu, n**3 / 3e9 / wall, n**3 / 3e9 / cpu, "", ""]]
    shares: dict[str, list[tuple[float, float]]] = {"all products": [], "triangular solve": []}
    for repeat in range(arguments.repeats):
        rates = [multiply()]
        means = seconds(lambda: process.predict(pool, with_std=False))
        rates.append(multiply())
        both = seconds(lambda: process.predict(pool))
        rates += [multiply(), multiply()]
        rate = [statistics.median(found) for found in zip(*rates, strict=True)]
        distances, solve = 2e-9 * m * n * d, 1e-9 * m * n * n
        cases = (
            ("means: distances", means, distances),
            ("means and std: all products", both, distances + solve),
            ("means and std: solve only counted", both, solve),
            ("std without means: solve", tuple(b - a for a, b in zip(means, both, strict=True)), solve),
        )
        rows.append([f"matrix product {repeat + 1}", "", "", *rate, 1.0, 1.0])
        for name, (wall, cpu), operations in cases:
            found = (operations / wall, operations / cpu)
            rows.append([f"{name} {repeat + 1}", wall, cpu, *found, found[0] / rate[0], found[1] / rate[1]])
    peak = peak_mb()
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("numpy", "scipy", "torch", "scikit-learn")
    )
    print(f"{arguments.threads} threads of {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {versions}")
    print_table(
        f"{n} training points, pool of {m}, {d} features, {arguments.device}",
        ["step", "wall s", "CPU-s", "GFLOP/s", "GFLOP/CPU-s", "share", "share (CPU)"],
        rows,
    )
    added = f"{peak - before:.0f} MB of them for the model (its factor: {8e-6 * n * n:.0f} MB) and predictions"
    print(f"\nPeak memory {peak:.0f} MB, {added}.")

    n, m = (int(size) for size in arguments.reference.split("x"))
    train, pool, targets = train[:n].astype(np.float64), pool[:m].astype(np.float64), targets[:n]
    kernel = ConstantKernel(parameters.signal_variance) * RBF(length)
    ours = GaussianProcess(train, targets, parameters, device=arguments.device)
    theirs = GaussianProcessRegressor(kernel, alpha=parameters.noise_variance, optimizer=None).fit(train, targets)
    rows = []
    for repeat in range(arguments.repeats):
        pairs = {
            "train": (
                seconds(lambda: GaussianProcess(train, targets, parameters, device=arguments.device)),
                seconds(lambda: theirs.fit(train, targets)),
            ),
            "means and std": (
                seconds(lambda: ours.predict(pool)),
                seconds(lambda: theirs.predict(pool, return_std=True)),
            ),
        }
        for name, (own, other) in pairs.items():
            ratios = [b / a for a, b in zip(own, other, strict=True)]
            rows.append([f"{name} {repeat + 1}", own[0], other[0], ratios[0], own[1], other[1], ratios[1]])
    difference = np.abs(np.array(ours.predict(pool)) - np.array(theirs.predict(pool, return_std=True))).max()
    print_table(
        f"Beside scikit-learn: {n} training points, pool of {m}; largest difference {difference:.1e}",
        ["step", "wall s", "scikit-learn", "ratio", "CPU-s", "scikit-learn", "ratio"],
        rows,
    )
