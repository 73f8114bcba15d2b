"""A structure, a ragged set of structures, and the identity of a structure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ase import Atoms

POSITION_STEP_A = 1e-6
"""Positions enter a pool rounded to this step (Angstrom), and exactly those are labelled."""

LARGEST_A = 1e5
"""Positions and cell vectors beyond this (Angstrom) are refused: no structure is ten micrometres wide. Far below 9e9, from
where on steps are no longer exact in 64 bits and different structures would get one identity."""

ID_LENGTH = 20
"""Hexadecimal digits of a structure's id (80 bits)."""


@dataclass(frozen=True, eq=False)
class Structure:
    """One molecule or cell.

    numbers: atomic numbers, shape (n_atoms,). positions: Angstrom, shape (n_atoms, 3), already rounded.
    cell: Angstrom, shape (3, 3), zero where not periodic. pbc: shape (3,). features: shape (d,), of a row of a table pool,
    which has no atoms.
    """

    numbers: NDArray[np.int64]
    positions: NDArray[np.float64]
    charge: int = 0
    multiplicity: int = 1
    cell: NDArray[np.float64] | None = None
    pbc: tuple[bool, bool, bool] = (False, False, False)
    features: NDArray[np.float64] | None = None

    @staticmethod
    def create(
        numbers: Iterable[int],
        positions: NDArray[np.float64],
        charge: int = 0,
        multiplicity: int = 1,
        cell: NDArray[np.float64] | None = None,
        pbc: Sequence[bool] = (False, False, False),
    ) -> Structure:
        """Make a structure; positions and cell (Angstrom) are rounded to ``POSITION_STEP_A``."""
        periodic = (bool(pbc[0]), bool(pbc[1]), bool(pbc[2]))
        return Structure(
            numbers=np.asarray(list(numbers), dtype=np.int64),
            positions=_rounded(positions).reshape(-1, 3),
            charge=int(charge),
            multiplicity=int(multiplicity),
            cell=_rounded(cell) if cell is not None and any(periodic) else None,
            pbc=periodic,
        )

    @staticmethod
    def of_features(features: NDArray[np.float64]) -> Structure:
        """Make a row of a table pool: features of shape (d,) and no atoms. Raises ValueError for one that is not finite."""
        values = np.array(features, dtype=np.float64).ravel()
        if not np.isfinite(values).all():
            raise ValueError("a feature is not a finite number")
        # Minus zero is the same point.
        return Structure(np.zeros(0, dtype=np.int64), np.zeros((0, 3)), features=values + 0.0)

    @staticmethod
    def from_atoms(atoms: Atoms, charge: int = 0, multiplicity: int = 1) -> Structure:
        """Make a structure from ASE atoms; charge and multiplicity that they carry win over the arguments.

        Raises ValueError for what ``structures.conventions`` refuses, or a position that is not finite.
        """
        from quarry.structures.conventions import resolve
        from quarry.structures.stated import stated_by_frames

        charges, multiplicities = resolve(stated_by_frames([atoms]), charge, multiplicity)
        return Structure.of_atoms(atoms, int(charges[0]), int(multiplicities[0]))

    @staticmethod
    def of_atoms(atoms: Atoms, charge: int, multiplicity: int) -> Structure:
        """Make a structure from the geometry of ASE atoms. Raises ValueError for a position that is not finite."""
        cell = np.asarray(atoms.cell.array)
        return Structure.create(atoms.numbers, atoms.positions, charge, multiplicity, cell, atoms.pbc)

    def to_atoms(self) -> Atoms:
        """Return ASE atoms with charge, multiplicity, structure_id and (row of a table) features in ``info``."""
        from ase import Atoms

        atoms = Atoms(numbers=self.numbers, positions=self.positions, pbc=self.pbc)
        if self.cell is not None:
            atoms.set_cell(self.cell)
        atoms.info.update(charge=self.charge, multiplicity=self.multiplicity, structure_id=self.structure_id)
        if self.features is not None:
            atoms.info["features"] = self.features.copy()
        return atoms

    @cached_property
    def structure_id(self) -> str:
        """Hash of atomic numbers, rint(1e6 x positions), cell, pbc, charge and multiplicity, and of a row's features."""
        cell = np.zeros((3, 3)) if self.cell is None else self.cell
        digest = hashlib.sha256()
        for part in (
            np.asarray(self.numbers, dtype="<i8"),
            _steps(self.positions),
            _steps(cell),
            np.asarray(self.pbc, dtype="<i8"),
            np.asarray([self.charge, self.multiplicity], dtype="<i8"),
        ):
            digest.update(part.tobytes())
        if self.features is not None:
            digest.update(b"features" + np.asarray(self.features, dtype="<f8").tobytes())
        return digest.hexdigest()[:ID_LENGTH]

    def rounded(self) -> Structure:
        """Return the structure with positions and cell rounded as those of a pool."""
        return Structure.create(self.numbers, self.positions, self.charge, self.multiplicity, self.cell, self.pbc)

    @property
    def electrons(self) -> int:
        """Number of electrons, core electrons included."""
        return int(self.numbers.sum()) - self.charge

    def __len__(self) -> int:
        return len(self.numbers)


def check_size(positions: NDArray[np.float64]) -> None:
    """Raise ValueError for positions or cell vectors (Angstrom) that are larger than any structure."""
    largest = float(np.abs(positions).max(initial=0.0))
    if largest > LARGEST_A:
        raise ValueError(f"a position or cell vector of {largest:.3g} Angstrom, beyond {LARGEST_A:.0f}")


def _steps(values: NDArray[np.float64]) -> NDArray[np.int64]:
    if not np.isfinite(values).all():
        raise ValueError("a position or cell vector is not a finite number")
    check_size(values)
    return np.rint(np.asarray(values, dtype=np.float64) / POSITION_STEP_A).astype("<i8")


def _rounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return _steps(values) / (1.0 / POSITION_STEP_A)


@dataclass(frozen=True, eq=False)
class StructureSet:
    """Many structures in flat arrays (a pool of 100,000 molecules fits in tens of MB).

    ids: n strings. offsets: shape (n + 1,); atoms of structure i are offsets[i]:offsets[i + 1].
    numbers: shape (n_atoms_total,). positions: Angstrom, shape (n_atoms_total, 3). cells: Angstrom, shape (n, 3, 3).
    pbc: shape (n, 3). charges, multiplicities: shape (n,). features: shape (n, d), of the rows of a table pool.
    """

    ids: NDArray[np.str_]
    offsets: NDArray[np.int64]
    numbers: NDArray[np.int64]
    positions: NDArray[np.float64]
    cells: NDArray[np.float64]
    pbc: NDArray[np.bool_]
    charges: NDArray[np.int64]
    multiplicities: NDArray[np.int64]
    features: NDArray[np.float64] | None = None

    @staticmethod
    def from_structures(structures: Iterable[Structure]) -> StructureSet:
        """Pack structures, in their order: all of them with atoms, or all of them rows of a table."""
        items = list(structures)
        rows = [s.features for s in items if s.features is not None]
        assert len(rows) in (0, len(items))
        sizes = [len(s) for s in items]
        return StructureSet(
            ids=np.array([s.structure_id for s in items], dtype=f"<U{ID_LENGTH}"),
            offsets=np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64),
            numbers=np.concatenate([s.numbers for s in items]) if items else np.zeros(0, dtype=np.int64),
            positions=np.concatenate([s.positions for s in items]) if items else np.zeros((0, 3)),
            cells=np.array([np.zeros((3, 3)) if s.cell is None else s.cell for s in items]).reshape(-1, 3, 3),
            pbc=np.array([s.pbc for s in items], dtype=bool).reshape(-1, 3),
            charges=np.array([s.charge for s in items], dtype=np.int64),
            multiplicities=np.array([s.multiplicity for s in items], dtype=np.int64),
            features=np.array(rows) if rows else None,
        )

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Structure:
        atoms = slice(int(self.offsets[index]), int(self.offsets[index + 1]))
        pbc = self.pbc[index]
        structure = Structure(
            numbers=self.numbers[atoms],
            positions=self.positions[atoms],
            charge=int(self.charges[index]),
            multiplicity=int(self.multiplicities[index]),
            cell=self.cells[index] if pbc.any() else None,
            pbc=(bool(pbc[0]), bool(pbc[1]), bool(pbc[2])),
            features=None if self.features is None else self.features[index],
        )
        # Where the cached property has it: the identity is known and need not be hashed again.
        structure.__dict__["structure_id"] = str(self.ids[index])
        return structure

    def __iter__(self) -> Iterator[Structure]:
        return (self[i] for i in range(len(self)))

    def subset(self, indices: Sequence[int] | NDArray[np.int64]) -> StructureSet:
        """Return the structures at ``indices``, shape (m,), in that order."""
        rows = np.asarray(indices, dtype=np.int64)
        atoms = self.atoms_of(rows)
        offsets = np.concatenate([[0], np.cumsum(np.diff(self.offsets)[rows])]).astype(np.int64)
        return StructureSet(
            ids=self.ids[rows],
            offsets=offsets,
            numbers=self.numbers[atoms],
            positions=self.positions[atoms],
            cells=self.cells[rows],
            pbc=self.pbc[rows],
            charges=self.charges[rows],
            multiplicities=self.multiplicities[rows],
            features=None if self.features is None else self.features[rows],
        )

    def joined(self, other: StructureSet) -> StructureSet:
        """Return this set followed by another of the same kind."""
        values = {
            name: np.concatenate([getattr(self, name), getattr(other, name)])
            for name in ("ids", "numbers", "positions", "cells", "pbc", "charges", "multiplicities")
        }
        features = None
        if self.features is not None and other.features is not None:
            features = np.concatenate([self.features, other.features])
        offsets = np.concatenate([self.offsets, self.offsets[-1] + other.offsets[1:]])
        return StructureSet(offsets=offsets, features=features, **values)

    def atoms_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the indices into flat arrays of all atoms of the structures at rows of shape (m,), one after another."""
        return atoms_of(self.offsets, rows)

    def index_of(self, ids: Iterable[str]) -> NDArray[np.int64]:
        """Return the rows of m structure ids in this set, shape (m,). Raises KeyError for an id that is not in it."""
        return rows_of(self.ids, np.array([str(structure_id) for structure_id in ids], dtype=np.str_))

    def without_duplicates(self) -> tuple[StructureSet, int]:
        """Return the set with the first of each identical structure, and how many were dropped."""
        _, first = np.unique(self.ids, return_index=True)
        keep = np.sort(first)
        return (self, 0) if len(keep) == len(self) else (self.subset(keep), len(self) - len(keep))


def atoms_of(offsets: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the places of the atoms of structures ``rows`` in flat arrays of all atoms, structure after structure.

    offsets: shape (n + 1,); atoms of structure i are offsets[i]:offsets[i + 1].
    """
    sizes = np.diff(offsets)[rows]
    stops = np.cumsum(sizes)
    return np.arange(sizes.sum()) + np.repeat(offsets[rows] - (stops - sizes), sizes)


def blocks_of(offsets: NDArray[np.int64], atoms: int) -> Iterator[NDArray[np.int64]]:
    """Yield the numbers of all structures in blocks of about so many atoms, each of neighbours. offsets: as of ``atoms_of``."""
    sizes = np.diff(offsets)
    block = (np.cumsum(sizes) - sizes) // atoms
    for number in np.unique(block):
        yield np.flatnonzero(block == number)


class IdIndex:
    """Finds structures by their ids, again and again."""

    def __init__(self, ids: NDArray[np.str_]) -> None:
        """ids: of all structures, shape (n,)."""
        self._order = np.argsort(ids, kind="stable")
        self._ids = ids[self._order]

    def find(self, wanted: NDArray[np.str_]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Return which wanted ids are there, and the row of each (of no meaning where it is not), shapes (m,)."""
        if not len(self._ids):
            return np.zeros(len(wanted), dtype=bool), np.zeros(len(wanted), dtype=np.int64)
        places = np.minimum(np.searchsorted(self._ids, wanted), len(self._ids) - 1)
        return np.asarray(self._ids[places] == wanted), self._order[places]


def rows_of(ids: NDArray[np.str_], wanted: NDArray[np.str_]) -> NDArray[np.int64]:
    """Return where m ``wanted`` ids stand in ``ids``, shape (m,). Raises KeyError for the first that is not there."""
    there, rows = IdIndex(ids).find(wanted)
    if not there.all():
        raise KeyError(str(wanted[int(np.argmin(there))]))
    return rows
