"""The base of every section, and energies that carry their unit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
)
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, core_schema

from quarry.files import canonical_json

LARGEST_WHOLE, LARGEST = 2**63 - 1, 1e15
"""Numbers beyond these are mistakes, and overflow in libraries."""
HIGHEST, LONGEST_SHOWN = 10**308, 80
"""Whole numbers from here on are none of floating point; characters of one in a message."""


class Section(BaseModel):
    """A section of the configuration: unknown keys and silent conversions are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    cites: ClassVar[tuple[str, ...]] = ()
    """What a paper that used it should cite, by names of ``quarry/stages/overview/references.bib``."""

    @property
    def extras(self) -> Mapping[str, str]:
        """Optional dependencies that it needs as it is set, by the key that asks for each; not those of the sections in it."""
        return {}

    def citations(self) -> tuple[str, ...]:
        """Return what a paper that used it as it is set should cite; not of the sections in it."""
        return self.cites


def absurd_number(value: Any, key: str = "") -> str | None:
    """Return what is wrong with the first number of a parsed campaign file that is beyond all sense, or None.

    key: where the value stands. Arguments of user-defined code may be what they like. (Once for the whole file: a validator of
    every field of every section would cost each job a tenth of what the configuration does.)
    """
    if isinstance(value, Mapping):
        parts = [(str(name), part) for name, part in value.items() if name != "arguments"]
    elif isinstance(value, list):
        parts = [(str(number), part) for number, part in enumerate(value)]
    else:
        largest = LARGEST_WHOLE if isinstance(value, int) else LARGEST
        is_absurd = isinstance(value, int | float) and abs(value) > largest
        if not is_absurd:
            return None
        text = f"{value:.3g}" if abs(value) < HIGHEST else f"a number of {len(str(value))} digits"
        return f"{key}: {text} is far too large a number (got {value!r:.{LONGEST_SHOWN}})"
    found = (absurd_number(part, f"{key}.{name}" if key else name) for name, part in parts)
    return next((message for message in found if message), None)


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

OWN_TAG = "package.module:Name"
"""Tag of the section of user-defined code, which an import path names in place of a kind."""


def kind_of(value: Any) -> str | None:
    """Return the tag of a section: its kind, or ``OWN_TAG`` if that is an import path. value: a mapping or a section."""
    named = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return OWN_TAG if isinstance(named, str) and re.fullmatch(IMPORT_PATH, named) else named


def told_by_kind(sections: Any) -> FieldInfo:
    """Return the annotation of a union of sections that tells them apart by their kind. sections: ``Annotated[Name, Tag(kind)]``
    each, that of user-defined code with ``OWN_TAG``.
    """
    discriminator: Any = {
        "propertyName": "kind",
        "mapping": {tag: f"#/$defs/{section.__name__}" for tag, section in sections_of(sections).items()},
    }
    return Field(discriminator=Discriminator(kind_of), json_schema_extra={"discriminator": discriminator})


def sections_of(sections: Any) -> dict[str, Any]:
    """Return the sections of such a union by their tags."""
    return {one.__metadata__[0].tag: one.__origin__ for one in get_args(sections)}


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
