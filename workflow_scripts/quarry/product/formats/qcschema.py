"""QCSchema (MolSSI): one AtomicResult for each label, as qcelemental defines it, in hartree and bohr."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quarry.errors import QuarryError
from quarry.files import canonical_json, write_text
from quarry.product.formats.base import Format, Package

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from quarry.product.campaign_data import CampaignData

DIGITS = 13
"""Decimals to which qcelemental rounds a geometry in bohr; its default is 8."""


def write(data: CampaignData, rows: NDArray[np.int64], path: Path) -> None:
    """Write a JSON list. Raises QuarryError for structures that QCSchema cannot hold: periodic ones, and rows of a table."""
    structures = data.labelled.structures
    if structures.features is not None:
        raise QuarryError("--format qcschema holds molecules; these labels are rows of a table: --format table")
    if structures.pbc[rows].any():
        raise QuarryError(
            "--format qcschema holds molecules, and some structures are periodic: --format extxyz or ase-db"
        )
    if "energy" not in data.labelled.properties:
        raise QuarryError("--format qcschema needs energies, and the labels have none: --format table")
    results = [_result(data, row) for row in rows.tolist() if "energy" in data.labelled.label(row)]
    write_text(path, "[\n" + ",\n".join(results) + "\n]\n")


def _result(data: CampaignData, row: int) -> str:
    from ase.units import Bohr, Hartree
    from qcelemental.models import AtomicResult, Molecule

    structure, label = data.labelled.structures[row], data.labelled.label(row)
    molecule = Molecule(
        symbols=structure.to_atoms().get_chemical_symbols(),
        geometry=structure.positions / Bohr,
        molecular_charge=structure.charge,
        molecular_multiplicity=structure.multiplicity,
        fix_com=True,
        fix_orientation=True,
        geometry_noise=DIGITS,
        validate=True,
    )
    energy = label["energy"] / Hartree
    properties = {"return_energy": energy, "calcinfo_natom": len(structure)}
    gradient = None if "forces" not in label else -label["forces"] * Bohr / Hartree
    if gradient is not None:
        properties["return_gradient"] = gradient
    if "dipole" in label:
        properties["scf_dipole_moment"] = label["dipole"] / Bohr
    more = {
        name: value.tolist() if hasattr(value, "tolist") else value
        for name, value in label.items()
        if name not in ("energy", "forces", "dipole")
    }
    result = AtomicResult(
        molecule=molecule,
        driver="energy" if gradient is None else "gradient",
        model=_model(data.manifest.get("method", {})),
        properties=properties,
        return_result=energy if gradient is None else gradient,
        success=True,
        provenance={"creator": "Quarry", "version": str(data.manifest.get("quarry", ""))},
        extras={
            "structure_id": structure.structure_id,
            "split": str(data.split[row]),
            "iteration": int(data.labelled.iterations[row]),
            "method_id": data.manifest["method_id"],
            # In Quarry's units (docs/dataset.md).
            "properties": more,
        },
    )
    # Through JSON: sorted keys give the same bytes.
    return canonical_json(json.loads(result.json()))


def _model(method: Mapping[str, Any]) -> dict[str, Any]:
    """Return the level of theory as QCSchema names it: functional or engine, and basis."""
    settings = method.get("method", method)
    settings = settings if isinstance(settings, Mapping) else {}
    name = settings.get("xc") or method.get("engine") or "unknown"
    basis = settings.get("basis")
    return {"method": str(name), "basis": basis if isinstance(basis, str) else None}


PACKAGE = Package("qcelemental", "qcelemental==0.51.4")
FORMAT = Format("qcschema", "QCSchema, a list of AtomicResult", (".json",), write, (("", PACKAGE),))
