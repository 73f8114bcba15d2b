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
            return self._set_aside(path, str(error))
        right = (record.structure_id, record.method_id) == (structure_id, self.folder.name)
        return record if right and record.ok else self._set_aside(path, f"{path}: the record of another label")

    def _set_aside(self, path: Path, reason: str) -> LabelRecord | None:
        """Move a bad record aside; if another job has put a good one in its place meanwhile, put that back."""
        try:
            aside = move_aside(path)
        except FileNotFoundError:
            return None
        try:
            record = read_records(aside)[0]
        except ValueError:
            record = None
        if record is None or (record.structure_id, record.method_id) != (path.stem, self.folder.name) or not record.ok:
            print(f"Quarry: {reason}; moved aside to {aside.name}", flush=True)
            return None
        publish_once(path, aside.read_bytes())
        aside.unlink()
        return record

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
