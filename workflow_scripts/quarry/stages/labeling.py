"""A label job: the engine that the configuration asks for, within what the job was given."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from quarry.config.campaign import Configuration
from quarry.labeling.claims import Claims
from quarry.labeling.engines.registry import make_engine
from quarry.labeling.labeler import Books, Labeler, LabelJob
from quarry.labeling.limits import Allocation, limits_of_job
from quarry.labeling.worker import Worker


@dataclass(frozen=True)
class Sender:
    """Who sent a label job and pays for it. origin: campaign_id, campaign, arm and iteration. run: the main process."""

    origin: dict[str, Any]
    run: str


def make_worker(configuration: Configuration, base: str, allocation: Allocation) -> Worker:
    """Return the campaign's engine in a child process, with what the job has. base: folder of the campaign file."""
    resources = configuration.resources.label.model_copy(update=asdict(allocation))
    return Worker(partial(make_engine, configuration.labeling, Path(base), resources), allocation.threads)


def label_job_input(
    configuration: Configuration,
    base: str,
    job_input: str,
    output: str,
    books: Books,
    sender: Sender,
    allocation: Allocation,
) -> None:
    """Label the structures of a job input; see ``Labeler.label_job_input``.

    base: folder of the campaign file. allocation: what the job has.
    """
    labeling = configuration.labeling
    job = LabelJob(
        method_id=books.store.folder.name,
        origin=sender.origin,
        run=sender.run,
        memory_MB=allocation.memory_MB,
        walltime_min=allocation.walltime_min,
        limits=limits_of_job(allocation.memory_MB, allocation.walltime_min),
        threads=allocation.threads,
        tasks=configuration.resources.label.tasks,
        retries=labeling.retries,
        straggler_factor=labeling.straggler_factor,
        heartbeat_s=labeling.heartbeat_s,
    )
    worker = make_worker(configuration, base, allocation)
    Labeler(job, worker, Claims(books.store.folder, labeling.heartbeat_s), books).label_job_input(job_input, output)
