"""Charge and spin in files of programs, which ASE reads without them: Gaussian, ORCA, NWChem and others."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

COMPRESSED = (".gz", ".bz2", ".xz")
"""Endings of compressed files that ASE reads."""
_GAUSSIAN_INPUTS = (".com", ".gjf")
_GAUSSIAN_STATE = re.compile(r"([-+]?\d+)[ \t,]+(\d+)(?:[ \t,]+-?\d+[ \t,]+\d+)*")
_IN_OUTPUTS = (
    # Gaussian, ORCA, GAMESS, NWChem.
    (r"^ Charge =\s*(-?\d+) Multiplicity =", r"^ Charge =\s*-?\d+ Multiplicity =\s*(\d+)"),
    (r"^ *Total Charge +Charge +\.+ +(-?\d+)", r"^ *Multiplicity +Mult +\.+ +(\d+)"),
    (r"^ *CHARGE OF MOLECULE +=\s*(-?\d+)", r"^ *(?:SPIN MULTIPLICITY|STATE MULTIPLICITY) +=\s*(\d+)"),
    (r"^ *Charge +: +(-?\d+)", r"^ *Spin multiplicity *: +(\d+)"),
    # CP2K.
    (r"^ *CHARGE +(-?\d+) *$", r"^ *MULTIPLICITY +(\d+) *$"),
)
_NWCHEM_CHARGE = re.compile(r"^\s*charge\s+([-+]?\d+)", re.MULTILINE | re.IGNORECASE)
_NWCHEM_SPINS = {
    "multiplicity": re.compile(r"^\s*mult\s+(\d+)", re.MULTILINE | re.IGNORECASE),
    "uhf": re.compile(r"^\s*nopen\s+(\d+)", re.MULTILINE | re.IGNORECASE),
}
_TURBOMOLE = {
    "charge": re.compile(r"^\s*\$(?:eht\b.*?\bcharge=|charge\s+|chrg\s+)\s*([-+]?\d+)", re.MULTILINE),
    "uhf": re.compile(r"^\s*\$(?:eht\b.*?\bunpaired=|uhf\s+|spin\s+)\s*(\d+)", re.MULTILINE),
}
_ESPRESSO = re.compile(r"^[^!\n]*?\btot_charge\s*=\s*([-+.\d]+)", re.MULTILINE | re.IGNORECASE)
_PDB_CHARGE = re.compile(r"^(?:ATOM  |HETATM).{72}(\d[+-])", re.MULTILINE)


def state_in_text(path: Path) -> dict[str, Any]:
    """Return charge and multiplicity, or spin where it is not clear, as entries of ``info``; empty for other files."""
    from ase.io.formats import open_with_compression

    read = _READERS.get(ending_of(path))
    if read is None:
        return {}
    try:
        with open_with_compression(str(path), "rt") as handle:
            return read(handle.read())
    except (OSError, UnicodeDecodeError):
        return {}


def ending_of(path: Path) -> str:
    """Return the ending of a file's name, without that of a compressed file; empty where it has none."""
    plain = Path(path.stem) if path.suffix.lower() in COMPRESSED else path
    return plain.suffix.lower()


def second_frame(path: Path) -> str:
    """Return what is wrong with a file of several frames of which ASE reads the first alone (GROMACS); empty if there is one."""
    from ase.io.formats import open_with_compression

    if ending_of(path) != ".gro":
        return ""
    with open_with_compression(str(path), "rt") as handle:
        lines = handle.read().split("\n")
    atoms = lines[1].strip() if len(lines) > 1 else ""
    if not atoms.isdigit() or not "".join(lines[3 + int(atoms) :]).strip():
        return ""
    return "it holds several frames, of which ASE reads the first alone; write it as extended XYZ"


def is_gaussian_input(path: Path) -> bool:
    """Return whether a file's ending is that of an input of Gaussian, also compressed."""
    return ending_of(path) in _GAUSSIAN_INPUTS


def _of_output(text: str) -> dict[str, Any]:
    for charge, multiplicity in _IN_OUTPUTS:
        charges, multiplicities = (re.findall(pattern, text, re.MULTILINE) for pattern in (charge, multiplicity))
        if charges or multiplicities:
            return _agreed(charges, multiplicities)
    return {}


class _GaussianStep(NamedTuple):
    """A step of a Gaussian input. route: with the lines before it. state: the line of charge and multiplicity, a comment
    left out. atoms: the lines of the molecule.
    """

    route: list[str]
    state: str
    atoms: list[str]

    @staticmethod
    def of(text: str) -> _GaussianStep:
        """Read a step by its sections, which end with an empty line: route, title, molecule."""
        lines = iter(text.split("\n"))
        before = []
        for line in lines:
            before.append(line)
            if line.lstrip().startswith("#"):
                break
        rest, _title, molecule = ([*takewhile(str.strip, lines)] for _ in range(3))
        return _GaussianStep(before + rest, molecule[0].partition("!")[0].strip() if molecule else "", molecule[1:])


def _gaussian_steps(text: str) -> list[_GaussianStep]:
    parts = re.split(r"^[ \t]*--link1--.*$", text.replace("\r\n", "\n"), flags=re.MULTILINE | re.IGNORECASE)
    return [_GaussianStep.of(part) for part in parts if part.strip()]


def gaussian_input_for_ase(path: Path) -> str:
    """Return a Gaussian input as ASE reads it: ASE takes a line of numbers in the title, or behind the molecule, for the charge.

    Raises ValueError for a file without a state, or with several geometries.
    """
    from ase.io.formats import open_with_compression

    with open_with_compression(str(path), "rt") as handle:
        steps = _gaussian_steps(handle.read())
    if not steps or _GAUSSIAN_STATE.fullmatch(steps[0].state) is None:
        found = f"there is '{steps[0].state[:30]}'" if steps and steps[0].state else "there is nothing"
        raise ValueError(
            f"where charge and multiplicity are expected, after route, empty line, title and empty line, {found}"
        )
    if any(step.atoms for step in steps[1:]):
        raise ValueError("it has several steps (--Link1--) with geometries; give every one in a file of its own")
    state = re.sub(r"[\s,]+", " ", steps[0].state)
    return "\n".join([*steps[0].route, "", "title", "", state, *steps[0].atoms, "", ""])


def _of_gaussian_input(text: str) -> dict[str, Any]:
    matches = [match for step in _gaussian_steps(text) if (match := _GAUSSIAN_STATE.fullmatch(step.state))]
    return _agreed([match[1] for match in matches], [match[2] for match in matches])


def _of_nwchem_input(text: str) -> dict[str, Any]:
    spins = {name: pattern.findall(text) for name, pattern in _NWCHEM_SPINS.items()}
    found = _agreed(_NWCHEM_CHARGE.findall(text), spins["multiplicity"])
    return found | ({"uhf": int(spins["uhf"][0])} if spins["uhf"] else {})


def _of_turbomole(text: str) -> dict[str, Any]:
    if not text.lstrip().startswith("$coord"):
        return {}
    return {name: int(match[1]) for name, pattern in _TURBOMOLE.items() if (match := pattern.search(text))}


def _of_espresso(text: str) -> dict[str, Any]:
    match = _ESPRESSO.search(text) if "&system" in text.lower() else None
    return {} if match is None else {"tot_charge": float(match[1])}


def _of_pdb(text: str) -> dict[str, Any]:
    """Add the formal charges of the atoms of the first model."""
    charges = [int(code[1] + code[0]) for code in _PDB_CHARGE.findall(text.partition("\nENDMDL")[0])]
    return {"charge": sum(charges)} if any(charges) else {}


def _of_chemical_json(text: str) -> dict[str, Any]:
    try:
        properties = json.loads(text).get("properties", {})
    except (ValueError, AttributeError):
        return {}
    names = {"totalCharge": "charge", "totalSpinMultiplicity": "multiplicity"}
    return {name: properties[key] for key, name in names.items() if key in properties}


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
    ".nwo": _of_output,
    **dict.fromkeys(_GAUSSIAN_INPUTS, _of_gaussian_input),
    ".nwi": _of_nwchem_input,
    "": _of_turbomole,
    ".coord": _of_turbomole,
    ".tmol": _of_turbomole,
    ".in": _of_espresso,
    ".pwi": _of_espresso,
    ".restart": _of_output,
    ".pdb": _of_pdb,
    ".cjson": _of_chemical_json,
}
