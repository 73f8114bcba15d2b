"""One main process per campaign: a lease with host, process and heartbeat.

Snakemake's lock stays behind after ``kill -9`` and asks for ``--unlock``. The profiles switch it off; this lease
distinguishes a dead owner from a living one, so that the same command goes on.
"""

from __future__ import annotations

import atexit
import json
import os
import secrets
import signal
import stat
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from quarry.errors import QuarryError
from quarry.files import publish_once
from quarry.processes import IDENTITY, is_running, this_process
from quarry.terminal import say

HEARTBEAT_S = 15.0
ATTEMPTS = 100
STALE_AFTER_S = 120.0
"""A lease of another host is dead when its heartbeat is older than this."""
WATCH_S = 4 * HEARTBEAT_S
"""How long the heartbeat of a lease is waited for whose time tells nothing."""
LOOK_S = 1.0


class Lease:
    """The right to run a campaign; held until the process ends."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.owner = {**this_process(), "token": secrets.token_hex(8), "folder": _folder(self.path)}
        self._data = json.dumps(self.owner, sort_keys=True).encode()
        self._held = False
        self._stop = threading.Event()

    def acquire(self) -> None:
        """Take the lease. Raises QuarryError if a living process has it."""
        for _ in range(ATTEMPTS):
            if publish_once(self.path, self._data):
                break
            self._clear_if_dead()
        else:
            raise QuarryError(
                f"{self.path}: cannot take the lease; other processes are starting this campaign too; wait, and start again"
            )
        self._held = True
        atexit.register(self.release)
        threading.Thread(target=self._beat, name="quarry-lease", daemon=True).start()

    def release(self) -> None:
        """Give the lease back, if it is still ours."""
        self._stop.set()
        self._held = False
        with suppress(OSError):
            if _read(self.path) == self.owner:
                self.path.unlink()

    def _beat(self) -> None:
        """Keep the lease fresh; a process that lost it submits no further jobs."""
        while not self._stop.wait(HEARTBEAT_S):
            try:
                owner = _read(self.path)
                if owner == self.owner:
                    os.utime(self.path)
                elif owner is None:
                    publish_once(self.path, self._data)
                elif self._held:
                    who = f"process {owner['pid']} on {owner['host']}"
                    print(
                        f"Quarry: {self.path.parent} was taken over by {who}; this run ends",
                        file=sys.stderr,
                        flush=True,
                    )
                    os.kill(os.getpid(), signal.SIGTERM)
                    return
            except OSError:
                # A file server that is away for a moment: try again at the next beat.
                continue

    def _clear_if_dead(self) -> None:
        """Remove the lease of a dead process; raise QuarryError for a living one."""
        try:
            other = _read(self.path)
            age = _age_s(self.path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise QuarryError(
                f"{self.path}: cannot tell whether this campaign is being run ({error}); if it is not, remove {self.path}"
            ) from error
        if other is not None and not self._is_copy(other) and _is_alive(other, age, self.path):
            who = f"process {other['pid']} on {other['host']}, started {other.get('started')}"
            hint = "wait for it, or stop it there"
            if other["host"] != self.owner["host"]:
                hint += f"; if it is dead, this works again {STALE_AFTER_S:.0f} s after its last heartbeat ({age:.0f} s ago)"
            raise QuarryError(f"{self.path.parent}: this campaign is being run by {who}; {hint}")
        # Of several starters that see the dead lease only one may remove it, or it removes a successor's.
        breaker = self.path.with_name(f"{self.path.name}.breaking")
        with suppress(FileNotFoundError):
            if publish_once(breaker, self._data):
                try:
                    if _read(self.path) == other:
                        self.path.unlink()
                finally:
                    breaker.unlink()
            elif abs(_age_s(breaker)) > STALE_AFTER_S:
                breaker.unlink()
            else:
                time.sleep(0.05)

    def _is_copy(self, other: dict[str, Any]) -> bool:
        """Whether a lease was copied here with its campaign (cp -a): its owner, alive or not, runs the original.

        Only on the owner's own machine, where folders have one name and number each. A folder that was renamed keeps its
        number, one that is seen under another name too.
        """
        there, here = other.get("folder"), self.owner["folder"]
        same_machine = all(other[key] == self.owner[key] for key in ("host", "boot"))
        return (
            same_machine
            and isinstance(there, list)
            and len(there) == 2
            and all(a != b for a, b in zip(there, here, strict=True))
        )


def run_of(path: str | Path) -> str:
    """Return which main process a job belongs to: the token of the campaign's lease, empty where there is none."""
    owner = _read(Path(path))
    return str(owner.get("token", "")) if owner else ""


def _read(path: Path) -> dict[str, Any] | None:
    """Return a lease's owner, or None if there is none or it is garbage. Raises OSError if it cannot be read.

    A lease appears whole (``publish_once``), so garbage is nobody's.
    """
    try:
        if path.exists() and not path.is_file():
            # A pipe would be waited for without end.
            raise OSError(f"it is no file: {stat.filemode(path.stat().st_mode)}")
        data = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return data if isinstance(data, dict) and data.keys() >= set(IDENTITY) else None


def _folder(path: Path) -> list[str | int]:
    """Return what tells the folder of a lease from every other one of this machine: its name and its number."""
    folder = path.parent.resolve()
    return [str(folder), folder.stat().st_ino]


def _age_s(path: Path) -> float:
    """Return how long ago (s) a file was last touched, by the clock of its file server, which sets its time."""
    written = path.stat().st_mtime
    probe = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        probe.touch()
        return probe.stat().st_mtime - written
    finally:
        probe.unlink(missing_ok=True)


def _is_alive(owner: dict[str, Any], age_s: float, path: Path) -> bool:
    """Whether a lease's owner lives: by process on this machine, by heartbeat elsewhere.

    age_s: since the last heartbeat; less than nothing where a clock is wrong or a backup was put back: then the next
    heartbeat is waited for.
    """
    here = this_process()
    if owner["host"] == here["host"] and owner["boot"] != here["boot"]:
        return False
    running = is_running(owner)
    if running is not None:
        return running
    if age_s < -STALE_AFTER_S:
        return _beats(path)
    return age_s < STALE_AFTER_S


def _beats(path: Path) -> bool:
    """Whether a lease is refreshed while one waits for several heartbeats."""
    say(f"the time of {path} lies in the future; waiting for its owner's heartbeat")
    before, end = path.stat().st_mtime_ns, time.monotonic() + WATCH_S
    with suppress(FileNotFoundError):
        while time.monotonic() < end:
            time.sleep(LOOK_S)
            if path.stat().st_mtime_ns != before:
                return True
    return False
