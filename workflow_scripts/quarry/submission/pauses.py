"""When to look at the jobs of a cluster again: files on disk hint that jobs have ended, and cost the scheduler nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo

LOOK_FOR_FILES_S = 1.0
"""Seconds between two looks for files."""
FILES_AT_A_TIME = 20
"""Jobs whose files are looked for at a time: the others have their turn later, so that a file server hardly notices it."""
SETTLE_S = 3.0
"""Seconds that a job still takes to end when its files are there: two Snakemake processes and the scheduler's epilogue."""
CLOSING_S = (2.0, 4.0, 8.0)
"""Pauses while all files are there and the scheduler does not show the ends yet; after these the usual ones."""
SPACING_S = 5.0
"""Least seconds from a look to one that files call for, so that the load on the scheduler is what it was."""


def has_outputs(job_info: SubmittedJobInfo) -> bool:
    """Return whether all files of a job are there (of a group of jobs: never)."""
    outputs = getattr(job_info.job, "output", ())
    return bool(outputs) and all(Path(output).exists() for output in outputs)


class Pauses:
    """The pauses between looks at the jobs, each ended early where files say that a look is worth it.

    What a file says is a hint: the look that follows asks the scheduler. Where files come late (a network file system) or
    never (a job that failed), the usual pause remains.
    """

    def __init__(
        self,
        has_outputs: Callable[[SubmittedJobInfo], bool] = has_outputs,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """has_outputs: see there. now: a clock, in seconds."""
        self._has_outputs, self._now = has_outputs, now
        # By the id of the object, which is held so that no other gets its id.
        self._written: dict[int, SubmittedJobInfo] = {}
        self._turn = 0
        self._closing = 0
        self._began = self._until = self._next_files = now()
        self._least_s = 0.0
        self._known: set[int] = set()

    def begin(self, jobs: Sequence[SubmittedJobInfo], usual_s: float, least_s: float) -> None:
        """Begin a pause of ``usual_s`` seconds after a look that left these jobs.

        least_s: seconds after which a look is worth it for some of the jobs, where files of others are still missing.
        """
        active = {id(job_info) for job_info in jobs}
        self._written = {key: job_info for key, job_info in self._written.items() if key in active}
        self._known = set(self._written)
        self._closing = self._closing + 1 if active and active == self._known else 0
        closing = CLOSING_S[self._closing - 1] if 0 < self._closing <= len(CLOSING_S) else usual_s
        self._began = self._next_files = self._now()
        self._until = self._began + min(usual_s, closing)
        self._least_s = least_s

    def is_over(self, jobs: Sequence[SubmittedJobInfo]) -> bool:
        """Return whether to look again, by the jobs that are in the queue now."""
        now = self._now()
        if now >= self._next_files:
            self._next_files = now + LOOK_FOR_FILES_S
            self._look_for_files(jobs)
            if any(id(job_info) in self._written and id(job_info) not in self._known for job_info in jobs):
                all_there = all(id(job_info) in self._written for job_info in jobs)
                due = max(now + SETTLE_S, self._began + SPACING_S) if all_there else self._began + self._least_s
                self._until = min(self._until, due)
        return now >= self._until

    def _look_for_files(self, jobs: Sequence[SubmittedJobInfo]) -> None:
        missing = [job_info for job_info in jobs if id(job_info) not in self._written]
        if not missing:
            return
        self._turn %= len(missing)
        turn = islice([*missing[self._turn :], *missing[: self._turn]], FILES_AT_A_TIME)
        self._turn += FILES_AT_A_TIME
        for job_info in turn:
            if self._has_outputs(job_info):
                self._written[id(job_info)] = job_info
