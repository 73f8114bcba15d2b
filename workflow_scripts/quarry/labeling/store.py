"""The label store: one file per (structure, method), shared by arms, campaigns and users of a folder.

Layout: ``<root>/<method id>/<first two digits>/<structure id>.json``. A record is published once (exclusive link) and
never changed; what cannot be read is moved aside. No lock, no server: rename and exclusive create only. Who computes a
label that is not there yet is settled by ``quarry.labeling.claims``.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from quarry.errors import QuarryError
from quarry.files import digest_of, move_aside, publish_once, readable_json
from quarry.labeling.record import LabelRecord, encode_records, read_records
from quarry.labeling.sharing import make_shared, rights_of_files
from quarry.terminal import tell

METHOD_ID_LENGTH = 16
PUBLISH_ATTEMPTS = 5


class StoreError(QuarryError):
    """The store cannot be read or written: full, read-only, not permitted, gone. No fault of a label."""

    of_the_machine = True

    def __init__(self, folder: str | Path, problem: str) -> None:
        super().__init__(f"label store {folder}: {problem}; correct that, or name another folder in labeling.store")


def method_id_of(identity: dict[str, Any]) -> str:
    """Return the id of a method from everything that changes its numbers (``Engine.method_identity``)."""
    return digest_of(identity, METHOD_ID_LENGTH)


def place_of(folder: Path, structure_id: str) -> Path:
    """Return where the record of a structure is or would be in the folder of a method."""
    return folder / structure_id[:2] / f"{structure_id}.json"


class LabelStore:
    """The labels of one method."""

    def __init__(self, root: str | Path, method_id: str, method: dict[str, Any]) -> None:
        self.folder = Path(root) / method_id
        self.method = method

    def path(self, structure_id: str) -> Path:
        """Return where the record of a structure is or would be."""
        return place_of(self.folder, structure_id)

    def get(self, structure_id: str) -> LabelRecord | None:
        """Return the record, or None; a damaged one is moved aside, so that it is computed again.

        Raises StoreError if the store cannot be read.
        """
        path = self.path(structure_id)
        try:
            return self._read(path, structure_id)[0] or self._set_aside(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(self.folder, f"cannot read {path.name} ({error.strerror or error})") from error

    def look(self, structure_id: str) -> LabelRecord | None:
        """Return the record of a structure in a store that is used no more, or None; changes nothing there, never fails."""
        with suppress(OSError):
            return self._read(self.path(structure_id), structure_id)[0]
        return None

    def put(self, record: LabelRecord) -> LabelRecord:
        """Publish a successful record; return the one that is in the store (an earlier one stays).

        Failed records are not published: they belong to the campaign that met them. Raises StoreError if the store
        cannot be written; the record is then still the caller's.
        """
        if not record.ok:
            return record
        try:
            path = self.path(record.structure_id)
            make_shared(path.parent)
            description = self.folder / "method.json"
            if not description.exists():
                publish_once(description, readable_json(self.method).encode(), rights_of_files(self.folder))
            for _ in range(PUBLISH_ATTEMPTS):
                if publish_once(path, encode_records([record]), rights_of_files(path.parent)):
                    return record
                # None: what is there is damaged, and now moved aside.
                earlier = self.get(record.structure_id)
                if earlier is not None:
                    return earlier
        except OSError as error:
            raise StoreError(self.folder, f"cannot publish a label ({error.strerror or error})") from error
        raise StoreError(self.folder, f"{record.structure_id}.json is damaged again and again")

    def _read(self, path: Path, structure_id: str) -> tuple[LabelRecord | None, str]:
        """Return the record of a structure if that is what the file holds, or what is wrong with it."""
        try:
            records = read_records(path)
        except ValueError as error:
            return None, str(error)
        right = [(r.structure_id, r.method_id, r.ok) for r in records] == [(structure_id, self.folder.name, True)]
        return (records[0], "") if right else (None, f"{path}: the record of another label")

    def _set_aside(self, path: Path) -> LabelRecord | None:
        """Move a bad record aside; return the good one that another job has put in its place meanwhile, if so."""
        seen = _version(path)
        record, reason = self._read(path, path.stem)
        if record is not None or _version(path) != seen:
            return record or self._read(path, path.stem)[0]
        try:
            aside = move_aside(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            tell(f"{reason}; cannot be moved aside ({error.strerror or error})")
            return None
        # Between the last look and the move somebody may still have replaced it.
        record, _ = self._read(aside, path.stem)
        if record is None:
            tell(f"{reason}; moved aside to {aside.name}")
            return None
        publish_once(path, aside.read_bytes(), rights_of_files(path.parent))
        aside.unlink()
        return record


def _version(path: Path) -> tuple[int, int]:
    """Return what changes when another file, or another content, takes a file's place."""
    try:
        state = path.stat()
    except FileNotFoundError:
        # A link to nothing, or nothing at all.
        state = path.lstat()
    return state.st_ino, state.st_mtime_ns
