"""Small data and networks for the tests of neural networks."""

from __future__ import annotations

from typing import Any

import numpy as np

from quarry.config.models import Mlp
from quarry.models.mlp import MultilayerPerceptron
from quarry.models.regression import RegressionData
from quarry.structures import Structure, StructureSet

SMALL: dict[str, Any] = {"kind": "mlp", "hidden": [8, 6], "epochs": 6, "batch_size": 16}


def settings(**changes: Any) -> Mlp:
    return Mlp.model_validate({**SMALL, **changes})


def dimers(count: int) -> StructureSet:
    """Hydrogen molecules of different lengths: structures for features that do not come from them."""
    lengths = 0.5 + np.arange(count) / 1000
    return StructureSet.from_structures([Structure.create([1, 1], np.array([[0, 0, 0], [0, 0, r]])) for r in lengths])


def numbers(count: int = 60, seed: int = 0) -> RegressionData:
    """Targets around -7 that depend on three features; the fourth is constant."""
    features = np.random.default_rng(seed).normal(2.0, 3.0, (count, 4))
    features[:, 3] = 5.0
    targets = -7 + 0.2 * features[:, 0] - 0.1 * features[:, 1] * np.sin(features[:, 2])
    return RegressionData(dimers(count), features, targets)


def classes(count: int = 60, seed: int = 0) -> RegressionData:
    """Three classes by the sum of two features."""
    data = numbers(count, seed)
    targets = np.digitize(data.features[:, 0] + data.features[:, 1], [2.0, 6.0]).astype(float)
    return RegressionData(data.structures, data.features, targets, ("low", "middle", "high"))


def trained(data: RegressionData, seed: int = 1, **changes: Any) -> MultilayerPerceptron:
    model = MultilayerPerceptron(settings(**changes), "class" if data.classes else "homo")
    model.fit(data, None, np.random.default_rng(seed))
    return model


def by_hand(path: Any, features: np.ndarray, network: int = 0, masks: Any = None) -> np.ndarray:
    """Outputs of a network of a model file, shape (n, n_outputs), in numpy alone (activation silu)."""
    import h5py

    with h5py.File(path) as handle:
        inputs, group = handle["inputs"], handle[f"networks/{network:03d}"]
        x = (features[:, inputs["columns"][()]] - inputs["mean"][()]) / inputs["std"][()]
        layers = [
            (group[f"weights_{n}"][()].astype(float), group[f"biases_{n}"][()].astype(float))
            for n in range(len(group) // 2)
        ]
    for number, (weights, biases) in enumerate(layers[:-1]):
        z = x @ weights + biases
        x = z / (1 + np.exp(-z))
        if masks is not None:
            x = x * masks[number]
    weights, biases = layers[-1]
    outputs: np.ndarray = x @ weights + biases
    return outputs
