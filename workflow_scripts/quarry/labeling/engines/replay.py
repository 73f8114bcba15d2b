"""Labels from a structure file or a table: benchmarks, and data that somebody has computed already."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from quarry.config.engines.replay import ReplayLabeling
from quarry.config.resources import LabelResources
from quarry.errors import QuarryError
from quarry.files import sha256_of
from quarry.labeling.engines.answers import converted, of_structure, plain_properties
from quarry.labeling.engines.base import EngineResult
from quarry.labeling.engines.replay_rows import Rows, read_rows
from quarry.structures import Structure
from quarry.structures.files import FileSource, read_files
from quarry.structures.geometries import TOLERANCE_A, GeometryIndex
from quarry.structures.stated import LENIENT
from quarry.structures.tables import read_feature_rows

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
        own = labeling.input_files()
        self.source = own[0] if labeling.file is not None else f"labeling.text ({own[0]} ...)"
        self._loaded: tuple[Rows, Finder] | None = None
        self._geometries: GeometryIndex | None = None

    @classmethod
    def of(cls, labeling: ReplayLabeling, base: Path, resources: LabelResources) -> Self:
        """Return the engine of a section (see ``Engine.of``)."""
        return cls(labeling, base)

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
        """Return no versions: which program made the numbers is not known."""
        return {}

    def check(self, elements: list[int]) -> None:
        """Raise QuarryError if a file or a column cannot be read; elements do not matter."""
        self._load()

    def holds(self, structure: Structure) -> bool:
        """Return whether there is a row for a structure."""
        return bool(self._load()[1](structure))

    def contents(self) -> str:
        """Return a clause about what the file holds, for messages."""
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
            message = (
                f"{self.source} holds no such structure (labeling.match: {self.labeling.match}){self._other(structure)}"
            )
            return EngineResult("invalid_structure", message=message, size=size)
        try:
            answers = [
                plain_properties(
                    converted(of_structure(rows.values(row, structure), structure), self.labeling.units), len(structure)
                )
                for row in found
            ]
        except ValueError as error:
            message = f"{self.source}, row {found[0] + 1}: {error}"
            return EngineResult("engine_error", message=message, size=size)
        for row, answer in zip(found[1:], answers[1:], strict=True):
            if not _agree(answers[0], answer):
                rows_named = f"rows {found[0] + 1} and {row + 1}"
                message = f"{self.source}: {rows_named} hold this structure with different values; {self._apart()}"
                return EngineResult("engine_error", message=message, size=size)
        return EngineResult("ok", properties=answers[0], size=size, details={"row": found[0]})

    def _other(self, structure: Structure) -> str:
        """Return a clause about a row that has the structure's geometry, in another state or cell."""
        others = [] if self._geometries is None else self._geometries.find(structure)
        if not others:
            return ""
        state = f"charge {structure.charge} and multiplicity {structure.multiplicity}"
        return f"; row {others[0] + 1} has this geometry with another charge, multiplicity or cell: here it is {state}"

    def _apart(self) -> str:
        """Return what is to be done about two rows that are one structure and differ."""
        if self.labeling.features:
            return "remove one, or name in labeling.features what they differ in"
        if self.labeling.match == "id":
            return "give each structure an id of its own, or remove one"
        return (
            "where they differ in charge or multiplicity, say so in the file, as charge and multiplicity; or remove one"
        )

    def _load(self) -> tuple[Rows, Finder]:
        if self._loaded is None:
            rows = read_rows(self.base, self.labeling)
            self._loaded = rows, self._finder(rows)
        return self._loaded

    def _finder(self, rows: Rows) -> Finder:
        if self.labeling.match == "geometry":
            geometries = self._geometries = rows.geometries()
            return lambda structure: [row for row in geometries.find(structure) if rows.may_be(row, structure)]
        if self.labeling.features:
            return self._finder_of_features(rows)
        if self.labeling.match == "row":
            # Duplicates stay in: row i of the table is structure i of the files, whatever the pool drops.
            files = [FileSource(self.base / s.path, s.index, s.geometry.names) for s in self.labeling.structures]
            structures = read_files(files, UNSAID, UNSAID, "labeling.structures", LENIENT)
            self._check_count(len(structures), rows)
            index = self._geometries = GeometryIndex.of(structures)
            return lambda structure: [row for row in index.find(structure) if _may_be(structures[row], structure)]
        return _by_id(rows.ids())

    def _finder_of_features(self, rows: Rows) -> Finder:
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

    def _check_count(self, count: int, rows: Rows) -> None:
        if count != len(rows):
            remedy = (
                f"; name the structures that have labels, e.g. by index ':{len(rows)}'" if count > len(rows) else ""
            )
            raise QuarryError(
                f"labeling.structures: {count} structures, but {self.source} has {len(rows)} rows{remedy}"
            )


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
