"""Labels from a structure file or a table: benchmarks, and data that somebody has computed already."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from quarry.config.engines import ReplayLabeling
from quarry.errors import QuarryError
from quarry.files import sha256_of
from quarry.labeling.engines.answers import converted, plain_properties
from quarry.labeling.engines.base import EngineResult
from quarry.labeling.engines.outputs import frame_value
from quarry.structures import Structure
from quarry.structures.files import FileSource, read_files
from quarry.structures.geometries import TOLERANCE_A, GeometryIndex
from quarry.structures.tables import TABLES, Table, read_feature_rows, read_geometries

PER_ATOM = ("forces", "gradient")
SAME_VALUE = 1e-6
"""eV (eV/Angstrom, e*Angstrom): rows of one structure that differ by more contradict each other."""
Finder = Callable[[Structure], list[int]]
"""Gives the rows that hold a structure."""


class ReplayEngine:
    """Looks labels up. The file is read and indexed once, at the first label."""

    name = "replay"
    periodic = True
    one_job_per_batch = True

    def __init__(self, labeling: ReplayLabeling, base: str | Path = ".") -> None:
        """base: folder of the campaign file, to which the paths are relative."""
        self.labeling = labeling
        self.base = Path(base)
        self.path = self.base / labeling.file
        self._loaded: tuple[_Rows, Finder] | None = None

    def method_identity(self) -> dict[str, Any]:
        """Return the content of the file and how it is read."""
        settings = self.labeling
        return {
            "engine": self.name,
            "file": sha256_of(self.path),
            "columns": settings.columns,
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
        """Raise QuarryError if the file or a column cannot be read; elements do not matter."""
        self._load()

    def label(self, structure: Structure, threads: int) -> EngineResult:
        """Return the label of a structure; one that the file does not hold is an invalid_structure.

        Rows that hold one structure with different values are an engine_error.
        """
        rows, find = self._load()
        size = self.size(structure)
        found = find(structure)
        if not found:
            message = f"{self.labeling.file} holds no such structure (labeling.match: {self.labeling.match})"
            return EngineResult("invalid_structure", message=message, size=size)
        try:
            answers = [
                plain_properties(converted(rows.values(row), self.labeling.units), len(structure)) for row in found
            ]
        except ValueError as error:
            message = f"{self.labeling.file}, row {found[0]}: {error}"
            return EngineResult("engine_error", message=message, size=size)
        for row, answer in zip(found, answers, strict=True):
            if not _agree(answers[0], answer):
                message = f"{self.labeling.file}: rows {found[0]} and {row} hold this structure with different values"
                return EngineResult("engine_error", message=message, size=size)
        return EngineResult("ok", properties=answers[0], size=size, details={"row": found[0]})

    def _load(self) -> tuple[_Rows, Finder]:
        if self._loaded is None:
            table = self.path.suffix.lower() in TABLES
            rows: _Rows = _TableRows(self.path, self.labeling) if table else _FrameRows(self.path, self.labeling)
            self._loaded = rows, self._finder(rows)
        return self._loaded

    def _finder(self, rows: _Rows) -> Finder:
        if self.labeling.match == "geometry":
            geometries = rows.geometries()
            return lambda structure: [row for row in geometries.find(structure) if rows.may_be(row, structure)]
        if self.labeling.features:
            return self._finder_of_features(rows)
        if self.labeling.match == "row":
            # Duplicates stay in: row i of the table is structure i of the files, whatever the pool drops.
            files = [FileSource(self.base / s.path, s.index, s.geometry.names) for s in self.labeling.structures]
            structures = read_files(files, 0, 1, "labeling.structures")
            self._check_count(len(structures), rows)
            return GeometryIndex.of(structures).find
        return _by_id(rows.ids())

    def _finder_of_features(self, rows: _Rows) -> Finder:
        """Find rows by their features, which are in the file itself or in those whose order it has."""
        settings = self.labeling
        if settings.match == "row":
            files, key = [(s.path, self.base / s.path) for s in settings.structures], "labeling.structures"
        else:
            files, key = [(settings.file, self.path)], "labeling.file"
        parts = read_feature_rows(files, settings.features, key, "labeling.features")
        features = np.concatenate([part for _, part in parts])
        self._check_count(len(features), rows)
        return _by_id([Structure.of_features(row).structure_id for row in features])

    def _check_count(self, count: int, rows: _Rows) -> None:
        if count != len(rows):
            raise QuarryError(f"labeling.structures: {count} structures, but {self.labeling.file} has {len(rows)} rows")


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
    """The rows of a file: values by property, geometries, ids. Subclasses read one kind of file."""

    def __init__(self, path: Path, labeling: ReplayLabeling) -> None:
        self.path = path
        self.labeling = labeling

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

    def may_be(self, row: int, structure: Structure) -> bool:
        """Return whether cell, charge and multiplicity of a row, where it has them, are the structure's."""
        return not any(structure.pbc)


class _FrameRows(_Rows):
    """A structure file that ASE reads."""

    def __init__(self, path: Path, labeling: ReplayLabeling) -> None:
        super().__init__(path, labeling)
        from ase.io import read

        try:
            frames = read(path, index=":")
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise QuarryError(f"labeling.file: ASE cannot read {path}: {reason}") from error
        self.frames = frames if isinstance(frames, list) else [frames]
        for name, key in labeling.columns.items():
            if all(frame_value(atoms, key) is None for atoms in self.frames):
                raise QuarryError(f"labeling.columns.{name}: no structure in {path} has a '{key}'")

    def __len__(self) -> int:
        return len(self.frames)

    def values(self, row: int) -> dict[str, Any]:
        values = {name: frame_value(self.frames[row], key) for name, key in self.labeling.columns.items()}
        missing = [key for name, key in self.labeling.columns.items() if values[name] is None]
        if missing:
            raise ValueError(f"has no {', '.join(missing)}")
        return values

    def geometries(self) -> GeometryIndex:
        # Not through Structure: 100,000 of them take time, and rounding is within the index' tolerance.
        offsets = np.concatenate([[0], np.cumsum([len(atoms) for atoms in self.frames], dtype=np.int64)])
        numbers = np.concatenate([atoms.numbers for atoms in self.frames])
        return GeometryIndex(offsets, numbers, np.concatenate([atoms.positions for atoms in self.frames]))

    def may_be(self, row: int, structure: Structure) -> bool:
        atoms = self.frames[row]
        stated = Structure.from_atoms(atoms, structure.charge, structure.multiplicity)
        same_state = (stated.charge, stated.multiplicity) == (structure.charge, structure.multiplicity)
        if stated.cell is None or structure.cell is None:
            return same_state and stated.cell is None and structure.cell is None
        return same_state and stated.pbc == structure.pbc and np.allclose(stated.cell, structure.cell, atol=TOLERANCE_A)

    def ids(self) -> Sequence[str]:
        # An s stands before our ids in extended XYZ, so that one of digits alone is no number.
        return [str(frame_value(atoms, self.labeling.ids)).removeprefix("s") for atoms in self.frames]


class _TableRows(_Rows):
    """Columns of an npz or HDF5 file, read whole when they are first needed."""

    def __init__(self, path: Path, labeling: ReplayLabeling) -> None:
        super().__init__(path, labeling)
        self.table = Table(path, "labeling.file")
        self.columns = {
            name: self.table.column(key, f"labeling.columns.{name}") for name, key in labeling.columns.items()
        }
        ragged = [name for name in self.columns if name in PER_ATOM and self.columns[name].ndim == 2]
        self.offsets = self.table.column(labeling.geometry.offsets, "labeling.geometry.offsets") if ragged else None
        counts = {
            name: len(values) if name not in ragged else len(self.offsets) - 1  # type: ignore[arg-type]
            for name, values in self.columns.items()
        }
        if len(set(counts.values())) != 1:
            raise QuarryError(f"labeling.columns: they have different lengths in {path}: {counts}")
        self.count = next(iter(counts.values()))

    def __len__(self) -> int:
        return self.count

    def values(self, row: int) -> dict[str, Any]:
        found = {}
        for name, values in self.columns.items():
            if name in PER_ATOM and values.ndim == 2:
                assert self.offsets is not None
                found[name] = values[self.offsets[row] : self.offsets[row + 1]]
            else:
                found[name] = values[row]
        return found

    def geometries(self) -> GeometryIndex:
        offsets, numbers, positions = read_geometries(self.table, *self.labeling.geometry.names, "labeling.geometry")
        if len(offsets) - 1 != self.count:
            raise QuarryError(
                f"labeling.geometry: {len(offsets) - 1} geometries do not fit the columns' {self.count} rows in {self.path}"
            )
        return GeometryIndex(offsets, numbers, positions)

    def ids(self) -> Sequence[str]:
        values = self.table.column(self.labeling.ids, "labeling.ids")
        return [v.decode() if isinstance(v, bytes) else str(v) for v in values.tolist()]
