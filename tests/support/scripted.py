"""A label job with an engine that does what a script says; all in one folder."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from quarry.labeling.attempts import Attempts
from quarry.labeling.claims import Claims
from quarry.labeling.engines.base import EngineResult
from quarry.labeling.labeler import Books, Labeler, LabelJob
from quarry.labeling.ledger import LabelLedger
from quarry.labeling.limits import JobLimits
from quarry.labeling.record import LabelRecord, read_records
from quarry.labeling.store import LabelStore, method_id_of
from quarry.labeling.worker import Worker
from quarry.structures import Structure
from quarry.structures.files import JobInputEntry, write_job_input

METHOD = {"engine": "scripted"}
METHOD_ID = method_id_of(METHOD)
STRUCTURES = [Structure.create([1, 1], [[0, 0, 0], [0, 0, 0.7 + 0.1 * n]]) for n in range(4)]
A, B, C, D = (s.structure_id for s in STRUCTURES)


class ScriptedEngine:
    """Does to each structure what the script says and writes down which calls it began and ended."""

    name, periodic, one_job_per_batch = "scripted", False, False

    def __init__(self, folder: Path, script: dict[str, Any]) -> None:
        self.folder, self.script = folder, script

    def versions(self) -> dict[str, str]:
        return {"scripted": "1"}

    def size(self, structure: Structure) -> dict[str, int]:
        return {"atoms": len(structure)}

    def label(self, structure: Structure, threads: int) -> EngineResult:
        self._note("began", structure)
        action = self.script.get(structure.structure_id)
        if isinstance(action, EngineResult):
            return action
        if callable(action):
            action()
        self._note("ended", structure)
        return EngineResult("ok", {"energy": float(structure.positions[1, 2])}, [{"name": "call"}])

    def _note(self, what: str, structure: Structure) -> None:
        with open(self.folder / what, "a") as handle:
            handle.write(structure.structure_id + "\n")


def raising(error: BaseException) -> Callable[[], NoReturn]:
    def action() -> NoReturn:
        raise error

    return action


def eat(megabytes: int) -> Callable[[], None]:
    def action() -> None:
        taken = np.ones(megabytes * 2**17)
        time.sleep(10)
        assert taken[0] == 1

    return action


def die(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


class Desk:
    """Everything that a job needs, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = LabelStore(folder / "store", METHOD_ID, METHOD)
        self.failed = LabelLedger(folder / "failed")
        self.attempts = folder / "attempts"
        self.earlier: list[LabelStore] = []
        self.is_current: Callable[[], bool] = lambda: True
        self.output = folder / "job.json"

    def job(self, **changes: Any) -> LabelJob:
        now = time.monotonic()
        origin = {"campaign_id": "c", "campaign": "toy", "arm": "main", "iteration": 2}
        limits = JobLimits(memory_MB=1e5, started=now, end=now + 60)
        job = LabelJob(METHOD_ID, origin, "run", 2000, 1.0, limits, threads=3, heartbeat_s=0.2)
        return replace(job, **changes)

    def entries(
        self, structures: Sequence[Structure], keys: Sequence[str] | None = None, predicted_s: float | None = None
    ) -> list[JobInputEntry]:
        keys = keys or [s.structure_id for s in structures]
        return [JobInputEntry(s, key, predicted_s) for s, key in zip(structures, keys, strict=True)]

    def label(
        self,
        script: dict[str, Any] | None = None,
        structures: Sequence[Structure] = STRUCTURES,
        keys: Sequence[str] | None = None,
        predicted_s: float | None = None,
        **changes: Any,
    ) -> list[LabelRecord]:
        job_input = self.folder / "job.extxyz"
        write_job_input(job_input, self.entries(structures, keys, predicted_s))
        job = self.job(**changes)
        worker = Worker(lambda: ScriptedEngine(self.folder, script or {}), job.threads)
        claims = Claims(self.store.folder, job.heartbeat_s)
        attempts = Attempts(self.attempts)
        books = Books(self.store, self.failed, attempts, self.earlier, lambda: self.is_current())
        Labeler(job, worker, claims, books).label_job_input(job_input, self.output)
        return read_records(self.output)

    def began(self, what: str = "began") -> list[str]:
        file = self.folder / what
        return file.read_text().split() if file.exists() else []

    def record(self, structure: Structure = STRUCTURES[0], **changes: Any) -> LabelRecord:
        cost = {"wall_s": 36.0, "cpu_s": 30.0, "threads": 2, "peak_memory_MB": 100.0}
        energy = {"energy": float(structure.positions[1, 2])}
        found = LabelRecord(
            structure.structure_id, METHOD_ID, METHOD, "ok", "", energy, [], cost, {"arm": "other"}, "h", {}, "now"
        )
        return replace(found, **changes)


def seconds_until(condition: Callable[[], Any], limit: float = 20.0) -> None:
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
