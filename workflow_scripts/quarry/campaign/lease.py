"""One main process per campaign: a lease with host, process and heartbeat.

Snakemake's own lock stays behind after ``kill -9`` and asks for ``--unlock``. The profiles switch it off; this lease
tells a dead owner from a living one, so that the same command goes on.
"""

from __future__ import annotations

import atexit
import json
import os
import secrets
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from quarry.errors import QuarryError
from quarry.files import publish_once

HEARTBEAT_S = 15.0
STALE_AFTER_S = 120.0
"""A lease of another host is dead when its heartbeat is older than this."""


class Lease:
    """The right to run a campaign; held until the process ends."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.owner = {**_this_process(), "token": secrets.token_hex(8)}
        self._stop = threading.Event()

    def acquire(self) -> None:
        """Take the lease. Raises QuarryError if a living process has it."""
        data = json.dumps(self.owner, sort_keys=True).encode()
        for _ in range(20):
            if publish_once(self.path, data):
                break
            self._clear_if_dead()
        else:
            raise QuarryError(f"{self.path}: cannot take the lease; other processes are starting this campaign too")
        atexit.register(self.release)
        threading.Thread(target=self._beat, name="quarry-lease", daemon=True).start()

    def release(self) -> None:
        """Give the lease back, if it is still ours."""
        self._stop.set()
        if _read(self.path) == self.owner:
            with suppress(FileNotFoundError):
                self.path.unlink()

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_S):
            with suppress(FileNotFoundError):
                os.utime(self.path)

    def _clear_if_dead(self) -> None:
        """Remove the lease of a dead process; raise QuarryError for a living one."""
        try:
            age = time.time() - self.path.stat().st_mtime
        except FileNotFoundError:
            return
        other = _read(self.path)
        if other is not None and _is_alive(other, age):
            who = f"process {other['pid']} on {other['host']}, started {other['started']}"
            hint = "wait for it, or stop it there"
            if other["host"] != self.owner["host"]:
                hint += f"; if it is dead, this works again {STALE_AFTER_S:.0f} s after its last heartbeat ({age:.0f} s ago)"
            raise QuarryError(f"{self.path.parent}: this campaign is being run by {who}; {hint}")
        # Two starters may both see the dead lease: only the one whose rename takes this very file may go on.
        aside = self.path.with_name(f"{self.path.name}.{secrets.token_hex(8)}")
        with suppress(FileNotFoundError):
            os.rename(self.path, aside)
            if _read(aside) != other:
                with suppress(FileExistsError):
                    os.link(aside, self.path)
            aside.unlink()


def _read(path: Path) -> dict[str, Any] | None:
    try:
        data = json.loads(path.read_bytes())
        return data if isinstance(data, dict) and {"host", "pid", "boot", "ticks"} <= data.keys() else None
    except (OSError, ValueError):
        return None


def _is_alive(owner: dict[str, Any], age_s: float) -> bool:
    """Whether a lease's owner lives: by process on this machine, by heartbeat elsewhere."""
    here = _this_process()
    if owner["host"] != here["host"]:
        return age_s < STALE_AFTER_S
    if owner["boot"] != here["boot"]:
        return False
    return _ticks(int(owner["pid"])) == owner["ticks"]


def _this_process() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "boot": _first_line("/proc/sys/kernel/random/boot_id"),
        "ticks": _ticks(os.getpid()),
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _ticks(pid: int) -> str | None:
    """Return a process's start time in clock ticks, which tells it from a later one with the same number; None if dead."""
    line = _first_line(f"/proc/{pid}/stat")
    if line is None:
        return None
    fields = line.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


def _first_line(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None
