"""Near neighbours among labelled geometries, and their difference in energy by the forces.

Molecules are compared in inverse distances between their atoms: these turn, move and mirror with nothing, and bonds keep
their length on the way from one rotamer to another, so that 20 geometries of ethanol show what takes 500 in Cartesian
coordinates. Crystals of one cell are compared in Cartesian displacements to the nearest image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from quarry.structures.labelled import LabelledSet

MOST_LABELS = 1000
"""Labels of all kinds that are looked at; of more, some are drawn."""
MOST_ATOMS = 50_000
"""Atoms of all labels that are looked at, and ``MOST_FLOPS``: larger molecules, fewer labels."""
MOST_FLOPS = 3e9
NEIGHBOURS = 8
"""Nearest geometries of each that may be its partner."""
COORDINATES = 60
"""Numbers by which neighbours are searched; of more coordinates, as many random sums."""
SOFT = 1e-6
"""Motions that change distances by less than this share of the mean square do not count: those of the whole molecule, and
those out of the plane of a flat one."""


@dataclass(frozen=True)
class Pairs:
    """Pairs of near geometries; no geometry is in two of them, so that they are independent.

    first, second: rows of the labelled set, shape (n,). difference: E_second - E_first. work: the same by the mean of both
    gradients g in coordinates q, (g_first + g_second) / 2 . (q_second - q_first), wrong by the third order.
    curvature: |g_second - g_first| . |q_second - q_first| / 2, the size of the second order. loop: the works around the
    triangle with a further neighbour, zero but for the third order; NaN where there is none. All in eV, shape (n,).
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    difference: NDArray[np.float64]
    work: NDArray[np.float64]
    curvature: NDArray[np.float64]
    loop: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.first)


def near_pairs(labels: LabelledSet, rng: np.random.Generator) -> Pairs:
    """Return pairs of near labels of the same atoms in the same order, charge, multiplicity and cell.

    Labels without energy or forces are left out. rng: draws where there are too many.
    """
    parts = [_pairs_of(labels, rows) for rows in _groups(labels, rng)]
    columns = list(zip(*parts, strict=True)) or [(np.zeros(0),)] * 6
    first, second, *others = (np.concatenate(column) for column in columns)
    return Pairs(first.astype(np.int64), second.astype(np.int64), *others)


def _groups(labels: LabelledSet, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    structures = labels.structures
    sizes = np.diff(structures.offsets)
    bad = ~np.isfinite(labels.properties["forces"]).all(axis=1)
    known = np.isfinite(labels.properties["energy"]) & (sizes > 1)
    known &= np.add.reduceat(bad, structures.offsets[:-1]) == 0
    members: dict[bytes, list[int]] = {}
    for row in np.flatnonzero(known).tolist():
        state = [structures.charges[row], structures.multiplicities[row], *structures.pbc[row]]
        atoms = structures.numbers[structures.offsets[row] : structures.offsets[row + 1]]
        cell = structures.cells[row].tobytes() if structures.pbc[row].any() else b""
        members.setdefault(np.array([*state, *atoms], dtype=np.int64).tobytes() + cell, []).append(row)
    groups: list[NDArray[np.int64]] = []
    labels_left, atoms_left = MOST_LABELS, MOST_ATOMS
    for rows in sorted(members.values(), key=lambda rows: (-len(rows), rows[0])):
        size = int(sizes[rows[0]])
        most = int(min(labels_left, atoms_left // size, MOST_FLOPS / (3 * size) ** 3))
        if len(rows) < 2 or most < 2:
            break
        groups.append(np.sort(rng.choice(rows, most, replace=False)) if len(rows) > most else np.array(rows))
        labels_left -= len(groups[-1])
        atoms_left -= size * len(groups[-1])
    return groups


def _pairs_of(labels: LabelledSet, rows: NDArray[np.int64]) -> tuple[NDArray[Any], ...]:
    """Return the columns of ``Pairs`` for geometries of one kind."""
    structures = labels.structures
    n_atoms = int(structures.offsets[rows[0] + 1] - structures.offsets[rows[0]])
    atoms = structures.offsets[rows][:, None] + np.arange(n_atoms)
    positions, forces = structures.positions[atoms], labels.properties["forces"][atoms]
    energies, pbc = labels.properties["energy"][rows], structures.pbc[rows[0]]
    if pbc.any():
        q, g = _in_the_cell(positions, structures.cells[rows[0]], pbc), -forces.reshape(len(rows), -1)
    else:
        q, g = inverse_distance_gradients(positions, forces)
    near = _neighbours(q)
    first, second = _matched(near)
    third = _third(near, first, second)

    def work(i: NDArray[np.int64], j: NDArray[np.int64]) -> NDArray[np.float64]:
        along: NDArray[np.float64] = 0.5 * np.einsum("nk,nk->n", g[i] + g[j], q[j] - q[i])
        return along

    curvature = 0.5 * np.abs(np.einsum("nk,nk->n", g[second] - g[first], q[second] - q[first]))
    has, loop, there = third >= 0, np.full(len(first), np.nan), work(first, second)
    loop[has] = there[has] + work(second[has], third[has]) + work(third[has], first[has])
    return rows[first], rows[second], energies[second] - energies[first], there, curvature, loop


def inverse_distance_gradients(
    positions: NDArray[np.float64], forces: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return inverse distances q (1/Angstrom) and the gradient of the energy in them (eV Angstrom), of shape (n, pairs).

    There are more distances than coordinates: of all gradients that give the forces, the shortest, g = -B x with
    B^T B x = F and B = dq/dR. B^T B is the sum over pairs of u u^T / r^4 in four blocks, u being the direction.
    positions, forces: shape (n, n_atoms, 3), Angstrom and eV/Angstrom.
    """
    n, n_atoms, _ = positions.shape
    i, j = np.triu_indices(n_atoms, 1)
    q, g = np.empty((n, len(i))), np.empty((n, len(i)))
    diagonal = np.arange(3 * n_atoms)
    for k in range(n):
        vectors = positions[k, i] - positions[k, j]
        lengths = np.maximum(np.linalg.norm(vectors, axis=1), 1e-3)
        slopes = -vectors / lengths[:, None] ** 3
        blocks = slopes[:, :, None] * slopes[:, None, :]
        product = np.zeros((n_atoms, n_atoms, 3, 3))
        product[i, j] = product[j, i] = -blocks
        product[np.arange(n_atoms), np.arange(n_atoms)] = -product.sum(axis=1)
        matrix = product.transpose(0, 2, 1, 3).reshape(3 * n_atoms, 3 * n_atoms)
        matrix[diagonal, diagonal] += SOFT * np.trace(matrix) / len(matrix)
        x = np.linalg.solve(matrix, forces[k].ravel()).reshape(-1, 3)
        q[k], g[k] = 1.0 / lengths, -np.einsum("px,px->p", slopes, x[i] - x[j])
    return q, g


def _in_the_cell(
    positions: NDArray[np.float64], cell: NDArray[np.float64], pbc: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return displacements from the first geometry to the nearest images, about their mean, Angstrom, shape (n, 3 n_atoms)."""
    basis = np.where(pbc[:, None] | (np.abs(cell).sum(axis=1, keepdims=True) > 0), cell, np.eye(3))
    places = (positions - positions[0]) @ np.linalg.inv(basis)
    places[..., pbc] -= np.rint(places[..., pbc])
    moved = places @ basis
    moved -= moved.mean(axis=1, keepdims=True)
    coordinates: NDArray[np.float64] = moved.reshape(len(positions), -1)
    return coordinates


def _neighbours(coordinates: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the nearest other rows of each, the nearest first, shape (n, up to ``NEIGHBOURS``)."""
    if coordinates.shape[1] > COORDINATES:
        # Sums with random signs keep distances well enough (Johnson and Lindenstrauss).
        signs = np.random.default_rng(0).choice([-1.0, 1.0], (coordinates.shape[1], COORDINATES))
        coordinates = coordinates @ signs
    count = min(NEIGHBOURS, len(coordinates) - 1)
    _, near = cKDTree(coordinates).query(coordinates, k=count + 1)
    # Each is its own nearest, but for copies.
    rows: Any = near.tolist()
    return np.array([[k for k in row if k != own][:count] for own, row in enumerate(rows)], dtype=np.int64)


def _matched(near: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return pairs of neighbours such that none is in two, nearest neighbours first."""
    free = np.ones(len(near), dtype=bool)
    pairs = []
    for rank in range(near.shape[1]):
        partners: Any = near[:, rank].tolist()
        for row, other in enumerate(partners):
            if free[row] and free[other]:
                free[row] = free[other] = False
                pairs.append((row, other))
    found = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def _third(near: NDArray[np.int64], first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a near neighbour of each pair's first geometry that is not its second, -1 where there is none."""
    candidates = near[first]
    other = candidates != second[:, None]
    return np.where(other.any(axis=1), candidates[np.arange(len(first)), other.argmax(axis=1)], -1)
