"""The Snakemake process of a cluster job: it ends with the job's script, which started it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping

from quarry.processes import GRACE_S, end_children, parent_of, process_group, start_ticks

LOOK_S = 1.0
ORPHANED = 1
"""Exit code of a process whose parent is gone; nobody is left to read it."""


def end_with_parent(also: Mapping[int, str] | None = None, look_s: float = LOOK_S, grace_s: float = GRACE_S) -> None:
    """Let this process and what it has started end soon after its parents, whatever its main thread waits for.

    These are the process that started it and those before that one in the same process group: a job's script starts a shell.
    A scheduler that cancels a job may reach the job's script only; and Snakemake, asked to end, may wait for a lock for ever.
    also: further processes, by their start times. Not by the kernel's signal at the parent's death: that one would leave the
    programs that this process started.
    """
    parents = _parents() | dict(also or {})
    if parents:
        threading.Thread(target=_watch, args=(parents, look_s, grace_s), name="quarry-parent", daemon=True).start()


def _parents() -> dict[int, str]:
    """Return the processes whose end is this one's, each with its start time. Nobody watches the first process of all."""
    found: dict[int, str] = {}
    pid = os.getppid()
    while pid > 1 and (started := start_ticks(pid)) is not None:
        found[pid] = started
        pid = parent_of(pid) or 0
        if pid > 1 and process_group(pid) != os.getpgrp():
            break
    return found


def _watch(parents: Mapping[int, str], look_s: float, grace_s: float) -> None:
    while all(start_ticks(pid) == started for pid, started in parents.items()):
        time.sleep(look_s)
    end_children(grace_s)
    os._exit(ORPHANED)
