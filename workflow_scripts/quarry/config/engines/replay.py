"""Finished labels from files and tables."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from quarry.config.engines.base import LabelingBase
from quarry.config.engines.columns import LabelColumns, check_names
from quarry.config.pool import PathOrSlice
from quarry.config.units import PropertyName
from quarry.properties import given_by, statable

FileNames = Annotated[list[str], Field(min_length=1)]


def _one_as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class ReplayLabeling(LabelColumns, LabelingBase):
    """Labels from a file or table: benchmarks, or finished data."""

    computes: ClassVar[bool] = False
    labels_rows: ClassVar[bool] = True
    takes_periodic: ClassVar[bool | None] = True

    engine: Literal["replay"]
    text: dict[
        PropertyName, Annotated[FileNames, BeforeValidator(_one_as_list, json_schema_input_type=str | FileNames)]
    ] = {}
    """In place of file and columns: property and its files of plain numbers, relative to the campaign file, e.g.
    {excitation_energies: [E1.dat, E2.dat], oscillator_strengths: [f1.dat, f2.dat]}. One line for each structure with one
    number or several, which are joined over the files; # begins a comment, and empty lines do not count. Needs match: row."""
    match: Literal["geometry", "id", "row", "features"] = "geometry"
    """How a structure finds its row. geometry: same atoms in the same order, positions equal to 1e-6 Angstrom; id: Quarry's
    structure ids in the column ids; row: row i belongs to structure i of the files in structures; features: a row of a table
    pool has exactly the same features."""
    structures: list[PathOrSlice] = []
    """Structure files (or tables of features) whose order the rows have, as in pool.files, for match: row."""
    features: list[str] = []
    """Names of the features of a table pool, as in pool.features: in file for match: features, in structures for match: row."""

    @model_validator(mode="after")
    def _one_way_to_the_numbers(self) -> ReplayLabeling:
        if self.text:
            if self.file is not None or self.columns:
                raise ValueError("give either text, or file and columns")
            if self.match != "row":
                raise ValueError(
                    f"text: plain numbers are found by match: row (with structures: the files of the pool), not {self.match}"
                )
            per_atom = [name for name, entry in statable().items() if entry.of_atoms and name in self.text]
            if per_atom:
                raise ValueError(f"text.{per_atom[0]}: numbers for each atom are read from a file, with columns")
        elif self.file is None or not self.columns:
            missing = "columns" if self.file is not None else "file"
            raise ValueError(f"the key {missing} is missing; give file and columns, or text")
        check_names(self.text)
        return self

    @model_validator(mode="after")
    def _rows_of_something(self) -> ReplayLabeling:
        if (self.match == "row") != bool(self.structures):
            raise ValueError("match: row needs the key structures, and the others have no use for it")
        if self.features and self.match not in ("features", "row"):
            raise ValueError(f"match: {self.match} has no use for the key features")
        if self.match == "features" and not self.features:
            raise ValueError("match: features needs the key features, the names of the columns")
        return self

    def gives(self) -> tuple[str, frozenset[str]]:
        """Return the properties that are read."""
        return ("columns", given_by(self.columns)) if self.text == {} else ("text", given_by(self.text))

    def input_files(self) -> list[str]:
        """Return every file that is read."""
        own = [name for names in self.text.values() for name in names] if self.file is None else [self.file]
        return [*own, *(part.path for part in self.structures)]

    def problem_with_pool(self, rows: bool) -> str | None:
        """Return why the rows of the pool, or its structures, cannot be found this way, or None."""
        if not rows:
            if self.match == "features" or self.features:
                return (
                    "labeling.features: only rows of features (pool.source: table) are found by them; use another match"
                )
            return None
        if self.match == "geometry":
            return "labeling.match: rows of features (pool.source: table) have no geometry; use features, row or id"
        if self.match == "row" and not self.features:
            return "labeling.features: name the features in labeling.structures by which a row of the pool is found"
        return None
