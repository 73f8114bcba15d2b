"""What the slurm plugin lacks when it looks at its jobs: patience while the controller is away, and an end for lost jobs."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import snakemake_executor_plugin_slurm as plugin
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

from quarry.submission.refusals import Reminders
from quarry.terminal import say

GONE_AFTER_S = 60.0
"""Seconds for which the queue must not have listed a job before another look decides that it is gone."""
SILENT_AFTER_S = 120.0
"""Seconds after which a scheduler that does not answer is worth a line."""
REASONS_EVERY_S = 600.0
"""Seconds between two questions why jobs wait, asked only while some do."""
HELD = ("JobHeldUser", "JobHeldAdmin")
"""Reasons of jobs that somebody holds."""
NOT_STARTED = "launch failed requeued held"
"""Reason of a job that a node failed to start: Slurm holds it until somebody acts."""
LOOK_ATTEMPTS = 3
"""Questions in one look. A look that gets no answer loses no job here, so that it may end soon (Ctrl-C waits for it)."""
# fmt: off
ALIVE = (
    "PENDING", "RUNNING", "SUSPENDED", "CONFIGURING", "COMPLETING",
    "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESIZING", "SIGNALING",
    "SPECIAL_EXIT", "STAGE_OUT", "STOPPED", "RESV_DEL_HOLD",
)
# fmt: on
"""States of a job that has not ended."""

Listing = dict[str, str]
"""State by job id."""


class Watchful(RemoteExecutor):
    """Ends jobs that Slurm no longer has, for which the plugin waits for ever because no listing shows them."""

    def __init__(self, workflow: Any, logger: Any) -> None:
        settings = workflow.executor_settings
        problem = problem_of(settings.status_command, settings.init_seconds_before_status_checks, slurm_configuration())
        if problem:
            sys.exit(f"Quarry: {problem}")
        settings.status_attempts = min(settings.status_attempts, LOOK_ATTEMPTS)
        self._missing: dict[str, float] = {}
        self._answered = time.monotonic()
        self._silence, self._held = Reminders(), Reminders()
        self._reasons_at = time.monotonic()
        super().__init__(workflow, logger)

    async def check_active_jobs(self, active_jobs: list[SubmittedJobInfo]) -> AsyncIterator[SubmittedJobInfo]:
        """Look at the jobs once, and report those that are gone."""
        last_listing.clear()
        still = [job_info async for job_info in super().check_active_jobs(active_jobs)]
        if active_jobs:
            self._tell_of_silence()
        else:
            self._answered = time.monotonic()
        gone = await self._gone(still) if last_listing else {}
        if last_listing:
            self._look_for_held(still)
        for job_info in still:
            state = gone.get(id(job_info))
            if state is None:
                yield job_info
            elif state == "COMPLETED":
                self.report_job_success(job_info)
            else:
                message = state or "no longer in the queue, and Slurm does not say how it ended"
                self.report_job_error(job_info, msg=f"Slurm job {job_info.external_jobid}: {message}. ")

    @property
    def least_pause_s(self) -> float:
        """Seconds between two looks while jobs end one after the other: after such a look the plugin takes this pause."""
        return float(self.workflow.executor_settings.init_seconds_before_status_checks)

    def cancel(self) -> None:
        """Cancel the jobs, those that are just being submitted among them; submit nothing more."""
        self._job_submission_executor.shutdown(wait=True, cancel_futures=True)
        super().cancel()

    async def _gone(self, jobs: list[SubmittedJobInfo]) -> dict[int, str]:
        """Return the last state of jobs that are gone, by the id of the object; an empty text where it is not known."""
        now = time.monotonic()
        listing = last_listing[-1]
        missing = [job_info for job_info in jobs if state_in(listing, job_info) not in ALIVE]
        self._missing = {str(j.external_jobid): self._missing.get(str(j.external_jobid), now) for j in missing}
        due = [j for j in missing if now - self._missing[str(j.external_jobid)] >= GONE_AFTER_S]
        if not due:
            return {}
        # Whatever command was asked before (accounting may lag behind), the queue itself has the last word.
        queue, _ = await plugin.query_job_status(plugin.query_job_status_squeue(self.run_uuid), self.logger)
        if queue is None:
            return {}
        states = {id(job_info): state_in(queue, job_info) or state_in(listing, job_info) for job_info in due}
        return {key: state for key, state in states.items() if state not in ALIVE}

    def _look_for_held(self, jobs: list[SubmittedJobInfo]) -> None:
        """Tell of jobs that wait until somebody releases them; let go those that a node failed to start."""
        now = time.monotonic()
        waiting = {str(j.external_jobid) for j in jobs if state_in(last_listing[-1], j) == "PENDING"}
        if not waiting or now - self._reasons_at < REASONS_EVERY_S:
            return
        self._reasons_at = now
        reasons = {job: reason for job, reason in reasons_of(self.run_uuid).items() if job in waiting}
        held = ",".join(job for job, reason in reasons.items() if reason in HELD)
        if held and self._held.is_due(held, now):
            say(f"jobs {held} are held; 'scontrol release {held}' lets them run, 'scancel' submits them again")
        not_started = [job for job, reason in reasons.items() if reason == NOT_STARTED]
        if not_started:
            say(f"a node failed to start the jobs {','.join(not_started)}; they are cancelled and submitted again")
            slurm_answer("scancel", *not_started)

    def _tell_of_silence(self) -> None:
        now = time.monotonic()
        silent_s = now - self._answered
        if last_listing:
            self._answered = now
        elif silent_s > SILENT_AFTER_S and self._silence.is_due("", now):
            say(
                f"Slurm has not answered for {silent_s / 60:.0f} minutes; the jobs count as running, and the campaign goes on "
                "when it answers"
            )


def state_in(listing: Listing, job_info: SubmittedJobInfo) -> str:
    """Return a job's state in a listing, an empty text if it is not there."""
    return listing.get(str(job_info.external_jobid), "")


last_listing: list[Listing] = []
"""What Slurm answered in the look under way; empty while it has not answered."""


def job_id_of(answer: str) -> str:
    """Return the job id in sbatch's answer to ``--parsable``: the last line that is ``id`` or ``id;cluster`` alone.

    Raises ValueError if there is none. (Sites print banners; dates and maintenance notes hold numbers too.)
    """
    found = re.findall(r"^\s*(\d+)(?:;\S*)?\s*$", answer, re.MULTILINE)
    if not found:
        raise ValueError(f"no job id in sbatch's answer {answer.strip()!r}")
    return str(found[-1])


def slurm_answer(*command: str) -> str:
    """Return what a command of Slurm prints; nothing while the controller does not answer."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=15, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def slurm_configuration() -> dict[str, str]:
    """Return what ``scontrol show config`` says, by name; nothing while the controller does not answer."""
    lines = (line.partition("=") for line in slurm_answer("scontrol", "show", "config").splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}


def reasons_of(run: str) -> dict[str, str]:
    """Return why the jobs of a run wait, by job id; nothing while the controller does not answer."""
    answer = slurm_answer("squeue", "--noheader", "--name", run, "--states=PENDING", "--format=%i|%r")
    lines = (line.partition("|") for line in answer.splitlines())
    return {job.strip(): reason.strip().replace("_", " ") for job, _, reason in lines}


def problem_of(status_command: str | None, interval_s: int, configuration: Mapping[str, str]) -> str | None:
    """Return in one line why the ends of jobs could never be seen on this cluster, None if they can.

    status_command: squeue or sacct. interval_s: seconds between two looks. configuration: see ``slurm_configuration``; what
    it does not say is taken to be right.
    """
    if shutil.which("sbatch") is None:
        return "there is no sbatch in PATH, so this is no Slurm cluster; load Slurm's commands, or use another profile"
    accounting = not configuration.get("AccountingStorageType", "").endswith("/none") and shutil.which("sacct")
    if accounting:
        return None
    if status_command == "sacct":
        return (
            "slurm-status-command: sacct, but this cluster has no accounting (AccountingStorageType), and sacct never tells "
            "the end of a job; use squeue, as profiles/slurm does"
        )
    age = re.match(r"\d+", configuration.get("MinJobAge", ""))
    if age and int(age.group()) < 3 * interval_s:
        return (
            f"this cluster forgets ended jobs after {age.group()} s (MinJobAge) and has no accounting; use "
            f"slurm-init-seconds-before-status-checks: {int(age.group()) // 3} or less, or --profile cluster-generic"
        )
    return None


def repair_functions() -> None:
    """Replace functions of the plugin, in the module that its executor takes them from."""
    ask, min_job_age = plugin.query_job_status, plugin.get_min_job_age

    async def query_job_status(command: str, logger: Any) -> tuple[Listing | None, float | None]:
        # sacct says 'CANCELLED by 1000', which the plugin does not know as an end.
        listing, seconds = await ask(command, logger)
        if listing is None:
            return None, None
        shown = {job: (state.split() or [""])[0].rstrip("+") for job, state in listing.items()}
        last_listing[:] = [shown]
        return shown, seconds

    known_age: list[float] = []

    def get_min_job_age() -> float:
        # Asked once: the plugin asks in every look. None makes it turn to sacct whatever is configured, although the
        # controller is only away for a while.
        if not known_age and (age := min_job_age()) is not None:
            known_age.append(age)
        return known_age[0] if known_age else math.inf

    plugin.query_job_status = query_job_status
    plugin.get_min_job_age = get_min_job_age
    # It takes any number out of the answer, and gives up where there are several.
    plugin.validate_or_get_slurm_job_id = lambda job_id, output: job_id_of(output)
