"""Labels from a Python function."""

from __future__ import annotations

from typing import ClassVar, Literal

from quarry.config.base import ImportPath, PlainArguments
from quarry.config.engines.base import LabelingBase


class FunctionLabeling(LabelingBase):
    """Labels from a Python function (stand-in for tests and rehearsals, or user-defined code)."""

    labels_rows: ClassVar[bool] = True
    takes_periodic: ClassVar[bool | None] = True

    engine: Literal["function"]
    function: ImportPath
    """Import path package.module:name; called with ASE atoms and the arguments, returns a dictionary of properties."""
    arguments: PlainArguments = {}
    """Keyword arguments of the function; part of the method's identity."""
