"""Normal modes from forces, by finite differences: of any stationary point, a transition state too."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.linalg
from ase import Atoms
from ase.data import atomic_masses
from numpy.typing import NDArray
from scipy import constants

from quarry.sampling.modes import NormalModes
from quarry.structures import Structure

STEP_A = 0.005
"""Displacement of an atom, Angstrom."""
RIGID = 1e-3
"""Rotations whose singular value is below this share of the largest are none: a linear molecule has two."""


def modes_from_forces(
    structure: Structure, forces_of: Callable[[NDArray[np.float64]], NDArray[np.float64]], step_A: float = STEP_A
) -> NormalModes:
    """Return the normal modes at a stationary point by central differences, imaginary wavenumbers as negative numbers.

    Translations and rotations are projected out. forces_of: positions of shape (m, n_atoms, 3), Angstrom, to forces of the same
    shape, eV/Angstrom. step_A: Angstrom.
    """
    n = len(structure)
    steps = step_A * np.eye(3 * n).reshape(-1, n, 3)
    forces = forces_of(np.concatenate([structure.positions + steps, structure.positions - steps]))
    forward, backward = forces.reshape(2, 3 * n, 3 * n)
    hessian = (backward - forward) / (2.0 * step_A)
    masses = np.asarray(atomic_masses)[structure.numbers]
    root = np.sqrt(np.repeat(masses, 3))
    weighted = 0.5 * (hessian + hessian.T) / np.outer(root, root)
    inner = scipy.linalg.null_space(_rigid_motions(structure.positions, masses), rcond=RIGID)
    values, vectors = np.linalg.eigh(inner.T @ weighted @ inner)
    modes = (inner @ vectors).T / root
    largest = np.argmax(np.abs(modes) > 0.999 * np.abs(modes).max(axis=1, keepdims=True), axis=1)
    modes *= np.sign(modes[np.arange(len(modes)), largest])[:, None]
    # eV / (Angstrom^2 u) to 1/s^2.
    omega2 = values * constants.e / (constants.angstrom**2 * constants.atomic_mass)
    frequencies = np.sign(omega2) * np.sqrt(np.abs(omega2)) / (2.0 * np.pi * constants.c * 100.0)
    return NormalModes(structure, frequencies, modes.reshape(-1, n, 3), masses, 0.0, {})


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


def _rigid_motions(positions: NDArray[np.float64], masses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return translations and rotations in mass-weighted coordinates, shape (6, 3 n_atoms)."""
    centred = positions - np.average(positions, axis=0, weights=masses)
    weight = np.sqrt(masses)[:, None]
    motions = [np.tile(axis, (len(masses), 1)) * weight for axis in np.eye(3)]
    motions += [np.cross(axis, centred) * weight for axis in np.eye(3)]
    flat = np.array(motions).reshape(6, -1)
    # Of one size, so that what is no rotation (about the axis of a linear molecule) is told from what is one.
    flat[:3] /= np.linalg.norm(flat[:3], axis=1).max()
    flat[3:] /= max(float(np.linalg.norm(flat[3:], axis=1).max()), 1e-12)
    return flat
