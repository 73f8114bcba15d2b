"""The sorted Coulomb matrix, for pools of different molecules."""

from __future__ import annotations

import numpy as np
from ase.units import Bohr
from numpy.typing import NDArray

from quarry.errors import QuarryError
from quarry.structures import StructureSet

BLOCK_ELEMENTS = 4_000_000
"""Numbers per work array; bounds the memory beside the result (32 MB each)."""


def coulomb_matrix(structures: StructureSet, largest: int | None = None) -> NDArray[np.float64]:
    """Return the sorted Coulomb matrices, shape (n, m (m + 1) / 2) with m = ``largest``, the atoms of the largest one.

    largest: of the pool; None: of these structures.

    M_ii = 0.5 Z_i^2.4 and M_ij = Z_i Z_j / |R_i - R_j| in atomic units (M. Rupp et al., Phys. Rev. Lett. 108, 058301
    (2012), equation 1). Rows and columns are sorted by falling Euclidean norm of the rows, smaller molecules are padded
    with zeros, and the upper triangle is kept, row by row. Invariant under translation, rotation, reflection and
    permutation of the atoms, but not smooth where two rows change places.
    Raises QuarryError for two atoms in the same place.
    """
    sizes = np.diff(structures.offsets)
    largest = int(sizes.max(initial=0)) if largest is None else largest
    triangle = np.triu_indices(largest)
    features = np.empty((len(structures), len(triangle[0])))
    block = max(1, BLOCK_ELEMENTS // max(1, 3 * largest**2))
    off_diagonal = ~np.eye(largest, dtype=bool)
    for start in range(0, len(structures), block):
        stop = min(start + block, len(structures))
        atoms = slice(int(structures.offsets[start]), int(structures.offsets[stop]))
        present = np.arange(largest) < sizes[start:stop, None]
        charges = np.zeros(present.shape)
        charges[present] = structures.numbers[atoms]
        positions = np.zeros((*present.shape, 3))
        positions[present] = structures.positions[atoms] / Bohr
        distances = np.linalg.norm(positions[:, :, None] - positions[:, None, :], axis=3)
        pairs = present[:, :, None] & present[:, None, :] & off_diagonal
        touching = np.any(pairs & ~(distances > 0), axis=(1, 2))
        if touching.any():
            bad = structures.ids[start + int(np.argmax(touching))]
            raise QuarryError(f"pool: structure {bad} has two atoms in the same place; remove it")
        matrices = charges[:, :, None] * charges[:, None, :]
        np.divide(matrices, distances, out=matrices, where=pairs)
        diagonal = np.arange(largest)
        matrices[:, diagonal, diagonal] = 0.5 * charges**2.4
        # A stable sort: rows of equal norm keep the order of the file instead of one that rounding chooses.
        order = np.argsort(-np.linalg.norm(matrices, axis=2), axis=1, kind="stable")
        matrices = np.take_along_axis(matrices, order[:, :, None], axis=1)
        matrices = np.take_along_axis(matrices, order[:, None, :], axis=2)
        features[start:stop] = matrices[:, triangle[0], triangle[1]]
    return features
