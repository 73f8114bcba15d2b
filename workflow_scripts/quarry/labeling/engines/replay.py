"""Labels from a structure file or a table: benchmarks, and data that somebody has computed already."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quarry.config.engines import OF_SEVERAL_NUMBERS, PER_ATOM, ReplayLabeling
from quarry.errors import QuarryError
from quarry.files import sha256_of
from quarry.labeling.engines.answers import converted, plain_properties, real_numbers
from quarry.labeling.engines.base import EngineResult
from quarry.labeling.engines.outputs import frame_value
from quarry.labeling.plain import PER_STATE
from quarry.structures import Structure
from quarry.structures.files import FileSource, read_files
from quarry.structures.geometries import TOLERANCE_A, GeometryIndex
from quarry.structures.reading import names_in, read_frames, texts_of
from quarry.structures.stated import LENIENT, stated_by_frames
from quarry.structures.tables import (
    ARRAY_TABLES,
    TABLES,
    Table,
    joined_columns,
    read_feature_rows,
    read_geometries,
    read_numbers,
    stated_by_table,
)

UNSAID = -1_000_000
"""Charge or multiplicity of a structure whose file says none."""
SAME_VALUE = 1e-6
"""eV (eV/Angstrom, e*Angstrom): rows of one structure that differ by more contradict each other."""
Finder = Callable[[Structure], list[int]]
"""Gives the rows that hold a structure."""


class ReplayEngine:
    """Looks labels up. The files are read and indexed once, at the first label."""

    name = "replay"
    periodic = True
    one_job_per_batch = True

    def __init__(self, labeling: ReplayLabeling, base: str | Path = ".") -> None:
        """base: folder of the campaign file, to which the paths are relative."""
        self.labeling = labeling
        self.base = Path(base)
        own = labeling.files()
        self.source = own[0] if labeling.file is not None else f"labeling.text ({own[0]} ...)"
        self._loaded: tuple[_Rows, Finder] | None = None

    def method_identity(self) -> dict[str, Any]:
        """Return the content of the files and how they are read."""
        settings = self.labeling
        if settings.file is not None:
            numbers: dict[str, Any] = {"file": sha256_of(self.base / settings.file), "columns": settings.columns}
        else:
            digests = {name: [sha256_of(self.base / file) for file in files] for name, files in settings.text.items()}
            numbers = {"text": digests}
        return {
            "engine": self.name,
            **numbers,
            "units": settings.units,
            "match": settings.match,
            "geometry": settings.geometry.model_dump(),
            "ids": settings.ids,
            "structures": [[sha256_of(self.base / s.path), s.index] for s in settings.structures],
            # Named only where used: what was labelled before there were rows of features keeps its identity.
            **({"features": settings.features} if settings.features else {}),
        }

    def size(self, structure: Structure) -> dict[str, int]:
        """Return the number of atoms; a row of a table counts as one."""
        return {"atoms": max(1, len(structure))}

    def versions(self) -> dict[str, str]:
        """Return nothing: the number was made by whoever made the file."""
        return {}

    def check(self, elements: list[int]) -> None:
        """Raise QuarryError if a file or a column cannot be read; elements do not matter."""
        self._load()

    def holds(self, structure: Structure) -> bool:
        """Return whether there is a row for a structure."""
        return bool(self._load()[1](structure))

    def contents(self) -> str:
        """Return a clause about what the file has."""
        rows, _ = self._load()
        first = f", and its first ids are {', '.join(list(rows.ids())[:2])}" if self.labeling.match == "id" else ""
        return rows.contents() + first

    def label(self, structure: Structure, threads: int) -> EngineResult:
        """Return the label of a structure; one that the file does not hold is an invalid_structure.

        Rows that hold one structure with different values are an engine_error.
        """
        rows, find = self._load()
        size = self.size(structure)
        found = find(structure)
        if not found:
            message = f"{self.source} holds no such structure (labeling.match: {self.labeling.match})"
            return EngineResult("invalid_structure", message=message, size=size)
        try:
            answers = [
                plain_properties(converted(rows.values(row), self.labeling.units), len(structure)) for row in found
            ]
        except ValueError as error:
            message = f"{self.source}, row {found[0] + 1}: {error}"
            return EngineResult("engine_error", message=message, size=size)
        for row, answer in zip(found[1:], answers[1:], strict=True):
            if not _agree(answers[0], answer):
                message = f"{self.source}: rows {found[0]} and {row} hold this structure with different values"
                return EngineResult("engine_error", message=message, size=size)
        return EngineResult("ok", properties=answers[0], size=size, details={"row": found[0]})

    def _load(self) -> tuple[_Rows, Finder]:
        if self._loaded is None:
            rows = self._read()
            self._loaded = rows, self._finder(rows)
        return self._loaded

    def _read(self) -> _Rows:
        if self.labeling.file is None:
            return _TextRows(self.base, self.labeling)
        path = self.base / self.labeling.file
        return (_TableRows if path.suffix.lower() in TABLES else _FrameRows)(path, self.labeling)

    def _finder(self, rows: _Rows) -> Finder:
        if self.labeling.match == "geometry":
            geometries = rows.geometries()
            return lambda structure: [row for row in geometries.find(structure) if rows.may_be(row, structure)]
        if self.labeling.features:
            return self._finder_of_features(rows)
        if self.labeling.match == "row":
            # Duplicates stay in: row i of the table is structure i of the files, whatever the pool drops.
            files = [FileSource(self.base / s.path, s.index, s.geometry.names) for s in self.labeling.structures]
            structures = read_files(files, UNSAID, UNSAID, "labeling.structures", LENIENT)
            self._check_count(len(structures), rows)
            index = GeometryIndex.of(structures)
            return lambda structure: [row for row in index.find(structure) if _may_be(structures[row], structure)]
        return _by_id(rows.ids())

    def _finder_of_features(self, rows: _Rows) -> Finder:
        """Find rows by their features, which are in the file itself or in those whose order it has."""
        settings = self.labeling
        if settings.match == "row":
            files, key = [(s.path, self.base / s.path) for s in settings.structures], "labeling.structures"
        else:
            assert settings.file is not None
            files, key = [(settings.file, self.base / settings.file)], "labeling.file"
        parts = read_feature_rows(files, settings.features, key, "labeling.features")
        features = np.concatenate([part for _, part in parts])
        self._check_count(len(features), rows)
        return _by_id([Structure.of_features(row).structure_id for row in features])

    def _check_count(self, count: int, rows: _Rows) -> None:
        if count != len(rows):
            mend = f"; name the structures that have labels, e.g. by index ':{len(rows)}'" if count > len(rows) else ""
            raise QuarryError(f"labeling.structures: {count} structures, but {self.source} has {len(rows)} rows{mend}")


def _may_be(stated: Structure, structure: Structure) -> bool:
    """Return whether charge, multiplicity and cell, where they are said, are those of a structure of the same geometry."""
    if stated.charge not in (UNSAID, structure.charge) or stated.multiplicity not in (UNSAID, structure.multiplicity):
        return False
    if stated.cell is None or structure.cell is None:
        return True
    return stated.pbc == structure.pbc and np.allclose(stated.cell, structure.cell, atol=TOLERANCE_A)


def _by_id(ids: Sequence[str]) -> Finder:
    where: dict[str, list[int]] = {}
    for row, structure_id in enumerate(ids):
        where.setdefault(structure_id, []).append(row)
    return lambda structure: where.get(structure.structure_id, [])


def _agree(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return whether two labels of one structure are the same label."""
    return all(
        (one[name] is None) == (other[name] is None)
        and (one[name] is None or np.allclose(one[name], other[name], rtol=0, atol=SAME_VALUE))
        for name in one
    )


class _Rows:
    """The rows of files: values by property, geometries, ids. Subclasses read one kind of file."""

    def __len__(self) -> int:
        raise NotImplementedError

    def values(self, row: int) -> dict[str, Any]:
        """Return what the file says about a row, in its own units."""
        raise NotImplementedError

    def geometries(self) -> GeometryIndex:
        """Return the geometries of all rows."""
        raise NotImplementedError

    def ids(self) -> Sequence[str]:
        """Return Quarry's structure ids of all rows."""
        raise NotImplementedError

    def contents(self) -> str:
        """Return a clause about what there is in the file."""
        raise NotImplementedError

    def may_be(self, row: int, structure: Structure) -> bool:
        """Return whether cell, charge and multiplicity of a row, where it has them, are the structure's."""
        return not any(structure.pbc)


class _FrameRows(_Rows):
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

    def values(self, row: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name, keys in self.labeling.columns.items():
            parts = [frame_value(self.frames[row], key) for key in _listed(keys)]
            missing = [key for key, part in zip(_listed(keys), parts, strict=True) if part is None]
            if missing:
                raise ValueError(f"has no {', '.join(missing)}")
            values[name] = parts[0]
            if name in OF_SEVERAL_NUMBERS:
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


class _ArrayRows(_Rows):
    """Arrays by property, whose first axis are the rows."""

    columns: dict[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def values(self, row: int) -> dict[str, Any]:
        return {name: values[row] for name, values in self.columns.items()}

    def contents(self) -> str:
        return f"it has {len(self)} rows"

    def _check_lengths(self, counts: dict[str, int], key: str, where: str) -> None:
        if len(set(counts.values())) != 1:
            raise QuarryError(f"{key}: they have different lengths{where}: {counts}")
        states = {name: self.columns[name].shape[-1] for name in PER_STATE if name in self.columns}
        if len(set(states.values())) > 1:
            raise QuarryError(f"{key}: they have different numbers of states{where}: {states}")


class _TextRows(_ArrayRows):
    """Plain text files of numbers."""

    def __init__(self, base: Path, labeling: ReplayLabeling) -> None:
        self.columns = {}
        for name, files in labeling.text.items():
            numbers = read_numbers([base / file for file in files], f"labeling.text.{name}")
            if name not in OF_SEVERAL_NUMBERS and numbers.shape[1] > 1:
                raise QuarryError(
                    f"labeling.text.{name}: {base / files[0]} has {numbers.shape[1]} numbers in a line; give one"
                )
            self.columns[name] = numbers if name in OF_SEVERAL_NUMBERS else numbers[:, 0]
        self._check_lengths({name: len(values) for name, values in self.columns.items()}, "labeling.text", "")


class _TableRows(_ArrayRows):
    """Columns of an npz, HDF5 or CSV file, read whole when they are first needed."""

    def __init__(self, path: Path, labeling: ReplayLabeling) -> None:
        self.path, self.labeling = path, labeling
        self.table = Table(path, "labeling.file")
        self.columns = {name: self._column(name, keys) for name, keys in labeling.columns.items()}
        self._ragged = [name for name in self.columns if name in PER_ATOM and self.columns[name].ndim == 2]
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
        if name in OF_SEVERAL_NUMBERS:
            return joined_columns(self.table, _listed(keys), where)
        key = _listed(keys)[0]
        values = np.atleast_1d(self.table.column(key, where))
        if values.dtype.kind == "U" and self.path.suffix.lower() not in ARRAY_TABLES:
            # A CSV file whose column is not numbers throughout; rows of something else have no label.
            values = np.array([_number_or_nan(text) for text in values.tolist()])
        if values.dtype.kind not in "iuf" or (values.size and values.dtype.kind == "f" and np.isnan(values).all()):
            raise QuarryError(
                f"{where}: '{key}' in {self.path} holds no real numbers ({values.dtype}); name another column"
            )
        return values

    def __len__(self) -> int:
        return self.count

    def values(self, row: int) -> dict[str, Any]:
        found = super().values(row)
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


def _number_or_nan(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _listed(keys: str | list[str]) -> list[str]:
    return [keys] if isinstance(keys, str) else keys
