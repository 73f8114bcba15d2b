"""A mark in the log of a job whose failure is no fault of the machine: Snakemake need not try it again."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

MARK = "Not tried again: this is no fault of the machine."
_TAIL_BYTES = 400


def is_marked(logs: Iterable[str | Path]) -> bool:
    """Return whether one of a job's logs ends with the mark."""
    return any(_tail(Path(log)).rstrip().endswith(MARK) for log in logs)


def forget_mark(logs: Iterable[str | Path]) -> None:
    """Remove logs of an earlier attempt that are marked: a new one may end before it writes its own."""
    for log in map(Path, logs):
        with suppress(OSError):
            if is_marked([log]):
                log.unlink()


def _tail(log: Path) -> str:
    try:
        with log.open("rb") as stream:
            stream.seek(0, 2)
            stream.seek(max(0, stream.tell() - _TAIL_BYTES))
            return stream.read().decode(errors="replace")
    except OSError:
        return ""
