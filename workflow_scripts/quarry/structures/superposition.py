"""Whether one structure is another one in disguise: other order of equal atoms, rotated, mirrored, translated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from quarry.structures.structure import Structure

ROUNDING_A = 1e-9
"""Room for the rounding of floating-point numbers where distances are compared."""
MOST_STEPS = 20_000
"""Partial assignments that are looked at for one pair. Only where several atoms stand within the tolerance of each other
are there so many; such a pair counts as no copy."""


@dataclass(frozen=True, eq=False)
class Geometry:
    """A structure with its atoms in order of their elements, as the comparison wants it.

    numbers: shape (n,), ascending. positions: Angstrom, shape (n, 3), about their centroid. distances: shape (n, n); rows:
    the same, each row sorted within each element (columns). basis: Angstrom, shape (3, 3), see ``lattice_basis``; None for
    a molecule.
    """

    numbers: NDArray[np.int64]
    positions: NDArray[np.float64]
    distances: NDArray[np.float64]
    rows: NDArray[np.float64]
    basis: NDArray[np.float64] | None
    pbc: tuple[bool, bool, bool]

    @staticmethod
    def of(structure: Structure) -> Geometry:
        """Make one of a structure with atoms."""
        order = np.argsort(structure.numbers, kind="stable")
        numbers, positions = structure.numbers[order], structure.positions[order]
        if any(structure.pbc):
            assert structure.cell is not None
            basis = lattice_basis(structure.cell, structure.pbc)
            return Geometry(numbers, positions, np.zeros((0, 0)), np.zeros((0, 0)), basis, structure.pbc)
        positions = positions - positions.mean(axis=0)
        distances = cdist(positions, positions)
        rows = distances.copy()
        for columns in element_slices(numbers):
            rows[:, columns] = np.sort(rows[:, columns], axis=1)
        return Geometry(numbers, positions, distances, rows, None, structure.pbc)


def element_slices(numbers: NDArray[np.int64]) -> list[slice]:
    """Return where each element stands in ascending atomic numbers of shape (n,), element by element."""
    bounds = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
    return [slice(start, stop) for start, stop in pairwise(bounds)]


def copy_displacement(one: Geometry, other: Geometry, tolerance_A: float) -> float | None:
    """Return by how much the atoms of a copy are off at most (Angstrom), or None if the structures are no copies.

    Both have the same elements and pbc. Copies: some assignment of equal atoms exists for which the superposition of least
    squares, a mirror image allowed (W. Kabsch, Acta Cryst. A 1976, 32, 922), brings every atom within the tolerance.
    Periodic structures: see ``_periodic_displacement``.
    """
    if one.basis is not None:
        return _periodic_displacement(one, other, tolerance_A)
    # Two atoms that are each moved by the tolerance change their distance by twice as much at most.
    room = 2 * tolerance_A + ROUNDING_A
    alike = (one.numbers[:, None] == other.numbers) & (cdist(one.rows, other.rows, "chebyshev") <= room)
    for places in _assignments(one.distances, other.distances, alike, room):
        displacement = _superposed(one.positions, other.positions[places])
        if displacement <= tolerance_A + ROUNDING_A:
            return displacement
    return None


def _superposed(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return the largest distance of two atoms after the superposition of least squares; both about their centroids."""
    return float(np.linalg.norm(other @ rotation_onto(other, one, mirrors=True) - one, axis=1).max())


def rotation_onto(
    positions: NDArray[np.float64], onto: NDArray[np.float64], mirrors: bool = False
) -> NDArray[np.float64]:
    """Return the rotation R, shape (3, 3), for which positions R is nearest to others, both about their centroids.

    W. Kabsch, Acta Cryst. A32, 922 (1976). mirrors: a rotation with a reflection will do.
    """
    left, _, right = np.linalg.svd(positions.T @ onto)
    if not mirrors:
        left = left * np.array([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    return np.asarray(left @ right)


def _assignments(
    one: NDArray[np.float64], other: NDArray[np.float64], alike: NDArray[np.bool_], room: float
) -> Iterator[NDArray[np.int64]]:
    """Yield every assignment of atoms that keeps all distances within ``room``, as places in the other structure, (n,).

    alike: shape (n, n), which atom may be which. Atoms that are equivalent by symmetry are tried one after another, and
    after each the distances to it leave the others hardly a choice: benzene takes two choices, not 6! times 6!.
    """
    stack, steps = [alike], 0
    while stack and steps < MOST_STEPS:
        steps += 1
        possible = _narrowed(one, other, stack.pop(), room)
        if possible is None:
            continue
        counts = possible.sum(axis=1)
        if counts.max() == 1:
            yield possible.argmax(axis=1)
            continue
        atom = int(np.argmin(np.where(counts > 1, counts, len(counts) + 1)))
        for place in np.flatnonzero(possible[atom])[::-1]:
            branch = possible.copy()
            branch[atom] = False
            branch[atom, place] = True
            stack.append(branch)


def _narrowed(
    one: NDArray[np.float64], other: NDArray[np.float64], possible: NDArray[np.bool_], room: float
) -> NDArray[np.bool_] | None:
    """Leave out what the distances to atoms with one choice forbid, until nothing changes; None: no assignment is left."""
    done = np.zeros(len(possible), dtype=bool)
    while True:
        counts = possible.sum(axis=1)
        if not counts.all():
            return None
        atoms = np.flatnonzero((counts == 1) & ~done)
        if not len(atoms):
            return possible
        done[atoms] = True
        places = possible[atoms].argmax(axis=1)
        if len(np.unique(places)) < len(places):
            return None
        possible = possible & (cdist(one[:, atoms], other[:, places], "chebyshev") <= room)
        taken = possible[atoms, places]
        possible[:, places] = False
        possible[atoms, places] = taken


def lattice_basis(cell: NDArray[np.float64], pbc: tuple[bool, bool, bool]) -> NDArray[np.float64]:
    """Return the cell with unit vectors normal to the periodic ones in place of the others, Angstrom, shape (3, 3).

    cell: Angstrom, shape (3, 3), a lattice vector in each row.
    """
    periodic = np.array(pbc)
    basis = np.array(cell, dtype=np.float64)
    if not periodic.all():
        _, _, right = np.linalg.svd(basis[periodic])
        basis[~periodic] = right[periodic.sum() :]
    return basis


@lru_cache(maxsize=8)
def _changes_of_cell(pbc: tuple[bool, bool, bool]) -> NDArray[np.int64]:
    """Return integer matrices that make other vectors of the same lattice of cell vectors, shape (m, 3, 3).

    Entries -1, 0 and 1 among the periodic vectors: every symmetry of a reduced cell is one of them. The unit vectors in
    the other directions may change their sign.
    """
    periodic = np.array(pbc)
    same_kind = (periodic[:, None] & periodic) | np.eye(3, dtype=bool)
    free = np.argwhere(same_kind)
    entries = np.array(list(product((-1, 0, 1), repeat=len(free))))
    matrices = np.zeros((len(entries), 3, 3), dtype=np.int64)
    matrices[:, free[:, 0], free[:, 1]] = entries
    return matrices[np.abs(np.rint(np.linalg.det(matrices))) == 1]


def _periodic_displacement(one: Geometry, other: Geometry, tolerance_A: float) -> float | None:
    """Return by how much atoms and cell vectors of a periodic copy are off at most, Angstrom, or None.

    Found are copies by any translation, permutation, rotation or mirror image of cell and atoms together, and those in
    other cell vectors that are sums and differences of the first ones. Not found: supercells, vectors further away, a
    periodic direction that is another of the three vectors, and, of chains (one periodic direction), those rotated about it.
    """
    assert one.basis is not None and other.basis is not None
    changed = _changes_of_cell(one.pbc) @ other.basis
    lengths = np.linalg.norm(one.basis, axis=1)
    room = tolerance_A * (lengths[:, None] + lengths + tolerance_A) + ROUNDING_A
    metrics = changed @ changed.transpose(0, 2, 1)
    near = (np.abs(metrics - one.basis @ one.basis.T) <= room).all(axis=(1, 2))
    periodic = np.array(one.pbc)
    inverse = np.linalg.inv(one.basis)
    for basis in changed[near]:
        left, _, right = np.linalg.svd(basis.T @ one.basis)
        off = float(np.linalg.norm(basis @ (left @ right) - one.basis, axis=1).max())
        if off > tolerance_A + ROUNDING_A:
            continue
        x, y = one.positions @ inverse, other.positions @ np.linalg.inv(basis)
        displacement = _shifted(one.numbers, x, y, one.basis, periodic, tolerance_A)
        if displacement is not None:
            return max(off, displacement)
    return None


def _shifted(
    numbers: NDArray[np.int64],
    one: NDArray[np.float64],
    other: NDArray[np.float64],
    basis: NDArray[np.float64],
    periodic: NDArray[np.bool_],
    tolerance_A: float,
) -> float | None:
    """Return the largest displacement after the best translation and permutation, or None if one is over the tolerance.

    one, other: coordinates in units of the basis, shape (n, 3).
    """
    rarest = min(element_slices(numbers), key=lambda places: places.stop - places.start)
    # The anchor itself may be off by the tolerance, and every other atom again.
    room = 2 * tolerance_A + ROUNDING_A
    # A few atoms tell most wrong translations at a hundredth of the work.
    probes = np.unique(np.linspace(0, len(numbers) - 1, 3).astype(np.int64))
    for place in range(rarest.start, rarest.stop):
        for rows in (probes, np.arange(len(numbers))):
            difference = one[rows, None] - (other + (one[rarest.start] - other[place]))
            difference[..., periodic] -= np.rint(difference[..., periodic])
            vectors = difference @ basis
            cost = np.linalg.norm(vectors, axis=2)
            cost[(numbers[rows, None] != numbers) | (cost > room)] = 1e6
            if cost.min(axis=1).max() > room:
                break
        if cost.min(axis=1).max() > room:
            continue
        atoms, places = linear_sum_assignment(cost)
        if cost[atoms, places].max() > room:
            continue
        left = vectors[atoms, places]
        displacement = float(np.linalg.norm(left - left.mean(axis=0), axis=1).max())
        if displacement <= tolerance_A + ROUNDING_A:
            return displacement
    return None
