"""Models on the descriptor give the forces of the energies that they learnt: minus the gradient of what they predict."""

from __future__ import annotations

import numpy as np
import pytest

from quarry.config.descriptors import CoulombMatrix, InverseDistances
from quarry.config.models import Gpr, Kreg, Mlp
from quarry.config.targets import TARGETS
from quarry.descriptors.cache import FeatureCache
from quarry.errors import QuarryError
from quarry.models.base import TrainingData
from quarry.models.registry import make_model
from quarry.structures import Structure
from support.toys import EQUILIBRIUM, NUMBERS, labelled, set_of

NETWORK = {"kind": "mlp", "hidden": [12, 8], "epochs": 30, "activation": "tanh", "calibrate": False}
MODELS = {
    "gpr": Gpr(),
    "kreg": Kreg(kind="kreg"),
    "mlp": Mlp(**NETWORK),
    "committee": Mlp(**NETWORK, uncertainty="committee", members=2),
    "mc_dropout": Mlp(**NETWORK, uncertainty="mc_dropout", passes=5),
}
WANT = frozenset({"energy", "forces"})


def inverse_distances() -> FeatureCache:
    settings = InverseDistances(kind="inverse_distances")
    return FeatureCache(settings, {"width": 3}, Structure.create(NUMBERS, EQUILIBRIUM))


def trained(settings, target="energy", cache=None):
    made = labelled(40, 0)
    model = make_model(settings, TARGETS[target], cache or inverse_distances())
    forces = {"forces": made.forces} if target == "energy_forces" else {}
    model.fit(TrainingData(made.structures, {"energy": made.targets, **forces}), None, np.random.default_rng(0))
    return model


@pytest.mark.parametrize(("kind", "target"), [*((kind, "energy") for kind in MODELS), ("kreg", "energy_forces")])
def test_forces_are_minus_the_gradient(kind, target):
    model, step = trained(MODELS[kind], target), 1e-2 if kind in ("mlp", "committee", "mc_dropout") else 1e-4
    frames = EQUILIBRIUM + 0.05 * np.random.default_rng(5).normal(size=(2, 3, 3)).round(3)
    forces = model.predict(set_of(frames), WANT).mean["forces"].reshape(2, 3, 3)
    assert np.abs(forces).max() > 0.5
    for index in np.ndindex(2, 3, 3):
        moved = np.repeat(frames[None], 2, axis=0)
        moved[(0, *index)] += step
        moved[(1, *index)] -= step
        up, down = (model.predict(set_of(part), WANT).mean["energy"][index[0]] for part in moved)
        assert forces[index] == pytest.approx(-(up - down) / (2 * step), abs=2e-2 if step == 1e-2 else 1e-4), index


def test_they_are_the_forces_of_the_labels():
    test = labelled(20, 1, spread=0.05)
    for kind in ("gpr", "kreg"):
        found = trained(MODELS[kind]).predict(test.structures, WANT).mean["forces"]
        assert np.sqrt(np.mean((found - test.forces) ** 2)) < 0.3 * np.std(test.forces), kind


def test_a_descriptor_without_derivatives_is_named():
    cache = FeatureCache(CoulombMatrix(kind="coulomb_matrix"), {"largest_molecule": 3})
    model = trained(Gpr(), cache=cache)
    assert "forces" not in model.predict(labelled(2, 1).structures, frozenset({"energy"})).mean
    with pytest.raises(QuarryError, match=r"coulomb_matrix has no derivatives .* use inverse_distances"):
        model.predict(labelled(2, 1).structures, WANT)
