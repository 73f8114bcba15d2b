"""Charge and spin in files of programs, which ASE reads without them: Gaussian, ORCA, molfiles."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

_GAUSSIAN_INPUT = re.compile(r"^[ \t]*(-?\d+)[ \t,]+(\d+)(?:[ \t,]+-?\d+[ \t,]+\d+)*[ \t]*$", re.MULTILINE)
_GAUSSIAN_OUTPUT = re.compile(r"^ Charge =\s*(-?\d+) Multiplicity =\s*(\d+)", re.MULTILINE)
_ORCA_CHARGE = re.compile(r"^ *Total Charge +Charge +\.+ +(-?\d+)", re.MULTILINE)
_ORCA_MULTIPLICITY = re.compile(r"^ *Multiplicity +Mult +\.+ +(\d+)", re.MULTILINE)
_MOLFILE = re.compile(r"^M  (CHG|RAD) +\d+((?: +-?\d+)+)", re.MULTILINE)


def state_in_text(path: Path) -> dict[str, Any]:
    """Return charge and multiplicity, or spin where it is not clear, as entries of ``info``; empty for other files."""
    read = _READERS.get(path.suffix.lower())
    if read is None:
        return {}
    try:
        return read(path.read_text())
    except (OSError, UnicodeDecodeError):
        return {}


def _of_output(text: str) -> dict[str, Any]:
    pairs = _GAUSSIAN_OUTPUT.findall(text)
    return _agreed(
        [p[0] for p in pairs] or _ORCA_CHARGE.findall(text), [p[1] for p in pairs] or _ORCA_MULTIPLICITY.findall(text)
    )


def _of_gaussian_input(text: str) -> dict[str, Any]:
    # The first such line stands before the atoms.
    match = _GAUSSIAN_INPUT.search(text)
    return {} if match is None else _agreed([match[1]], [match[2]])


def _of_molfile(text: str) -> dict[str, Any]:
    """Add the charges of atoms; one radical centre says its multiplicity, several do not say how they couple."""
    found: dict[str, Any] = {}
    radicals: list[int] = []
    for kind, numbers in _MOLFILE.findall(text.partition("$$$$")[0]):
        values = [int(number) for number in numbers.split()[1::2]]
        if kind == "CHG":
            found["charge"] = found.get("charge", 0) + sum(values)
        else:
            radicals += [value for value in values if value]
    if radicals:
        found["spin"] = radicals[0] if len(radicals) == 1 else f"{len(radicals)} radical centres"
    return found


def _agreed(charges: list[str], multiplicities: list[str]) -> dict[str, Any]:
    """Return what a file says throughout; of one that says several things, a text that is refused."""
    said = {"charge": set(charges), "multiplicity": set(multiplicities)}
    return {
        name: int(next(iter(values))) if len(values) == 1 else " or ".join(sorted(values))
        for name, values in said.items()
        if values
    }


_READERS: dict[str, Callable[[str], dict[str, Any]]] = {
    ".log": _of_output,
    ".out": _of_output,
    ".com": _of_gaussian_input,
    ".gjf": _of_gaussian_input,
    ".mol": _of_molfile,
    ".sdf": _of_molfile,
}
