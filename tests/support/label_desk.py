"""Label jobs as a campaign runs them (configuration, job input, store, ledger, attempts), each in a process of its own."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from quarry.config import load_configuration
from quarry.errors import QuarryError
from quarry.labeling.attempts import Attempts
from quarry.labeling.engines.registry import make_engine
from quarry.labeling.labeler import Books
from quarry.labeling.ledger import LabelLedger
from quarry.labeling.limits import Allocation
from quarry.labeling.record import LabelRecord, read_records
from quarry.labeling.store import LabelStore, method_id_of
from quarry.stages.labeling import Sender, label_job_input
from quarry.structures import Structure
from quarry.structures.files import JobInputEntry, write_job_input
from support.campaigns import stand_in_configuration

FORK = multiprocessing.get_context("fork")
STRUCTURES = [Structure.create([1, 1], [[0, 0, 0], [0, 0, 0.8 + 0.1 * n]]) for n in range(4)]
IDS = [s.structure_id for s in STRUCTURES]


def morse_energy(structure: Structure) -> float:
    """The energy (eV) that ``engine_functions:plain`` has to give."""
    return (1 - math.exp(-1.2 * (float(structure.positions[1, 2]) - 1.0))) ** 2


def wait_until(condition: Callable[[], Any], seconds: float = 180.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@dataclass
class Ended:
    """How a job ended, what it printed, and how long it took."""

    code: int | None
    text: str
    seconds: float


class Job:
    """A label job that runs."""

    def __init__(self, process: Any, log: Path) -> None:
        self.process, self.log, self._began = process, log, time.monotonic()

    def wait(self) -> Ended:
        self.process.join(120)
        assert self.process.exitcode is not None, self.log.read_text()
        return Ended(self.process.exitcode, self.log.read_text(), time.monotonic() - self._began)

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def engine(self) -> psutil.Process:
        wait_until(lambda: psutil.Process(self.process.pid).children())
        return psutil.Process(self.process.pid).children()[0]


class LabelDesk:
    """A campaign's folder from the view of its label jobs. The working directory must be ``folder``."""

    def __init__(self, folder: Path, store: Path | None = None, name: str = "toy", results: Path | None = None) -> None:
        self.folder, self.name = folder, name
        self.root = store or folder / "label_store"
        self.results = results or folder / "results" / name
        self.arguments: dict[str, Any] = {}
        self.function = "plain"
        self.labeling: dict[str, Any] = {"heartbeat_s": 0.3, "retries": 0}
        self.jobs = 0

    def configuration(self) -> Any:
        engine = {"engine": "function", "function": f"engine_functions:{self.function}", "arguments": self.arguments}
        labeling = self.labeling if "engine" in self.labeling else {**engine, **self.labeling}
        return load_configuration(stand_in_configuration(name=self.name, labeling=labeling), "campaign.yaml")

    def store(self) -> LabelStore:
        # One method whatever the function: the tests let other functions fail with the same method's labels.
        method = {"engine": "stand-in"}
        return LabelStore(self.root, method_id_of(method), method)

    def output(self, job: str = "job") -> Path:
        return self.results / "labels" / f"{job}.json"

    def start(
        self,
        structures: list[Structure] = STRUCTURES,
        job: str = "job",
        memory_MB: float = 4000,
        walltime_min: float = 1.0,
    ) -> Job:
        """Start a label job."""
        self.jobs += 1
        log = self.folder / f"{self.name}-{job}-{self.jobs}.log"
        log.touch()
        job_input = self.folder / "batch" / f"{self.name}-{job}.extxyz"
        job_input.parent.mkdir(exist_ok=True)
        write_job_input(job_input, [JobInputEntry(s, s.structure_id) for s in structures])
        configuration, store = self.configuration(), self.store()

        def run() -> None:
            descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
            for number in (1, 2):
                os.dup2(descriptor, number)
            # pytest has put files of its own in their place.
            sys.stdout = sys.stderr = os.fdopen(descriptor, "w", buffering=1)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            try:
                label_job_input(
                    configuration,
                    base=str(self.folder),
                    job_input=str(job_input),
                    output=str(self.output(job)),
                    books=Books(store, LabelLedger(self.results / "failed"), Attempts(self.results / "attempts")),
                    sender=Sender(
                        {"campaign_id": self.name, "campaign": self.name, "arm": "main", "iteration": 0}, "run"
                    ),
                    allocation=Allocation(1, memory_MB, walltime_min),
                )
            except (QuarryError, OSError) as error:
                sys.exit(f"{type(error).__name__}: {error}")

        process = FORK.Process(target=run)
        process.start()
        return Job(process, log)

    def run(self, structures: list[Structure] = STRUCTURES, **options: Any) -> Ended:
        """Run a label job to its end."""
        return self.start(structures, **options).wait()

    def records(self, job: str = "job") -> list[LabelRecord]:
        return read_records(self.output(job))

    def statuses(self) -> list[str]:
        return [record.status for record in self.records()]

    def calls(self, what: str = "finished") -> list[str]:
        """Structure ids of the calls that began or finished, in their order."""
        file = self.folder / what
        return file.read_text().split() if file.exists() else []

    def engine(self) -> Any:
        return make_engine(self.configuration().labeling, self.folder)


def check_right(desk: LabelDesk, job: str = "job") -> None:
    """Every label of a job is there, with the right energy, and was computed once in all."""
    records = desk.records(job)
    assert [r.structure_id for r in records] == IDS and all(r.ok for r in records)
    for record, structure in zip(records, STRUCTURES, strict=True):
        assert record.properties["energy"] == pytest.approx(morse_energy(structure), rel=1e-13)
    assert sorted(desk.calls()) == sorted(IDS)


ENGINE_FUNCTIONS = '''
"""Engines of the tests of faults."""

import math
import os
import signal
import sys
import time
from pathlib import Path


def note(what, atoms):
    with open(what, "a") as handle:
        handle.write(atoms.info["structure_id"] + "\\n")


def plain(atoms, seconds=0.0, only=None):
    note("began", atoms)
    if only is None or atoms.info["structure_id"] in only:
        time.sleep(seconds)
    energy = (1 - math.exp(-1.2 * (atoms.positions[1, 2] - 1.0))) ** 2
    note("finished", atoms)
    return {"energy": energy}


def waits_for(atoms, file):
    note("began", atoms)
    while not Path(file).exists():
        time.sleep(0.05)
    energy = sum(float(x) for x in atoms.positions.ravel() ** 2)
    note("finished", atoms)
    return {"energy": energy, "forces": [[0.0, 0.0, 0.0]] * len(atoms)}


def hungry(atoms, only, megabytes):
    if atoms.info["structure_id"] in only:
        note("began", atoms)
        taken = bytearray(os.urandom(2**20)) * megabytes
        time.sleep(30)
        return {"energy": float(taken[0])}
    return plain(atoms)


def not_a_number(atoms, only):
    return {"energy": float("nan")} if atoms.info["structure_id"] in only else plain(atoms)


def fills_the_disk(atoms, file):
    answer = plain(atoms)
    with open(file, "wb", buffering=0) as handle:
        for size in (65536, 4096, 512, 1):
            try:
                while handle.write(b"x" * size):
                    pass
            except OSError:
                pass
    return answer
'''
