"""A database of ASE (SQLite): ``ase.db.connect``, ``ase db``, and tools that train on one."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quarry.product.formats.base import Format
from quarry.product.formats.extended_xyz import frames_with_parts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from quarry.product.campaign_data import CampaignData

KEYS = ("structure_id", "split", "role", "iteration", "total_charge", "total_spin", "config_type")
"""Of a frame, what rows can be selected by; numbers of other properties are keys too, and all else is in the row's data."""


def write(data: CampaignData, rows: NDArray[np.int64], path: Path) -> None:
    """Write the database. Energies, forces, stresses, dipoles and charges are results of the rows.

    Times, user and names of rows, which ASE draws at random, are those of the labels, so that the same labels give the same rows.
    """
    from ase.db import connect

    from quarry.properties import PROPERTIES, REFERENCE

    plain = {entry.key for entry in PROPERTIES.values() if entry.one_number and not entry.ase}
    with connect(path, type="db", use_lock_file=False) as database:
        for atoms in frames_with_parts(data, rows):
            info: dict[str, Any] = {name: value for name, value in atoms.info.items() if not name.startswith(REFERENCE)}
            keys = {name: info[name] for name in (*KEYS, *plain) if name in info}
            more = {name: value for name, value in info.items() if name not in keys}
            more |= {name: atoms.arrays[name] for name in atoms.arrays if name in PROPERTIES}
            database.write(atoms, key_value_pairs=keys, data=more)
        database.metadata = {"title": data.root.resolve().name, "key_descriptions": {}}
    with closing(sqlite3.connect(path)) as connection, connection:
        ids = [(data.labelled.structures.ids[row], number) for number, row in enumerate(rows.tolist(), 1)]
        connection.executemany("UPDATE systems SET unique_id=?, ctime=0, mtime=0, username='' WHERE id=?", ids)


FORMAT = Format("ase-db", "database of ASE (SQLite)", (".db",), write)
