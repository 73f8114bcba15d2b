"""A molecule of three atoms whose energies and forces are known in closed form."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quarry.descriptors.distances import inverse_distances
from quarry.models.regression import RegressionData
from quarry.structures import Structure, StructureSet

NUMBERS = (8, 1, 1)
EQUILIBRIUM = np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])
PAIRS = ((0, 1), (0, 2), (1, 2))
LENGTHS = np.array([0.96, 0.96, 1.52])


def energy_and_forces(positions: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """Return energy (eV) and forces (eV/Angstrom) of Morse bonds, a spring and a coupling of the bonds."""
    r = np.array([np.linalg.norm(positions[i] - positions[j]) for i, j in PAIRS])
    q = r - LENGTHS
    decay = np.exp(-2.2 * q[:2])
    energy = np.sum(5.4 * (1 - decay) ** 2) + 2.0 * q[2] ** 2 - 0.6 * q[0] * q[1]
    slopes = np.array([*(2 * 5.4 * 2.2 * (1 - decay) * decay), 4.0 * q[2]])
    slopes[:2] -= 0.6 * q[1::-1]
    forces = np.zeros((3, 3))
    for (i, j), slope, length in zip(PAIRS, slopes, r, strict=True):
        push = -slope * (positions[i] - positions[j]) / length
        forces[i] += push
        forces[j] -= push
    return float(energy) - 2078.5, forces


def set_of(frames: NDArray[np.float64]) -> StructureSet:
    """Return structures of the molecule with positions of shape (n, 3, 3)."""
    return StructureSet.from_structures(Structure.create(NUMBERS, frame) for frame in frames)


def features_of(structures: StructureSet) -> NDArray[np.float64]:
    """Return r_eq / r, shape (n, 3)."""
    return inverse_distances(structures, Structure.create(NUMBERS, EQUILIBRIUM))


def labelled(n: int, seed: int, spread: float = 0.08, with_forces: bool = True) -> RegressionData:
    """Return distorted geometries (Angstrom, normally distributed) with their energies and forces."""
    rng = np.random.default_rng(seed)
    structures = set_of(EQUILIBRIUM + spread * rng.normal(size=(n, 3, 3)))
    labels = [energy_and_forces(structure.positions) for structure in structures]
    energies = np.array([energy for energy, _ in labels])
    forces = np.concatenate([force for _, force in labels]) if with_forces else None
    return RegressionData(structures, features_of(structures), energies, forces=forces)
