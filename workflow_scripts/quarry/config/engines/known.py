"""Labels that the user has already."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from quarry.config.base import Section
from quarry.config.pool import TableGeometry
from quarry.config.units import PropertyName, Units


class KnownLabels(Section):
    """Labels that are there already, of the same method: what a structure file or table holds is not computed again."""

    file: str
    """Structure file that ASE reads (extxyz ...), or table (.npz, .h5, .hdf5, .csv), relative to the campaign file."""
    columns: dict[PropertyName, str | Annotated[list[str], Field(min_length=1)]] = Field(min_length=1)
    """Property and its name in the file, as in labeling.engine: replay, e.g. {energy: energy, forces: forces}."""
    units: Units = {}
    """Units of the columns, e.g. {energy: hartree}; ours (docs/engines.md) where not given."""
    match: Literal["geometry", "id"] = "geometry"
    """How a structure finds its label. geometry: same atoms in the same order, positions equal to 1e-6 Angstrom; id: Quarry's
    structure ids in the column ids."""
    geometry: TableGeometry = TableGeometry()
    """Names of the geometries in a table, for match: geometry."""
    ids: str = "structure_id"
    """Name of the structure ids, for match: id."""
