"""Sheared crystals of copper, whose stresses are known from differences of the energy."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from numpy.typing import NDArray

from quarry.structures import Structure

GPA, HARTREE_GPA = 160.2176634, 29421.015697
"""GPa in 1 eV/Angstrom^3 (exact in the SI since 2019) and in 1 hartree/bohr^3 (CODATA 2018)."""
VOIGT = [0, 4, 8, 5, 2, 1]
"""Where xx, yy, zz, yz, xz, xy stand in nine numbers."""
SHEAR = np.array([[0.02, 0.01, -0.015], [0.01, -0.01, 0.02], [-0.015, 0.02, 0.03]])


def strained(atoms: Atoms, strain: NDArray[np.float64]) -> Atoms:
    """Return atoms in a cell that is strained, x' = (1 + e) x."""
    copy = atoms.copy()
    copy.set_cell(atoms.cell @ (np.eye(3) + strain), scale_atoms=True)
    return copy


def copper(seed: int = 0) -> Atoms:
    """A cubic cell of copper that is sheared, its atoms displaced."""
    atoms = strained(bulk("Cu", "fcc", a=3.7, cubic=True), SHEAR)
    atoms.positions += np.random.default_rng(seed).normal(0, 0.05, (4, 3))
    return atoms


def energy(atoms: Atoms) -> float:
    copy = atoms.copy()
    copy.calc = EMT()
    return float(copy.get_potential_energy())


def slope(atoms: Atoms, step: float = 1e-5) -> NDArray[np.float64]:
    """Return the derivative of the energy by the strain over the volume, by differences, shape (3, 3)."""
    stress = np.zeros((3, 3))
    for i in range(3):
        for j in range(3):
            strain = np.zeros((3, 3))
            strain[i, j] += step / 2
            strain[j, i] += step / 2
            stress[i, j] = (energy(strained(atoms, strain)) - energy(strained(atoms, -strain))) / (2 * step)
    return stress / atoms.get_volume()


STRUCTURES = [Structure.from_atoms(copper(seed)) for seed in range(3)]
STRESSES = [slope(s.to_atoms()) for s in STRUCTURES]
MOLECULE = Structure.from_atoms(molecule("H2O"))


def ase_section(
    calculator: str = "ase.calculators.emt:EMT", properties: tuple[str, ...] = ("energy", "stress")
) -> dict:
    return {"engine": "ase", "calculator": calculator, "properties": list(properties), "periodic": True}
