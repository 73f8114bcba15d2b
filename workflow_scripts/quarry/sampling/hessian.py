"""Normal modes from forces, by finite differences: of any stationary point, a transition state too."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ase import Atoms
from ase.data import atomic_masses
from numpy.typing import NDArray

from quarry.sampling.modes import NormalModes, with_fixed_signs
from quarry.structures import Structure
from quarry.uses.vibrations import displaced, hessian, vibrations

STEP_A = 0.005
"""By how much an atom is moved for central differences of forces: the error of a wavenumber is about 0.1 1/cm."""

ForcesOf = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Positions of shape (m, n_atoms, 3), Angstrom, to forces of the same shape, eV/Angstrom."""


def modes_from_forces(structure: Structure, forces_of: ForcesOf) -> NormalModes:
    """Return the normal modes at a stationary point by central differences, imaginary wavenumbers as negative numbers.

    Translations and rotations are projected out.
    """
    forces = forces_of(np.array(displaced(structure.positions, STEP_A)))
    masses = np.asarray(atomic_masses)[structure.numbers]
    found = vibrations(hessian(forces, STEP_A), structure.positions, masses)
    return NormalModes(structure, found.frequencies_cm, with_fixed_signs(found.modes), masses, 0.0, {})


def modes_of(atoms: Atoms) -> NormalModes:
    """Return ``modes_from_forces`` of ASE atoms with a calculator, for the file that ``NormalModes.write`` makes."""
    moved = atoms.copy()
    moved.calc = atoms.calc

    def forces_of(positions: NDArray[np.float64]) -> NDArray[np.float64]:
        found = []
        for x in positions:
            moved.positions = x
            found.append(moved.get_forces())
        return np.array(found)

    return modes_from_forces(Structure.from_atoms(atoms), forces_of)
