"""Which keyword arguments a calculator of ASE knows. Most take any and look at some: a misspelt one changes nothing."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from ase.calculators.calculator import FileIOCalculator

from quarry.imports import BY_NAME, refuse_unknown

OF_ASE = ("ase.calculators.calculator", "ase.calculators.abc", "builtins")
"""Modules of the base classes, which know nothing of a calculator's own parameters."""
ALWAYS_KNOWN = ("parameters",)
"""Of ``Calculator.set``: a file of parameters."""
HANDED_ON = re.compile(r"for\b.+\bin\b.*param|\*\*\s*[\w.]*param|param\w*\.(items|keys|write)\b", re.IGNORECASE)
"""Code that goes through its parameters or hands on all of them, as into an input file."""


def check_calculator_arguments(
    called: Callable[..., Any], calculator: Any, names: Iterable[str], path: str, key: str
) -> None:
    """Raise QuarryError for an argument that the calculator takes in silence and does not know.

    called: the class, or a function that has made the calculator; arguments of a function are not checked, unless they have
    become parameters of the calculator. names: of the arguments. path, key: import path and key, for messages. Known are the
    arguments of every ``__init__`` and ``default_parameters``, and what the calculator's code names. One without default
    parameters cannot be checked, nor one that writes whatever it is given into an input file.
    """
    kind = type(calculator)
    defaults: dict[str, Any] = {}
    for part in (*reversed(kind.__mro__), calculator):
        defaults.update(getattr(part, "default_parameters", None) or {})
    code = _code_of(kind)
    if not defaults or (isinstance(calculator, FileIOCalculator) and HANDED_ON.search(code)):
        return
    own = [name for part in kind.__mro__ for name in _named_by(part)]
    asked = [name for name in names if not _is_named_in(code, name)]
    if not isinstance(called, type):
        asked = [name for name in asked if name in (getattr(calculator, "parameters", None) or {})]
    refuse_unknown(asked, dict.fromkeys([*defaults, *own, *ALWAYS_KNOWN]), path, key)


def _named_by(kind: type) -> list[str]:
    with suppress(TypeError, ValueError):
        parameters = inspect.signature(kind.__init__).parameters.values()  # type: ignore[misc]
        return [p.name for p in parameters if p.kind in BY_NAME and p.name != "self"]
    return []


def _code_of(kind: type) -> str:
    modules = dict.fromkeys(part.__module__ for part in kind.__mro__ if part.__module__ not in OF_ASE)
    code = ""
    for name in modules:
        # A module without source: then its default parameters are all that is known.
        with suppress(OSError, TypeError, KeyError):
            code += inspect.getsource(sys.modules[name])
    return code


def _is_named_in(code: str, name: str) -> bool:
    """Whether code reads a parameter of this name, which need not have a default: parameters['name'], parameters.name."""
    return re.search(rf"""['"]{re.escape(name)}['"]|\bparameters\.{re.escape(name)}\b""", code) is not None
