"""Reading what a program has written: JSON, extended XYZ, the .engrad files of ORCA and xtb."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from quarry.config.units import BOHR_A
from quarry.errors import reason_of
from quarry.labeling.engines.answers import check_same_structure, converted, has, of_structure, plain_properties
from quarry.processes import only_this_process
from quarry.properties import statable
from quarry.structures import Structure
from quarry.written_numbers import number_of

if TYPE_CHECKING:
    from ase import Atoms

GEOMETRY = ("numbers", "positions")
"""What an answer may say about its structure: atomic numbers, positions in Angstrom. Compared with ours, then left out."""
ENGRAD_UNITS = {"energy": "hartree", "gradient": "hartree/bohr"}


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON dictionary. Raises ValueError if it is none."""
    data = json.loads(path.read_bytes())
    if not isinstance(data, dict):
        raise ValueError(f"holds no dictionary but a {type(data).__name__}")
    return data


def read_extxyz(path: Path, keys: Mapping[str, str]) -> dict[str, Any]:
    """Read the last frame of an extended XYZ file with its geometry. keys: names in the file by property; empty: ours."""
    from ase.io import read

    atoms = read(path, index=-1, format="extxyz", do_not_split_by_at_sign=True)
    assert not isinstance(atoms, list)
    wanted = keys or {name: name for name in statable()}
    values = {key: frame_value(atoms, key) for key in wanted.values()}
    found = {key: value for key, value in values.items() if value is not None}
    return {**found, "numbers": atoms.numbers, "positions": atoms.positions}


def frame_value(atoms: Atoms, key: str) -> Any:
    """Return what a frame that ASE has read holds under a name: a result, an entry of info or an array; None: nothing."""
    results = {} if atoms.calc is None else atoms.calc.results
    for place in (results, atoms.info, atoms.arrays):
        if key in place:
            return place[key]
    return None


def read_engrad(path: Path) -> dict[str, Any]:
    """Return energy (hartree), gradient (hartree/bohr) and geometry of a .engrad file, as arrays by name.

    Its numbers stand in order: atoms; energy; gradient, one number a line; atomic number and position (bohr) of each
    atom. Lines with # are comments. Raises ValueError if something is missing.
    """
    lines = [
        line.split() for line in path.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")
    ]
    try:
        n_atoms = int(lines[0][0])
        energy = number_of(lines[1][0])
        gradient = [number_of(line[0]) for line in lines[2 : 2 + 3 * n_atoms]]
        atoms = [[number_of(x) for x in line] for line in lines[2 + 3 * n_atoms : 2 + 4 * n_atoms]]
    except (IndexError, ValueError) as error:
        raise ValueError(f"is no .engrad file ({reason_of(error)})") from error
    if len(gradient) != 3 * n_atoms or len(atoms) != n_atoms or any(len(row) != 4 for row in atoms):
        raise ValueError(f"is cut short: {n_atoms} atoms announced")
    table = np.array(atoms).reshape(-1, 4)
    return {
        "energy": energy,
        "gradient": np.array(gradient).reshape(-1, 3),
        "numbers": table[:, 0].astype(int),
        "positions": table[:, 1:] * BOHR_A,
    }


def properties_from(
    path: Path,
    structure: Structure,
    kind: str | None,
    parser: Callable[..., Any] | None = None,
    keys: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the properties in a program's output file, in Quarry's units.

    kind: json, extxyz, engrad, or None for the user's parser. keys: names in the file by property; with keys only those
    are read. units: unit by property.
    Raises ValueError for garbage, missing, unknown or infinite values, and for an answer about another geometry; what a
    parser raises passes.
    """
    keys = keys or {}
    if kind == "engrad":
        answer, units = read_engrad(path), ENGRAD_UNITS
    elif kind == "extxyz":
        answer = read_extxyz(path, keys)
    elif kind == "json":
        answer = read_json(path)
    else:
        assert parser is not None
        with only_this_process():
            answer = parser(path)
        if not isinstance(answer, dict):
            raise ValueError(f"the parser must return a dictionary, not {type(answer).__name__}")
    if all(name in answer for name in GEOMETRY):
        check_same_structure(structure, answer["numbers"], answer["positions"])
    if keys:
        missing = [key for name, key in keys.items() if key not in answer and has(structure, name)]
        if missing:
            raise ValueError(f"there is no {', '.join(missing)} in it")
        answer = {name: answer[key] for name, key in keys.items() if key in answer}
    else:
        answer = {name: value for name, value in answer.items() if name not in GEOMETRY}
    return plain_properties(converted(of_structure(answer, structure), units or {}), len(structure))
