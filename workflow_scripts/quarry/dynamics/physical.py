"""Which frames of a trajectory are no chemistry: atoms in each other, pieces far apart, cells that collapse, absurd forces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.data import covalent_radii
from ase.geometry import find_mic
from numpy.typing import NDArray

from quarry.structures import Structure

CLOSEST = 0.5
"""Atoms closer than this share of the sum of their covalent radii are in each other."""
FARTHEST = 4.0
"""A molecule has fallen apart where an atom has no other within this multiple of the sum of their covalent radii."""
VOLUME_FACTOR = 2.0
"""A cell has collapsed or burst where its volume has changed by more than this factor, up or down."""

ABOVE_CEILING = "the energy is beyond pool.explore.max_energy_eV_atom"


@dataclass(frozen=True)
class Limits:
    """What is no chemistry. force_eV_A: largest force on an atom, eV/Angstrom. volume_A3: of the cell at the start, or None."""

    force_eV_A: float
    volume_A3: float | None = None


def fault_of(structure: Structure, forces: NDArray[np.float64], limits: Limits) -> str:
    """Return what is wrong with a frame, in words; empty: nothing.

    forces: eV/Angstrom, shape (n_atoms, 3), predicted.
    """
    if not (np.isfinite(structure.positions).all() and np.isfinite(forces).all()):
        return "a position or force is not a finite number"
    largest = float(np.linalg.norm(forces, axis=1).max(initial=0.0))
    if largest > limits.force_eV_A:
        return f"a force is beyond {limits.force_eV_A:g} eV/Angstrom"
    if structure.cell is not None and limits.volume_A3:
        ratio = abs(float(np.linalg.det(structure.cell))) / limits.volume_A3
        if not 1 / VOLUME_FACTOR < ratio < VOLUME_FACTOR:
            return f"the cell's volume has changed by more than a factor of {VOLUME_FACTOR:g}"
    return _distances(structure)


def _distances(structure: Structure) -> str:
    n = len(structure)
    if n < 2:
        return ""
    i, j = np.triu_indices(n, 1)
    vectors = structure.positions[j] - structure.positions[i]
    if structure.cell is not None:
        _, lengths = find_mic(vectors, structure.cell, structure.pbc)
    else:
        lengths = np.linalg.norm(vectors, axis=1)
    radii = np.asarray(covalent_radii)[structure.numbers]
    relative = lengths / (radii[i] + radii[j])
    if relative.min() < CLOSEST:
        return f"two atoms are closer than {CLOSEST:g} of the sum of their covalent radii"
    if structure.cell is None:
        nearest = np.full(n, np.inf)
        np.minimum.at(nearest, i, relative)
        np.minimum.at(nearest, j, relative)
        if nearest.max() > FARTHEST:
            return f"an atom has no other within {FARTHEST:g} of the sum of their covalent radii"
    return ""
