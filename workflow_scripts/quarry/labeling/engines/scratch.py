"""A folder of its own for one calculation, on the node's own disk, gone afterwards."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from quarry.errors import QuarryError

PREFIX, LOCK = "quarry-label-", ".quarry-lock"
LEFT_AFTER_S = 60.0
"""A folder younger than this is left alone: its lock may not be taken yet."""


@contextmanager
def scratch_folder(root: str = "") -> Iterator[Path]:
    """Yield a new empty folder in ``root`` (variables and ~ expanded here; empty: the system's folder of temporary files).

    Folders that killed jobs left there are removed: the lock of a live job's folder is held. Raises QuarryError if it
    cannot be made.
    """
    parent = Path(os.path.expandvars(root)).expanduser() if root else Path(tempfile.gettempdir())
    if "$" in str(parent):
        raise QuarryError(f"labeling.scratch: '{root}' has a variable that is not set on this node")
    try:
        parent.mkdir(parents=True, exist_ok=True)
        _remove_orphans(parent)
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent)).resolve()
    except OSError as error:
        raise QuarryError(f"labeling.scratch: cannot make a folder in {parent} ({error.strerror})") from error
    try:
        with open(folder / LOCK, "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
