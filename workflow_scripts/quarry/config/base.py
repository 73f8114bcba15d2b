"""The base of every section, and energies that carry their unit."""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A section of the configuration: unknown keys and silent conversions are errors."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


# Electronvolt per unit, CODATA 2018.
ENERGY_UNITS_EV = {
    "eV": 1.0,
    "meV": 1e-3,
    "hartree": 27.211386245988,
    "millihartree": 27.211386245988e-3,
    "kcal/mol": 0.0433641043,
    "kJ/mol": 0.0103642697,
    "cm-1": 1.239841984e-4,
}


def energy_in_ev(value: Any) -> Any:
    """Turn '0.5 kcal/mol' into eV; a bare number is eV already."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)\s*(\S+)\s*", value)
    if not match or match[2] not in ENERGY_UNITS_EV:
        raise ValueError(f"give a number in eV or a number with one of the units {', '.join(ENERGY_UNITS_EV)}")
    return float(match[1]) * ENERGY_UNITS_EV[match[2]]
