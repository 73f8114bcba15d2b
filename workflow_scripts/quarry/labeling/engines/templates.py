"""Placeholders of commands and input files: ``$name`` or ``${name}``, and ``$$`` for the character itself.

string.Template, because % and {} belong to the input of many programs.
"""

from __future__ import annotations

from collections.abc import Iterable
from string import Template

from quarry.errors import QuarryError
from quarry.structures import Structure

OF_COMMAND = (
    *("charge", "multiplicity", "unpaired", "structure_id", "number_of_atoms"),
    *("threads", "tasks", "memory_MB", "memory_per_task_MB", "launcher", "base"),
)
OF_INPUT = (*OF_COMMAND, "atoms", "xyz")


def placeholders(text: str, known: Iterable[str], key: str) -> set[str]:
    """Return the placeholders of a text. key: where it stands, for messages.

    Raises QuarryError for an unknown placeholder, and for a $ that is neither a placeholder nor $$.
    """
    template = Template(text)
    allowed = tuple(known)
    used = set(template.get_identifiers())
    unknown = sorted(used - set(allowed))
    if unknown:
        raise QuarryError(
            f"{key}: unknown placeholder ${unknown[0]}; known are {', '.join('$' + name for name in allowed)}; "
            "write $$ for the character $ itself"
        )
    if not template.is_valid():
        raise QuarryError(f"{key}: a $ that belongs to no placeholder; write $$ for the character itself")
    return used


def xyz_text(structure: Structure) -> str:
    """Return a structure as extended XYZ (Angstrom, to the 1e-6 that its identity has)."""
    from ase.data import chemical_symbols

    fields = ["Properties=species:S:1:pos:R:3"]
    if structure.cell is not None:
        fields.append('Lattice="' + " ".join(f"{x:.6f}" for x in structure.cell.ravel()) + '"')
    fields.append('pbc="' + " ".join("T" if periodic else "F" for periodic in structure.pbc) + '"')
    fields.append(f"charge={structure.charge} multiplicity={structure.multiplicity}")
    fields.append(f"structure_id=s{structure.structure_id}")
    atoms = [
        f"{chemical_symbols[number]:<2} {x:15.6f} {y:15.6f} {z:15.6f}"
        for number, (x, y, z) in zip(structure.numbers, structure.positions, strict=True)
    ]
    return "\n".join([str(len(structure)), " ".join(fields), *atoms]) + "\n"


def values_of(structure: Structure) -> dict[str, str]:
    """Return the texts of the placeholders that a structure fills, by name; positions in Angstrom."""
    xyz = xyz_text(structure)
    return {
        "charge": str(structure.charge),
        "multiplicity": str(structure.multiplicity),
        "unpaired": str(structure.multiplicity - 1),
        "structure_id": structure.structure_id,
        "number_of_atoms": str(len(structure)),
        "atoms": "\n".join(xyz.splitlines()[2:]),
        "xyz": xyz.rstrip("\n"),
    }


def filled(text: str, values: dict[str, str]) -> str:
    """Return a text with its placeholders filled."""
    return Template(text).substitute(values)
