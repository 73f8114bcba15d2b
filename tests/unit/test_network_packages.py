"""The packages of the optional dependencies themselves; each test skips where its package is not installed."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule

from quarry.config.descriptors import Pretrained
from quarry.config.extras import EXTRAS
from quarry.config.models import Ani, Mace, Sevenn
from quarry.descriptors.compute import compute_features
from quarry.errors import QuarryError
from quarry.models.base import TrainingData
from quarry.models.network_potential import NetworkModel
from quarry.networks.base import Network, predict
from quarry.networks.baselines import asked
from quarry.networks.registry import from_scratch, pretrained, rebuilt
from quarry.randomness import generator
from quarry.structures import Structure, StructureSet

WANT = frozenset({"energy", "forces"})
CPU = torch.device("cpu")
SETTINGS: dict[str, Any] = {
    "sevenn": Sevenn(kind="sevenn", epochs=2, batch_size=4),
    "mace": Mace(kind="mace", epochs=3, batch_size=4, channels=4, correlation=2, cutoff_A=4.0),
    "ani": Ani(kind="ani", epochs=10, batch_size=4),
}
WITH_CELLS = ("sevenn", "mace")


def needs(kind: str) -> None:
    if any(find_spec(module) is None for module in EXTRAS[kind].modules):
        pytest.skip(f"{EXTRAS[kind].requirements[0]} is not installed")


def waters(count: int, seed: int = 0) -> StructureSet:
    rng, water = np.random.default_rng(seed), molecule("H2O")
    places = [water.positions + rng.normal(0, 0.05, (3, 3)) for _ in range(count)]
    return StructureSet.from_structures([Structure.create([8, 1, 1], place) for place in places])


def labels(structures: StructureSet) -> TrainingData:
    """Harmonic bonds."""
    energies, forces = [], []
    for s in structures:
        bonds = s.positions[1:] - s.positions[0]
        r = np.linalg.norm(bonds, axis=1)
        energies.append(-2000.0 + 15.0 * np.sum((r - 0.97) ** 2))
        pull = 30.0 * ((r - 0.97) / r)[:, None] * bonds
        forces.append(np.array([pull.sum(axis=0), *(-pull)]))
    return TrainingData(structures, {"energy": np.array(energies), "forces": np.concatenate(forces)})


@pytest.fixture(scope="module", params=list(SETTINGS))
def trained(request) -> NetworkModel:
    needs(request.param)
    model = NetworkModel(SETTINGS[request.param], ("energy", "forces"))
    model.fit(labels(waters(8)), None, generator(1, "train"))
    return model


@pytest.fixture(scope="module", params=list(SETTINGS))
def network(request) -> Network:
    needs(request.param)
    settings = SETTINGS[request.param]
    if settings.network is not None:
        return pretrained(settings.kind, settings.network, None, "model.model", CPU)
    return from_scratch(settings, waters(4), 3, CPU)


class TestEveryPackage:
    def test_it_learns_and_its_file_says_the_same(self, trained, tmp_path):
        test = labels(waters(6, seed=7))
        said = trained.predict(test.structures, WANT)
        assert np.isfinite(said.mean["forces"]).all() and np.abs(said.mean["energy"] + 2000.0).max() < 3.0
        paths = [tmp_path / "a.h5", tmp_path / "b.h5"]
        for path in paths:
            trained.save(path)
        assert paths[0].read_bytes() == paths[1].read_bytes()
        again = NetworkModel.load(paths[0])
        for name in WANT:
            np.testing.assert_allclose(again.predict(test.structures, WANT).mean[name], said.mean[name], atol=1e-6)

    def test_forces_are_derivatives_of_the_energy(self, network):
        structure, step = waters(1)[0], 5e-3
        said = predict(network, StructureSet.from_structures([structure]), True)["forces"]
        for atom, axis in ((0, 1), (2, 2)):
            moved = []
            for sign in (1, -1):
                positions = structure.positions.copy()
                positions[atom, axis] += sign * step
                moved.append(Structure.create(structure.numbers, positions))
            low, high = predict(network, StructureSet.from_structures(moved), False)["energy"][::-1]
            assert said[atom, axis] == pytest.approx(-(high - low) / (2 * step), abs=0.02)

    def test_a_rotated_relabelled_copy_and_two_far_ones(self, network):
        structure = waters(1)[0]
        rotation, order = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0], [1, 0, 2]
        copy = Structure.create(structure.numbers[order], (structure.positions @ rotation.T + 2.0)[order])
        two = Structure.create(
            np.tile(structure.numbers, 2), np.concatenate([structure.positions, structure.positions + 60.0])
        )
        energies = predict(network, StructureSet.from_structures([structure, copy, two]), False)["energy"]
        assert energies[1] == pytest.approx(energies[0], abs=1e-4)
        assert energies[2] == pytest.approx(2 * energies[0], abs=2e-4)

    def test_it_is_made_again_from_its_description(self, network):
        other = rebuilt(network.kind, network.description(), CPU)
        other.module.load_state_dict(network.module.state_dict())
        for derivatives in (True, False):
            found = [predict(n, waters(3), derivatives)["energy"] for n in (network, other)]
            np.testing.assert_array_equal(found[0], found[1])


class TestSevenn:
    @pytest.fixture
    def network(self) -> Network:
        needs("sevenn")
        return pretrained("sevenn", "7net-0", None, "model.model", CPU)

    def test_it_says_what_the_packages_calculator_says(self, network):
        from sevenn.calculator import SevenNetCalculator

        cell = bulk("Cu") * (2, 1, 1)
        cell.rattle(0.1, seed=1)
        pool = StructureSet.from_structures([Structure.from_atoms(a) for a in (molecule("CH3CH2OH"), cell)])
        said = predict(network, pool, True)
        calculator = SevenNetCalculator("7net-0", device="cpu")
        for row, structure in enumerate(pool):
            atoms = structure.to_atoms()
            atoms.calc = calculator
            assert said["energy"][row] == pytest.approx(atoms.get_potential_energy(), abs=1e-4)
            rows = slice(pool.offsets[row], pool.offsets[row + 1])
            np.testing.assert_allclose(said["forces"][rows], atoms.get_forces(), atol=1e-4)
        np.testing.assert_allclose(said["stress"][1], atoms.get_stress(voigt=False), atol=1e-5)
        assert np.isnan(said["stress"][0]).all()

    def test_features(self, network):
        pool = StructureSet.from_structures([Structure.from_atoms(molecule(name)) for name in ("H2O", "CH4", "H2O")])
        found = compute_features(pool, Pretrained(kind="pretrained"), None)
        assert found.shape == (3, 128)
        np.testing.assert_allclose(found[0], found[2], atol=1e-6)
        assert np.linalg.norm(found[0] - found[1]) > 1.0

    def test_an_element_that_it_does_not_know(self, network):
        pool = StructureSet.from_structures([Structure.create([118, 1], np.array([[0, 0, 0], [0, 0, 1.5]]))])
        with pytest.raises(
            QuarryError, match=r"descriptor\.kind: pretrained: the network does not know the element Og"
        ):
            compute_features(pool, Pretrained(kind="pretrained"), None)

    def test_as_a_baseline(self, network):
        from quarry.config.baselines import NetworkBaseline

        said = asked(NetworkBaseline(kind="sevenn"), None)(waters(2), True)
        np.testing.assert_allclose(said["forces"], predict(network, waters(2), True)["forces"], atol=1e-5)


class TestMace:
    @pytest.fixture
    def file(self, tmp_path) -> str:
        """A trained network of the user's, in double precision."""
        needs("mace")
        made = from_scratch(SETTINGS["mace"], waters(4), 3, CPU)
        torch.save(made.module.double(), tmp_path / "own.model")
        return "own.model"

    def test_a_network_from_a_file(self, file, tmp_path):
        made = from_scratch(SETTINGS["mace"], waters(4), 3, CPU)
        read = pretrained("mace", file, tmp_path, "model.model", CPU)
        found = [predict(network, waters(3), True) for network in (made, read)]
        for name in ("energy", "forces"):
            np.testing.assert_allclose(found[0][name], found[1][name], atol=1e-5)

    def test_it_is_fine_tuned(self, file, tmp_path):
        settings = Mace(kind="mace", model=file, epochs=1, learning_rate=1e-9)
        model = NetworkModel(settings, ("energy", "forces"), tmp_path)
        model.fit(labels(waters(8)), None, generator(1, "train"))
        read = pretrained("mace", file, tmp_path, "model.model", CPU)
        said = model.predict(waters(3), WANT).mean["forces"]
        np.testing.assert_allclose(said, predict(read, waters(3), True)["forces"], atol=1e-4)

    def test_cells_and_features(self, file, tmp_path):
        cell = bulk("Cu", a=3.6) * (2, 1, 1)
        cell.numbers[1] = 8
        cells = StructureSet.from_structures([Structure.from_atoms(cell)])
        network = from_scratch(SETTINGS["mace"], cells, 1, CPU)
        said = predict(network, cells, True)
        strained, step = cell.copy(), 1e-3
        energies = []
        for sign in (1, -1):
            strained.set_cell(cell.cell.array * (1 + sign * step), scale_atoms=True)
            energies.append(
                predict(network, StructureSet.from_structures([Structure.from_atoms(strained)]), False)["energy"][0]
            )
        pressure = (energies[0] - energies[1]) / (2 * step)
        assert np.trace(said["stress"][0]) * cell.get_volume() == pytest.approx(
            pressure, abs=0.02 + 0.02 * abs(pressure)
        )
        section = Pretrained(kind="pretrained", network="mace", model=str(tmp_path / file))
        assert compute_features(waters(2), section, None).shape == (2, 8)
