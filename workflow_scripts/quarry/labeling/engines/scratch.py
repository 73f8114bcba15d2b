"""A folder for one calculation alone, on the node's disk, removed afterwards."""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from quarry.files import NO_ROOM
from quarry.labeling.engines.base import MachineFault

PREFIX, LOCK, PROBE = "quarry-label-", ".quarry-lock", ".quarry-probe"
LEFT_AFTER_S = 60.0
"""A folder younger than this is left alone: its lock may not be taken yet."""
PROBE_BYTES = 65536
"""A scratch folder that does not take so much is full."""
KEEP_SIZE = 1
"""FALLOC_FL_KEEP_SIZE (Linux): reserve room, but leave the file's size as it is."""


@contextmanager
def scratch_folder(root: str = "") -> Iterator[Path]:
    """Yield a new empty folder in ``root`` (variables and ~ expanded here; empty: the system's folder of temporary files).

    Folders that killed jobs left there are removed: the lock of a live job's folder is held. Raises MachineFault if it
    cannot be made. ``root`` itself is not made: where a disk is not mounted, its folder would be made on another one.
    """
    with _as_machine_fault(root or "the system's folders of temporary files"):
        parent = _parent(root)
    with _as_machine_fault(parent):
        _remove_orphans(parent)
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent)).resolve()
    try:
        with _as_machine_fault(parent):
            (folder / LOCK).touch()
        with open(folder / LOCK, "r+b") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _parent(root: str) -> Path:
    """Return the folder of scratch folders. Raises MachineFault if it is not there."""
    if not root:
        parent = Path(tempfile.gettempdir())
        usual = {
            os.environ.get("TMPDIR"),
            os.environ.get("TEMP"),
            os.environ.get("TMP"),
            "/tmp",
            "/var/tmp",
            "/usr/tmp",
        }
        if parent == Path.cwd() and str(parent) not in usual:
            # What Python falls back to if it can write to none of the usual ones.
            raise MachineFault(
                f"labeling.scratch: no folder of temporary files can be written on {socket.gethostname()} "
                "($TMPDIR, /tmp, /var/tmp); make room there, or name another folder"
            )
        return parent
    parent = Path(os.path.expandvars(root)).expanduser()
    if "$" in str(parent):
        raise MachineFault(
            f"labeling.scratch: '{root}' has a variable that is not set on this node; set it there, or name another folder"
        )
    if not parent.is_dir():
        raise MachineFault(
            f"labeling.scratch: there is no folder {parent} on {socket.gethostname()}; make it there, or name another"
        )
    return parent


@contextmanager
def _as_machine_fault(place: str | Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MachineFault(
            f"labeling.scratch: cannot make a folder in {place} on {socket.gethostname()} ({error.strerror or error}); "
            "make room there, or name another folder"
        ) from error


def problem_of(folder: Path) -> str | None:
    """Return why nothing can be written in a scratch folder any more, or None: its disk made no calculation fail."""
    probe = folder / PROBE
    try:
        with open(probe, "wb") as handle:
            handle.write(b"\0" * PROBE_BYTES)
            handle.flush()
            os.fsync(handle.fileno())
        probe.unlink()
    except OSError as error:
        if error.errno in NO_ROOM:
            return f"labeling.scratch: {folder.parent} on {socket.gethostname()}: {error.strerror}"
    return None


def reserve(handle: IO[bytes]) -> None:
    """Keep room for what a file is going to hold, so that it can be written when the disk is full (where the disk can).

    Raises OSError if there is no room now.
    """
    allocate = ctypes.CDLL(None, use_errno=True).fallocate
    allocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    if allocate(handle.fileno(), KEEP_SIZE, 0, PROBE_BYTES) and (number := ctypes.get_errno()) in NO_ROOM:
        raise OSError(number, os.strerror(number), handle.name)


def _remove_orphans(parent: Path) -> None:
    """Remove the folders whose job is dead: their lock is free (the kernel frees the locks of a dead process)."""
    for lock_file in parent.glob(f"{PREFIX}*/{LOCK}"):
        # Another user's folder, or one that somebody else removes: not ours to care about.
        with suppress(OSError):
            if time.time() - lock_file.stat().st_mtime < LEFT_AFTER_S:
                continue
            with open(lock_file, "r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock_file.parent, ignore_errors=True)
