"""Copies of a structure that are moved a little to either side: the slope of their energies is the force between them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quarry.structures import Structure
from quarry.structures.labelled import LabelledSet

SLOPE = "energy_slope"
"""The quotient (E(x + h u) - E(x - h u)) / 2 h, which is -F . u but for a term in h squared (eV/Angstrom)."""


def has_forces(labels: LabelledSet, structure: Structure) -> bool:
    """Whether the label of a structure has an energy and forces."""
    if not len(structure) or not {"energy", "forces"} <= labels.properties.keys():
        return False
    record = labels.record(int(labels.structures.index_of([structure.structure_id])[0]))
    return bool(np.isfinite(record["forces"]).all() and np.isfinite(record["energy"]))


def random_direction(structure: Structure, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a direction in which all atoms move, of length 1 over all of them, without unit, shape (n_atoms, 3)."""
    direction = rng.normal(size=structure.positions.shape)
    unit: NDArray[np.float64] = direction / np.linalg.norm(direction)
    return unit


def displaced_copies(structure: Structure, step: NDArray[np.float64]) -> list[Structure]:
    """Return the copies at x + step and x - step, not rounded to the step of a pool's positions.

    step: Angstrom, shape (n_atoms, 3).
    """
    return [
        Structure(
            structure.numbers,
            structure.positions + sign * step,
            structure.charge,
            structure.multiplicity,
            cell=structure.cell,
            pbc=structure.pbc,
        )
        for sign in (1, -1)
    ]
