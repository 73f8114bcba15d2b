"""What happened to a label so far, on disk: the successor of a job that was killed has nothing else to go by.

One file per label, ``attempts/<key>.json``, a list of attempts; who holds the label's claim writes it. An attempt is
written down when it starts and kept up to date while it runs; its end is added when somebody lives to add it. That is
bookkeeping: a disk that does not take it (full, read-only, away) ends no calculation, and is reported once; what it did not take
is written when it does. Standard library only: the memory and time of the next attempt are read when a job is submitted.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from quarry.files import read_file, write_json
from quarry.terminal import tell

MACHINE_FAULT = "machine_fault"
"""The node could not do its part, e.g. its scratch folder is full. No failure class: there is no record of it."""

ENDS = ("out_of_memory", "out_of_time", "interrupted", "cancelled", "killed", MACHINE_FAULT)
"""interrupted: its job's time was over, but it had started late. cancelled: ended by a signal that could be caught, e.g.
Ctrl-C, scancel, a shutdown. killed: without a trace.
"""

TOLD_AGAIN_AFTER_S = 3600.0
"""Time (s) for which a disk that takes one file and not the next is not told again."""

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
        """How it ended, one of ``ENDS``; where nobody wrote it, what is likely."""
        if self.end is not None and self.end != "cancelled":
            return self.end
        # A batch system that ends a job for its time sends the same signal as scancel.
        if self.job_elapsed_s >= SUSPECT_TIME * self.walltime_s:
            return "out_of_time"
        if self.end == "cancelled":
            return self.end
        return "out_of_memory" if self.peak_MB >= SUSPECT_MEMORY * self.memory_MB else "killed"


class Attempts:
    """The attempts at the labels of one iteration.

    What the disk does not take is kept here until it does, and dropped if another job has gone on with the label since.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        # By key: what was on disk (None: the disk did not tell) and what is to be there.
        self._unwritten: dict[str, tuple[list[Attempt] | None, list[Attempt]]] = {}
        # By key: what was on disk when it was last read or written.
        self._seen: dict[str, list[Attempt]] = {}
        self._told, self._trouble = float("-inf"), False

    def path(self, key: str) -> Path:
        """Return the file of a label."""
        return self.folder / f"{key}.json"

    def of(self, key: str) -> list[Attempt]:
        """Return the attempts at a label so far; what an earlier label handed down is left out."""
        return [item for item in self._known(key)[1] if item.key == key]

    def start(self, attempt: Attempt, key: str = "") -> None:
        """Write down that an attempt starts. key: of the label that it is handed down to, where that is another one."""
        self._change(key or attempt.key, lambda items: [*items, attempt])

    def update(self, key: str, **changes: float | str | None) -> None:
        """Change the running attempt (the last one). changes: fields of ``Attempt``."""
        self._change(key, lambda items: [*items[:-1], *(replace(item, **changes) for item in items[-1:])])  # type: ignore[arg-type]

    def finish(self, key: str) -> None:
        """Forget the running attempt: it has ended with a record."""
        self._change(key, lambda items: items[:-1])

    def lose(self, key: str) -> None:
        """Leave the file of a label to the job that has taken it over."""
        self._unwritten.pop(key, None)

    def _change(self, key: str, change: Callable[[list[Attempt]], list[Attempt]]) -> None:
        before, items = self._known(key)
        self._unwritten[key] = before, change(items)
        try:
            written = [waiting for waiting in list(self._unwritten) if self._write(waiting)]
        except OSError as error:
            if time.monotonic() - self._told > TOLD_AGAIN_AFTER_S:
                tell(
                    f"{self.folder} cannot be written ({error.strerror or error}); what is computed goes on, labels go into "
                    "the store, and this is told once"
                )
                self._told, self._trouble = time.monotonic(), True
            return
        if self._trouble and written:
            tell(f"{self.folder} can be written again")
            self._trouble = False

    def _write(self, key: str) -> bool:
        """Write what the disk does not have yet of a label; return whether it took anything. Raises OSError if it does not."""
        # Read first: a disk that cannot be read is not written either, or what is there would be lost.
        _, items = self._state(key)
        if key not in self._unwritten:
            return False
        if items:
            write_json(self.path(key), [asdict(item) for item in items])
        else:
            self.path(key).unlink(missing_ok=True)
        del self._unwritten[key]
        self._seen[key] = items
        return bool(items)

    def _known(self, key: str) -> tuple[list[Attempt] | None, list[Attempt]]:
        """Return what was on disk of a label (None: the disk does not tell) and what is to be there."""
        try:
            return self._state(key)
        except OSError:
            before = self._seen.get(key)
            return self._unwritten.get(key, (before, before or []))

    def _state(self, key: str) -> tuple[list[Attempt], list[Attempt]]:
        """Return what is on disk of a label and what is to be there. Raises OSError if the disk does not tell."""
        on_disk = self._seen[key] = _read(self.path(key))
        if key not in self._unwritten:
            return on_disk, on_disk
        before, items = self._unwritten[key]
        if before is None:
            items = [*on_disk, *items]
        elif before != on_disk:
            # Another job has gone on with this label.
            del self._unwritten[key]
            return on_disk, on_disk
        return on_disk, items


def _read(path: Path) -> list[Attempt]:
    """Return what a file of attempts holds; none if it is absent or damaged. Raises OSError if the disk does not tell."""
    try:
        return [Attempt(**item) for item in json.loads(read_file(path)[0])]
    except (FileNotFoundError, ValueError, TypeError):
        return []


def read_attempts(path: str | Path) -> list[Attempt]:
    """Return what a file of attempts holds; none if it cannot be read or is damaged."""
    with suppress(OSError):
        return _read(Path(path))
    return []


def counted(attempts: Sequence[Attempt], run: str) -> list[Attempt]:
    """Return the attempts that count against a label in a run of the main process (``Attempt.run``).

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
