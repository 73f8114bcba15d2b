"""The rows of the files that finished labels are looked up in: values by property, geometries, ids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quarry.config.engines.replay import ReplayLabeling
from quarry.errors import QuarryError
from quarry.labeling.engines.answers import has, real_numbers
from quarry.labeling.engines.outputs import frame_value
from quarry.properties import PROPERTIES, groups_of_states, statable
from quarry.structures import Structure
from quarry.structures.geometries import TOLERANCE_A, GeometryIndex
from quarry.structures.reading import names_in, read_frames, texts_of
from quarry.structures.stated import stated_by_frames
from quarry.structures.tables import (
    ARRAY_TABLES,
    TABLES,
    Table,
    joined_columns,
    read_geometries,
    read_numbers,
    stated_by_table,
)
from quarry.written_numbers import meant_by, number_of


class Rows:
    """The rows of files: values by property, geometries, ids. Subclasses read one kind of file."""

    def __len__(self) -> int:
        raise NotImplementedError

    def values(self, row: int, structure: Structure) -> dict[str, Any]:
        """Return the properties of a row, in the file's units. structure: whose row it is.

        Raises ValueError if the row lacks what the structure has.
        """
        raise NotImplementedError

    def geometries(self) -> GeometryIndex:
        """Return the geometries of all rows."""
        raise NotImplementedError

    def ids(self) -> Sequence[str]:
        """Return Quarry's structure ids of all rows."""
        raise NotImplementedError

    def contents(self) -> str:
        """Return a clause about what the file holds, for messages."""
        raise NotImplementedError

    def may_be(self, row: int, structure: Structure) -> bool:
        """Return whether cell, charge and multiplicity of a row, where it has them, are the structure's."""
        return not any(structure.pbc)


class _FrameRows(Rows):
    """A structure file that ASE reads."""

    def __init__(self, path: Path, labeling: ReplayLabeling) -> None:
        self.path, self.labeling = path, labeling
        self.frames = read_frames(path, ":", "labeling.file")
        self._stated = stated_by_frames(self.frames)
        for name, keys in labeling.columns.items():
            for key in _listed(keys):
                self._check_name(key, f"labeling.columns.{name}")
                self._check_numbers(key, f"labeling.columns.{name}")

    def _check_name(self, key: str, where: str) -> None:
        if all(frame_value(atoms, key) is None for atoms in self.frames):
            raise QuarryError(f"{where}: no structure in {self.path} has a '{key}'; {names_in(self.frames)}")

    def _check_numbers(self, key: str, where: str) -> None:
        """Raise QuarryError if no frame has a number there; single ones without are structures without a label."""
        problem = ""
        for atoms in self.frames:
            value = frame_value(atoms, key)
            try:
                if value is not None:
                    real_numbers(value, f"'{key}'")
                    return
            except ValueError as error:
                problem = str(error)
        raise QuarryError(f"{where}: {problem} in {self.path}; name another column")

    def __len__(self) -> int:
        return len(self.frames)

    def values(self, row: int, structure: Structure) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name, keys in self.labeling.columns.items():
            parts = [frame_value(self.frames[row], key) for key in _listed(keys)]
            missing = [key for key, part in zip(_listed(keys), parts, strict=True) if part is None]
            if missing and not has(structure, name):
                continue
            if missing:
                raise ValueError(f"has no {', '.join(missing)}")
            values[name] = parts[0]
            if statable()[name].in_columns:
                values[name] = np.concatenate([np.ravel(part) for part in parts])
        return values

    def geometries(self) -> GeometryIndex:
        # Not through Structure: 100,000 of them take time, and rounding is within the index' tolerance.
        offsets = np.concatenate([[0], np.cumsum([len(atoms) for atoms in self.frames], dtype=np.int64)])
        numbers = np.concatenate([atoms.numbers for atoms in self.frames])
        return GeometryIndex(offsets, numbers, np.concatenate([atoms.positions for atoms in self.frames]))

    def may_be(self, row: int, structure: Structure) -> bool:
        atoms = self.frames[row]
        stated = Structure.of_atoms(atoms, structure.charge, structure.multiplicity)
        same_state = self._stated.may_be(row, structure.charge, structure.multiplicity)
        if stated.cell is None or structure.cell is None:
            return same_state and stated.cell is None and structure.cell is None
        return same_state and stated.pbc == structure.pbc and np.allclose(stated.cell, structure.cell, atol=TOLERANCE_A)

    def contents(self) -> str:
        return names_in(self.frames)

    def ids(self) -> Sequence[str]:
        # As texts: ASE makes a number of an id that has digits alone, or digits and one e.
        self._check_name(self.labeling.ids, "labeling.ids")
        texts = texts_of(self.path, self.labeling.ids)
        if len(texts) != len(self.frames) or None in texts:
            texts = [str(frame_value(atoms, self.labeling.ids)) for atoms in self.frames]
        # An s stands before our own ids in extended XYZ, so that others do not make numbers of them either.
        return [str(text).removeprefix("s") for text in texts]


class _ArrayRows(Rows):
    """Arrays by property, whose first axis are the rows."""

    columns: dict[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def values(self, row: int, structure: Structure) -> dict[str, Any]:
        return {name: values[row] for name, values in self.columns.items()}

    def contents(self) -> str:
        return f"it has {len(self)} rows"

    def _check_lengths(self, counts: dict[str, int], key: str, where: str) -> None:
        if len(set(counts.values())) != 1:
            raise QuarryError(f"{key}: they have different lengths{where}: {counts}")
        for names in groups_of_states(self.columns):
            states = {name: self.columns[name].shape[-1] for name in names if PROPERTIES[name].of_states}
            if len(set(states.values())) > 1:
                raise QuarryError(f"{key}: they have different numbers of states{where}: {states}")


class _TextRows(_ArrayRows):
    """Plain text files of numbers."""

    def __init__(self, base: Path, labeling: ReplayLabeling) -> None:
        self.columns = {}
        for name, files in labeling.text.items():
            numbers = read_numbers([base / file for file in files], f"labeling.text.{name}")
            several = statable()[name].in_columns
            if not several and numbers.shape[1] > 1:
                raise QuarryError(
                    f"labeling.text.{name}: {base / files[0]} has {numbers.shape[1]} numbers in a line; give one"
                )
            _check_count(name, numbers, f"labeling.text.{name}", base / files[0])
            self.columns[name] = numbers if several else numbers[:, 0]
        self._check_lengths({name: len(values) for name, values in self.columns.items()}, "labeling.text", "")


class _TableRows(_ArrayRows):
    """Columns of an npz, HDF5 or CSV file, read whole when they are first needed."""

    def __init__(self, path: Path, labeling: ReplayLabeling) -> None:
        self.path, self.labeling = path, labeling
        self.table = Table(path, "labeling.file")
        self.columns = {name: self._column(name, keys) for name, keys in labeling.columns.items()}
        # Numbers of all atoms one after another, without an axis for the structures.
        of_atoms = {name: len(statable()[name].dimensions(1)) for name in self.columns if statable()[name].of_atoms}
        self._ragged = [name for name, ndim in of_atoms.items() if self.columns[name].ndim == ndim]
        offsets = "labeling.geometry.offsets"
        self.offsets = self.table.column(labeling.geometry.offsets, offsets) if self._ragged else None
        counts = {
            name: len(values) if name not in self._ragged else len(self.offsets) - 1  # type: ignore[arg-type]
            for name, values in self.columns.items()
        }
        self._check_lengths(counts, "labeling.columns", f" in {path}")
        self.count = next(iter(counts.values()))

    def _column(self, name: str, keys: str | list[str]) -> NDArray[Any]:
        where = f"labeling.columns.{name}"
        if statable()[name].in_columns:
            numbers = joined_columns(self.table, _listed(keys), where, tensors=statable()[name].rank == 2)
            _check_count(name, numbers, where, self.path)
            return numbers
        key = _listed(keys)[0]
        if self.path.suffix.lower() not in ARRAY_TABLES:
            return self._numbers_in(self.table.texts(key, where), key, where)
        values = np.atleast_1d(self.table.column(key, where))
        if values.dtype.kind not in "iuf" or (values.size and values.dtype.kind == "f" and np.isnan(values).all()):
            raise QuarryError(
                f"{where}: '{key}' in {self.path} holds no real numbers ({values.dtype}); name another column"
            )
        return values

    def _numbers_in(self, texts: list[str], key: str, where: str) -> NDArray[np.float64]:
        """Return a column of a CSV file; rows of something else than a number have no label.

        Raises QuarryError for a number that is written in another way (-1.0D+01, 1,5), and if there is none at all.
        """
        values = np.full(len(texts), np.nan)
        for row, text in enumerate(texts):
            try:
                values[row] = number_of(text)
            except ValueError as error:
                if meant_by(text):
                    raise QuarryError(f"{where}: '{key}' in {self.path}, row {row + 1}: {error}") from error
        if len(values) and np.isnan(values).all():
            raise QuarryError(
                f"{where}: '{key}' in {self.path} holds no real numbers ('{texts[0]:.40}' in row 1); name another column"
            )
        return values

    def __len__(self) -> int:
        return self.count

    def values(self, row: int, structure: Structure) -> dict[str, Any]:
        found = super().values(row, structure)
        for name in self._ragged:
            assert self.offsets is not None
            found[name] = self.columns[name][self.offsets[row] : self.offsets[row + 1]]
        return found

    def geometries(self) -> GeometryIndex:
        offsets, numbers, positions = read_geometries(self.table, *self.labeling.geometry.names, "labeling.geometry")
        if len(offsets) - 1 != self.count:
            raise QuarryError(
                f"labeling.geometry: {len(offsets) - 1} geometries do not fit the columns' {self.count} rows in {self.path}"
            )
        self._stated = stated_by_table(self.table, self.labeling.geometry.names, offsets, numbers)
        return GeometryIndex(offsets, numbers, positions)

    def may_be(self, row: int, structure: Structure) -> bool:
        return super().may_be(row, structure) and self._stated.may_be(row, structure.charge, structure.multiplicity)

    def ids(self) -> Sequence[str]:
        texts = self.table.texts(self.labeling.ids, "labeling.ids")
        self._check_lengths({self.labeling.ids: len(texts), "labels": self.count}, "labeling.ids", f" in {self.path}")
        return [text.removeprefix("s") for text in texts]


def read_rows(base: Path, labeling: ReplayLabeling) -> Rows:
    """Read the rows of the files that a configuration names. base: folder of the campaign file.

    Raises QuarryError for a file or column that is missing or of another kind.
    """
    if labeling.file is None:
        return _TextRows(base, labeling)
    path = base / labeling.file
    return (_TableRows if path.suffix.lower() in TABLES else _FrameRows)(path, labeling)


def _check_count(name: str, numbers: NDArray[np.float64], where: str, path: Path) -> None:
    """Raise QuarryError unless there are as many columns as a property has numbers. numbers: shape (n, columns)."""
    counts = statable()[name].counts
    if counts and numbers.shape[1] not in counts:
        wanted = " or ".join(map(str, counts))
        raise QuarryError(f"{where}: {numbers.shape[1]} numbers for each structure in {path}; {name} has {wanted}")


def _listed(keys: str | list[str]) -> list[str]:
    return [keys] if isinstance(keys, str) else keys
