"""Copies among many structures: found by an invariant key first, then confirmed atom by atom."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from quarry.structures.structure import Structure
from quarry.structures.superposition import (
    ROUNDING_A,
    Geometry,
    copy_displacement,
    element_slices,
    lattice_basis,
)

KEYS = 8
"""Numbers per structure by which copies are searched: three of them tell 100,000 geometries of one molecule apart."""
BLOCK_NUMBERS = 2_000_000
"""Distances per work array (16 MB)."""
MOST_PAIRS = 1_000_000
"""Pairs that are looked at together; a block with more (most are copies then) is cut in two."""

MOST_GEOMETRIES = 100
"""Structures of one kind that are kept as the comparison wants them, once they have a copy: they may have thousands."""


class CopyFinder:
    """Names every structure that is a copy of one before it.

    A copy has the same atoms, charge, multiplicity and pbc, and ``copy_displacement`` is within the tolerance: the order of
    equal atoms, rotation, translation and mirror image do not matter. It is held against the first ones of each kind only.
    What is found depends on the order of the structures alone, not on how they are cut into calls.
    """

    def __init__(self, tolerance_A: float) -> None:
        """tolerance_A: by how much an atom may be off, Angstrom; exactly as much counts as a copy."""
        self._tolerance_A = tolerance_A
        self._kinds: dict[bytes, _Kind] = {}
        self._count = 0

    def add(self, structures: Sequence[Structure]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Look at further structures with atoms; return (partner, displacement), both of shape (n,).

        partner: number (among all that were added, from 0) of the first structure of this kind that is a copy, or -1.
        displacement: of the atom that is off most, Angstrom; infinite where there is no partner.
        """
        partners, displacements = np.full(len(structures), -1, dtype=np.int64), np.full(len(structures), np.inf)
        members: dict[bytes, list[int]] = {}
        for row, structure in enumerate(structures):
            members.setdefault(kind_of(structure), []).append(row)
        for key, rows in members.items():
            kind = self._kinds.setdefault(key, _Kind(self._tolerance_A))
            found = kind.add([structures[row] for row in rows], [self._count + row for row in rows])
            partners[rows], displacements[rows] = found
        self._count += len(structures)
        return partners, displacements


def copy_groups(
    structures: Sequence[Structure], tolerance_A: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return (group, partner, displacement) of structures that all stay, each of shape (n,).

    group: number of the first structure that is linked to this one, over copies of copies if need be; its own number where
    there is none. partner, displacement: as ``CopyFinder.add`` gives them.
    """
    partners, displacements = CopyFinder(tolerance_A).add(structures)
    groups = np.where(partners >= 0, partners, np.arange(len(structures)))
    if (partners >= 0).any():
        _join_chains(structures, groups, tolerance_A)
    return groups, partners, displacements


def _join_chains(structures: Sequence[Structure], groups: NDArray[np.int64], tolerance_A: float) -> None:
    """Join groups whose first structures are no copies but some others of them are, in place."""
    kinds: dict[bytes, list[int]] = {}
    for row in np.unique(groups).tolist():
        kinds.setdefault(kind_of(structures[row]), []).append(row)
    members: dict[int, list[int]] = {}
    for row, first in enumerate(groups.tolist()):
        members.setdefault(first, []).append(row)
    for firsts in kinds.values():
        if len(firsts) < 2 or all(len(members[first]) == 1 for first in firsts):
            continue
        # A copy's keys are within the window of its first structure's, on either side, and of each other's.
        window = 3 * _window(structures[firsts[0]], tolerance_A)
        keys = invariant_keys([structures[row] for row in firsts])
        near = cKDTree(keys).query_pairs(window, p=np.inf, output_type="ndarray")
        for pair in near:
            i, j = int(pair[0]), int(pair[1])
            if groups[firsts[i]] != groups[firsts[j]] and _linked(
                structures, members[firsts[i]], members[firsts[j]], tolerance_A
            ):
                low, high = sorted((int(groups[firsts[i]]), int(groups[firsts[j]])))
                groups[groups == high] = low


def _linked(structures: Sequence[Structure], one: list[int], other: list[int], tolerance_A: float) -> bool:
    others = [Geometry.of(structures[row]) for row in other]
    return any(
        copy_displacement(geometry, candidate, tolerance_A) is not None
        for geometry in (Geometry.of(structures[row]) for row in one)
        for candidate in others
    )


def kind_of(structure: Structure) -> bytes:
    """Return what copies have in common before any distance is looked at: atoms, charge, multiplicity and pbc."""
    state = [structure.charge, structure.multiplicity, *structure.pbc]
    return np.array([*state, *np.sort(structure.numbers)], dtype=np.int64).tobytes()


def _window(structure: Structure, tolerance_A: float) -> float:
    """Return by how much the keys of two copies differ at most.

    A distance changes by 2 tolerances where both its atoms are off; in a cell its vectors are off too, up to 3 / 2 of each.
    """
    return (8 if any(structure.pbc) else 2) * tolerance_A + ROUNDING_A


class _Kind:
    """The structures of the same atoms and state that are no copies of one before them."""

    def __init__(self, tolerance_A: float) -> None:
        self._tolerance_A = tolerance_A
        self._window = 0.0
        self._structures: list[Structure] = []
        self._numbers: list[int] = []
        self._keys: list[NDArray[np.float64]] = []
        self._geometries: dict[int, Geometry] = {}

    def add(self, structures: list[Structure], numbers: list[int]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Look at further structures; numbers: what partners are named by."""
        self._window = _window(structures[0], self._tolerance_A)
        batch = _Batch(structures, numbers, invariant_keys(structures))
        rows = np.arange(len(structures))
        self._among(batch, self._not_known(batch, rows, 0))
        return batch.partners, batch.displacements

    def _not_known(self, batch: _Batch, rows: NDArray[np.int64], start: int) -> NDArray[np.int64]:
        """Match rows of a batch with the structures from number ``start`` on; return the rows that are no copies."""
        if start == len(self._keys) or not len(rows):
            return rows
        tree = cKDTree(np.array(self._keys[start:]))
        near: Any = tree.query_ball_point(batch.keys[rows], self._window, p=np.inf, return_sorted=True)
        matched = [
            self._match(batch, int(row), [start + place for place in places])
            for row, places in zip(rows, near, strict=True)
        ]
        return rows[~np.array(matched)]

    def _match(self, batch: _Batch, row: int, places: list[int]) -> bool:
        """Name the first of some structures that a row of a batch is a copy of; return whether there is one."""
        if not places:
            return False
        geometry = Geometry.of(batch.structures[row])
        for place in places:
            known = self._geometries.get(place) or Geometry.of(self._structures[place])
            displacement = copy_displacement(known, geometry, self._tolerance_A)
            if displacement is not None:
                batch.partners[row], batch.displacements[row] = self._numbers[place], displacement
                if len(self._geometries) < MOST_GEOMETRIES:
                    self._geometries[place] = known
                return True
        return False

    def _among(self, batch: _Batch, rows: NDArray[np.int64]) -> None:
        """Match rows of a batch, copies of nothing known, with one another in their order."""
        if not len(rows):
            return
        start = len(self._keys)
        tree = cKDTree(batch.keys[rows])
        pairs = np.zeros((0, 2), dtype=np.int64)
        if len(rows) > 1:
            # Each pair counts twice, and each row with itself.
            if (tree.count_neighbors(tree, self._window, p=np.inf) - len(rows)) // 2 > MOST_PAIRS:
                half = len(rows) // 2
                self._among(batch, rows[:half])
                self._among(batch, self._not_known(batch, rows[half:], start))
                return
            pairs = tree.query_pairs(self._window, p=np.inf, output_type="ndarray")
            pairs = pairs[np.lexsort((pairs[:, 0], pairs[:, 1]))]
        bounds = np.searchsorted(pairs[:, 1], np.arange(len(rows) + 1))
        place_of: dict[int, int] = {}
        for number, row in enumerate(rows.tolist()):
            earlier = pairs[bounds[number] : bounds[number + 1], 0].tolist()
            if not self._match(batch, row, [place_of[other] for other in earlier if other in place_of]):
                place_of[number] = len(self._keys)
                self._structures.append(batch.structures[row])
                self._numbers.append(batch.numbers[row])
                self._keys.append(batch.keys[row])


class _Batch:
    """Structures of one kind that are looked at in one call, and what is found."""

    def __init__(self, structures: list[Structure], numbers: list[int], keys: NDArray[np.float64]) -> None:
        self.structures, self.numbers, self.keys = structures, numbers, keys
        self.partners, self.displacements = np.full(len(keys), -1, dtype=np.int64), np.full(len(keys), np.inf)


def invariant_keys(structures: Sequence[Structure]) -> NDArray[np.float64]:
    """Return numbers that copies share, Angstrom, shape (n, up to ``KEYS``); structures of the same elements and pbc.

    The distances are sorted within each pair of elements, one pair after another, and the keys are means over runs of that
    list. Sorting keeps the largest difference of two lists as small as it can be, so that keys differ by no more than a
    distance does.
    """
    if any(structures[0].pbc):
        return np.array([_periodic_keys(structure) for structure in structures])
    numbers = np.sort(structures[0].numbers)
    n = len(numbers)
    first, second = np.triu_indices(n, 1)
    if not len(first):
        return np.zeros((len(structures), 1))
    order = np.lexsort((numbers[second], numbers[first]))
    first, second = first[order], second[order]
    bounds = [0, *(np.flatnonzero(np.diff(numbers[first]) | np.diff(numbers[second])) + 1).tolist(), len(first)]
    keys = []
    step = max(1, BLOCK_NUMBERS // len(first))
    for start in range(0, len(structures), step):
        block = structures[start : start + step]
        positions = np.array([s.positions[np.argsort(s.numbers, kind="stable")] for s in block])
        squares = np.zeros((len(block), len(first)))
        for axis in range(3):
            squares += (positions[:, first, axis] - positions[:, second, axis]) ** 2
        distances = np.sqrt(squares)
        for low, high in pairwise(bounds):
            distances[:, low:high].sort(axis=1)
        keys.append(_means(distances))
    return np.concatenate(keys)


def _means(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return means over runs of about equal length, shape (n, up to ``KEYS``)."""
    count = distances.shape[1]
    starts = np.linspace(0, count, min(KEYS, count) + 1).astype(np.int64)
    means: NDArray[np.float64] = np.add.reduceat(distances, starts[:-1], axis=1) / np.diff(starts)
    return means


def _periodic_keys(structure: Structure) -> NDArray[np.float64]:
    """Return the keys of a periodic structure: the shortest vector of the lattice, and means of distances.

    Distances are those of the atoms of the rarest element from all others, each to the nearest image; right for cells that
    are not far from reduced, and for others copies may be missed.
    """
    assert structure.cell is not None
    order = np.argsort(structure.numbers, kind="stable")
    numbers, positions = structure.numbers[order], structure.positions[order]
    basis, periodic = lattice_basis(structure.cell, structure.pbc), np.array(structure.pbc)
    images = np.array(list(product(*((-1, 0, 1) if p else (0,) for p in structure.pbc)))) @ basis
    lengths = np.linalg.norm(images, axis=1)
    slices = element_slices(numbers)
    rarest = min(slices, key=lambda places: places.stop - places.start)
    places = positions @ np.linalg.inv(basis)
    parts = [np.sort(lengths)[1:2]]
    for others in slices:
        difference = places[rarest, None] - places[others]
        difference[..., periodic] -= np.rint(difference[..., periodic])
        vectors = difference @ basis
        nearest = np.min([np.linalg.norm(vectors + image, axis=2) for image in images], axis=0)
        parts.append(np.sort(nearest.ravel()))
    distances = np.concatenate(parts[1:])
    return np.concatenate([parts[0], _means(distances[None])[0]])
