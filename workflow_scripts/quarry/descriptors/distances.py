"""Internuclear distances relative to equilibrium (the RE descriptor)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quarry.errors import QuarryError
from quarry.structures import Structure, StructureSet

BLOCK_ELEMENTS = 4_000_000
"""Numbers per work array; bounds the memory beside the result (32 MB each)."""


def inverse_distances(structures: StructureSet, reference: Structure) -> NDArray[np.float64]:
    """Return r_eq / r of every atom pair i < j, shape (n, n_atoms (n_atoms - 1) / 2), without unit.

    This is the RE descriptor of P. O. Dral, lecture "Active learning" (5 July 2024): x = (... R_eq / R ...). Pairs are
    in the order of ``numpy.triu_indices(n_atoms, 1)``. The atoms of all structures must be in the reference's order.
    Raises QuarryError for a structure with other atomic numbers, and for two atoms in the same place.
    """
    n_atoms = len(reference)
    if n_atoms < 2:
        raise QuarryError(
            "descriptor.kind: inverse_distances needs at least two atoms, the reference geometry has "
            f"{n_atoms}; use coulomb_matrix"
        )
    _check_atoms(structures, reference)
    first, second = np.triu_indices(n_atoms, 1)
    equilibrium = np.linalg.norm(reference.positions[first] - reference.positions[second], axis=1)
    if not np.all(equilibrium > 0):
        raise QuarryError("descriptor.reference: the reference geometry has two atoms in the same place; give another")
    positions = structures.positions.reshape(len(structures), n_atoms, 3)
    features = np.empty((len(structures), len(first)))
    block = max(1, BLOCK_ELEMENTS // (3 * len(first)))
    for start in range(0, len(structures), block):
        rows = slice(start, start + block)
        distances = np.linalg.norm(positions[rows, first] - positions[rows, second], axis=2)
        if not np.all(distances > 0):
            bad = start + int(np.argmax(np.any(~(distances > 0), axis=1)))
            raise QuarryError(f"pool: structure {structures.ids[bad]} has two atoms in the same place; remove it")
        np.divide(equilibrium, distances, out=features[rows])
    return features


def forces_of(
    structures: StructureSet, features: NDArray[np.float64], by_feature: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return forces, -J^T dE/dx, shape (n_atoms_total, 3), of dE/dx, shape (n, d)."""
    if not len(structures):
        return np.zeros((0, 3))
    slopes, first, second = pair_slopes(structures, features)
    pairs = by_feature[:, :, None] * slopes
    incidence = np.zeros((int(second[-1]) + 1, len(first)))
    incidence[second, np.arange(len(first))] = 1.0
    incidence[first, np.arange(len(first))] = -1.0
    return np.matmul(incidence, pairs).reshape(-1, 3)


def pair_slopes(
    structures: StructureSet, features: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the derivative of each pair's feature by the first atom's position, (n, d, 3), and the pairs' atoms."""
    atoms = len(structures.positions) // len(structures)
    first, second = np.triu_indices(atoms, 1)
    positions = structures.positions.reshape(len(structures), atoms, 3)
    between = positions[:, first] - positions[:, second]
    return -(features / np.sum(between**2, axis=2))[:, :, None] * between, first, second


def _check_atoms(structures: StructureSet, reference: Structure) -> None:
    other = np.diff(structures.offsets) != len(reference)
    if not other.any():
        other = np.any(structures.numbers.reshape(-1, len(reference)) != reference.numbers, axis=1)
    if other.any():
        raise QuarryError(
            f"descriptor.kind: inverse_distances is for geometries of one molecule, but structure "
            f"{structures.ids[int(np.argmax(other))]} has other atomic numbers than the reference (or another order); "
            "use coulomb_matrix or another pool"
        )
