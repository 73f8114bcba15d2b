"""A label job: what it does with the store, claims and ledger, and with an engine that dies, hangs or eats memory."""

import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from quarry.errors import QuarryError
from quarry.labeling.attempts import Attempt, Attempts, counted, needed, read_attempts
from quarry.labeling.claims import Claims
from quarry.labeling.engines.answers import PER_STATE
from quarry.labeling.engines.base import EngineResult
from quarry.labeling.failed import FailedLabels
from quarry.labeling.labeler import Labeler, LabelJob
from quarry.labeling.limits import JobLimits
from quarry.labeling.record import LabelRecord, read_records
from quarry.labeling.store import LabelStore, method_id_of
from quarry.labeling.worker import Worker
from quarry.structures import Structure
from quarry.structures.files import LeafEntry, write_leaf

METHOD = {"engine": "scripted"}
METHOD_ID = method_id_of(METHOD)
STRUCTURES = [Structure.create([1, 1], [[0, 0, 0], [0, 0, 0.7 + 0.1 * n]]) for n in range(4)]
A, B, C, D = (s.structure_id for s in STRUCTURES)


class ScriptedEngine:
    """Does to each structure what the script says and writes down which calls it began and ended."""

    name, periodic, one_job_per_batch = "scripted", False, False

    def __init__(self, folder: Path, script: dict):
        self.folder, self.script = folder, script

    def versions(self):
        return {"scripted": "1"}

    def size(self, structure):
        return {"atoms": len(structure)}

    def label(self, structure, threads):
        self._note("began", structure)
        action = self.script.get(structure.structure_id)
        if isinstance(action, EngineResult):
            return action
        if callable(action):
            action()
        self._note("ended", structure)
        return EngineResult("ok", {"energy": float(structure.positions[1, 2])}, [{"name": "call"}])

    def _note(self, what, structure):
        with open(self.folder / what, "a") as handle:
            handle.write(structure.structure_id + "\n")


def raising(error):
    def action():
        raise error

    return action


def eat(megabytes):
    def action():
        taken = np.ones(megabytes * 2**17)
        time.sleep(10)
        assert taken[0] == 1

    return action


def die(number):
    return lambda: os.kill(os.getpid(), number)


class Desk:
    """Everything that a job needs, in a folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.store = LabelStore(folder / "store", METHOD_ID, METHOD)
        self.failed = FailedLabels(folder / "failed")
        self.attempts = folder / "attempts"
        self.output = folder / "job.json"

    def job(self, **changes) -> LabelJob:
        now = time.monotonic()
        origin = {"campaign_id": "c", "campaign": "toy", "arm": "main", "iteration": 2}
        limits = JobLimits(memory_MB=1e5, started=now, end=now + 60)
        job = LabelJob(METHOD_ID, origin, "run", 2000, 1.0, limits, threads=3, heartbeat_s=0.2)
        return replace(job, **changes)

    def entries(self, structures, keys=None, predicted_s=None):
        keys = keys or [s.structure_id for s in structures]
        return [LeafEntry(s, key, predicted_s) for s, key in zip(structures, keys, strict=True)]

    def label(self, script=None, structures=STRUCTURES, keys=None, predicted_s=None, **changes) -> list[LabelRecord]:
        leaf = self.folder / "job.extxyz"
        write_leaf(leaf, self.entries(structures, keys, predicted_s))
        job = self.job(**changes)
        worker = Worker(lambda: ScriptedEngine(self.folder, script or {}), job.threads)
        claims = Claims(self.store.folder, job.heartbeat_s)
        Labeler(job, worker, self.store, claims, self.failed, Attempts(self.attempts)).label_leaf(leaf, self.output)
        return read_records(self.output)

    def began(self, what="began") -> list[str]:
        file = self.folder / what
        return file.read_text().split() if file.exists() else []

    def record(self, structure=STRUCTURES[0], **changes) -> LabelRecord:
        cost = {"wall_s": 36.0, "cpu_s": 30.0, "threads": 2, "peak_memory_MB": 100.0}
        energy = {"energy": float(structure.positions[1, 2])}
        found = LabelRecord(
            structure.structure_id, METHOD_ID, METHOD, "ok", "", energy, [], cost, {"arm": "other"}, "h", {}, "now"
        )
        return replace(found, **changes)


@pytest.fixture
def desk(tmp_path) -> Desk:
    return Desk(tmp_path)


def seconds_until(condition, limit=20.0):
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


class TestRecords:
    def test_a_record_accounts_for_its_label(self, desk):
        [found] = desk.label(structures=STRUCTURES[:1])
        assert (found.structure_id, found.method_id, found.method, found.status) == (A, METHOD_ID, METHOD, "ok")
        assert found.properties == {"energy": 0.7} and found.attempts == [{"name": "call"}]
        assert found.origin["iteration"] == 2 and found.versions["scripted"] == "1" and "quarry" in found.versions
        assert found.cost["threads"] == 3 and found.cost["tasks"] == 1 and found.cost["size"] == {"atoms": 2}
        assert found.cost["wall_s"] >= 0 and found.cost["peak_memory_MB"] > 1
        assert desk.store.get(A) == found
        assert not list(desk.attempts.iterdir()), "nothing happened that a next attempt should know"

    def test_what_the_store_and_the_ledger_have_is_not_computed(self, desk):
        stored = desk.store.put(desk.record(STRUCTURES[1]))
        failed = desk.failed.put(C, desk.record(STRUCTURES[2], status="scf_not_converged", properties={}))
        found = desk.label()
        assert desk.began() == [A, D]
        assert found[1:3] == [stored, failed]
        desk.label()
        assert desk.began() == [A, D]

    def test_a_retry_is_computed_although_the_label_failed_before(self, desk):
        old = desk.failed.put(A, desk.record(status="engine_error", properties={}))
        [found] = desk.label(structures=STRUCTURES[:1], keys=[f"{A}_r1"])
        assert found.ok and desk.began() == [A]
        assert desk.failed.get(A) == old

    @pytest.mark.parametrize(
        ("error", "status"), [(ValueError("first\nsecond"), "engine_error"), (OSError(), "engine_error")]
    )
    def test_chemistry_never_fails_the_job(self, desk, error, status):
        found = desk.label({B: raising(error)})
        assert [r.status for r in found] == ["ok", status, "ok", "ok"]
        assert found[1].properties == {} and "\n" not in found[1].message and found[1].message
        assert desk.store.get(B) is None and desk.failed.get(B) == found[1]

    @pytest.mark.parametrize("number", [float("nan"), float("inf"), object])
    def test_what_cannot_be_written_down_is_no_label(self, desk, number):
        found = desk.label({B: EngineResult("ok", {"energy": number})})
        assert [r.status for r in found] == ["ok", "engine_error", "ok", "ok"]

    def test_a_label_with_too_few_excited_states_is_none(self, desk):
        some = {B: [5.0, 6.0], C: [5.0], D: []}
        script = {k: EngineResult("ok", {"energy": 1.0, **dict.fromkeys(PER_STATE, v)}) for k, v in some.items()}
        found = desk.label(script, n_states=2)
        lacking = "excitations_not_converged"
        assert [r.status for r in found] == [lacking, "ok", lacking, lacking]
        words = "excited states where spectrum.n_states asks for 2"
        assert [r.message for r in found] == [f"0 {words}", "", f"1 {words}", f"0 {words}"]
        assert found[2].properties == {} and desk.store.get(C) is None and desk.failed.get(C) == found[2]

    def test_properties_of_a_failed_calculation_are_not_kept(self, desk):
        result = EngineResult("scf_not_converged", {"energy": 1.0}, message="100 cycles")
        [found] = desk.label({A: result}, STRUCTURES[:1])
        assert (found.status, found.properties, found.message) == ("scf_not_converged", {}, "100 cycles")

    def test_a_store_that_cannot_be_written_costs_no_label(self, desk, monkeypatch, capsys):
        from quarry.labeling.store import StoreError

        def refuse(record):
            raise StoreError(desk.store.folder, "no space")

        monkeypatch.setattr(desk.store, "put", refuse)
        with pytest.raises(QuarryError, match="to be tried again"):
            desk.label({B: die(signal.SIGKILL)}, retries=1)
        assert "kept in the campaign alone" in capsys.readouterr().out and desk.store.get(A) is None
        found = desk.label(retries=1)
        assert all(r.ok for r in found) and desk.began("ended") == [A, C, D, B], "what was paid for is not paid again"
        assert desk.failed.all() == {}


class TestDeaths:
    def test_one_bad_structure_does_not_hurt_its_neighbours(self, desk):
        """The engine's process dies; a new one goes on with the next structure."""
        found = desk.label({B: die(signal.SIGTRAP), C: lambda: os._exit(3)})
        assert [r.status for r in found] == ["ok", "engine_error", "engine_error", "ok"]
        assert "SIGTRAP" in found[1].message and "exit code 3" in found[2].message
        assert desk.began() == [A, B, C, D]

    def test_killed_by_the_system_is_out_of_memory_and_tried_again(self, desk):
        with pytest.raises(QuarryError, match=rf"to be tried again: {B} \(out_of_memory\)"):
            desk.label({B: die(signal.SIGKILL)}, retries=1)
        assert not desk.output.exists() and desk.began("ended") == [A, C, D], "the others are finished"
        found = desk.label({B: die(signal.SIGKILL)}, retries=1)
        assert [r.status for r in found] == ["ok", "out_of_memory", "ok", "ok"]
        assert desk.began() == [A, B, C, D, B]
        [earlier] = found[1].cost["earlier_attempts"]
        assert earlier[0] == "out_of_memory"

    def test_memory_above_the_limit_ends_the_engine(self, desk):
        limits = JobLimits(memory_MB=250, started=time.monotonic(), end=time.monotonic() + 60)
        began = time.monotonic()
        found = desk.label({A: eat(600)}, STRUCTURES[:2], limits=limits, retries=0)
        assert [r.status for r in found] == ["out_of_memory", "ok"]
        assert time.monotonic() - began < 8
        assert "above its limit of 250 MB" in found[0].message

    def test_memory_of_programs_that_the_engine_starts_counts(self, desk):
        def start_program():
            child = multiprocessing.get_context("fork").Process(target=eat(600))
            child.start()
            child.join()

        limits = JobLimits(memory_MB=300, started=time.monotonic(), end=time.monotonic() + 60)
        [found] = desk.label({A: start_program}, STRUCTURES[:1], limits=limits, retries=0)
        assert found.status == "out_of_memory"

    def test_an_engine_that_dies_and_leaves_a_program_behind_is_noticed(self, desk):
        def leave_program():
            multiprocessing.get_context("fork").Process(target=time.sleep, args=(30,)).start()
            os.kill(os.getpid(), signal.SIGTRAP)

        began = time.monotonic()
        found = desk.label({A: leave_program}, STRUCTURES[:2])
        assert [r.status for r in found] == ["engine_error", "ok"] and time.monotonic() - began < 15

    def test_out_of_time_is_tried_again_and_then_a_record(self, desk):
        def limits():
            return JobLimits(1e5, started=time.monotonic(), end=time.monotonic() + 1.0)

        slow = {A: lambda: time.sleep(30)}
        with pytest.raises(QuarryError, match="out_of_time"):
            desk.label(slow, STRUCTURES[:1], limits=limits(), walltime_min=1 / 60, retries=1)
        assert needed(Attempts(desk.attempts).of(A), 2.0) == (0.0, 2.0)
        [found] = desk.label(slow, STRUCTURES[:1], limits=limits(), walltime_min=1 / 60, retries=1)
        assert found.status == "out_of_time" and desk.began() == [A, A]
        assert found.core_hours == pytest.approx(3 * 2.0 / 3600, rel=0.3)

    def test_who_started_late_is_tried_again_without_prejudice(self, desk):
        limits = JobLimits(1e5, started=time.monotonic(), end=time.monotonic() + 0.5)
        with pytest.raises(QuarryError, match=rf"{A} \(interrupted\), {B} \(no time left"):
            desk.label({A: lambda: time.sleep(30)}, STRUCTURES[:2], limits=limits, walltime_min=1.0, retries=0)
        assert all(r.ok for r in desk.label())

    def test_a_straggler_is_put_off(self, desk):
        slow = {A: lambda: time.sleep(30)}
        [found] = desk.label(slow, STRUCTURES[:1], predicted_s=0.2, straggler_factor=3.0, retries=2)
        assert found.status == "out_of_time" and found.details["straggler"] is True
        assert desk.began() == [A], "not tried again in this batch"

    def test_a_job_killed_without_a_trace(self, desk):
        """Parent and engine die together; the third job writes down what became of the label."""

        def kill_job():
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(30)

        for attempt in (1, 2):
            job = multiprocessing.get_context("fork").Process(
                target=desk.label, args=({B: kill_job},), kwargs={"retries": 1}
            )
            job.start()
            job.join()
            assert job.exitcode == -signal.SIGKILL
            assert len(Attempts(desk.attempts).of(B)) == attempt
        found = desk.label({B: kill_job}, retries=1)
        assert [r.status for r in found] == ["ok", "engine_error", "ok", "ok"]
        assert "killed 2 times" in found[1].message
        assert desk.began() == [A, B, B, C, D]

    def test_a_power_failure_is_no_fault_of_the_structure(self, desk):
        attempts = Attempts(desk.attempts)
        for _ in range(3):
            attempts.start(Attempt(A, "an earlier run", "h", 2000, 60))
        [found] = desk.label(structures=STRUCTURES[:1], retries=0)
        assert found.ok

    def test_the_engine_ends_with_its_job(self, desk):
        job = multiprocessing.get_context("fork").Process(target=desk.label, args=({A: lambda: time.sleep(60)},))
        job.start()
        seconds_until(desk.began)
        engines = psutil.Process(job.pid).children(recursive=True)
        assert engines
        job.kill()
        job.join()
        seconds_until(lambda: not any(e.is_running() and e.status() != psutil.STATUS_ZOMBIE for e in engines))

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_cancelled_job_says_so_and_frees_its_label(self, desk, number):
        def cancelled():
            signal.signal(signal.SIGINT, signal.default_int_handler)
            desk.label({A: lambda: time.sleep(60)})

        job = multiprocessing.get_context("fork").Process(target=cancelled)
        job.start()
        seconds_until(desk.began)
        os.kill(job.pid, number)
        job.join()
        assert job.exitcode not in (0, None)
        [attempt] = Attempts(desk.attempts).of(A)
        assert attempt.end == "cancelled" and not counted([attempt], "run")
        began = time.monotonic()
        assert all(r.ok for r in desk.label(retries=0)) and time.monotonic() - began < 5


class TestTwins:
    def test_a_twin_waits_and_computes_nothing(self, desk):
        """As after kill -9 of the main process: the orphaned job runs on, and its twin starts."""
        job = multiprocessing.get_context("fork").Process(target=desk.label, args=({A: lambda: time.sleep(3)},))
        job.start()
        seconds_until(desk.began)
        twin = Desk(desk.folder)
        twin.output = desk.folder / "twin.json"
        found = twin.label({A: lambda: time.sleep(3)})
        job.join()
        assert job.exitcode == 0 and sorted(desk.began()) == sorted([A, B, C, D])
        assert found == read_records(desk.output)

    def test_a_twin_takes_the_failure_of_the_first(self, desk):
        def fail_late():
            time.sleep(2)
            raise ValueError("no")

        job = multiprocessing.get_context("fork").Process(target=desk.label, args=({A: fail_late}, STRUCTURES[:1]))
        job.start()
        seconds_until(desk.began)
        [found] = desk.label({A: fail_late}, STRUCTURES[:1])
        job.join()
        assert found.status == "engine_error" and desk.began() == [A]

    def test_a_stopped_job_loses_its_label_to_another(self, desk):
        """The first job is frozen for longer than its heartbeats allow; when it goes on it lets go and takes the result."""
        job = multiprocessing.get_context("fork").Process(
            target=desk.label, args=({A: lambda: time.sleep(4)}, STRUCTURES[:1])
        )
        job.start()
        seconds_until(desk.began)
        family = [psutil.Process(job.pid), *psutil.Process(job.pid).children(recursive=True)]
        for process in family:
            process.suspend()
        [found] = desk.label(structures=STRUCTURES[:1], retries=1)
        for process in reversed(family):
            process.resume()
        job.join()
        assert job.exitcode == 0 and desk.began("ended") == [A]
        assert read_records(desk.output) == [found]


class TestAttempts:
    def attempt(self, **changes) -> Attempt:
        return replace(Attempt(A, "run", "h", 1000, 600), **changes)

    def test_a_job_that_vanished_near_a_limit_ran_out_of_it(self):
        assert self.attempt(peak_MB=700).verdict == "out_of_memory"
        assert self.attempt(job_elapsed_s=590).verdict == "out_of_time"
        assert self.attempt(job_elapsed_s=590, end="cancelled").verdict == "out_of_time"
        assert self.attempt(peak_MB=100, job_elapsed_s=100).verdict == "killed"

    def test_the_next_attempt_has_more_than_what_was_not_enough(self):
        assert needed([], 2.0) == (0.0, 0.0)
        tried = [self.attempt(end="out_of_memory"), self.attempt(end="out_of_memory", memory_MB=2000)]
        assert needed(tried, 1.5) == (3000.0, 0.0)
        assert needed([self.attempt(end="out_of_time")], 2.0) == (0.0, 1200.0)
        assert needed([self.attempt(end="cancelled"), self.attempt(end="interrupted")], 2.0) == (0.0, 0.0)

    def test_unexplained_kills_do_not_drive_the_memory_up(self):
        tried = [self.attempt(memory_MB=m) for m in (1000, 2000, 4000)]
        assert needed(tried, 2.0) == (2000.0, 0.0)

    @pytest.mark.parametrize("text", ["", "[", "{}", '[{"key": "a"}]', "\x00"])
    def test_a_damaged_file_counts_as_none(self, tmp_path, text):
        (tmp_path / "job.json").write_text(text)
        assert read_attempts(tmp_path / "job.json") == []
