"""The base of every section, and energies that carry their unit."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, field_validator
from pydantic_core import CoreSchema, core_schema

from quarry.files import canonical_json

LARGEST_WHOLE, LARGEST = 2**63 - 1, 1e15
"""Numbers beyond these are mistakes, and overflow in libraries."""


class Section(BaseModel):
    """A section of the configuration: unknown keys and silent conversions are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _no_absurd_numbers(cls, value: Any) -> Any:
        for number in value if isinstance(value, list) else [value]:
            if (isinstance(number, int) and abs(number) > LARGEST_WHOLE) or (
                isinstance(number, float) and abs(number) > LARGEST
            ):
                raise ValueError(f"{number:.3g} is far too large a number")
        return value


@dataclass(frozen=True)
class Form:
    """The form of a text, for ``Annotated[str, Form(...)]``. pattern: regular expression. words: the same for messages."""

    pattern: str
    words: str

    def check(self, text: str) -> str:
        """Return the text. Raises ValueError, with ``words``, if it has another form."""
        if re.fullmatch(self.pattern, text) is None:
            raise ValueError(self.words)
        return text

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "pattern": self.pattern}


IMPORT_PATH = r"^[\w.]+:\w+$"
ImportPath = Annotated[str, Form(IMPORT_PATH, "must be an import path like package.module:name")]


def _plain(arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        canonical_json(arguments)
    except (TypeError, ValueError) as error:
        raise ValueError(f"only plain values can be given, no infinite ones ({error})") from error
    return arguments


PlainArguments = Annotated[dict[str, Any], AfterValidator(_plain)]
"""Keyword arguments that can be written down in a label's record."""


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


def named_unit(unit: str, known: Iterable[str]) -> str | None:
    """Return a unit as ``known`` writes it, whatever the case of its letters (Hartree, KCAL/MOL); None if it is none.

    MeV is refused: a million electronvolt is no thousandth of one.
    """
    if unit.startswith("M") and unit.casefold().startswith("mev"):
        return None
    return {name.casefold(): name for name in known}.get(unit.casefold())


def energy_in_ev(value: Any) -> Any:
    """Return an energy in eV: '0.5 kcal/mol' is converted, a bare number is eV already, and other types are as they were.

    Raises ValueError for a text that is no number with a known unit of energy.
    """
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)\s*(\S+)\s*", value)
    unit = named_unit(match[2], ENERGY_UNITS_EV) if match else None
    if not match or unit is None:
        raise ValueError(f"give a number in eV or a number with one of the units {', '.join(ENERGY_UNITS_EV)}")
    return float(match[1]) * ENERGY_UNITS_EV[unit]


S = TypeVar("S", bound=Section)


def on_device(section: S, device: str | None) -> S:
    """Return a section, and those in it, with another device where they have one; None: as it is."""
    if device is None:
        return section
    changes: dict[str, Any] = {"device": device} if "device" in type(section).model_fields else {}
    parts = {name: getattr(section, name) for name in type(section).model_fields}
    inner = {name: on_device(part, device) for name, part in parts.items() if isinstance(part, Section)}
    return section.model_copy(update={**changes, **inner})
