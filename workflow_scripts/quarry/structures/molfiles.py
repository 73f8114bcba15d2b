"""Molfiles and SD files (V2000) with all their molecules, their charges, radicals and data fields, which ASE leaves out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quarry.structures.program_files import ending_of
from quarry.structures.state_names import meaning_in_plural
from quarry.structures.state_words import whole_number

if TYPE_CHECKING:
    from ase import Atoms

_KINDS = (".mol", ".sdf", ".sd")
_PROPERTY = re.compile(r"^M  (CHG|RAD) *\d+((?: +-?\d+)+)", re.MULTILINE)
_FIELD = re.compile(r"^>.*?<([^>]+)>[^\n]*\n([^\n]*)", re.MULTILINE)
_CHARGES = {1: 3, 2: 2, 3: 1, 5: -1, 6: -2, 7: -3}
"""Codes of charges in the lines of atoms. Code 4 is a doublet radical."""
_RADICAL = 4


def is_molfile(path: Path) -> bool:
    """Return whether a file's ending is that of molfiles, also compressed."""
    return ending_of(path) in _KINDS


def read_molecules(path: Path) -> list[Atoms]:
    """Return all molecules of a molfile or SD file, with what they say about charge and spin in ``info``.

    Raises ValueError, with the number of the molecule, for one that is none.
    """
    from ase.io.formats import open_with_compression

    with open_with_compression(str(path), "rt") as handle:
        text = handle.read()
    blocks = re.split(r"^\$\$\$\$[^\n]*\n?", text.replace("\r\n", "\n"), flags=re.MULTILINE)
    found = [_molecule(block, number) for number, block in enumerate(blocks, 1) if block.strip()]
    if not found:
        raise ValueError("it holds no molecule")
    return found


def _molecule(block: str, number: int) -> Atoms:
    from ase import Atoms

    lines = block.split("\n")
    counts = lines[3] if len(lines) > 3 else ""
    if "V3000" in counts:
        raise ValueError(f"molecule {number} is in V3000; write the file as V2000 or extended XYZ")
    try:
        atoms = int(counts[:3])
        rows = lines[4 : 4 + atoms]
        words = [row.split() for row in rows]
        positions = [[float(x) for x in row[:3]] for row in words]
        molecule = Atoms([row[3] for row in words], positions)
        if len(molecule) != atoms:
            raise ValueError
    except (ValueError, IndexError, KeyError):
        raise ValueError(
            f"molecule {number} is no molfile of V2000 ({counts.strip()[:20] or 'it has no line 4'})"
        ) from None
    molecule.info = state_of_molecule(rows, "\n".join(lines[4 + atoms :]))
    return molecule


def state_of_molecule(atom_lines: list[str], rest: str) -> dict[str, Any]:
    """Return charge and spin of a molecule: charges and radicals of its atoms, and its data fields about them.

    Lines M  CHG and M  RAD stand in place of all codes in the lines of atoms. Charges add up; one radical centre says its
    multiplicity, several do not say how they couple. A charge that is said twice is a text that is refused.
    """
    found: dict[str, Any] = {}
    radicals: list[int] = []
    ends = re.search(r"^M  END", rest, re.MULTILINE)
    properties = _PROPERTY.findall(rest[: ends.start()] if ends else rest)
    for kind, numbers in properties:
        values = [int(number) for number in numbers.split()[1::2]]
        if kind == "CHG":
            found["charge"] = found.get("charge", 0) + sum(values)
        else:
            radicals += [value for value in values if value]
    codes = [] if properties else [code for line in atom_lines if (code := _code(line))]
    if any(code in _CHARGES for code in codes):
        found["charge"] = sum(_CHARGES.get(code, 0) for code in codes)
    radicals += [2 for code in codes if code == _RADICAL]
    if radicals:
        found["spin"] = radicals[0] if len(radicals) == 1 else f"{len(radicals)} radical centres"
    for name, text in _FIELD.findall(rest):
        if meaning_in_plural(name) is None:
            continue
        number = whole_number(text)
        value: Any = text.strip() if number is None else int(number)
        found[name] = f"{found[name]} or {value}" if name in found and found[name] != value else value
    return found


def _code(line: str) -> int:
    """Return the code of a charge in the line of an atom, by its place in the line, or by its number where that is shifted."""
    text = line[36:39] if len(line) > 31 and line[30] == " " and line[31].isalpha() else (line.split() + ["0"] * 6)[5]
    return int(text) if text.strip().isdigit() else 0
