"""Who a process is, so that another one on the same machine can tell whether it still lives; and how its children end.

Standard library only where nothing is ended.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

IDENTITY = ("host", "boot", "pid", "ticks")
"""What ``this_process`` always gives; without one of these a process cannot be looked for."""

GRACE_S = 10.0
"""Time that a program has to give back what it holds when it is asked to end."""


def this_process() -> dict[str, Any]:
    """Return what identifies this process: host, boot, namespace, pid, start ticks; and when this was asked (s since 1970)."""
    return {
        "host": socket.gethostname(),
        "boot": _first_line("/proc/sys/kernel/random/boot_id"),
        "namespace": _namespace(),
        "pid": os.getpid(),
        "ticks": start_ticks(os.getpid()),
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


@contextmanager
def only_this_process() -> Iterator[None]:
    """Run user-defined code; a forked copy of this process that comes back from it ends here, without a message.

    Otherwise both would go on: answer twice, write the same files, take the next structure from the same line.
    """
    own = os.getpid()
    try:
        yield
    finally:
        if os.getpid() != own:
            os._exit(0)


def is_running(process: Mapping[str, Any]) -> bool | None:
    """Whether a process of this machine runs; None if it cannot be seen from here.

    process: as ``this_process`` gave it, or read from a file. Unseen are the processes of other hosts, of other boots,
    and of a container with process numbers of its own.
    """
    here = this_process()
    pid = process.get("pid")
    if any(process.get(key) != here[key] for key in ("host", "boot", "namespace")) or not isinstance(pid, int):
        return None
    return start_ticks(pid) == process.get("ticks")


def start_ticks(pid: int) -> str | None:
    """Return a process's start time in clock ticks since the boot; None if it is dead.

    A later process with the same number has another one.
    """
    fields = _fields(pid)
    return fields[19] if fields else None


def parent_of(pid: int) -> int | None:
    """Return the number of a process's parent; None if it is dead."""
    fields = _fields(pid)
    return int(fields[1]) if fields else None


def process_group(pid: int) -> int | None:
    """Return the number of a process's group; None if it is dead."""
    fields = _fields(pid)
    return int(fields[2]) if fields else None


def end_children(grace_s: float = GRACE_S) -> None:
    """Ask every descendant of this process in its own process group to end, and kill what is left after ``grace_s`` seconds."""
    end = time.monotonic() + grace_s
    _signal_children(signal.SIGTERM)
    while _signal_children(0) and time.monotonic() < end:
        time.sleep(0.1)
    _signal_children(signal.SIGKILL)


def _signal_children(number: int) -> int:
    """Send a signal to every descendant of this process in its own process group, and return how many there were.

    An engine has a group of its own: it is ended by its label job, which would take a signal to it for the engine's failure.
    """
    import psutil

    count = 0
    for child in psutil.Process().children(recursive=True):
        with suppress(OSError, psutil.Error):
            if os.getpgid(child.pid) == os.getpgrp() and child.status() != psutil.STATUS_ZOMBIE:
                os.kill(child.pid, number)
                count += 1
    return count


def _fields(pid: int) -> list[str] | None:
    """Return what the kernel says of a living process, from its state on (``man 5 proc``, field 3)."""
    line = _first_line(f"/proc/{pid}/stat")
    if line is None:
        return None
    fields = line.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields


def _namespace() -> str | None:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return None


def _first_line(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None
