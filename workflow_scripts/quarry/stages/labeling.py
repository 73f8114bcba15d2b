"""A label job: the engine that the configuration asks for, within what the job was given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from quarry.config.campaign import Configuration
from quarry.labeling.attempts import Attempts
from quarry.labeling.claims import Claims
from quarry.labeling.engines.registry import make_engine
from quarry.labeling.labeler import Labeler, LabelJob
from quarry.labeling.ledger import LabelLedger
from quarry.labeling.limits import limits_of_job
from quarry.labeling.store import LabelStore
from quarry.labeling.worker import Worker


def make_worker(configuration: Configuration, base: str, threads: int, memory_MB: int, walltime_min: int) -> Worker:
    """Return the campaign's engine in a child process, with what the job has. base: folder of the campaign file."""
    resources = configuration.resources.label.model_copy(
        update={"threads": threads, "memory_MB": memory_MB, "walltime_min": walltime_min}
    )
    return Worker(partial(make_engine, configuration.labeling, Path(base), resources), threads)


def label_leaf(
    configuration: Configuration,
    leaf: str,
    output: str,
    store: LabelStore,
    origin: dict[str, Any],
    run: str,
    base: str,
    failed: str,
    attempts: str,
    threads: int,
    memory_MB: int,
    walltime_min: int,
    earlier: Sequence[LabelStore] = (),
    is_current: Callable[[], bool] = lambda: True,
) -> None:
    """Label the structures of a leaf file; see ``Labeler.label_leaf``.

    run: the main process. base: folder of the campaign file. failed, attempts: folders of the campaign's ledger and of
    the iteration's attempts. threads, memory_MB, walltime_min: what the job has. earlier: the stores that the campaign had
    before. is_current: whether the campaign has still this store.
    """
    labeling = configuration.labeling
    job = LabelJob(
        method_id=store.folder.name,
        origin=origin,
        run=run,
        memory_MB=memory_MB,
        walltime_min=walltime_min,
        limits=limits_of_job(memory_MB, walltime_min),
        threads=threads,
        tasks=configuration.resources.label.tasks,
        retries=labeling.retries,
        straggler_factor=labeling.straggler_factor,
        heartbeat_s=labeling.heartbeat_s,
    )
    Labeler(
        job,
        make_worker(configuration, base, threads, memory_MB, walltime_min),
        store,
        Claims(store.folder, labeling.heartbeat_s),
        LabelLedger(failed),
        Attempts(attempts),
        earlier,
        is_current,
    ).label_leaf(leaf, output)
