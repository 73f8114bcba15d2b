"""Claims: a label that is being computed is not computed a second time, by whoever asks for it, on whatever host.

Layout: ``<root>/<method id>/claims/<first two digits>/<structure id>.<n>.json``. The highest n holds the label. To take it
is to create the next n exclusively, which is allowed when there is none or the highest is released or dead; of two that
try the same n one wins. Until the label is in the store no claim is ever removed (one given up is marked as released),
so that a number is never used twice and nobody can remove a successor's claim.

A holder touches its file (the file server's clock); a watcher looks whether the time changes between its own looks, on
its own monotonic clock. So the clocks of the hosts do not matter. No lock, no server: exclusive create only.

A full disk lets a holder touch its file; where it does not (read-only, away), nobody's silence counts: the watcher tries to
touch the folder itself.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quarry.config.engines.base import LONGEST_HEARTBEAT_S
from quarry.files import NotAFileError, add_rights, atomic_path, canonical_json, publish_once, read_file
from quarry.labeling.sharing import make_shared, rights_of_files
from quarry.labeling.store import StoreError, place_of
from quarry.processes import is_running, this_process
from quarry.terminal import tell

MISSED_HEARTBEATS = 6
"""A claim whose file was not touched for so many of its holder's heartbeats is dead."""
CLAIM_NAME = re.compile(r"(?P<structure>.+)\.(?P<number>\d+)\.json")


@dataclass
class _Observation:
    """What this process has seen of a claim: which file, its time stamp, and for how long it did not change (s)."""

    number: int
    token: str
    stamp_ns: int
    looked: float
    unchanged_s: float = 0.0


class Claim:
    """The right to compute one label; it must be kept alive with ``beat``."""

    def __init__(self, path: Path, number: int, owner: dict[str, Any], heartbeat_s: float) -> None:
        self.path = path
        self.number = number
        self.structure_id = path.name.removesuffix(f".{number}.json")
        self._owner = owner
        self._heartbeat_s = heartbeat_s
        self._touched = time.monotonic()
        self._over = False

    def beat(self) -> bool:
        """Show that the holder lives; return whether it still holds the label. May be called as often as one likes.

        False: another has taken over, because this process did not beat for too long; the calculation is to be ended.
        While the file server does not answer the claim counts as held.
        """
        now = time.monotonic()
        if self._over or now - self._touched < self._heartbeat_s / 2:
            return not self._over
        try:
            higher = any(number > self.number for number in _claims_of(self.path.parent, self.structure_id))
            self._over = higher or not self._is_ours()
            if not self._over:
                os.utime(self.path)
                self._touched = now
        except FileNotFoundError:
            self._over = True
        except OSError:
            return True
        return not self._over

    def release(self) -> None:
        """Give the label back: others need not wait until the claim is stale. Never fails; again does nothing.

        With the label in the store this claim and those before it are removed. Without it they stay, marked as released.
        """
        if self._touched < 0:
            return
        self._touched, self._over = -1.0, True
        with suppress(OSError):
            folder = self.path.parent
            if place_of(folder.parent.parent, self.structure_id).exists():
                for number, path in sorted(_claims_of(folder, self.structure_id).items()):
                    if number < self.number or (number == self.number and self._is_ours()):
                        with suppress(OSError):
                            path.unlink()
            elif self._is_ours():
                self._mark_released()

    def _mark_released(self) -> None:
        data = canonical_json({**self._owner, "released": True}).encode()
        try:
            with atomic_path(self.path) as temporary:
                temporary.write_bytes(data)
                add_rights(temporary, rights_of_files(self.path.parent))
        except OSError:
            # A full disk takes no new file, but as many bytes in the place of old ones.
            with open(self.path, "r+b") as handle:
                handle.write(b'{"released":true}'.ljust(os.fstat(handle.fileno()).st_size))

    def _is_ours(self) -> bool:
        with suppress(NotAFileError):
            return bool(_read(self.path)[0].get("token") == self._owner["token"])
        return False


class Claims:
    """The claims of one method. Remembers what it has seen, so a waiting process keeps one object."""

    def __init__(self, folder: str | Path, heartbeat_s: float) -> None:
        """folder: that of the store's method (``LabelStore.folder``). heartbeat_s: how often the holder promises to beat."""
        self.folder = Path(folder)
        self.heartbeat_s = heartbeat_s
        self._seen: dict[str, _Observation] = {}

    def acquire(self, structure_id: str) -> Claim | None:
        """Take the claim of a label, or return None: somebody alive has it, ask again (at least once per heartbeat).

        A holder is dead when its process is gone (same host), or its file has not been touched for ``MISSED_HEARTBEATS``
        of its heartbeats by this process's own clock; also a process that runs but does not beat. Look into the store
        again afterwards: the label may have been published between the last look and this claim.
        Raises StoreError if the store cannot be written.
        """
        folder = self._folder_of(structure_id)
        try:
            claims = _claims_of(folder, structure_id)
            highest = max(claims, default=-1)
            if claims and not self._is_free(structure_id, highest, claims[highest]):
                return None
            path = folder / f"{structure_id}.{highest + 1}.json"
            owner = {**this_process(), "token": secrets.token_hex(8), "heartbeat_s": self.heartbeat_s}
            if "SLURM_JOB_ID" in os.environ:
                owner["slurm_job"] = os.environ["SLURM_JOB_ID"]
            make_shared(folder)
            if not publish_once(path, canonical_json(owner).encode(), rights_of_files(folder)):
                return None
        except OSError as error:
            raise StoreError(self.folder, f"cannot claim a label ({error.strerror or error})") from error
        self._seen.pop(structure_id, None)
        return Claim(path, highest + 1, owner, self.heartbeat_s)

    def holder(self, structure_id: str) -> dict[str, Any] | None:
        """Return who has the claim of a label (host, pid, started, slurm_job ...), for messages, or None."""
        with suppress(OSError):
            claims = _claims_of(self._folder_of(structure_id), structure_id)
            if claims:
                with suppress(NotAFileError):
                    owner, _ = _read(claims[max(claims)])
                    return None if owner.get("released") else owner
        return None

    def is_held(self, structure_id: str) -> bool:
        """Whether somebody alive has the claim, without taking it; asked again as ``acquire``. Never fails.

        For a store that is used no more: silence counts there also when nobody can write it.
        """
        with suppress(OSError):
            claims = _claims_of(self._folder_of(structure_id), structure_id)
            highest = max(claims, default=-1)
            return bool(claims) and not self._is_free(
                structure_id, highest, claims[highest], can_beat=lambda folder: True
            )
        return False

    def _folder_of(self, structure_id: str) -> Path:
        return self.folder / "claims" / structure_id[:2]

    def _is_free(
        self, structure_id: str, number: int, path: Path, can_beat: Callable[[Path], bool] | None = None
    ) -> bool:
        """Whether the highest claim was given back, or its holder is dead. can_beat: whether silence counts in a folder."""
        try:
            owner, stamp_ns = _read(path)
        except FileNotFoundError:
            # Removed since the listing: its label is in the store, which the caller looks into before it asks again.
            return False
        except NotAFileError as error:
            # No process makes such a thing, so nobody has the label by it.
            tell(f"{path} is {error} and no claim; it can be removed")
            return True
        if owner.get("released") is True:
            return True
        if is_running(owner) is False:
            return True
        now, token = time.monotonic(), str(owner.get("token"))
        heartbeat_s = _plausible(owner.get("heartbeat_s"), self.heartbeat_s)
        seen = self._seen.get(structure_id)
        if seen is None or (seen.number, seen.token, seen.stamp_ns) != (number, token, stamp_ns):
            self._seen[structure_id] = _Observation(number, token, stamp_ns, now)
            return False
        # Time in which this process did not look (suspended, with the holder perhaps) counts as one heartbeat at most.
        silent_s, seen.looked = min(now - seen.looked, heartbeat_s), now
        if (can_beat or _can_be_touched)(path.parent):
            seen.unchanged_s += silent_s
        return seen.unchanged_s >= MISSED_HEARTBEATS * heartbeat_s


def _claims_of(folder: Path, structure_id: str) -> dict[int, Path]:
    """Return the claims of a structure by number."""
    try:
        names = [entry.name for entry in os.scandir(folder)]
    except FileNotFoundError:
        return {}
    matches = (CLAIM_NAME.fullmatch(name) for name in names if name.startswith(f"{structure_id}."))
    return {int(m["number"]): folder / m[0] for m in matches if m and m["structure"] == structure_id}


def _can_be_touched(folder: Path) -> bool:
    """Whether a heartbeat would arrive in a folder; also where it is only this process that may not."""
    try:
        os.utime(folder)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def _read(path: Path) -> tuple[dict[str, Any], int]:
    """Return a claim's owner and its time stamp (ns); the owner is empty if the file is damaged or not whole yet."""
    content, state = read_file(path)
    try:
        data = json.loads(content)
    except ValueError:
        data = None
    return (data if isinstance(data, dict) else {}), state.st_mtime_ns


def _plausible(heartbeat_s: Any, otherwise: float) -> float:
    good = isinstance(heartbeat_s, int | float) and 0 < heartbeat_s <= LONGEST_HEARTBEAT_S
    return float(heartbeat_s) if good else otherwise
