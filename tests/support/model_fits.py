"""Models of made data and what they predict, for a process of its own (``support.machines``)."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np

from quarry.config.models import Gpr, Kreg, Mlp
from quarry.config.targets import TARGETS
from quarry.models.registry import make_regression
from support.networks import numbers
from support.potentials import toy_data, trained
from support.toys import labelled

NETWORK: dict[str, Any] = {"kind": "mlp", "hidden": [32, 32], "epochs": 30, "batch_size": 16}
OF_THE_DESCRIPTOR = {
    "gpr": Gpr(),
    "kreg": Kreg(kind="kreg"),
    "committee": Mlp(**NETWORK, uncertainty="committee", members=2),
    "dropout": Mlp(**NETWORK, uncertainty="mc_dropout"),
}
KINDS = (*OF_THE_DESCRIPTOR, "kreg with forces", "gmnn")


def predictions(kind: str) -> dict[str, list[float]]:
    """Return what a model says of structures that it has not learnt: mean, std, energies and forces, where it has them."""
    rng = np.random.default_rng(1)
    if kind == "gmnn":
        data = toy_data(24)
        found = trained(data, epochs=30).predict(toy_data(10, seed=7).structures, frozenset(data.targets))
        return {name: found.mean[name].ravel().tolist() for name in data.targets}
    if kind == "kreg with forces":
        process = make_regression(Kreg(kind="kreg"), TARGETS["energy_forces"])
        process.fit(labelled(15, 0), labelled(5, 1), rng)
        with_forces = process.predict(labelled(10, 2).structures, labelled(10, 2).features)
        assert with_forces.std is not None and with_forces.forces is not None
        forces = with_forces.forces.ravel().tolist()
        return {"mean": with_forces.mean.tolist(), "std": with_forces.std.tolist(), "forces": forces}
    model, new = make_regression(OF_THE_DESCRIPTOR[kind], TARGETS["homo"]), numbers(50, seed=3)
    model.fit(numbers(100), numbers(25, seed=2) if kind == "kreg" else None, rng)
    of = model.predict(new.structures, new.features)
    assert of.std is not None
    return {"mean": of.mean.tolist(), "std": of.std.tolist()}


def main() -> None:
    """Train what is asked for on stdin."""
    print(json.dumps({kind: predictions(kind) for kind in json.load(sys.stdin)}))


if __name__ == "__main__":
    main()
