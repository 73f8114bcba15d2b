"""Candidates for the tests of filters."""

from __future__ import annotations

from ase import Atoms

from quarry.stages.filtering import Candidate, PoolFilter
from quarry.structures import Structure
from support.campaigns import WATER

MOLECULES = ["H2O", "C2H6", "CH3CH2OH", "C6H6", "SiH4", "LiF", "Cl2"]


def structure_of(atoms: Atoms) -> Structure:
    return Structure.from_atoms(atoms)


def water(scale: float = 1.0, shift: float = 0.0, charge: int = 0) -> Structure:
    """Water; scale: of its first bond. shift: of its last atom away from the others, Angstrom."""
    positions = WATER.copy()
    positions[1] = positions[0] + scale * (positions[1] - positions[0])
    positions[2, 1] -= shift
    return Structure.create([8, 1, 1], positions, charge)


def put_through(pool_filter: PoolFilter, structures, origin: str = "file") -> PoolFilter:
    pool_filter.add(Candidate(origin, number, structure) for number, structure in enumerate(structures))
    return pool_filter
