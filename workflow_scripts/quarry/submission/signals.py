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
_asked: list[int] = []
"""Signals that asked this process to end. A list: appending takes no lock, which a handler could meet locked."""


def install(workflow: Any, promise_s: float = INTERRUPT_PROMISE_S) -> None:
    """Let signals be obeyed by a thread that holds no lock; call it once, from the main thread.

    workflow: the Snakefile's object. promise_s: seconds after which an interrupted run that still hangs is ended.

    TERM: Snakemake's handler runs in the main thread wherever that is, and takes two locks that the main thread may hold.
    Here it takes none; the interpreter itself writes the signal's number to a pipe, and a thread wakes the scheduler when the
    lock is free. INT raises KeyboardInterrupt in the main thread as ever, once: impatient further ones would break the orderly
    end into a traceback, with jobs left behind. The thread ends what has not ended in time.
    """
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    JobScheduler.exit_gracefully = submit_nothing_more
    # Whoever starts us may have INT ignored, as shells do for what runs in the background.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt_once)
    threading.Thread(target=_obey, args=(read, workflow, promise_s), name="quarry-signals", daemon=True).start()


def _obey(pipe: int, workflow: Any, promise_s: float) -> None:
    is_interrupted = False
    while numbers := os.read(pipe, 64):
        if signal.SIGTERM in numbers:
            workflow.scheduler._open_jobs.release()
        interrupts = numbers.count(signal.SIGINT)
        if interrupts and not is_interrupted:
            threading.Thread(target=_end_late, args=(promise_s,), name="quarry-interrupt", daemon=True).start()
        if interrupts > (not is_interrupted):
            say(f"this run is ending; what is left of it {promise_s:.0f} s after the first interrupt is ended then")
        is_interrupted = is_interrupted or interrupts > 0


def submit_nothing_more(scheduler: JobScheduler, *_: Any) -> None:
    """Let the scheduler start no further job once it looks: what Snakemake's own handler does, less its locks."""
    _asked.append(signal.SIGTERM)
    scheduler._user_kill = "graceful"


def was_asked_to_end() -> bool:
    """Whether an interrupt or TERM has come since ``install``."""
    return bool(_asked)


def _interrupt_once(number: int, frame: Any) -> None:
    if signal.SIGINT not in _asked:
        _asked.append(signal.SIGINT)
        raise KeyboardInterrupt


def _end_late(promise_s: float) -> None:
    time.sleep(promise_s)
    say(
        f"this run was interrupted {promise_s:.0f} s ago and has not ended; it is ended now, and the same command goes on"
    )
    put_right()
    end_children()
    os._exit(INTERRUPTED)
