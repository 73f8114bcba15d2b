"""Snakemake's executors with what a campaign of weeks needs of them; ``install`` puts them in place of those of the plugins.

Written for snakemake 9.27, snakemake-executor-plugin-slurm 2.8 and snakemake-executor-plugin-cluster-generic 1.0; each
class says what the plugin does without it (docs/upstream.md has the reports for the authors).
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from snakemake.utils import available_cpu_count
from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.real import RealExecutor
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

from quarry.processes import end_children
from quarry.submission import BESIDE_MAIN
from quarry.submission.commands import link_submit
from quarry.submission.line import WaitingLine
from quarry.submission.marks import forget_mark, is_marked
from quarry.submission.pauses import Pauses
from quarry.submission.refusals import Refusal, Reminders, words_of
from quarry.terminal import say

SLEEP_S = 0.5
MISSING_COMMAND = "the shell cannot run what cluster-generic-submit-cmd names"
RETRIES = 3
"""How often a job is tried again after a fault of the machine, where neither its rule nor --retries says it."""


def give_up(job: Any) -> None:
    """Let Snakemake not try a job again when its failure is reported."""
    job.attempt = job.restart_times + 1


def logs_of(job: Any) -> Sequence[str]:
    """Return the paths of a job's logs (none for a group of jobs)."""
    return [str(log) for log in getattr(job, "log", [])]


class Discerning(RealExecutor):
    """Tries jobs again after faults of the machine only, where Snakemake tries every failed job again."""

    def __init__(self, workflow: Any, logger: Any) -> None:
        workflow.execution_settings.retries = workflow.execution_settings.retries or RETRIES
        super().__init__(workflow, logger)

    def run_job(self, job: Any) -> None:
        """Run or submit a job."""
        forget_mark(logs_of(job))
        super().run_job(job)

    def report_job_error(self, job_info: SubmittedJobInfo, msg: str | None = None, **kwargs: Any) -> None:
        """Report a failed job."""
        if is_marked(logs_of(job_info.job)):
            give_up(job_info.job)
        super().report_job_error(job_info, msg, **kwargs)


class Ending(RealExecutor):
    """Ends its jobs when the run is interrupted; Snakemake's executor waits for them: a signal may reach its process only."""

    def cancel(self) -> None:
        """End the jobs."""
        end_children()
        super().cancel()


class Equipped(RealExecutor):
    """Finds the submit command of profiles/cluster-generic in the working directory, whatever Snakefile is run.

    Which executor runs the jobs is not known before Snakemake makes it: while the Snakefile is read, all look local.
    """

    project: Path

    def __init__(self, workflow: Any, logger: Any) -> None:
        link_submit(self.project)
        super().__init__(workflow, logger)


class Patient(RemoteExecutor):
    """Lets refused jobs wait, and loses no job from sight.

    Without it a refused submission counts as a failed job; an exception during a look at the jobs ends the run; jobs that a
    look does not mention are forgotten, and the run waits for them for ever; Ctrl-C during a look cancels no job; and the
    end of a run waits for the pause between two looks.
    """

    def __init__(self, workflow: Any, logger: Any) -> None:
        self._attempt = threading.local()
        self._reminders = Reminders()
        self._looked_at: list[SubmittedJobInfo] = []
        self._ended: set[int] = set()
        self._pauses = Pauses()
        self._beside: Any = None
        self._was_taken = False
        self.line = WaitingLine(
            submit=self._submit,
            give_up=self._refuse,
            hand_back=lambda job: self.workflow.scheduler.error_callback(job),
            say=say,
            is_stopping=lambda: bool(getattr(self.workflow.scheduler, "_user_kill", None)),
        )
        super().__init__(workflow, logger)

    def run_job(self, job: Any) -> None:
        """Submit a job, or let it wait; run it here if its resources say so, on as many cores as --local-cores leaves."""
        if not job.resources.get(BESIDE_MAIN):
            self.line.put(job)
            return
        if self._beside is None:
            local = ExecutorPluginRegistry().get_plugin("local").executor(self.workflow, self.logger)
            cores = self.workflow.resource_settings.local_cores or available_cpu_count()
            local.pool = ThreadPoolExecutor(max_workers=max(1, cores // job.threads))
            self._beside = local
        self._beside.run_job(job)

    def _submit(self, job: Any) -> Refusal | None:
        self._attempt.job, self._attempt.answer = job, None
        try:
            super().run_job(job)
        except WorkflowError as error:
            # What cluster-generic finds wrong with its own settings.
            return Refusal(words_of(str(error)), certain=True)
        except OSError as error:
            return Refusal(words_of(str(error)))
        finally:
            self._attempt.job = None
        answer = self._attempt.answer
        if answer is None:
            self._was_taken = True
            return None
        words = words_of(submit_message(answer))
        # A submit command that has worked before comes back with its disk; one that never worked is not there.
        return Refusal(words, certain=not self._was_taken and words.endswith(MISSING_COMMAND))

    def _refuse(self, job: Any, refusal: Refusal) -> None:
        now = time.monotonic()
        if self._reminders.is_due(f"{job.name} {refusal.words}", now):
            say(f"{job.name}: the scheduler will never take such a job: '{refusal.words}'; change that and start again")
        give_up(job)
        self.workflow.scheduler.error_callback(job)

    def report_job_error(self, job_info: SubmittedJobInfo, msg: str | None = None, **kwargs: Any) -> None:
        """Report a failed job; what fails while it is submitted is a refusal."""
        if getattr(self._attempt, "job", None) is job_info.job:
            self._attempt.answer = msg or ""
            return
        self._ended.add(id(job_info))
        super().report_job_error(job_info, msg, **kwargs)
        self.line.wake()

    def report_job_success(self, job_info: SubmittedJobInfo) -> None:
        """Report a job that has ended well."""
        self._ended.add(id(job_info))
        super().report_job_success(job_info)
        self.line.wake()

    async def check_active_jobs(self, active_jobs: list[SubmittedJobInfo]) -> AsyncIterator[SubmittedJobInfo]:
        """Look at the jobs once: each one is yielded or reported, whatever happens."""
        self._looked_at, self._ended = list(active_jobs), set()
        kept: list[SubmittedJobInfo] = []
        try:
            async for job_info in super().check_active_jobs(active_jobs):
                kept.append(job_info)  # noqa: PERF401 (what comes before an exception counts)
        except Exception as error:
            message = f"{type(error).__name__}: {error}"
            if self._reminders.is_due(message, time.monotonic()):
                say(f"cannot look at the jobs now: {words_of(message)}; they count as running, the next look will tell")
        named = {id(job_info) for job_info in kept} | self._ended
        kept += [job_info for job_info in active_jobs if id(job_info) not in named]
        for job_info in kept:
            yield job_info

    async def sleep(self) -> None:
        """Pause between two looks; the end of the run ends it, and files of jobs that are there."""
        self._pauses.begin(self._active(), self.next_seconds_between_status_checks, self.least_pause_s)
        while self.wait and not self._pauses.is_over(self._active()):
            await asyncio.sleep(SLEEP_S)

    @property
    def least_pause_s(self) -> float:
        """Seconds between two looks while jobs end one after the other."""
        return float(self.workflow.remote_execution_settings.seconds_between_status_checks)

    def _active(self) -> list[SubmittedJobInfo]:
        with self.lock:
            return list(self.active_jobs)

    def cancel(self) -> None:
        """Cancel the jobs, those that are being looked at and those that run beside this process among them."""
        self.line.close()
        with self.lock:
            known = {id(job_info) for job_info in self.active_jobs} | self._ended
            self.active_jobs += [job_info for job_info in self._looked_at if id(job_info) not in known]
        super().cancel()
        end_children()

    def shutdown(self) -> None:
        """End the executor."""
        self.line.close()
        if self._beside is not None:
            self._beside.pool.shutdown(wait=False, cancel_futures=True)
        super().shutdown()


def submit_message(message: str) -> str:
    """Return what the submit command said out of the message that a plugin makes of it."""
    # slurm: SLURM sbatch failed. The error message was '...'.\n    sbatch call: ...
    found = re.search(r"error message was '?(.*?)'?\.?\n\s*sbatch call:", message, re.DOTALL)
    if found:
        return found.group(1)
    # cluster-generic: Error submitting jobscript (exit code 1):\n... (what it printed on stderr is in the terminal already)
    found = re.match(r"Error submitting jobscript \((exit code \d+)\):\n(.*)", message, re.DOTALL)
    if found:
        code, words = found.groups()
        missing = f": {MISSING_COMMAND}" if code in ("exit code 126", "exit code 127") else ""
        return words.strip() or f"{code} of the submit command{missing}"
    return re.sub(r"^Job submission failed with exception: ", "", message)


def install(project: Path) -> None:
    """Let this process run its jobs by these executors, whichever of them it is going to use.

    project: folder of Quarry's Snakefile and profiles.
    """
    from quarry.submission import slurm

    registry = ExecutorPluginRegistry()
    if issubclass(registry.get_plugin("local").executor, Discerning):
        return
    own: dict[str, tuple[type, ...]] = {
        "local": (Discerning, Ending),
        "cluster-generic": (type("Equipped", (Equipped,), {"project": project}), Discerning, Patient),
        "slurm": (Discerning, slurm.Watchful, Patient),
    }
    for name, classes in own.items():
        plugin = registry.get_plugin(name)
        plugin.executor = type("Executor", (*classes, plugin.executor), {})
    slurm.repair_functions()
