"""The engines: one line for each, with the import paths of its section and of the class that labels.

A new engine is a file with its section beside this one, a file with its class in ``quarry.labeling.engines``, and a line here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from operator import or_
from typing import Annotated, Any, NamedTuple

from pydantic import Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema

from quarry.config.engines.base import LabelingBase
from quarry.imports import named


class Paths(NamedTuple):
    """Import paths of an engine: its section (a ``LabelingBase``) and its class (see ``quarry.labeling.engines.base``)."""

    section: str
    engine: str


ENGINES: dict[str, Paths] = {
    "pyscf": Paths("quarry.config.engines.pyscf:PyscfLabeling", "quarry.labeling.engines.pyscf_engine:PyscfEngine"),
    "ase": Paths("quarry.config.engines.ase:AseLabeling", "quarry.labeling.engines.ase_engine:AseEngine"),
    "command": Paths("quarry.config.engines.command:CommandLabeling", "quarry.labeling.engines.command:CommandEngine"),
    "replay": Paths("quarry.config.engines.replay:ReplayLabeling", "quarry.labeling.engines.replay:ReplayEngine"),
    "function": Paths(
        "quarry.config.engines.function:FunctionLabeling", "quarry.labeling.engines.function:FunctionEngine"
    ),
}
"""What ``labeling.engine`` may name."""


def sections() -> dict[str, type[LabelingBase]]:
    """Return the section of each engine."""
    return {name: named(paths.section) for name, paths in ENGINES.items()}


def engines_that(can: Callable[[type[LabelingBase]], bool]) -> list[str]:
    """Return the names of the engines whose section says something, for messages."""
    return [name for name, section in sections().items() if can(section)]


class _OneOfTheEngines:
    """Makes of a field the section that its key ``engine`` names."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        union: Any = reduce(or_, sections().values())
        return handler.generate_schema(Annotated[union, Field(discriminator="engine")])


Labeling = Annotated[LabelingBase, _OneOfTheEngines()]
