"""Neighbours of atoms within a cutoff, in molecules and in cells of any size, from the library vesin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from vesin import NeighborList

from quarry.errors import QuarryError
from quarry.structures import StructureSet

CLOSEST_A = 1e-3
"""Atoms closer than this (Angstrom) are in one place."""


@dataclass(frozen=True, eq=False)
class Neighbourhoods:
    """The pairs of atoms of several structures, each pair from both its atoms.

    offsets: shape (n + 1,), of the atoms of structures. starts: shape (n_atoms + 1,), of the pairs of atoms. neighbours:
    shape (n_pairs,), numbers of atoms counted from the first of their structure. vectors: Angstrom, shape (n_pairs, 3), to
    the neighbour's image. volumes: Angstrom^3, shape (n,), NaN of structures that are not periodic in three directions.
    """

    offsets: NDArray[np.int64]
    starts: NDArray[np.int64]
    neighbours: NDArray[np.int64]
    vectors: NDArray[np.float64]
    volumes: NDArray[np.float64]

    @staticmethod
    def of(structures: StructureSet, cutoff_A: float) -> Neighbourhoods:
        """Find the neighbours. Raises QuarryError for positions that are not finite, or atoms in one place."""
        search = NeighborList(cutoff=cutoff_A, full_list=True, sorted=True, n_threads=1)
        counts, neighbours, vectors = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros((0, 3))]
        volumes = np.full(len(structures), np.nan)
        for number in range(len(structures)):
            begin, end = structures.offsets[number : number + 2]
            positions, cell = structures.positions[begin:end], structures.cells[number]
            periodic = structures.pbc[number]
            if not np.isfinite(positions).all() or not np.isfinite(cell).all():
                raise QuarryError(
                    f"structure {structures.ids[number]}: a position or cell vector is not a finite number; correct or remove it"
                )
            if periodic.all():
                volumes[number] = abs(np.linalg.det(cell))
            i, j, d = search.compute(positions, cell, periodic, "ijD") if end > begin else ([], [], np.zeros((0, 3)))
            too_close = np.flatnonzero((d * d).sum(axis=1) < CLOSEST_A**2)
            if len(too_close):
                first, second = sorted((int(i[too_close[0]]), int(j[too_close[0]])))
                raise QuarryError(
                    f"structure {structures.ids[number]}: atoms {first} and {second} (from 0) are in one place; remove it, or "
                    "one of them"
                )
            counts.append(np.bincount(i, minlength=end - begin).astype(np.int64))
            neighbours.append(np.asarray(j, dtype=np.int64))
            vectors.append(np.asarray(d))
        starts = np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64)
        return Neighbourhoods(structures.offsets, starts, np.concatenate(neighbours), np.concatenate(vectors), volumes)

    def batch(
        self, rows: Sequence[int] | NDArray[np.int64], cutoff_A: float, dtype: torch.dtype, device: torch.device
    ) -> Batch:
        """Return structures as tensors. cutoff_A: length of the vectors of empty places."""
        chosen = np.asarray(rows, dtype=np.int64)
        atoms, owners = _ranges(self.offsets, chosen)
        pairs, centres = _ranges(self.starts, atoms)
        counts = self.starts[atoms + 1] - self.starts[atoms]
        slots = max(1, int(counts.max(initial=0)))
        first = np.cumsum(counts) - counts
        places = centres * slots + np.arange(len(pairs)) - first[centres]
        begins = np.cumsum(self.offsets[chosen + 1] - self.offsets[chosen])
        begins -= self.offsets[chosen + 1] - self.offsets[chosen]
        vectors = np.zeros((3, len(atoms) * slots))
        vectors[0] = cutoff_A
        vectors[:, places] = self.vectors[pairs].T
        neighbours = np.repeat(np.arange(len(atoms)), slots)
        neighbours[places] = begins[owners[centres]] + self.neighbours[pairs]
        return Batch(
            atoms,
            torch.from_numpy(vectors.reshape(3, len(atoms), slots)).to(device, dtype),
            torch.from_numpy(neighbours.reshape(len(atoms), slots)).to(device),
            torch.from_numpy(owners).to(device),
            torch.from_numpy(self.volumes[chosen]).to(device, dtype),
        )


@dataclass
class Batch:
    """Structures as tensors, each atom with as many places for neighbours as one of the atoms needs.

    atoms: numbers of the atoms in the set. vectors: Angstrom, shape (3, n_atoms, n_slots). neighbours: of each pair, shape
    (n_atoms, n_slots), an empty place has the atom itself. owners: structure of each atom, shape (n_atoms,). volumes: of
    structures, Angstrom^3, shape (n,).
    """

    atoms: NDArray[np.int64]
    vectors: Tensor
    neighbours: Tensor
    owners: Tensor
    volumes: Tensor


def _ranges(starts: NDArray[np.int64], rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the numbers from ``starts[row]`` to ``starts[row + 1]`` of each row, and which of the rows each belongs to."""
    sizes = starts[rows + 1] - starts[rows]
    owners = np.repeat(np.arange(len(rows)), sizes)
    return np.arange(len(owners)) + np.repeat(starts[rows] - (np.cumsum(sizes) - sizes), sizes), owners
