"""Labels that stand in a file: what labeling.engine: replay and labeling.known share."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from quarry.config.base import Section
from quarry.config.pool import TableGeometry
from quarry.config.units import PropertyName, Units
from quarry.properties import PROPERTIES, statable

ColumnNames = Annotated[list[str], Field(min_length=1)]


class LabelColumns(Section):
    """Properties by their names in a file, and how a structure is found in it."""

    file: str | None = None
    """Structure file that ASE reads (extxyz ...), or table (.npz, .h5, .hdf5, .csv), relative to the campaign file; with
    columns."""
    columns: dict[PropertyName, str | ColumnNames] = {}
    """Property and its name in the file, e.g. {homo: homo_hartree}; in a structure file a result, info or array. Of a property
    with several numbers (of states, vectors, 3 x 3 tensors) also several names, which are joined:
    {excitation_energies: [E1, E2]}."""
    units: Units = {}
    """Units of the columns, e.g. {homo: hartree}; ours (docs/engines.md) where not given."""
    geometry: TableGeometry = TableGeometry()
    """Names of the geometries in a table, for match: geometry."""
    ids: str = "structure_id"
    """Name of the structure ids, for match: id."""

    @model_validator(mode="after")
    def _each_property_once(self) -> Self:
        both = [e for e in PROPERTIES.values() if {e.name, e.negative} <= self.columns.keys()]
        if both:
            raise ValueError(f"columns: give {both[0].name} or {both[0].negative}, not both")
        check_names(self.columns)
        return self


def check_names(parts: dict[str, str | list[str]] | dict[str, list[str]]) -> None:
    """Raise ValueError for several columns or files of a property that is one number, and for one that is there twice.

    parts: names of columns or files by property.
    """
    for name, names in parts.items():
        several = isinstance(names, list) and len(names) > 1
        if several and not statable()[name].in_columns:
            raise ValueError(f"{name}: this is one number; give one name")
        if several and len(set(names)) < len(names):
            raise ValueError(f"{name}: a name is there twice; name each column or file once")
