"""Hyperparameters of Gaussian processes of made data, for a process of its own (``support.machines``)."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np

from quarry.models.hyperparameter_search import optimise_hyperparameters
from quarry.models.hyperparameters import Start


def fit(size: int, dimensions: int, noise: float, seed: int, criterion: str) -> dict[str, float]:
    """Return noise variance, length scale and signal variance that are found.

    Targets: a smooth function of uniform random points with normal noise, of zero mean and unit variance.
    """
    rng = np.random.default_rng(seed)
    x = rng.uniform(-3, 3, (size, dimensions))
    y = np.sin(x[:, 0]) + 0.3 * (x**2).sum(axis=1) + rng.normal(0, noise, size)
    found = optimise_hyperparameters(x, (y - y.mean()) / y.std(), Start(), criterion).hyperparameters
    return {"noise": found.noise_variance, "length": found.length_scale, "signal": found.signal_variance}


def main() -> None:
    """Fit what is asked for on stdin."""
    questions: list[dict[str, Any]] = json.load(sys.stdin)
    print(json.dumps([fit(**question) for question in questions]))


if __name__ == "__main__":
    main()
