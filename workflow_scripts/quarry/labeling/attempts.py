"""What happened to a label so far, on disk: a job that is killed cannot tell its successor otherwise.

One file per label, ``attempts/<key>.json``, a list of attempts; who holds the label's claim writes it. An attempt is
written down when it starts and kept up to date while it runs; its end is added when somebody lives to add it. Standard
library only: the memory and time of the next attempt are read from it when a job is submitted.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from quarry.files import write_json

ENDS = ("out_of_memory", "out_of_time", "interrupted", "cancelled", "killed")
"""interrupted: its job's time was over, but it had started late. cancelled: ended by a signal that could be caught, e.g.
Ctrl-C, scancel, a shutdown. killed: without a trace.
"""

SUSPECT_MEMORY, SUSPECT_TIME = 0.6, 0.9
"""Share of its memory or time above which a job that vanished is taken to have run out of it."""


@dataclass(frozen=True)
class Attempt:
    """One attempt at a label that did not end with a record.

    key: the label (``BatchRow.key``). run: the main process it belonged to. memory_MB, walltime_s: what the job had.
    elapsed_s: wall time of the attempt. job_elapsed_s: that of the job. peak_MB: largest memory seen. end: one of
    ``ENDS``, or None while it runs (or when nobody lived to write it).
    """

    key: str
    run: str
    host: str
    memory_MB: float
    walltime_s: float
    elapsed_s: float = 0.0
    job_elapsed_s: float = 0.0
    peak_MB: float = 0.0
    end: str | None = None

    @property
    def verdict(self) -> str:
        """How it ended; where nobody wrote it, what is likely."""
        if self.end is not None and self.end != "cancelled":
            return self.end
        # A batch system that ends a job for its time sends the same signal as scancel.
        if self.job_elapsed_s >= SUSPECT_TIME * self.walltime_s:
            return "out_of_time"
        if self.end == "cancelled":
            return self.end
        return "out_of_memory" if self.peak_MB >= SUSPECT_MEMORY * self.memory_MB else "killed"


class Attempts:
    """The attempts at the labels of one iteration."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def path(self, key: str) -> Path:
        """Return the file of a label."""
        return self.folder / f"{key}.json"

    def of(self, key: str) -> list[Attempt]:
        """Return the attempts at a label so far; what an earlier label handed down is left out."""
        return [item for item in read_attempts(self.path(key)) if item.key == key]

    def start(self, attempt: Attempt, key: str = "") -> None:
        """Write down that an attempt starts. key: of the label that it is handed down to, where that is another one."""
        path = self.path(key or attempt.key)
        _write(path, [*read_attempts(path), attempt])

    def update(self, key: str, **changes: float | str | None) -> None:
        """Change the running attempt (the last one)."""
        items = read_attempts(self.path(key))
        if items:
            _write(self.path(key), [*items[:-1], replace(items[-1], **changes)])  # type: ignore[arg-type]

    def finish(self, key: str) -> None:
        """Forget the running attempt: it has ended with a record."""
        items = read_attempts(self.path(key))[:-1]
        if items:
            _write(self.path(key), items)
        else:
            self.path(key).unlink(missing_ok=True)


def _write(path: Path, items: Sequence[Attempt]) -> None:
    write_json(path, [asdict(item) for item in items])


def read_attempts(path: str | Path) -> list[Attempt]:
    """Return what a file of attempts holds; a damaged one counts as none."""
    try:
        return [Attempt(**item) for item in json.loads(Path(path).read_bytes())]
    except (OSError, ValueError, TypeError):
        return []


def counted(attempts: Sequence[Attempt], run: str) -> list[Attempt]:
    """Return the attempts that count against a label.

    Out of memory and out of time always do. Killed without a trace counts within one run of the main process: a job that
    a power failure took with everything else is no fault of the structure. Cancelled never does.
    """
    return [a for a in attempts if a.verdict in ENDS[:2] or (a.verdict == "killed" and a.run == run)]


def needed(attempts: Sequence[Attempt], growth: float) -> tuple[float, float]:
    """Return what the next attempt must have at least: memory (MB) and walltime (s); 0 where nothing is known.

    ``growth`` times what was not enough. A kill without a trace counts as out of memory, once: the kernel leaves none
    when it takes the whole job.
    """
    memory = [a.memory_MB for a in attempts if a.verdict == "out_of_memory"]
    killed = [a.memory_MB for a in attempts if a.verdict == "killed"]
    time = [a.walltime_s for a in attempts if a.verdict == "out_of_time"]
    return growth * max([*memory, min(killed, default=0.0)]), growth * max(time, default=0.0)
