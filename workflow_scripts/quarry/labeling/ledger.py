"""The campaign's ledger of labels that are not in the store: ``failed/<key>.json``, written once each.

Most have failed, and failed labels are not published. Here they stay when a job is killed before its output is written, when
an arm meets the failure of another one, and when the label is tried again. A good label that the store refused (full disk,
lost permission) is kept here as well: it is paid for. So are labels that the user gave (``labeling.known``).
"""

from __future__ import annotations

from pathlib import Path

from quarry.files import move_aside, publish_once
from quarry.labeling.record import LabelRecord, encode_records, read_records
from quarry.terminal import tell


class LabelLedger:
    """The labels of one campaign that the store does not have: failed ones, and good ones that it refused or is not to have."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def path(self, key: str) -> Path:
        """Return where the record of a label is or would be."""
        return self.folder / f"{key}.json"

    def get(self, key: str) -> LabelRecord | None:
        """Return the record of a label, or None; a damaged one is moved aside."""
        try:
            return read_records(self.path(key))[0]
        except FileNotFoundError:
            return None
        except ValueError as error:
            try:
                tell(f"{error}; moved aside to {move_aside(self.path(key)).name}")
            except OSError as problem:
                tell(f"{error}; cannot be moved aside ({problem.strerror or problem})")
            return None

    def put(self, key: str, record: LabelRecord) -> LabelRecord:
        """Write a record down; return the one that is there (an earlier one stays)."""
        if publish_once(self.path(key), encode_records([record])):
            return record
        return self.get(key) or record

    def failures(self) -> dict[str, LabelRecord]:
        """Return the records of failed labels by key."""
        records = {path.stem: self.get(path.stem) for path in sorted(self.folder.glob("*.json"))}
        return {key: record for key, record in records.items() if record is not None and not record.ok}
