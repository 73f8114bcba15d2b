"""The label store: one file per (structure, method), shared by arms, campaigns and users of a folder.

Layout: ``<root>/<method id>/<first two digits>/<structure id>.json``. A record is published once (exclusive link) and
never changed; what cannot be read is moved aside. No lock, no server: rename and exclusive create only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from quarry.files import digest_of, move_aside, publish_once, write_json
from quarry.labeling.record import LabelRecord, encode_records, read_records

METHOD_ID_LENGTH = 16


def method_id_of(identity: dict[str, Any]) -> str:
    """Return the id of a method from everything that changes its numbers (``Engine.method_identity``)."""
    return digest_of(identity, METHOD_ID_LENGTH)


class LabelStore:
    """The labels of one method."""

    def __init__(self, root: str | Path, method_id: str, method: dict[str, Any]) -> None:
        self.folder = Path(root) / method_id
        self.method = method

    def path(self, structure_id: str) -> Path:
        """Return where the record of a structure is or would be."""
        return self.folder / structure_id[:2] / f"{structure_id}.json"

    def get(self, structure_id: str) -> LabelRecord | None:
        """Return the record, or None; a damaged one is moved aside, so that it is computed again."""
        path = self.path(structure_id)
        try:
            record = read_records(path)[0]
        except FileNotFoundError:
            return None
        except ValueError as error:
            print(f"Quarry: {error}; moved aside to {move_aside(path).name}")
            return None
        return record if record.structure_id == structure_id and record.ok else None

    def put(self, record: LabelRecord) -> LabelRecord:
        """Publish a successful record; return the one that is in the store (an earlier one stays).

        Failed records are not published: they belong to the campaign that met them.
        """
        if not record.ok:
            return record
        description = self.folder / "method.json"
        if not description.exists():
            write_json(description, self.method)
        if publish_once(self.path(record.structure_id), encode_records([record])):
            return record
        return self.get(record.structure_id) or record
