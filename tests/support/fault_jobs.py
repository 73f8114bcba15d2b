"""The jobs and campaigns of a fault run: real label jobs with a stand-in engine, each in a process of its own."""

from __future__ import annotations

import errno
import multiprocessing
import os
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quarry.errors import QuarryError
from quarry.labeling.attempts import Attempts
from quarry.labeling.claims import Claims
from quarry.labeling.labeler import Books, Labeler, LabelJob
from quarry.labeling.ledger import LabelLedger
from quarry.labeling.limits import JobLimits
from quarry.labeling.record import LabelRecord
from quarry.labeling.store import LabelStore, StoreError, method_id_of
from quarry.labeling.worker import Worker
from quarry.structures import Structure
from quarry.structures.files import JobInputEntry, write_job_input
from support.fault_engine import FaultyEngine, note

METHOD = {"engine": "stand-in"}
METHOD_ID = method_id_of(METHOD)
FORK = multiprocessing.get_context("fork")
HEARTBEAT_S = 0.5
WALLTIME_S = 8.0
RETRIES = 1


def structures_of(count: int) -> list[Structure]:
    """H2 at different distances."""
    return [Structure.create([1, 1], [[0, 0, 0], [0, 0, 0.6 + 0.002 * n]]) for n in range(count)]


class RefusingStore(LabelStore):
    """A store that refuses to be written when the plan says so, as a full or read-only one does."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "store", METHOD_ID, METHOD)
        self.notes = folder

    def put(self, record: LabelRecord) -> LabelRecord:
        flag = self.notes / "refuse" / record.structure_id
        if record.ok and flag.exists():
            flag.unlink()
            note(self.notes / "destroyed", record.structure_id)
            raise StoreError(self.folder, "cannot publish a label (No space left on device)")
        return super().put(record)


class RefusingAttempts(Attempts):
    """Attempts on a disk that is full when the plan says so."""

    def __init__(self, folder: Path, notes: Path) -> None:
        super().__init__(folder)
        self.flag = notes / "full" / str(os.getpid())

    def _write(self, key: str) -> bool:
        if self.flag.exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super()._write(key)


@dataclass
class Campaign:
    """A main process: its jobs, those that run, and what is finished."""

    name: str
    folder: Path
    waiting: list[tuple[str, list[JobInputEntry]]]
    run: int = 0
    running: dict[str, Any] = field(default_factory=dict)
    jobs: dict[str, list[JobInputEntry]] = field(default_factory=dict)
    done: dict[str, list[LabelRecord]] = field(default_factory=dict)
    starts: Counter[str] = field(default_factory=Counter)

    def output(self, job: str) -> Path:
        return self.folder / self.name / "labels" / f"{job}.json"

    @property
    def finished(self) -> bool:
        return not self.waiting and not self.running

    def labels(self) -> dict[str, LabelRecord]:
        """The good labels that this campaign has."""
        return {r.structure_id: r for records in self.done.values() for r in records if r.ok}


def run_job(
    campaign: Campaign, job: str, entries: list[JobInputEntry], plan: dict[str, list[str]], memory_MB: float
) -> None:
    """What a label job does. Runs in a process of its own."""
    folder = campaign.folder / campaign.name
    log = os.open(folder / f"{job}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    job_input = folder / "batch" / f"{job}.extxyz"
    write_job_input(job_input, entries)
    now = time.monotonic()
    origin = {"campaign_id": campaign.name, "campaign": campaign.name, "arm": "main", "iteration": 0}
    limits = JobLimits(memory_MB, started=now, end=now + WALLTIME_S)
    told = LabelJob(
        *(METHOD_ID, origin, f"{campaign.name} {campaign.run}", memory_MB, WALLTIME_S / 60, limits),
        retries=RETRIES,
        heartbeat_s=HEARTBEAT_S,
    )
    store = RefusingStore(campaign.folder)
    worker = Worker(lambda: FaultyEngine(campaign.folder, plan), 1)
    claims, failed = Claims(store.folder, HEARTBEAT_S), LabelLedger(folder / "failed")
    attempts = RefusingAttempts(folder / "attempts", campaign.folder)
    labeler = Labeler(told, worker, claims, Books(store, failed, attempts))
    try:
        labeler.label_job_input(job_input, campaign.output(job))
    except QuarryError as error:
        sys.exit(str(error))
