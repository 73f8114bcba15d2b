"""A table for pandas: one row a structure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quarry.product.formats.base import Format, Package
from quarry.properties import PROPERTIES, Property

if TYPE_CHECKING:
    import numpy as np
    import pandas
    from numpy.typing import NDArray

    from quarry.product.campaign_data import CampaignData

UNITS = {"1": "", "eV": "_eV", "e*Angstrom": "_eA", "eV/Angstrom": "_eV_A", "eV/Angstrom^3": "_eV_A3", "e": "_e"}
"""Ends of the names of columns, by the unit."""
AXES, SIX = ("x", "y", "z"), ("xx", "yy", "zz", "yz", "xz", "xy")
"""Parts of a vector, and of a stress in the order of ASE."""


def table_of(data: CampaignData, rows: NDArray[np.int64], as_text: bool) -> pandas.DataFrame:
    """Return the table. Vectors have three columns, stresses six; numbers of atoms and of states are lists, or as_text JSON."""
    import pandas

    lists = json.dumps if as_text else lambda value: value
    lines: list[dict[str, Any]] = []
    for row in rows.tolist():
        structure = data.labelled.structures[row]
        line: dict[str, Any] = {"structure_id": f"s{structure.structure_id}", "split": str(data.split[row])}
        line |= {"iteration": int(data.labelled.iterations[row])}
        if structure.features is None:
            line |= {"formula": structure.to_atoms().get_chemical_formula(), "n_atoms": len(structure)}
            line |= {"charge": structure.charge, "multiplicity": structure.multiplicity}
            # A slab and a wire are periodic along some of their cell's vectors only.
            periodic, axes = any(structure.pbc), [bool(axis) for axis in structure.pbc]
            line |= {"periodic": periodic, "pbc": lists(axes) if periodic else None}
            line |= {"cell_A": lists(structure.to_atoms().cell.array.tolist()) if periodic else None}
            line |= {"numbers": lists(structure.numbers.tolist()), "positions_A": lists(structure.positions.tolist())}
        else:
            line |= {f"feature_{number}": value for number, value in enumerate(structure.features.tolist(), 1)}
        label = data.labelled.label(row)
        for name in data.labelled.properties:
            line |= {
                column: lists(v) if isinstance(v, list) else v
                for column, v in _columns(PROPERTIES[name], label).items()
            }
        source = data.labelled.sources[row]
        line |= {
            "source_file": None if source is None else source.file,
            "source_frame": None if source is None else source.frame,
        }
        lines.append(line)
    return pandas.DataFrame(lines)


def _columns(entry: Property, label: dict[str, Any]) -> dict[str, Any]:
    """Return a label's values of a property by the names of columns, None where it has none."""
    unit, value = UNITS[entry.unit], label.get(entry.name)
    if entry.one_number:
        return {entry.name + unit: None if value is None else int(value) if entry.whole else float(value)}
    if entry.shape == "vector":
        return {f"{entry.name}_{axis}{unit}": None if value is None else float(value[n]) for n, axis in enumerate(AXES)}
    if entry.shape == "tensor":
        from ase.stress import full_3x3_to_voigt_6_stress

        six = [None] * 6 if value is None else full_3x3_to_voigt_6_stress(value).tolist()
        return {f"{entry.name}_{name}{unit}": number for name, number in zip(SIX, six, strict=True)}
    return {entry.name + unit: None if value is None else value.tolist()}


def write(data: CampaignData, rows: NDArray[np.int64], path: Path) -> None:
    """Write CSV, CSV packed by gzip, or Parquet, by the file's name."""
    if path.suffix == ".parquet":
        table_of(data, rows, as_text=False).to_parquet(path, index=False)
        return
    packed: Any = {"method": "gzip", "mtime": 1} if path.suffix == ".gz" else None
    table_of(data, rows, as_text=True).to_csv(path, index=False, compression=packed, lineterminator="\n")


ARROW = Package("pyarrow", "pyarrow==26.0.1")
FORMAT = Format("table", "table for pandas", (".csv", ".csv.gz", ".parquet"), write, ((".parquet", ARROW),))
