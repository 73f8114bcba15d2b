"""The line in which jobs wait that the scheduler does not take now."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from quarry.submission.refusals import LONGEST_PAUSE_S, Refusal, Reminders, pause_s

SPACING_S = 0.5
"""Seconds between two submissions from the line, and from the end of a job to the submission that it makes room for."""
USUAL_REMINDER_S = 3600.0


class WaitingLine:
    """Submits jobs; a refused one waits for as long as it takes, without holding up the caller.

    One thread tries the first of the line, with growing pauses while it is refused; a refused job goes to the end, so
    that no job keeps others from their turn. While jobs wait, further ones go to the end without being tried.
    """

    def __init__(
        self,
        submit: Callable[[Any], Refusal | None],
        give_up: Callable[[Any, Refusal], None],
        hand_back: Callable[[Any], None],
        say: Callable[[str], None],
        is_stopping: Callable[[], bool] = lambda: False,
        pause_s: Callable[[int], float] = pause_s,
        spacing_s: float = SPACING_S,
    ) -> None:
        """submit: tries once and returns why it was refused, None if it was taken. give_up: told of a job that can never be
        taken. hand_back: takes a waiting job when the run stops (``is_stopping``, asked every second). say: prints a line.
        """
        self._submit, self._give_up, self._hand_back, self._say = submit, give_up, hand_back, say
        self._is_stopping, self._pause_s, self._spacing_s = is_stopping, pause_s, spacing_s
        self._changed = threading.Condition()
        self._jobs: deque[Any] = deque()
        self._reminders = Reminders()
        self._refusals = 0
        self._due = 0.0
        self._thread: threading.Thread | None = None
        self._closed = False

    def put(self, job: Any) -> None:
        """Submit a job, or let it wait."""
        with self._changed:
            if self._closed:
                return
            if self._jobs:
                self._append(job)
                return
        self._try(job)

    def wake(self) -> None:
        """Try again soon: one of this run's jobs has ended, and may have made room."""
        with self._changed:
            self._due = min(self._due, time.monotonic() + self._spacing_s)
            self._changed.notify_all()

    def close(self) -> None:
        """Submit nothing more; waiting jobs are forgotten. Returns when no submission is under way."""
        with self._changed:
            self._closed = True
            self._jobs.clear()
            self._changed.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _append(self, job: Any) -> None:
        # Called with the lock.
        self._jobs.append(job)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="quarry-submissions", daemon=True)
            self._thread.start()

    def _try(self, job: Any) -> None:
        refusal = self._submit(job)
        if refusal is not None and refusal.for_good:
            self._give_up(job, refusal)
            return
        now = time.monotonic()
        with self._changed:
            if refusal is None:
                if self._refusals:
                    self._reminders.postpone(now)
                self._refusals, self._due = 0, now + self._spacing_s
                return
            self._refusals += 1
            self._due = now + self._pause_s(self._refusals)
            tell = self._reminders.is_due(refusal.words, now, USUAL_REMINDER_S if refusal.usual else None)
            if not self._closed:
                self._append(job)
        if tell:
            self._say(
                f"the scheduler does not take jobs now: '{refusal.words}'; they wait and are tried again, at least every "
                f"{LONGEST_PAUSE_S / 60:.0f} minutes, for as long as it takes (no attempt is used up)"
            )

    def _next(self) -> Any | None:
        """Return the first job when its time has come; None when no job is left to wait for."""
        handed_back: list[Any] = []
        with self._changed:
            while self._jobs:
                if self._is_stopping():
                    handed_back = list(self._jobs)
                    self._jobs.clear()
                    break
                remaining = self._due - time.monotonic()
                if remaining <= 0:
                    return self._jobs.popleft()
                self._changed.wait(min(remaining, 1.0))
            self._thread = None
        for job in handed_back:
            self._hand_back(job)
        return None

    def _work(self) -> None:
        while (job := self._next()) is not None:
            self._try(job)
