"""Unphysical structures and near-duplicates: what a pool is better off without."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from ase.data import covalent_radii
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import pdist

from quarry.structures.structure import Structure

BLOCK_ROWS, TILE_ROWS = 256, 16384
"""Rows of the features compared at a time (32 MB for their distances)."""
MOST_DISTANCES = 300
"""Atoms of a molecule up to which all distances are computed; beyond, neighbours are searched for."""
BLOCK_NUMBERS = 4_000_000
"""Numbers per work array where candidates are measured exactly (32 MB)."""


ISOLATED_A = 7.0
"""An atom that is alone in its cell is an isolated one from this distance to its images on: none of the elements' crystals has
its nearest neighbours further away than caesium (5.2 Angstrom)."""


def is_isolated_atom(structure: Structure) -> bool:
    """Return whether a structure is one atom that nothing is near to, as in sets with the energies of free atoms."""
    if len(structure) != 1:
        return False
    if not any(structure.pbc):
        return True
    from ase.neighborlist import neighbor_list

    return not len(neighbor_list("d", structure.to_atoms(), ISOLATED_A, self_interaction=False))


def nearest_A(structure: Structure, below: float) -> tuple[float, tuple[int, int]]:
    """Return the smallest distance of two atoms (Angstrom), and the numbers of both from 0; infinity if none is under ``below``.

    Periodic structures: the images count too, also an atom's own.
    """
    if any(structure.pbc) or len(structure) > MOST_DISTANCES:
        from vesin import NeighborList

        search = NeighborList(cutoff=below, full_list=False, n_threads=1)
        cell = np.zeros((3, 3)) if structure.cell is None else structure.cell
        first, second, distances = search.compute(structure.positions, cell, list(structure.pbc), "ijd")
    else:
        first, second = _pair_indices(len(structure))
        distances = pdist(structure.positions)
    place = int(np.argmin(distances)) if len(distances) else -1
    if place < 0 or distances[place] >= below:
        return np.inf, (-1, -1)
    return float(distances[place]), (int(first[place]), int(second[place]))


def closest_contact(structure: Structure, below: float) -> float:
    """Return the smallest distance of two atoms over the sum of their covalent radii; infinity if none is under ``below``.

    Both are ratios, without unit.

    Covalent radii: B. Cordero et al., Dalton Trans. 2008, 2832, as ASE has them. Periodic structures: the images count
    too, also an atom's own.
    """
    _, _, ratios = _pairs(structure, below)
    return float(ratios.min(initial=np.inf))


def nearest_contacts(structure: Structure, below: float) -> NDArray[np.float64]:
    """Return each atom's smallest distance of another over the sum of their covalent radii, shape (n_atoms,).

    Infinity where none is under ``below``. Images count as in ``closest_contact``.
    """
    first, second, ratios = _pairs(structure, below)
    nearest = np.full(len(structure), np.inf)
    np.minimum.at(nearest, first, ratios)
    np.minimum.at(nearest, second, ratios)
    return nearest


def bonds_of(structure: Structure, factor: float) -> NDArray[np.int64]:
    """Return the bonds as atom pairs i <= j, shape (n_bonds, 2), sorted.

    Two atoms are bonded if they are closer than ``factor`` times the sum of their covalent radii. In a periodic structure
    a pair stands there once for each bond between its images.
    """
    first, second, _ = _pairs(structure, factor)
    order = np.lexsort((second, first))
    return np.stack([first[order], second[order]], axis=1)


def count_fragments(structure: Structure, factor: float) -> int:
    """Return into how many parts, connected by bonds, the structure falls; bonds and factor as in ``bonds_of``."""
    first, second, _ = _pairs(structure, factor)
    shape = (len(structure), len(structure))
    graph = csr_array((np.ones(len(first)), (first, second)), shape=shape)
    count, _ = connected_components(graph, directed=False)
    return int(count)


def count_other_bonds(bonds: NDArray[np.int64], reference: NDArray[np.int64]) -> int:
    """Return the number of bonds that one of two bond lists (``bonds_of``) has and the other has not."""
    pairs = np.concatenate([bonds, reference])
    signs = np.concatenate([np.ones(len(bonds)), -np.ones(len(reference))])
    _, where = np.unique(pairs, axis=0, return_inverse=True)
    return int(np.abs(np.bincount(where.ravel(), weights=signs)).sum())


def _pairs(structure: Structure, below: float) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return the pairs i <= j closer than ``below`` times the sum of their radii, with distance over that sum."""
    radii = covalent_radii[structure.numbers]
    if any(structure.pbc):
        from ase.neighborlist import neighbor_list

        first, second, distances = neighbor_list("ijd", structure.to_atoms(), below * radii, self_interaction=False)
        # Every pair comes twice, from either side; an atom and its own image too, as images on opposite sides.
        own = np.flatnonzero(first == second)
        own = own[np.lexsort((distances[own], first[own]))][::2]
        chosen = np.concatenate([np.flatnonzero(first < second), own])
        first, second, distances = first[chosen], second[chosen], distances[chosen]
        return first, second, distances / (radii[first] + radii[second])
    first, second = _pair_indices(len(structure))
    positions = structure.positions
    ratios = np.linalg.norm(positions[first] - positions[second], axis=1) / (radii[first] + radii[second])
    near = np.flatnonzero(ratios < below)
    return first[near], second[near], ratios[near]


@lru_cache(maxsize=32)
def _pair_indices(n_atoms: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pairs i < j: made anew for each of 100,000 molecules, they would be a third of all the time."""
    first, second = np.triu_indices(n_atoms, 1)
    return first, second


class NearDuplicates:
    """Greedy thinning: a structure stays if no one that stayed before it is within a distance of it.

    What stays depends on the order of the structures alone, not on how they are cut into calls. Distances are Euclidean.
    """

    def __init__(self, distance: float) -> None:
        """distance: in the unit of the features; exactly this far apart counts as near."""
        self.distance = distance
        self._kept = np.empty((0, 0))
        self._count = 0

    def add(self, features: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Look at further structures, features of shape (n, d); return (partner, distance), both of shape (n,).

        partner: number (among those that stay, from 0) of the first one that is near, or -1: this one stays.
        distance: from that one; infinite for those that stay.
        """
        features = np.asarray(features, dtype=np.float64)
        partners, distances = np.full(len(features), -1, dtype=np.int64), np.full(len(features), np.inf)
        for start in range(0, len(features), BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            self._add_block(features[rows], partners[rows], distances[rows])
        return partners, distances

    def _add_block(
        self, block: NDArray[np.float64], partners: NDArray[np.int64], distances: NDArray[np.float64]
    ) -> None:
        """Fill in partners and distances of a block, in place."""
        for start in range(0, self._count, TILE_ROWS):
            open_rows = np.flatnonzero(partners < 0)
            tile = self._kept[start : min(start + TILE_ROWS, self._count)]
            rows, columns, values = self._near(block[open_rows], tile)
            # The pairs come row by row: the first of each row is the earliest one that is near.
            found, first = np.unique(rows, return_index=True)
            partners[open_rows[found]] = start + columns[first]
            distances[open_rows[found]] = values[first]
        open_rows = np.flatnonzero(partners < 0)
        rows, columns, values = self._near(block[open_rows], block[open_rows])
        starts = np.searchsorted(rows, np.arange(len(open_rows) + 1))
        number = np.full(len(open_rows), -1, dtype=np.int64)
        stays = 0
        for row in range(len(open_rows)):
            pairs = slice(starts[row], starts[row + 1])
            earlier = np.flatnonzero((columns[pairs] < row) & (number[columns[pairs]] >= 0))
            if len(earlier):
                partners[open_rows[row]] = number[columns[pairs][earlier[0]]]
                distances[open_rows[row]] = values[pairs][earlier[0]]
            else:
                number[row] = self._count + stays
                stays += 1
        self._keep(block[open_rows[number >= 0]])

    def _keep(self, rows: NDArray[np.float64]) -> None:
        wanted = self._count + len(rows)
        if wanted > len(self._kept):
            grown = np.empty((max(wanted, 2 * len(self._kept)), rows.shape[1]))
            if self._count:
                grown[: self._count] = self._kept[: self._count]
            self._kept = grown
        self._kept[self._count : wanted] = rows
        self._count = wanted

    def _near(
        self, one: NDArray[np.float64], other: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Return the pairs (row of one, row of other) within the distance, sorted, and their distances.

        |x|^2 + |y|^2 - 2 xy finds the candidates at the speed of a matrix product, with room for its rounding; only
        those are measured exactly, so the result does not depend on threads or blocks.
        """
        if not len(one) or not len(other):
            return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
        centre = other.mean(axis=0)
        x, y = one - centre, other - centre
        x_squares, y_squares = np.einsum("ij,ij->i", x, x), np.einsum("ij,ij->i", y, y)
        room = 8 * (x.shape[1] + 8) * np.finfo(float).eps * (x_squares.max() + y_squares.max())
        left = np.column_stack([x, x_squares, np.ones(len(x))])
        right = np.column_stack([-2.0 * y, np.ones(len(y)), y_squares])
        rows, columns = np.nonzero(left @ right.T <= self.distance**2 + room)
        values = np.empty(len(rows))
        step = max(1, BLOCK_NUMBERS // one.shape[1])
        for start in range(0, len(rows), step):
            pairs = slice(start, start + step)
            values[pairs] = np.linalg.norm(one[rows[pairs]] - other[columns[pairs]], axis=1)
        near = values <= self.distance
        return rows[near], columns[near], values[near]
