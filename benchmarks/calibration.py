"""Do 95 % intervals of predictions cover? Every model with uncertainties, as trained and calibrated, on five data sets.

    python benchmarks/calibration.py --data DATA --sizes 100 400 --seeds 0 1 2

For each data set (benchmarks/data_sets.py), size and seed (which draws training and test set): the share of errors of up to
1,000 test structures within the 95 % interval of std and noise, and the root mean square of error / std. `kreg with forces`
learns the ethanol sets alone, and at most --with-forces-to structures.
"""

import argparse
import importlib.metadata
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from common import machine, print_table
from data_sets import DATA_SETS

from quarry.config.models import Gpr, Kreg, Mlp
from quarry.config.targets import TARGETS
from quarry.models.registry import make_regression
from quarry.models.regression import RegressionData

NORMAL_95 = 1.959964

MODELS: dict[str, Callable[[bool], Gpr | Kreg | Mlp]] = {
    "gpr": lambda c: Gpr(calibrate=c),
    "kreg": lambda c: Kreg(kind="kreg", calibrate=c),
    "kreg with forces": lambda c: Kreg(kind="kreg", calibrate=c),
    "committee of 5": lambda c: Mlp(kind="mlp", uncertainty="committee", hidden=[64, 64], calibrate=c),
    "dropout": lambda c: Mlp(kind="mlp", uncertainty="mc_dropout", hidden=[64, 64], calibrate=c),
}


def case(name: str, data: RegressionData, size: int, seed: int) -> dict[str, float]:
    """Return coverage and rms z, as trained and calibrated. The factor is one number, so one training serves both."""
    order = np.random.default_rng([seed, 2]).permutation(len(data))
    with_forces = name == "kreg with forces"
    if not with_forces:
        data = RegressionData(data.structures, data.features, data.targets)
    train, test = data.subset(order[:size]), data.subset(order[size : size + 1000])
    model = make_regression(MODELS[name](True), TARGETS["energy_forces" if with_forces else "homo"])
    model.fit(train, None, np.random.default_rng(seed))
    found = model.predict(test.structures, test.features)
    assert found.std is not None
    z = (found.mean - test.targets) / np.hypot(found.std, found.noise_variance**0.5)
    factor = model.hyperparameters["std_factor"]
    return {
        "before": float(np.mean(np.abs(factor * z) <= NORMAL_95)),
        "after": float(np.mean(np.abs(z) <= NORMAL_95)),
        "z before": float(np.sqrt(np.mean((factor * z) ** 2))),
        "z after": float(np.sqrt(np.mean(z**2))),
        "factor": factor,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 400])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--with-forces-to", type=int, default=100)
    options = parser.parse_args()
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("scipy", "torch"))
    print(f"{machine()}, {versions}; one thread; seeds {options.seeds}", flush=True)
    rows = []
    for title, make in DATA_SETS.items():
        data = make(options.data)
        for name in options.models:
            for size in options.sizes:
                if name == "kreg with forces" and (data.forces is None or size > options.with_forces_to):
                    continue
                began = time.process_time()
                cases = [case(name, data, size, seed) for seed in options.seeds]
                row = [title, name, size]
                for key in ("before", "after"):
                    values = [100 * c[key] for c in cases]
                    row.append(f"{statistics.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})")
                row += [f"{statistics.mean(c[k] for c in cases):.2f}" for k in ("z before", "z after", "factor")]
                rows.append(row)
                print(f"  {row} {time.process_time() - began:.0f} s", file=sys.stderr, flush=True)
    head = [
        "data",
        "model",
        "labels",
        "as trained (%)",
        "calibrated (%)",
        "rms z as trained",
        "rms z calibrated",
        "factor",
    ]
    print_table("Errors within their 95 % interval: mean over seeds (range)", head, rows)


if __name__ == "__main__":
    main()
