"""Bonds that can be turned, and geometries with one of them turned."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order

from quarry.errors import QuarryError
from quarry.structures import Structure
from quarry.structures.filters import bonds_of


def rotatable_bonds(atoms: Atoms, bond_factor: float) -> list[tuple[int, int, NDArray[np.int64]]]:
    """Return the bonds that a part of a molecule can be turned about: (i, j, the atoms on j's side, j among them).

    No bond of a ring is one, and none that ends at an atom without further neighbours. The smaller side is turned. bond_factor:
    atoms within this multiple of the sum of their covalent radii are bonded.
    """
    bonds = bonds_of(Structure.of_atoms(atoms, 0, 1), bond_factor)
    found = []
    for k, (i, j) in enumerate(bonds.tolist()):
        rest = np.delete(bonds, k, axis=0)
        graph = csr_array((np.ones(len(rest)), (rest[:, 0], rest[:, 1])), shape=(len(atoms), len(atoms)))
        sides = [breadth_first_order(graph, end, directed=False, return_predecessors=False) for end in (i, j)]
        if j in sides[0] or min(len(side) for side in sides) < 2:
            continue
        ends = (i, j) if len(sides[1]) <= len(sides[0]) else (j, i)
        found.append((ends[0], ends[1], np.sort(min(sides[::-1], key=len)).astype(np.int64)))
    return found


def turned(atoms: Atoms, bond: tuple[int, int, NDArray[np.int64]], degrees: float) -> Atoms:
    """Return a copy with one side of a bond (``rotatable_bonds``) turned about it."""
    i, j, side = bond
    other = atoms.copy()
    part = other[side]
    part.rotate(degrees, other.positions[j] - other.positions[i], center=other.positions[j])
    other.positions[side] = part.positions
    return other


def needed_bonds(atoms: Atoms, bond_factor: float) -> list[tuple[int, int, NDArray[np.int64]]]:
    """Return ``rotatable_bonds``. Raises QuarryError where there is none."""
    bonds = rotatable_bonds(atoms, bond_factor)
    if not bonds:
        raise QuarryError(
            f"pool.explore.sampler: {atoms.get_chemical_formula()} has no bond that can be turned; choose another sampler"
        )
    return bonds
