"""Labels that the user has already."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from quarry.config.engines.columns import ColumnNames, LabelColumns
from quarry.config.units import PropertyName


class KnownLabels(LabelColumns):
    """Labels that are there already, of the same method: what a structure file or table holds is not computed again."""

    file: str
    """Structure file that ASE reads (extxyz ...), or table (.npz, .h5, .hdf5, .csv), relative to the campaign file."""
    columns: dict[PropertyName, str | ColumnNames] = Field(min_length=1)
    """Property and its name in the file, as in labeling.engine: replay, e.g. {energy: energy, forces: forces}."""
    match: Literal["geometry", "id"] = "geometry"
    """How a structure finds its label. geometry: same atoms in the same order, positions equal to 1e-6 Angstrom; id: Quarry's
    structure ids in the column ids."""
