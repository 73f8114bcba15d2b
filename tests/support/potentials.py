"""Small potentials, structures and labels for the tests of Gaussian-moment networks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ase.build import bulk
from ase.calculators.emt import EMT
from numpy.typing import NDArray

from quarry.config.gmnn import Gmnn
from quarry.models.base import TrainingData
from quarry.models.gmnn.model import GaussianMomentModel
from quarry.models.gmnn.neighbours import Neighbourhoods
from quarry.models.gmnn.potential import Parameters, Potential, Result, initial_parameters
from quarry.structures import Structure, StructureSet
from support.crystals import copper, strained

CUTOFF_A = 4.0
ELEMENTS = np.array([1, 6, 8, 29])
SMALL: dict[str, Any] = {"kind": "gmnn", "hidden": [12, 8], "epochs": 20, "batch_size": 8, "learning_rate": 0.02}
DEPTHS_EV = {1: 0.4, 6: 0.9, 8: 1.3}


def settings(**changes: Any) -> Gmnn:
    return Gmnn.model_validate({**SMALL, **changes})


def random_molecule(numbers: list[int], seed: int, side_A: float = 3.0) -> Structure:
    """Atoms at random in a box, none closer than 0.8 Angstrom."""
    rng, positions = np.random.default_rng(seed), np.zeros((0, 3))
    while len(positions) < len(numbers):
        point = rng.uniform(0, side_A, (1, 3))
        if not len(positions) or np.linalg.norm(positions - point, axis=1).min() > 0.8:
            positions = np.concatenate([positions, point])
    return Structure.create(numbers, positions)


def small_cell(seed: int = 0) -> Structure:
    """Two atoms in a skewed cell that is much smaller than the cutoff."""
    atoms = bulk("Cu", "fcc", a=3.6) * (2, 1, 1)
    cell = atoms.cell.array + np.random.default_rng(seed).normal(0, 0.1, (3, 3))
    positions = atoms.get_scaled_positions() @ cell + np.random.default_rng(seed).normal(0, 0.1, (2, 3))
    return Structure.create([29, 8], positions, cell=cell, pbc=(True, True, True))


def mixed() -> list[Structure]:
    """Molecules of several sizes, an atom alone, a pair beyond the cutoff and a cell."""
    far = Structure.create([1, 8], np.array([[0, 0, 0], [0, 0, CUTOFF_A + 1]]))
    alone = Structure.create([6], np.zeros((1, 3)))
    molecules = [random_molecule([6, 8, 1, 1, 1], 1), random_molecule([8, 1, 1], 2)]
    return [molecules[0], alone, small_cell(), far, molecules[1]]


def potential(seed: int = 0, hidden: tuple[int, ...] = (7, 5)) -> tuple[Potential, Parameters]:
    """A potential in double precision with random parameters."""
    rng, double = np.random.default_rng(seed), torch.float64
    parameters = initial_parameters(len(ELEMENTS), hidden, 0.7, rng).map(lambda tensor: tensor.to(double))
    for tensor in (parameters.scale, parameters.shift, *parameters.biases):
        tensor += torch.from_numpy(rng.normal(0, 0.3, len(tensor)))
    return Potential(CUTOFF_A, len(ELEMENTS), double, torch.device("cpu")), parameters


def evaluated(structures: list[Structure], model: tuple[Potential, Parameters], curved: bool = False) -> Result:
    made = StructureSet.from_structures(structures)
    found = Neighbourhoods.of(made, CUTOFF_A)
    batch = found.batch(np.arange(len(made)), CUTOFF_A, torch.float64, torch.device("cpu"))
    elements = torch.from_numpy(np.searchsorted(ELEMENTS, made.numbers))
    return model[0].evaluate(model[1], batch, elements, curved)


def toy(structure: Structure) -> tuple[float, NDArray[np.float64]]:
    """Energy (eV) and forces of Morse-like pairs, whose depth depends on both elements, on top of atomic energies."""
    energy, forces = -10.0 * float(structure.numbers.sum()), np.zeros((len(structure), 3))
    for i in range(len(structure)):
        for j in range(i):
            d = structure.positions[i] - structure.positions[j]
            r = float(np.linalg.norm(d))
            depth = np.sqrt(DEPTHS_EV[int(structure.numbers[i])] * DEPTHS_EV[int(structure.numbers[j])])
            x = np.exp(-1.2 * (r - 1.3))
            energy += depth * (x * x - 2 * x)
            slope = depth * -1.2 * (2 * x * x - 2 * x)
            forces[i] -= slope * d / r
            forces[j] += slope * d / r
    return energy, forces


def toy_data(count: int = 40, seed: int = 0, forces: bool = True) -> TrainingData:
    """Distorted molecules of two kinds with labels of ``toy``."""
    rng = np.random.default_rng(seed)
    water = np.array([[0, 0, 0.0], [0, 0.8, 0.6], [0, -0.8, 0.6]])
    methane = np.array([[0, 0, 0], [0.6, 0.6, 0.6], [-0.6, -0.6, 0.6], [-0.6, 0.6, -0.6], [0.6, -0.6, -0.6]])
    kinds = [([8, 1, 1], 1.3 * water), ([6, 1, 1, 1, 1], 1.2 * methane)]
    made = [
        Structure.create(numbers, positions + rng.normal(0, 0.1, positions.shape))
        for numbers, positions in (kinds[n % 2] for n in range(count))
    ]
    labels = [toy(structure) for structure in made]
    targets = {"energy": np.array([energy for energy, _ in labels])}
    if forces:
        targets["forces"] = np.concatenate([of for _, of in labels])
    return TrainingData(StructureSet.from_structures(made), targets)


def trained(data: TrainingData, seed: int = 1, **changes: Any) -> GaussianMomentModel:
    model = GaussianMomentModel(settings(**changes), tuple(data.targets))
    model.fit(data, None, np.random.default_rng(seed))
    return model


def strained_copper(count: int, seed: int) -> TrainingData:
    """Strained and rattled cells of copper, labels by ASE's EMT."""
    rng, structures = np.random.default_rng(seed), []
    labels: dict[str, list] = {"energy": [], "forces": [], "stress": []}
    for number in range(count):
        strain = rng.normal(0, 0.02, (3, 3))
        structure = Structure.from_atoms(strained(copper(1000 * seed + number), (strain + strain.T) / 2))
        atoms = structure.to_atoms()
        atoms.calc = EMT()
        structures.append(structure)
        labels["energy"].append(atoms.get_potential_energy())
        labels["forces"].append(atoms.get_forces())
        labels["stress"].append(atoms.get_stress(voigt=False))
    targets = {"energy": np.array(labels["energy"]), "stress": np.array(labels["stress"])}
    return TrainingData(
        StructureSet.from_structures(structures), {**targets, "forces": np.concatenate(labels["forces"])}
    )
