"""Units that programs and tables give their properties in. Constants: CODATA 2018."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from quarry.config.base import ENERGY_UNITS_EV, named_unit
from quarry.properties import statable

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

STRESS_UNITS = {
    "GPa": 1 / 160.2176634,
    "kbar": 0.1 / 160.2176634,
    **{
        f"{energy}/{length}^3": factor / LENGTH_UNITS_A[length] ** 3
        for energy, factor in ENERGY_UNITS_EV.items()
        for length in LENGTH_UNITS_A
    },
}
"""Units of a stress in eV/Angstrom^3."""
UNITS = {
    "eV": ENERGY_UNITS_EV,
    "eV/Angstrom": FORCE_UNITS,
    "eV/Angstrom^3": STRESS_UNITS,
    "e*Angstrom": DIPOLE_UNITS_EA,
    "e": {"e": 1.0},
    "1": {"1": 1.0},
}
"""Units that a property may be stated in, by Quarry's own."""


def check_name(name: str) -> str:
    """Return the name of a property. Raises ValueError if nothing of that name can be read."""
    if name not in statable():
        raise ValueError(f"'{name}' is no property; known are {', '.join(statable())}")
    return name


PropertyName = Annotated[str, AfterValidator(check_name)]


def units_of(name: str) -> dict[str, float]:
    """Return the units of a property with their factors to Quarry's own. Raises ValueError if it is unknown."""
    return UNITS[statable()[check_name(name)].unit]


def unit_of(name: str, unit: str) -> str:
    """Return a property's unit as Quarry writes it, whatever the case of its letters.

    Raises ValueError if the property is unknown or has no such unit.
    """
    units = units_of(name)
    known = named_unit(unit, units)
    if known is None:
        raise ValueError(f"'{unit}' is no unit of {name}; known are {', '.join(units)}")
    return known


def unit_factor(name: str, unit: str) -> float:
    """Return the factor from a unit to Quarry's own (see ``quarry.properties``); errors as ``unit_of``."""
    return units_of(name)[unit_of(name, unit)]


def _known_units(units: dict[str, str]) -> dict[str, str]:
    # As we write them: they are part of the method's identity.
    return {name: unit_of(name, unit) for name, unit in units.items()}


Units = Annotated[dict[str, str], AfterValidator(_known_units)]
