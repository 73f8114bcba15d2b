"""Units that programs and tables give their properties in. Constants: CODATA 2018."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator

from quarry.config.base import ENERGY_UNITS_EV, named_unit

BOHR_A = 0.529177210903
"""Bohr radius in Angstrom."""
LENGTH_UNITS_A = {"Angstrom": 1.0, "bohr": BOHR_A}
DIPOLE_UNITS_EA = {"e*Angstrom": 1.0, "e*bohr": BOHR_A, "debye": 0.2081943342}
"""Units of a dipole moment in e*Angstrom."""
FORCE_UNITS = {
    f"{energy}/{length}": factor / LENGTH_UNITS_A[length]
    for energy, factor in ENERGY_UNITS_EV.items()
    for length in LENGTH_UNITS_A
}
"""Units of forces and gradients in eV/Angstrom."""

UNITS_OF = {
    "energy": ENERGY_UNITS_EV,
    "homo": ENERGY_UNITS_EV,
    "lumo": ENERGY_UNITS_EV,
    "gap": ENERGY_UNITS_EV,
    "forces": FORCE_UNITS,
    "gradient": FORCE_UNITS,
    "dipole": DIPOLE_UNITS_EA,
    "excitation_energies": ENERGY_UNITS_EV,
    "oscillator_strengths": {"1": 1.0},
    "class": {"1": 1.0},
    "value": {"1": 1.0},
}
"""What a program or table may give, and its units; a gradient becomes forces."""


def check_name(name: str) -> str:
    """Return the name of a property. Raises ValueError if nothing of that name can be read."""
    if name not in UNITS_OF:
        raise ValueError(f"'{name}' is no property; known are {', '.join(UNITS_OF)}")
    return name


def unit_of(name: str, unit: str) -> str:
    """Return a property's unit as it stands in ``UNITS_OF``, whatever the case of its letters.

    Raises ValueError if the property is unknown or has no such unit.
    """
    units = UNITS_OF[check_name(name)]
    known = named_unit(unit, units)
    if known is None:
        raise ValueError(f"'{unit}' is no unit of {name}; known are {', '.join(units)}")
    return known


def unit_factor(name: str, unit: str) -> float:
    """Return the factor from a unit to Quarry's own (eV, eV/Angstrom, e*Angstrom); errors as ``unit_of``."""
    return UNITS_OF[name][unit_of(name, unit)]


def _known_units(units: dict[str, str]) -> dict[str, str]:
    # As we write them: they are part of the method's identity.
    return {name: unit_of(name, unit) for name, unit in units.items()}


PropertyName = Annotated[str, AfterValidator(check_name)]
Units = Annotated[dict[str, str], AfterValidator(_known_units)]


def as_properties(names: Iterable[str]) -> frozenset[str]:
    """Return the properties of a label that come of named numbers: a gradient becomes forces."""
    return frozenset("forces" if name == "gradient" else name for name in names)
