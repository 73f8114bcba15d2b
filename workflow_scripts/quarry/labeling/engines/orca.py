"""A reader of ORCA's output for the command engine: more than .engrad alone holds. Pure text, no ORCA needed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from quarry.config.base import ENERGY_UNITS_EV
from quarry.config.units import BOHR_A
from quarry.labeling.engines.outputs import read_engrad

HARTREE_EV = ENERGY_UNITS_EV["hartree"]
ORBITAL = re.compile(r"\s*\d+\s+(\d\.\d+)\s+(-?\d+\.\d+)\s+-?\d+\.\d+\s*$")
"""A line of the table of orbitals: number, occupation, energy in hartree, energy in eV."""


def read_orca(path: Path) -> dict[str, Any]:
    """Return the properties of a single point with EnGrad, in Quarry's units.

    path: the .engrad file; what ORCA printed is stdout.txt beside it. Energy and forces come from the .engrad file; dipole
    (about ORCA's origin), homo, lumo and gap from the last such table printed, where there is one.
    Raises ValueError if the .engrad file is damaged, or if its energy is not the one printed.
    """
    answer = read_engrad(path)
    printed = (path.parent / "stdout.txt").read_text(errors="replace")
    energies = re.findall(r"FINAL SINGLE POINT ENERGY\s+(-?\d+\.\d+)", printed)
    if not energies:
        raise ValueError("ORCA printed no final energy")
    if abs(float(energies[-1]) - answer["energy"]) > 1e-6:
        raise ValueError(f"the energy in {path.name} is not the final energy that ORCA printed ({energies[-1]})")
    properties: dict[str, Any] = {
        "energy": answer["energy"] * HARTREE_EV,
        "forces": -answer["gradient"] * HARTREE_EV / BOHR_A,
        "numbers": answer["numbers"],
        "positions": answer["positions"],
    }
    dipoles = re.findall(r"Total Dipole Moment\s*:((?:\s+-?\d+\.\d+){3})", printed)
    if dipoles:
        properties["dipole"] = [float(x) * BOHR_A for x in dipoles[-1].split()]
    return properties | _frontier_orbitals(printed)


def _frontier_orbitals(printed: str) -> dict[str, float]:
    """Return homo, lumo and gap (eV) over both spins, of the last table of orbital energies."""
    table = printed.rpartition("ORBITAL ENERGIES")[2]
    occupied: list[float] = []
    empty: list[float] = []
    for line in table.splitlines()[2:]:
        match = ORBITAL.match(line)
        if match:
            (occupied if float(match[1]) > 0 else empty).append(float(match[2]) * HARTREE_EV)
        elif line.strip() and not re.match(r"\s*(NO\s+OCC|SPIN (UP|DOWN) ORBITALS|\*Only the first)", line):
            break
    if not occupied or not empty:
        return {}
    homo, lumo = max(occupied), min(empty)
    return {"homo": homo, "lumo": lumo, "gap": lumo - homo}
