"""A campaign's status in words: short lines that a terminal of 80 columns shows, and a log keeps."""

from __future__ import annotations

from dataclasses import replace

from quarry.status.facts import ArmStatus, Batch, CampaignStatus, IterationStatus, Job

TREND = 4
"""Iterations whose errors are shown."""
SHOWN_JOBS = 8
BAR = 24


def status_lines(status: CampaignStatus) -> list[str]:
    """Return everything worth knowing, a line each."""
    lines = [f"{status.campaign}: {state_words(status)}"]
    for arm in status.arms:
        lines += [f"  {line}" for line in _arm_lines(arm, status)]
    lines += [f"  {label:<12}{text}" for label, text in facts_lines(status)]
    lines += [f"  {line}" for line in job_lines(status.jobs)]
    for failure in status.failures:
        lines.append(
            f"  failed: {failure.count} x {failure.failure_class}, last: {failure.last_structure_id} ({failure.last_arm} "
            f"iteration {failure.last_iteration}): {failure.last_message}"
        )
    return lines + [f"  note: {note}" for note in status.notes]


def lasting_lines(status: CampaignStatus) -> list[str]:
    """Return what is worth knowing without what changes with the clock alone: ages of jobs and heartbeats, the expected end."""
    process = replace(status.main_process, heartbeat_age_s=None)
    return status_lines(replace(status, main_process=process, jobs=[], expected_end=None))


def state_words(status: CampaignStatus) -> str:
    """Return in words whether the campaign runs, and who runs it."""
    process = status.main_process
    who = f"process {process.pid} on {process.host}, started {process.started}"
    target = f" ({' '.join(status.targets)})" if status.targets else ""
    beat = "" if process.heartbeat_age_s is None else f"last heartbeat {duration(process.heartbeat_age_s)} ago"
    reason = status.arms[0].stop_reason
    return {
        "running": f"running here{target}, {who}",
        "running_elsewhere": f"running elsewhere{target}, {who}, {beat}",
        "silent": f"silent: {who}, {beat}; it is dead, or cut off from this disk. If it is dead, the same command goes on",
        "finished": f"finished: {reason}",
        "broken_off": f"broken off{_when(status)}; the same command goes on from here",
        "stopped": f"not finished, and nobody runs it{_when(status)}; the same command goes on from here",
    }[status.state]


def _when(status: CampaignStatus) -> str:
    process = status.main_process
    if process.state == "dead" and process.heartbeat_age_s is not None:
        return f" ({duration(process.heartbeat_age_s)} ago: process {process.pid} on {process.host} was killed)"
    return f" (last run: {status.started})" if status.started else ""


def facts_lines(status: CampaignStatus) -> list[tuple[str, str]]:
    """Return what is known of the whole campaign: a word and a text each."""
    allowed = "" if status.max_labels is None else f" of {status.max_labels} allowed"
    hours = "" if status.max_core_hours is None else f" of {status.max_core_hours:g} allowed"
    lines = [("labels", f"{status.labels}{allowed}"), ("core-hours", f"{_hours(status.core_hours)}{hours}")]
    if status.share_reused:
        known, share = status.labels_reused, 100 * status.share_reused
        labels = known + status.labels_new
        lines.append(("store", f"{known} of {labels} labels were there already ({share:.0f} %)"))
    if status.expected_end is not None and (words := end_words(status)):
        lines.append(("ends", words))
    if status.log:
        lines.append(("log", status.log))
    return lines


def end_words(status: CampaignStatus) -> str:
    """Return when the labels will be done; empty where nothing is to come."""
    end = status.expected_end
    if end is None:
        return ""
    words = [f"this batch about {end.batch}"] if end.batch else []
    words += [f"the budget about {end.budget} unless it converges before"] if end.budget else []
    many = "" if end.labels_at_once == 1 else f", {end.labels_at_once} at a time"
    return f"{'; '.join(words)} ({duration(end.seconds_per_label)} a label{many})" if words else ""


def arm_words(arm: ArmStatus) -> str:
    """Return what an arm does now, or why it ended."""
    if arm.iteration_now is not None:
        return f"iteration {arm.iteration_now}: {arm.step}" + (f", {batch_words(arm.batch)}" if arm.batch else "")
    if arm.stop_reason:
        return f"ended after iteration {arm.iterations[-1].iteration}: {arm.stop_reason}"
    return f"iteration {arm.iterations[-1].iteration} is finished" if arm.iterations else "not begun"


def batch_words(batch: Batch) -> str:
    """Return how far a batch is."""
    counts = [
        (batch.failed, "failed"),
        (batch.reused, "from the store"),
        (batch.running, "running"),
        (batch.queued, "queued"),
        (batch.waiting, "waiting"),
    ]
    return ", ".join([f"{batch.done} of {batch.labels} done", *(f"{count} {word}" for count, word in counts if count)])


def trend_words(arm: ArmStatus) -> str:
    """Return the errors of the last iterations, with rRMSE; empty before there are any."""
    shown = arm.iterations[-TREND:]
    if not shown:
        return ""
    if arm.error_name == "accuracy":
        errors = " -> ".join("?" if one.accuracy is None else f"{one.accuracy:.3f}" for one in shown)
        text = f"accuracy {errors}"
    else:
        known = [one.rmse for one in shown if one.rmse is not None]
        scale, unit = (
            (1e3, f"m{arm.error_unit}") if known and arm.error_unit and max(known) < 1 else (1.0, arm.error_unit)
        )
        errors = " -> ".join("?" if one.rmse is None else f"{scale * one.rmse:.3g}" for one in shown)
        text = f"{arm.error_name} {errors} {unit}".rstrip()
    rrmse = " -> ".join(_rrmse(one) for one in shown if one.iteration > 0)
    return text + (f"; rRMSE {rrmse}" if rrmse else "")


def job_lines(jobs: list[Job]) -> list[str]:
    """Return what the running jobs do and since when, the longest first; queued ones as a number."""
    busy = sorted((job for job in jobs if job.state != "queued"), key=lambda job: -(job.elapsed_s or 0.0))
    lines = [job_words(job) for job in busy[:SHOWN_JOBS]]
    if len(busy) > SHOWN_JOBS:
        lines.append(f"and {len(busy) - SHOWN_JOBS} more running jobs")
    queued = [job for job in jobs if job.state == "queued"]
    if queued:
        longest = max(job.elapsed_s or 0.0 for job in queued)
        lines.append(f"{len(queued)} jobs wait in the queue, the longest for {duration(longest)}")
    return lines


def job_words(job: Job) -> str:
    """Return what a job does, where and since when."""
    what = f"label {job.structure_id}" if job.what == "label" else job.what
    arm = "" if not job.arm else job.arm if job.iteration is None else f"{job.arm} iteration {job.iteration}"
    where = f" on {job.host}" if job.host else ""
    number = f" (job {job.batch_system_job})" if job.batch_system_job else ""
    for_s = "" if job.elapsed_s is None else f" for {duration(job.elapsed_s)}, since {job.since[11:] or job.since}"
    return f"{job.state}: {what}{f' ({arm})' if arm else ''}{where}{number}{for_s}"


def iteration_words(arm: ArmStatus, number: int) -> str:
    """Return a finished iteration in one line."""
    one = next(one for one in arm.iterations if one.iteration == number)
    return f"{arm.arm} iteration {number}: {one.n_train} training labels, {trend_words(arm)}"


def duration(seconds: float) -> str:
    """Return a time (s) in the unit that suits it."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s" if seconds >= 1 else f"{seconds:.2g} s"


def _arm_lines(arm: ArmStatus, status: CampaignStatus) -> list[str]:
    lines = [f"{arm.arm}: {arm_words(arm)}"]
    trend = trend_words(arm)
    return [*lines, *([f"  {trend}"] if trend else [])]


def _rrmse(one: IterationStatus) -> str:
    return f"{one.rrmse:.2g}"


def _hours(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
