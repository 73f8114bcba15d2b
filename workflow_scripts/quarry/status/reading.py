"""The status of a campaign, read from its files."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quarry.campaign.history import recorded_end
from quarry.campaign.last_run import BROKE_OFF, read_run
from quarry.campaign.loop import RULES, Place
from quarry.campaign.paths import MANIFEST, CampaignPaths
from quarry.config.campaign import MAIN_ARM, PROBES_ARM
from quarry.csv_tables import read_whole_dicts
from quarry.errors import QuarryError
from quarry.status.arms import STEPS, Finished, finished, plan_in, step_of
from quarry.status.batches import age, clock, labelling
from quarry.status.expected import expected_end
from quarry.status.facts import ArmStatus, CampaignStatus, Failure, Job, MainProcess
from quarry.status.files import names_in, object_in, submitted, time_of
from quarry.status.main_process import main_process

LAST_FAILURES = 5
"""Classes of failures that are named, the newest first."""


def read_status(paths: CampaignPaths) -> CampaignStatus:
    """Return what a campaign does. Raises QuarryError, with one line, if there is no campaign that can be read."""
    manifest = object_in(paths.manifest)
    if not manifest:
        raise QuarryError(
            f"{paths.root}: {MANIFEST} is absent or damaged; nothing has run there yet, or it is no campaign's folder; "
            "name another"
        )
    run, process = read_run(paths.last_run), main_process(paths.lease)
    place = os.path.normpath(Path(paths.root).resolve() / str(run.get("working_directory") or "../.."))
    handed_out = _handed_out(paths, Path(place)) if process.is_alive else []
    arms, jobs, notes, found, failed = [], [], [], {}, {}
    for arm in _arms(paths, manifest, run):
        found[arm] = finished(paths, arm)
        rule = "" if found[arm].fault else step_of(paths, arm, len(found[arm].facts), plan_in(manifest, arm))
        store = _store(manifest, run, Path(place))
        status, of_arm, failed[arm] = _arm(paths, arm, found[arm], rule, store, handed_out)
        arms.append(status)
        jobs += of_arm
        notes += [found[arm].fault] if found[arm].fault else []
    jobs += _other_jobs(handed_out)
    if not run:
        notes.append("an earlier version of Quarry ran it: budget and log of the last run are not known")
    costs = [cost for one in found.values() for cost in one.costs]
    main = arms[0]
    return CampaignStatus(
        campaign=Path(paths.root).resolve().name,
        folder=paths.root,
        read_at=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        state=_state(process, run, main),
        main_process=process,
        arms=arms,
        jobs=jobs,
        failures=_failures(paths, found, failed),
        labels=main.labels,
        max_labels=run.get("max_labels"),
        core_hours=main.core_hours,
        max_core_hours=run.get("max_core_hours"),
        labels_new=sum(cost.labels_new for cost in costs),
        labels_reused=sum(cost.labels_reused for cost in costs),
        expected_end=expected_end(paths, arms, costs, run) if process.is_alive else None,
        targets=[str(target) for target in run.get("targets", [])],
        quarry=str(manifest.get("quarry", "")),
        started=str(run.get("started", manifest.get("created", ""))),
        log=str(run["log"]) if run.get("log") else None,
        notes=notes,
    )


def _arms(paths: CampaignPaths, manifest: Mapping[str, Any], run: Mapping[str, Any]) -> list[str]:
    """Return the arms of the last run; where it did not say, those of the manifest that have a folder."""
    if run.get("arms"):
        return [str(arm) for arm in run["arms"]]
    identity = manifest.get("identity")
    named = identity.get("arms") if isinstance(identity, dict) else None
    arms = named if isinstance(named, dict) else {}
    return [MAIN_ARM, *sorted(arm for arm in arms if Path(paths.arm(arm)).is_dir())]


def _store(manifest: Mapping[str, Any], run: Mapping[str, Any], place: Path) -> Path | None:
    """Return the folder of the campaign's method in its label store, None where that is not known."""
    stores = manifest.get("stores")
    store = stores[-1] if isinstance(stores, list) and stores else run.get("store")
    return place / str(store) / str(manifest.get("method_id")) if store else None


def _arm(
    paths: CampaignPaths, arm: str, done: Finished, rule: str, store: Path | None, handed_out: list[Job]
) -> tuple[ArmStatus, list[Job], list[dict[str, str]]]:
    iterations, now = done.iterations, len(done.facts)
    reason = recorded_end(paths, arm, now)
    batch, jobs, failed = None, [], []
    if rule == "label_structure":
        waiting = {
            job.structure_id: job for job in handed_out if (job.what, job.arm, job.iteration) == ("label", arm, now)
        }
        since = {name: (time.time() - (job.elapsed_s or 0.0), job.batch_system_job) for name, job in waiting.items()}
        found = labelling(paths, arm, now, store, since)
        if found is not None:
            batch, jobs, failed = found.batch, found.jobs, found.failures
            rule = "merge_labels" if batch.done == batch.labels else rule
    last = done.facts[-1] if done.facts else None
    goal = None if last is None else last.goal
    return (
        ArmStatus(
            arm,
            iterations,
            "accuracy" if goal and goal.classes else goal.error_name if goal else "RMSE",
            goal.unit if goal else "",
            (last.n_labels if last else 0) + (batch.done if batch else 0),
            sum(one.label_core_hours + one.model_core_hours + one.pool_core_hours for one in iterations),
            now if rule else None,
            STEPS.get(rule, rule),
            batch,
            reason,
        ),
        jobs,
        failed,
    )


def _handed_out(paths: CampaignPaths, place: Path) -> list[Job]:
    """Return the jobs that Snakemake has handed out and not seen finished; of labels, structure_id is the job's name."""
    root = os.path.relpath(Path(paths.root).resolve(), place)
    jobs: dict[tuple[str, str, int | None, str], Job] = {}
    for output, when, number in submitted(place):
        if not output.startswith(f"{root}/"):
            continue
        parts = Path(output[len(root) + 1 :]).parts
        arm = parts[0] if len(parts) > 1 else ""
        iteration = (
            int(parts[1][5:]) if len(parts) > 2 and parts[1].startswith("iter_") and parts[1][5:].isdigit() else None
        )
        rule = _rule_of(
            "/".join(parts[2:] if iteration is not None else parts[1:] or parts), iteration is not None, arm
        )
        name = Path(output).stem if rule == "label_structure" else ""
        state = "queued" if number and not _has_begun(paths, arm, parts, rule, when) else "running"
        jobs.setdefault(
            (rule, arm, iteration, name),
            Job(
                "label" if rule == "label_structure" else rule,
                "" if arm in ("pool", "figures") else arm,
                iteration,
                state,
                name,
                batch_system_job=number,
                since=clock(when),
                elapsed_s=age(when),
            ),
        )
    return sorted(jobs.values(), key=lambda job: (job.arm, job.iteration or 0, job.since))


def _other_jobs(handed_out: list[Job]) -> list[Job]:
    """Return the jobs that are no labels of an iteration that is being labelled, which claims tell better."""
    return [job for job in handed_out if job.what != "label" or job.arm == PROBES_ARM]


def _rule_of(file: str, in_iteration: bool, folder: str) -> str:
    if in_iteration and file.startswith("labels/"):
        return "label_structure"
    for stage in RULES.values():
        if (stage.place is Place.ITERATION) != in_iteration:
            continue
        patterns = [pattern.partition("{") for pattern in stage.outputs.values()]
        if any(file == head or (brace and file.startswith(head)) for head, brace, _ in patterns):
            return stage.rule
    return file


def _has_begun(paths: CampaignPaths, arm: str, parts: tuple[str, ...], rule: str, when: float) -> bool:
    """Whether the script of a job in a batch system has opened its log since it was submitted."""
    logs = Path(paths.root, *parts[:2], "logs") if len(parts) > 2 else Path(paths.root, arm, "logs")
    return any((time_of(logs / name) or 0) >= when - 1 for name in names_in(logs) if name.startswith(rule))


def _state(process: MainProcess, run: Mapping[str, Any], main: ArmStatus) -> str:
    if process.state in ("here", "elsewhere", "silent"):
        return {"here": "running", "elsewhere": "running_elsewhere", "silent": "silent"}[process.state]
    if main.stop_reason and main.iteration_now is None:
        return "finished"
    return "broken_off" if process.state == "dead" or run.get("end") == BROKE_OFF else "stopped"


def _failures(
    paths: CampaignPaths, found: Mapping[str, Finished], of_batch: Mapping[str, list[dict[str, str]]]
) -> list[Failure]:
    """Return what has failed in finished iterations, and in batches that are not merged yet."""
    by_class: dict[str, list[tuple[str, dict[str, str]]]] = {}
    for arm, one in found.items():
        last = len(one.facts)
        for row in of_batch[arm]:
            by_class.setdefault(row["status"], []).append((arm, row))
        for iteration in (last - 1,) if of_batch[arm] else (last, last - 1):
            try:
                rows = read_whole_dicts(paths.iteration("failures.csv", arm, iteration)) if iteration >= 0 else []
            except (OSError, ValueError):
                continue
            for row in rows:
                by_class.setdefault(row.get("status", ""), []).append((arm, row))
            break
    newest = sorted(by_class.items(), key=lambda item: -max(_iteration(row) for _, row in item[1]))
    shown = []
    for name, failed in newest[:LAST_FAILURES]:
        arm, last_row = max(failed, key=lambda item: _iteration(item[1]))
        words = last_row.get("structure_id", ""), last_row.get("message", "")
        shown.append(Failure(name, len(failed), arm, _iteration(last_row), *words))
    return shown


def _iteration(row: Mapping[str, str]) -> int:
    text = row.get("iteration", "")
    return int(text) if text.isdigit() else 0
