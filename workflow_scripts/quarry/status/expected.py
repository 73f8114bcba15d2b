"""When labels will be done: seconds per label by the cost model, and how many are labelled at a time."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from quarry.campaign.paths import CampaignPaths
from quarry.campaign.planned import JOB_START_S, planned_jobs
from quarry.status.facts import ArmStatus, ExpectedEnd
from quarry.status.files import object_in
from quarry.stopping.facts import Cost


def expected_end(
    paths: CampaignPaths, arms: Sequence[ArmStatus], costs: Sequence[Cost], run: Mapping[str, Any]
) -> ExpectedEnd | None:
    """Return when labels will be done; None where nothing tells it yet.

    costs: of all finished iterations of all arms. run: what ``last_run.json`` holds.
    """
    label_s = _seconds_per_label(paths, arms, costs, int(run.get("label_cores") or 1))
    if label_s is None:
        return None
    running = sum(arm.batch.running for arm in arms if arm.batch is not None)
    at_once = max(running, _slots(run), 1)
    left = sum(arm.batch.labels - arm.batch.done for arm in arms if arm.batch is not None)
    begun = 0.5 * min(left, running) * label_s
    now, batch_s = time.time(), max(0.0, math.ceil(left / at_once) * (label_s + JOB_START_S) - begun / at_once)
    return ExpectedEnd(
        _clock(now + batch_s) if left else None,
        _budget_end(now + batch_s, arms[0], label_s, at_once, run) if arms else None,
        round(label_s, 3),
        at_once,
    )


def _budget_end(start_s: float, arm: ArmStatus, label_s: float, at_once: int, run: Mapping[str, Any]) -> str | None:
    """Return when the first arm will have used its budget of labels; None without one, or where it has ended."""
    allowed = run.get("max_labels")
    if not isinstance(allowed, int) or arm.stop_reason:
        return None
    batch = arm.batch.labels if arm.batch is not None else 0
    left = max(0, allowed - arm.labels)
    size = batch or (arm.iterations[-1].n_labels - arm.iterations[-2].n_labels if len(arm.iterations) > 1 else left)
    rounds = math.ceil(left / size) if size else 0
    limit = run.get("max_iterations")
    if isinstance(limit, int):
        rounds = max(0, min(rounds, limit - (arm.iteration_now or len(arm.iterations) - 1)))
        left = min(left, rounds * size)
    # An iteration's labels wait for each other, and for its model.
    labels_s = rounds * math.ceil(min(size, left) / at_once) * (label_s + JOB_START_S) if left else 0.0
    return _clock(start_s + labels_s + rounds * _model_s(arm, run))


def _model_s(arm: ArmStatus, run: Mapping[str, Any]) -> float:
    """Return the time (s) that scoring and training take between two batches: that of the last iteration."""
    last = arm.iterations[-1].model_core_hours if arm.iterations else None
    return 3600 * last / max(1, int(run.get("model_cores") or 1)) if last else 0.0


def _seconds_per_label(
    paths: CampaignPaths, arms: Sequence[ArmStatus], costs: Sequence[Cost], cores: int
) -> float | None:
    planned = [
        job
        for arm in arms
        if arm.iteration_now is not None
        for job in planned_jobs(paths.planned(arm.arm, arm.iteration_now)).values()
        if job.predicted_s is not None
    ]
    if planned:
        return sum(job.predicted_s or 0.0 for job in planned) / max(1, sum(job.structures for job in planned))
    labels, core_h = sum(cost.labels_new for cost in costs), sum(cost.label_core_hours for cost in costs)
    if labels:
        return 3600 * core_h / labels / cores
    forecast = object_in(f"{paths.forecast}.json")
    try:
        return 3600 * float(forecast["label_core_hours"][0]) / int(forecast["labels_new"]) / cores
    except (KeyError, ValueError, TypeError, IndexError, ZeroDivisionError):
        return None


def _slots(run: Mapping[str, Any]) -> int:
    """Return how many labels the last run computes at a time, by what it was given; 0 where that is not known."""
    jobs, cores = run.get("jobs"), run.get("cores")
    if isinstance(jobs, int):
        return jobs
    return max(1, cores // max(1, int(run.get("label_cores") or 1))) if isinstance(cores, int) else 0


def _clock(when_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(when_s))
