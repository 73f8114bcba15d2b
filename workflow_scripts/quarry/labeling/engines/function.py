"""Labels from a Python function: a stand-in for tests and rehearsals, or user-defined code."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from threadpoolctl import threadpool_limits

from quarry.config.engines.function import FunctionLabeling
from quarry.config.resources import LabelResources
from quarry.errors import reason_of
from quarry.imports import check_arguments, load
from quarry.labeling.engines.answers import of_structure, plain_properties
from quarry.labeling.engines.base import EngineResult, status_of
from quarry.processes import only_this_process
from quarry.structures import Structure


class FunctionEngine:
    """Calls ``function(atoms, **arguments)``, which returns a dictionary of properties.

    The function gets ASE atoms (charge, multiplicity, structure_id, and the features of a table's row in ``atoms.info``) and
    returns any non-empty subset of ``quarry.properties`` in their units, as numbers, lists or arrays.
    """

    name = "function"
    periodic = True
    one_job_per_batch = False

    def __init__(self, function: str, arguments: Mapping[str, Any] | None = None) -> None:
        """function: import path ``package.module:name``; arguments: keyword arguments of every call."""
        self.function = function
        self.arguments = dict(arguments or {})

    @classmethod
    def of(cls, labeling: FunctionLabeling, base: Path, resources: LabelResources) -> Self:
        """Return the engine of a section (see ``Engine.of``)."""
        return cls(labeling.function, labeling.arguments)

    def method_identity(self) -> dict[str, Any]:
        """Return the function's import path and its arguments.

        The function's code is not part of it: code that gives other numbers needs another argument, e.g. ``version``.
        """
        return {"engine": self.name, "function": self.function, "arguments": self.arguments}

    def size(self, structure: Structure) -> dict[str, int]:
        """Return the number of atoms; a row of a table counts as one."""
        return {"atoms": max(1, len(structure))}

    def versions(self) -> dict[str, str]:
        """Return the version of Python; libraries that the function calls are not known."""
        return {"python": sys.version.split()[0]}

    def check(self, elements: list[int]) -> None:
        """Raise QuarryError if the function cannot be imported or called with its arguments; elements do not matter."""
        function = load(self.function, "labeling.function")
        check_arguments(function, self.arguments, self.function, "labeling.arguments", by_place=1)

    def label(self, structure: Structure, threads: int) -> EngineResult:
        """Call the function; whatever it raises or returns ends as a typed result.

        Raises QuarryError only if the function cannot be imported (``check`` finds that before any job).
        """
        function = load(self.function, "labeling.function")
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            with threadpool_limits(limits=threads), only_this_process():
                answer = function(structure.to_atoms(), **self.arguments)
            properties = of_structure(plain_properties(answer, len(structure)), structure)
            result = EngineResult("ok", properties=properties)
        except MemoryError:
            result = EngineResult("out_of_memory", message=f"{self.function}: out of memory")
        except Exception as error:
            result = EngineResult(status_of(error), message=f"{self.function}: {reason_of(error, named=True)}")
        result.attempts.append(
            {
                "name": "call",
                "cycles": None,
                "converged": result.status == "ok",
                "wall_s": time.perf_counter() - wall,
                "cpu_s": time.process_time() - cpu,
            }
        )
        return result
