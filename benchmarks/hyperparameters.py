"""Do models find hyperparameters that predict, whatever the seed? Gaussian process and KREG beside others that choose them.

    python benchmarks/hyperparameters.py --data DATA --sizes 50 100 200 400 800 --seeds 0 1 2 3 4

For each data set (benchmarks/data_sets.py), size and seed (which draws training and test set): the RMSE on the test set of
- gpr: both criteria; - kreg; - scikit-learn, marginal likelihood with ten restarts (up to --scikit-learn-to labels);
- an exhaustive grid of length scale and noise, chosen by the errors on a held-out fifth, then trained on all labels.
Prints the share of cases in which gpr is within 5 % and 20 % of the best of the last three, and CPU-seconds of training.
Hours at 2,000 labels: with --cases FILE every case is written as it is done, and found there by the next run.
"""

import argparse
import importlib.metadata
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from common import machine, print_table
from data_sets import DATA_SETS
from scipy.linalg import LinAlgError, cho_factor, cho_solve, eigh

from quarry.config.models import Gpr, Kreg
from quarry.config.targets import TARGETS
from quarry.models.hyperparameter_search import median_distance
from quarry.models.hyperparameters import pairwise_lower, squared_distances
from quarry.models.registry import make_regression
from quarry.models.regression import RegressionData

REFERENCES = ("kreg", "scikit-learn", "held-out grid")
Predict = Callable[[], np.ndarray]


def by_quarry(settings: Gpr | Kreg) -> Callable[[RegressionData, RegressionData], Predict]:
    def predict(train: RegressionData, test: RegressionData) -> Predict:
        model = make_regression(settings, TARGETS["homo"])
        model.fit(RegressionData(train.structures, train.features, train.targets), None, np.random.default_rng(0))
        return lambda: model.predict(test.structures, test.features, with_std=False).mean

    return predict


def by_scikit_learn(train: RegressionData, test: RegressionData) -> Predict:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    mean, scale, middle = (
        train.targets.mean(),
        train.targets.std(),
        median_distance(pairwise_lower(train.features - train.features.mean(axis=0))),
    )
    kernel = ConstantKernel(1.0, (1e-3, 1e15)) * RBF(middle, (middle / 100, 100 * middle)) + WhiteKernel(
        1e-4, (1e-12, 1)
    )
    process = GaussianProcessRegressor(kernel, alpha=1e-10, n_restarts_optimizer=10, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        process.fit(train.features, (train.targets - mean) / scale)
    return lambda: mean + scale * process.predict(test.features)


def by_held_out_grid(train: RegressionData, test: RegressionData) -> Predict:
    """25 length scales and 41 noise variances: by eigenvalues, so that it is exhaustive."""
    held = len(train) // 5
    mean, scale, middle = (
        train.targets.mean(),
        train.targets.std(),
        median_distance(pairwise_lower(train.features - train.features.mean(axis=0))),
    )
    y = (train.targets - mean) / scale
    origin = train.features.mean(axis=0)
    x = train.features - origin
    squared = squared_distances(x, x)
    np.fill_diagonal(squared, 0.0)
    best = (np.inf, middle, 1.0)
    for length in middle * np.geomspace(0.01, 100, 25):
        kernel = np.exp(-0.5 / length**2 * squared)
        values, vectors = eigh(kernel[held:, held:])
        noises = np.geomspace(1e-15 * len(train), 100, 41)
        weights = (vectors.T @ y[held:])[:, None] / (np.maximum(values, 0)[:, None] + noises)
        errors = np.sqrt(np.mean((kernel[:held, held:] @ vectors @ weights - y[:held, None]) ** 2, axis=0))
        chosen = int(np.argmin(errors))
        best = min(best, (float(errors[chosen]), length, float(noises[chosen])))
    _, length, noise = best
    while True:
        kernel = np.exp(-0.5 / length**2 * squared) + noise * np.eye(len(y))
        try:
            weights = cho_solve(cho_factor(kernel, lower=True), y)
            break
        except LinAlgError:
            noise *= 10
    return lambda: mean + scale * np.exp(-0.5 / length**2 * squared_distances(test.features - origin, x)) @ weights


METHODS = {
    "gpr": by_quarry(Gpr(calibrate=False)),
    "gpr, likelihood": by_quarry(Gpr(criterion="likelihood", calibrate=False)),
    "kreg": by_quarry(Kreg(kind="kreg")),
    "scikit-learn": by_scikit_learn,
    "held-out grid": by_held_out_grid,
}


def case(data: RegressionData, size: int, seed: int, methods: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Return RMSE over the standard deviation of the test labels, and CPU-seconds of training, of each method."""
    order = np.random.default_rng([seed, 1]).permutation(len(data))
    train, test = data.subset(order[:size]), data.subset(order[size : size + 1000])
    found = {}
    for name in methods:
        began = time.process_time()
        predict = METHODS[name](train, test)
        spent = time.process_time() - began
        found[name] = (float(np.sqrt(np.mean((predict() - test.targets) ** 2)) / test.targets.std()), spent)
    return found


class Cases:
    """The cases that were measured, by data set, size and seed; in a file too, if there is one."""

    def __init__(self, path: Path | None) -> None:
        self.path, self.found = path, {}
        if path is not None and path.exists():
            for line in path.read_text().splitlines():
                key, case_found = json.loads(line)
                self.found[tuple(key)] = case_found

    def add(self, key: tuple[str, int, int], found: dict[str, tuple[float, float]]) -> None:
        self.found[key] = found
        print(
            f"  {key}: " + ", ".join(f"{m} {ratio:.3f}" for m, (ratio, _) in found.items()), file=sys.stderr, flush=True
        )
        if self.path is not None:
            with self.path.open("a") as handle:
                handle.write(json.dumps([key, found]) + "\n")


def print_cases(cases: dict[tuple[str, int, int], dict[str, tuple[float, float]]]) -> None:
    """Print errors, shares near the best, and times."""
    sizes = sorted({size for _, size, _ in cases})
    rows = []
    for size in sizes:
        for name in DATA_SETS:
            of = [found for (n, s, _), found in cases.items() if (n, s) == (name, size)]
            if of:
                errors = {m: [found[m][0] for found in of if m in found] for m in METHODS}
                shown = [f"{statistics.mean(v):.3f} ({max(v):.3f})" if v else "" for v in errors.values()]
                rows.append([name, size, len(of), *shown])
    head = ["data", "labels", "seeds", *METHODS]
    print_table("RMSE / std of the test labels: mean over seeds (largest)", head, rows)
    summary = []
    for method in METHODS:
        for label, wanted in [*((str(size), [size]) for size in sizes), ("all", sizes)]:
            of = [found for (_, size, _), found in cases.items() if size in wanted and method in found]
            ratios = [found[method][0] / min(found[m][0] for m in REFERENCES if m in found) for found in of]
            if ratios:
                within = [f"{100 * np.mean([x <= limit for x in ratios]):.1f} %" for limit in (1.05, 1.2)]
                summary.append([method, label, len(ratios), *within, f"{max(ratios):.2f}"])
    head = ["method", "labels", "cases", "within 5 %", "within 20 %", "largest ratio"]
    print_table("Beside the best of kreg, scikit-learn and the held-out grid", head, summary)
    times = []
    for size in sizes:
        spent = {m: [found[m][1] for (_, s, _), found in cases.items() if s == size and m in found] for m in METHODS}
        times.append([size, *(f"{statistics.median(v):.2f}" if v else "" for v in spent.values())])
    print_table("CPU-seconds of training (median)", ["labels", *METHODS], times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=[50, 100, 200, 400, 800])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--scikit-learn-to", type=int, default=200)
    parser.add_argument("--cases", type=Path, help="file of the cases that were measured, a line each")
    options = parser.parse_args()
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("scipy", "scikit-learn"))
    print(f"{machine()}, {versions}; one thread; seeds {options.seeds}", flush=True)
    sets = {name: make(options.data) for name, make in DATA_SETS.items()}
    cases = Cases(options.cases)
    for size in options.sizes:
        methods = [m for m in METHODS if m != "scikit-learn" or size <= options.scikit_learn_to]
        # All sets of a seed before the next one: a run that is ended has something of each.
        for seed in options.seeds:
            for name, data in sets.items():
                key = (name, size, seed)
                if key not in cases.found and len(data) >= size + 500:
                    cases.add(key, case(data, size, seed, methods))
    print_cases(cases.found)


if __name__ == "__main__":
    main()
