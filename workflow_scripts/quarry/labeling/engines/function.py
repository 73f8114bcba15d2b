"""Labels from a Python function: a stand-in for tests and rehearsals, or the user's own code."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from quarry.errors import QuarryError
from quarry.labeling.engines.base import PROPERTIES, EngineResult
from quarry.structures import Structure

OPTIONAL_VALUES = ("homo", "lumo", "gap")
"""Properties that may be None (no such orbital)."""


class FunctionEngine:
    """Calls ``function(atoms, **arguments)``, which returns a dictionary of properties.

    The function gets ASE atoms (charge, multiplicity and structure_id in ``atoms.info``) and returns any non-empty
    subset of ``PROPERTIES`` in their units, as numbers, lists or arrays.
    """

    name = "function"
    periodic = True
    one_job_per_batch = False

    def __init__(self, function: str, arguments: Mapping[str, Any] | None = None) -> None:
        """function: import path ``package.module:name``; arguments: keyword arguments of every call."""
        self.function = function
        self.arguments = dict(arguments or {})

    def method_identity(self) -> dict[str, Any]:
        """Return the function's import path and its arguments.

        The function's code is not part of it: code that gives other numbers needs another argument, e.g. ``version``.
        """
        return {"engine": self.name, "function": self.function, "arguments": self.arguments}

    def size(self, structure: Structure) -> dict[str, int]:
        """Return the number of atoms."""
        return {"atoms": len(structure)}

    def versions(self) -> dict[str, str]:
        """Return the version of Python; what the function calls is the function's own affair."""
        return {"python": sys.version.split()[0]}

    def check(self, elements: list[int]) -> None:
        """Raise QuarryError if the function cannot be imported or called; the elements do not matter."""
        self._load()

    def label(self, structure: Structure, threads: int) -> EngineResult:
        """Call the function; whatever it raises or returns ends as a typed result.

        Raises QuarryError only if the function cannot be imported (``check`` finds that before any job).
        """
        function = self._load()
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            with threadpool_limits(limits=threads):
                answer = function(structure.to_atoms(), **self.arguments)
            result = EngineResult("ok", properties=_plain(answer, len(structure)))
        except MemoryError:
            result = EngineResult("out_of_memory", message=f"{self.function}: out of memory")
        except Exception as error:
            reason = " ".join(str(error).split())
            result = EngineResult("engine_error", message=f"{self.function}: {type(error).__name__}: {reason}")
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

    def _load(self) -> Callable[..., Any]:
        module_name, _, name = self.function.partition(":")
        # Appended: a file of the user's working directory never hides a library's module.
        here = str(Path.cwd())
        if here not in sys.path:
            sys.path.append(here)
        try:
            function = getattr(importlib.import_module(module_name), name)
        except Exception as error:
            reason = " ".join(str(error).split())
            raise QuarryError(
                f"labeling.function: cannot import '{self.function}' ({type(error).__name__}: {reason}); "
                "give package.module:name, importable from the working directory"
            ) from error
        if not callable(function):
            raise QuarryError(f"labeling.function: '{self.function}' is not callable; name a function")
        loaded: Callable[..., Any] = function
        return loaded


def _plain(answer: Any, n_atoms: int) -> dict[str, Any]:
    """Return the properties as plain numbers and lists; raise ValueError for what is no valid answer."""
    if not isinstance(answer, Mapping) or not answer:
        raise ValueError(f"must return a dictionary with some of {', '.join(PROPERTIES)}, not {type(answer).__name__}")
    unknown = sorted(str(key) for key in answer if key not in PROPERTIES)
    if unknown:
        raise ValueError(f"returned unknown properties: {', '.join(unknown)}; known are {', '.join(PROPERTIES)}")
    shapes = {"forces": (n_atoms, 3), "dipole": (3,)}
    properties: dict[str, Any] = {}
    for key, value in answer.items():
        if value is None and key in OPTIONAL_VALUES:
            properties[key] = None
            continue
        array = np.asarray(value, dtype=np.float64)
        shape = shapes.get(key, ())
        if array.size == 1 and shape == ():
            array = array.reshape(())
        if array.shape != shape:
            raise ValueError(f"{key} has the shape {array.shape} instead of {shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{key} is not finite")
        properties[key] = array.tolist()
    return properties
