"""Snakemake's own records of finished jobs (``.snakemake/metadata``), where one of them is damaged.

A shim for Snakemake 9.27: its ``FilePersistence._io_read`` takes a record that is cut off for none, but ends with a traceback
at every start for one that is no text at all. Only the times and names of inputs are asked for in these records, and without
one of them a file is taken by its time, so a damaged record counts as none.
"""

from __future__ import annotations

from typing import Any


def forgive_damaged_records() -> None:
    """Let Snakemake take any damaged record for none."""
    from snakemake.persistence.file import FilePersistence

    original = FilePersistence._io_read
    if getattr(original, "forgives", False):
        return

    def read(self: Any, subject: Any, id: Any) -> Any:
        try:
            record = original(self, subject, id)
        except (ValueError, IsADirectoryError):
            return {}
        return record if isinstance(record, dict) else {}

    read.forgives = True  # type: ignore[attr-defined]
    FilePersistence._io_read = read
