"""What the main process does when it is asked to end: no signal finds it waiting for a lock that it holds itself.

Written for snakemake 9.27; docs/upstream.md has the report for its authors.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

from snakemake.scheduling.job_scheduler import JobScheduler

from quarry.processes import end_children
from quarry.terminal import put_right, say

INTERRUPT_PROMISE_S = 60.0
"""Time that an interrupted run has to cancel its jobs and to end."""
INTERRUPTED = 130
"""Exit code of a process that Ctrl-C ended, as shells have it."""


def install(workflow: Any, promise_s: float = INTERRUPT_PROMISE_S) -> None:
    """Let signals be obeyed by a thread that holds no lock; call it once, from the main thread.

    workflow: the Snakefile's object. promise_s: seconds after which an interrupted run that still hangs is ended.

    TERM: Snakemake's handler runs in the main thread wherever that is, and takes two locks that the main thread may hold.
    Here it takes none; the interpreter itself writes the signal's number to a pipe, and a thread wakes the scheduler when the
    lock is free. INT raises KeyboardInterrupt in the main thread as ever; the thread only ends what has not ended in time.
    """
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    JobScheduler.exit_gracefully = submit_nothing_more
    threading.Thread(target=_obey, args=(read, workflow, promise_s), name="quarry-signals", daemon=True).start()


def _obey(pipe: int, workflow: Any, promise_s: float) -> None:
    while numbers := os.read(pipe, 64):
        if signal.SIGTERM in numbers:
            workflow.scheduler._open_jobs.release()
        if signal.SIGINT in numbers:
            threading.Thread(target=_end_late, args=(promise_s,), name="quarry-interrupt", daemon=True).start()


def submit_nothing_more(scheduler: JobScheduler, *_: Any) -> None:
    """Let the scheduler start no further job once it looks: what Snakemake's own handler does, less its locks."""
    scheduler._user_kill = "graceful"


def _end_late(promise_s: float) -> None:
    time.sleep(promise_s)
    say(
        f"this run was interrupted {promise_s:.0f} s ago and has not ended; it is ended now, and the same command goes on"
    )
    put_right()
    end_children()
    os._exit(INTERRUPTED)
