"""Finding a geometry among many: same atoms in the same order, same positions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quarry.structures.structure import POSITION_STEP_A, Structure, StructureSet

TOLERANCE_A = 1.5 * POSITION_STEP_A
"""Largest difference of a coordinate: a structure was rounded on its way into the pool, and a file's printed or
single-precision numbers may have been rounded to the neighbouring step."""


class GeometryIndex:
    """Geometries sorted by one number each, a fixed weighted sum of their coordinates; equal ones have equal sums."""

    def __init__(self, offsets: NDArray[np.int64], numbers: NDArray[np.int64], positions: NDArray[np.float64]) -> None:
        """Index geometries given in flat arrays.

        offsets: shape (n + 1,); atoms of geometry i are offsets[i]:offsets[i + 1]. numbers: shape (n_atoms_total,).
        positions: Angstrom, shape (n_atoms_total, 3).
        """
        self.offsets, self.numbers, self.positions = offsets, numbers, positions
        sizes = np.diff(offsets)
        self._weights = _weights(int(sizes.max(initial=0)))
        place = np.arange(len(numbers)) - np.repeat(offsets[:-1], sizes)
        terms = np.einsum("ij,ij->i", self._weights[place], positions)
        sums = np.zeros(len(sizes))
        filled = sizes > 0
        sums[filled] = np.add.reduceat(terms, offsets[:-1][filled]) if filled.any() else 0.0
        self._order = np.argsort(sums, kind="stable")
        self._sorted = sums[self._order]

    @staticmethod
    def of(structures: StructureSet) -> GeometryIndex:
        """Index a structure set; cells are not compared."""
        return GeometryIndex(structures.offsets, structures.numbers, structures.positions)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def find(self, structure: Structure) -> list[int]:
        """Return the rows with the structure's atoms in their order and its positions (to ``TOLERANCE_A``), ascending."""
        n_atoms = len(structure)
        if n_atoms > len(self._weights):
            return []
        weights = self._weights[:n_atoms]
        wanted = float(np.sum(weights * structure.positions))
        slack = TOLERANCE_A * float(np.abs(weights).sum()) + 1e-9
        first, last = np.searchsorted(self._sorted, [wanted - slack, wanted + slack])
        rows = sorted(int(row) for row in self._order[first:last])
        return [row for row in rows if self._same(row, structure)]

    def _same(self, row: int, structure: Structure) -> bool:
        atoms = slice(int(self.offsets[row]), int(self.offsets[row + 1]))
        return bool(
            np.array_equal(self.numbers[atoms], structure.numbers)
            and np.abs(self.positions[atoms] - structure.positions).max(initial=0.0) <= TOLERANCE_A
        )


def _weights(n_atoms: int) -> NDArray[np.float64]:
    """Return weights between -1 and 1 without symmetry, shape (n_atoms, 3)."""
    return np.cos(1.0 + np.arange(3 * n_atoms, dtype=np.float64) * (1.0 + 5.0**0.5)).reshape(-1, 3)
