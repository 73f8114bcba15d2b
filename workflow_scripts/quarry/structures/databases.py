"""Reading ASE databases with the key-value pairs of their rows, which ``ase.io.read`` leaves out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from quarry.structures.state_names import meaning_in_plural

if TYPE_CHECKING:
    from ase import Atoms

_SQLITE = b"SQLite format 3"
"""The first bytes of a database in SQLite, whatever it is called."""


def is_database(path: Path) -> bool:
    """Return whether a file is an ASE database: SQLite, or JSON with rows by their ids."""
    with open(path, "rb") as handle:
        return handle.read(len(_SQLITE)) == _SQLITE or path.suffix.lower() in (".db", ".json")


def read_database(path: Path, index: str) -> list[Atoms]:
    """Return the rows of an ASE database as atoms, with their key-value pairs and unique_id in ``info``, and entries of their
    data that are about charge and spin.

    index: ASE's, of the rows in their order, or a selection ('natoms<5'). Raises what ASE raises for a file that is none.
    """
    from ase.db import connect
    from ase.io.formats import string2index

    try:
        chosen: Any = string2index(index or ":")
    except ValueError:
        chosen = index
    kind = "json" if path.suffix.lower() == ".json" else "db"
    with connect(path, type=kind, serial=True) as database:
        rows = list(database.select(chosen if isinstance(chosen, str) else None))
    if isinstance(chosen, int):
        rows = [rows[chosen]]
    elif isinstance(chosen, slice):
        rows = rows[chosen]
    found = []
    for row in rows:
        atoms = row.toatoms()
        # As stored: of a key named charge ASE gives its own property of that name, the sum of the initial charges.
        stored = {key: vars(row).get(key, value) for key, value in row.key_value_pairs.items()}
        data = {key: value for key, value in row.data.items() if meaning_in_plural(str(key)) is not None}
        atoms.info = {**data, **stored, "unique_id": row.unique_id}
        found.append(atoms)
    return found
