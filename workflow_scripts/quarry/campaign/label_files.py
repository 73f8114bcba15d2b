"""Label files of an iteration: what is in them, and whether it is what batch and label store say (used at parse time)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from quarry.campaign.batch_table import BatchRow, read_batch, rows_by_job
from quarry.labeling.record import LabelRecord, read_records
from quarry.labeling.store import place_of


def rows_of(table: str | Path) -> dict[str, list[BatchRow]]:
    """Return the rows of a batch by job; none if the table is absent or damaged."""
    try:
        return rows_by_job(read_batch(table))
    except (OSError, ValueError):
        return {}


def fault_of(label: Path, ids: list[str], store: Path | None) -> str:
    """Return why a label file cannot be gone on with, empty if it can. ids: of its job's structures; none: not known.

    Whoever changes a record may give it a new checksum; the store has what was computed.
    """
    try:
        records = read_records(label)
    except ValueError as error:
        return str(error)
    if ids and [record.structure_id for record in records] != ids:
        return f"{label} has the labels of other structures"
    if store is None:
        return ""
    for record in records:
        if record.method_id != store.name:
            return f"{label} has a label of method {record.method_id}, not of {store.name}"
        known = record_of(record.structure_id, [place_of(store, record.structure_id)]) if record.ok else None
        if known is not None and known.properties != record.properties:
            return f"{label} differs from the label of {record.structure_id} in the store"
    return ""


def record_of(structure_id: str, files: Iterable[Path]) -> LabelRecord | None:
    """Return the record of a structure from the first file that holds it, None if none does."""
    found = (_records_of(file, [structure_id]) for file in files)
    return next((records[0] for records in found if records), None)


def holds(label: Path, ids: list[str]) -> bool:
    """Whether a label file is intact and has the labels of these structures."""
    return bool(_records_of(label, ids))


def _records_of(label: Path, ids: list[str]) -> list[LabelRecord]:
    """Return the records of a label file that is intact and has the labels of these structures; none of another one."""
    try:
        records = read_records(label)
    except (OSError, ValueError):
        return []
    return records if [record.structure_id for record in records] == ids else []
