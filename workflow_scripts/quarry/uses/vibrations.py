"""Harmonic vibrations from central differences of forces, and their infrared intensities from those of dipoles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import constants

Numbers = NDArray[np.float64]

CM_OF_ROOT = np.sqrt(constants.e / constants.angstrom**2 / constants.atomic_mass) / (200.0 * np.pi * constants.c)
"""Wavenumber (1/cm) of the square root of 1 eV/(Angstrom^2 u)."""
KM_MOL = constants.N_A * constants.e**2 / constants.atomic_mass / (12e3 * constants.epsilon_0 * constants.c**2)
"""Integrated absorption (km/mol) of a dipole derivative by a mass-weighted normal coordinate of 1 e/sqrt(u) (974.9)."""
SAME_PLACE = 1e-6
"""Singular values below this share of the largest are of rotations that move nothing: those of straight molecules."""


@dataclass(frozen=True, eq=False)
class Vibrations:
    """Vibrations of a molecule, ascending.

    frequencies_cm: 1/cm, shape (n_modes,), negative for imaginary ones. modes: Cartesian displacements in u^(-1/2), shape
    (n_modes, n_atoms, 3), as of ``quarry.sampling.modes.NormalModes``.
    """

    frequencies_cm: Numbers
    modes: Numbers


def displaced(positions: Numbers, displacement_A: float) -> list[Numbers]:
    """Return the 6 n_atoms geometries with one coordinate moved: of each coordinate forwards, then backwards."""
    steps = np.eye(positions.size) * displacement_A
    return [positions + sign * step.reshape(positions.shape) for step in steps for sign in (1.0, -1.0)]


def differences(values: Numbers, displacement_A: float) -> Numbers:
    """Return derivatives by the coordinates, shape (3 n_atoms, ...). values: at the ``displaced`` geometries, in their order."""
    return (values[0::2] - values[1::2]) / (2.0 * displacement_A)


def hessian(forces: Numbers, displacement_A: float) -> Numbers:
    """Return the second derivatives of the energy, eV/Angstrom^2, shape (3 n_atoms, 3 n_atoms).

    forces: eV/Angstrom, at the ``displaced`` geometries, shape (6 n_atoms, n_atoms, 3).
    """
    found = -differences(forces.reshape(len(forces), -1), displacement_A)
    return 0.5 * (found + found.T)


def vibrations(second_derivatives: Numbers, positions: Numbers, masses_u: Numbers) -> Vibrations:
    """Return the vibrations of a free molecule; translations and rotations are projected out.

    second_derivatives: eV/Angstrom^2, shape (3 n_atoms, 3 n_atoms). positions: Angstrom. masses_u: shape (n_atoms,).
    """
    root = np.repeat(np.sqrt(masses_u), 3)
    rigid = rigid_motions(positions, masses_u)
    project = np.eye(len(root)) - rigid @ rigid.T
    weighted = project @ (second_derivatives / np.outer(root, root)) @ project
    # Behind all others, whatever their sign: what is projected out.
    values, vectors = np.linalg.eigh(weighted + 1e6 * rigid @ rigid.T)
    n_modes = len(root) - rigid.shape[1]
    kept, modes = values[:n_modes], (vectors[:, :n_modes] / root[:, None]).T
    return Vibrations(np.sign(kept) * np.sqrt(np.abs(kept)) * CM_OF_ROOT, modes.reshape(n_modes, -1, 3))


def intensities_km_mol(dipole_derivatives: Numbers, found: Vibrations) -> Numbers:
    """Return the integrated infrared absorption of each mode, km/mol, shape (n_modes,).

    N_A |d mu / d Q|^2 / (12 epsilon_0 c^2), the double harmonic approximation. dipole_derivatives: e, shape (3 n_atoms, 3).
    """
    return KM_MOL * np.sum((found.modes.reshape(len(found.modes), -1) @ dipole_derivatives) ** 2, axis=1)


def rigid_motions(positions: Numbers, masses_u: Numbers) -> Numbers:
    """Return the mass-weighted translations and rotations, orthonormal, shape (3 n_atoms, 5 or 6; 3 of a single atom)."""
    root = np.sqrt(masses_u)[:, None]
    centred = positions - np.average(positions, axis=0, weights=masses_u)
    moves = [np.tile(axis, (len(positions), 1)) for axis in np.eye(3)] + [np.cross(axis, centred) for axis in np.eye(3)]
    vectors, sizes, _ = np.linalg.svd(np.array([(root * move).ravel() for move in moves]).T, full_matrices=False)
    return vectors[:, sizes > SAME_PLACE * sizes[0]]
