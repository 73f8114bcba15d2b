"""Labels from calculators of ASE."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from quarry.config.base import Form, ImportPath, PlainArguments
from quarry.config.engines.base import LabelingBase
from quarry.properties import PROPERTIES

StateKey = Annotated[
    str,
    Form(
        r"^(info:\w+|[A-Za-z_]\w*(\.\w+)*)$",
        "must be the name of a keyword argument, like charge or dft.charge, or info:NAME of the atoms",
    ),
]
NAMES = [entry.name for entry in PROPERTIES.values() if entry.ase]
"""Properties that calculators of ASE give."""


def _known_name(name: str) -> str:
    if name not in NAMES:
        raise ValueError(f"'{name}' is nothing that calculators of ASE give; known are {', '.join(NAMES)}")
    return name


NameOfAse = Annotated[str, AfterValidator(_known_name), WithJsonSchema({"type": "string", "enum": NAMES})]


class AseLabeling(LabelingBase):
    """Labels from any calculator of ASE."""

    cites: ClassVar[tuple[str, ...]] = ("larsen2017ase",)

    takes_periodic: ClassVar[bool | None] = None

    engine: Literal["ase"]
    calculator: ImportPath
    """Import path package.module:Name of a calculator's class, or of a function that returns a calculator."""
    arguments: PlainArguments = {}
    """Keyword arguments of the calculator; part of the method's identity."""
    files: dict[str, str] = {}
    """Keyword arguments that name an input file (a model, a parameter file), relative to the campaign file; what is in the
    files is part of the method's identity."""
    properties: list[NameOfAse] = Field(default=["energy", "forces"], min_length=1)
    """What the calculator is asked for; for a stress only of structures that are periodic in three directions."""
    charge_key: StateKey | None = None
    """Where the calculator takes the total charge from: a keyword argument (dots for nested ones: dft.charge),
    info:NAME of the atoms, or initial_charges; null: nowhere, and charged structures are refused."""
    multiplicity_key: StateKey | None = None
    """Where it takes the multiplicity 2S + 1 from: as charge_key, or initial_magnetic_moments (they get 2S); null: nowhere,
    and other structures than singlets are refused."""
    periodic: bool = False
    """Whether the calculator can take periodic structures; those are refused before any job otherwise."""

    @model_validator(mode="after")
    def _cells_where_needed(self) -> AseLabeling:
        cells = [name for name in self.properties if PROPERTIES[name].periodic]
        if cells and not self.periodic:
            raise ValueError(f"properties: {cells[0]} is of periodic structures; set periodic: true, or remove it")
        return self

    def gives(self) -> tuple[str, frozenset[str]]:
        """Return what the calculator is asked for."""
        return "properties", frozenset(self.properties)

    forces_remedy: ClassVar[str] = "add forces to labeling.properties, or "

    @property
    def has_forces_for_modes(self) -> bool:
        """Whether the calculator is asked for forces."""
        return "forces" in self.properties

    def input_files(self) -> list[str]:
        """Return the files that keyword arguments name."""
        return list(self.files.values())
