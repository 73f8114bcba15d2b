"""Attempts and ledger on a disk that takes nothing for a while: what is computed goes on, and nothing is forgotten."""

from __future__ import annotations

import errno
import os
import signal
import time
from dataclasses import replace

import pytest

from quarry.errors import QuarryError
from quarry.labeling import attempts as attempts_module
from quarry.labeling import labeler as labeler_module
from quarry.labeling import ledger as ledger_module
from quarry.labeling.attempts import Attempt, Attempts, read_attempts
from quarry.labeling.engines.base import MACHINE_FAULT, EngineResult
from quarry.labeling.limits import JobLimits
from quarry.labeling.store import StoreError
from support.faults import read_only
from support.scripted import STRUCTURES, A, B, C, D, Desk, die

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def desk(tmp_path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture
def disk(monkeypatch):
    """The disk of the results, which takes files of attempts or not."""

    class Disk:
        full = False
        away = False

        def write(self, path, data):
            if self.full or self.away:
                raise FULL
            write(path, data)

        def read(self, path):
            if self.away:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return read(path)

    disk, write, read = Disk(), attempts_module.write_json, attempts_module.read_file
    monkeypatch.setattr(attempts_module, "write_json", disk.write)
    monkeypatch.setattr(attempts_module, "read_file", disk.read)
    return disk


def attempt(key: str = A, **changes) -> Attempt:
    return replace(Attempt(key, "run", "h", 1000, 600), **changes)


def refuse_first_failure(monkeypatch) -> None:
    """Let the ledger's disk be full when the first failure is written down."""
    publish, times = ledger_module.publish_once, []

    def refuse_first(path, data):
        times.append(path)
        if len(times) == 1:
            raise FULL
        return publish(path, data)

    monkeypatch.setattr(ledger_module, "publish_once", refuse_first)


class TestAttempts:
    def test_what_the_disk_does_not_take_is_written_when_it_does_and_told_once(
        self, tmp_path, disk, monkeypatch, capsys
    ):
        attempts = Attempts(tmp_path)
        attempts.start(attempt(end="out_of_memory"))
        disk.full = True
        attempts.start(attempt())
        for peak_MB in (1.0, 2.0, 3.0):
            attempts.update(A, peak_MB=peak_MB)
        attempts.start(attempt(B))
        wanted = [attempt(end="out_of_memory"), attempt(peak_MB=3.0)]
        assert attempts.of(A) == wanted and attempts.of(B) == [attempt(B)]
        assert read_attempts(attempts.path(A)) == wanted[:1] and not attempts.path(B).exists()
        told = capsys.readouterr().out
        assert told.count("\n") == 1 and str(tmp_path) in told and "No space left on device" in told
        disk.full = False
        attempts.update(B, peak_MB=4.0)
        assert read_attempts(attempts.path(A)) == wanted
        assert read_attempts(attempts.path(B)) == [attempt(B, peak_MB=4.0)]
        assert capsys.readouterr().out == f"Quarry: {tmp_path} can be written again\n"
        attempts.update(B, peak_MB=4.5)
        assert capsys.readouterr().out == ""
        disk.full = True
        attempts.update(B, peak_MB=5.0)
        assert capsys.readouterr().out == "", "it may take one file and not the next"
        hour = time.monotonic() + 3601
        monkeypatch.setattr(attempts_module.time, "monotonic", lambda: hour)
        attempts.update(B, peak_MB=6.0)
        assert "No space left" in capsys.readouterr().out

    def test_a_disk_that_cannot_be_read_loses_no_history(self, tmp_path, disk):
        attempts = Attempts(tmp_path)
        attempts.start(attempt(end="out_of_memory"))
        disk.away = True
        attempts.start(attempt())
        attempts.update(A, peak_MB=1.0)
        assert attempts.of(A) == [attempt(end="out_of_memory"), attempt(peak_MB=1.0)]
        disk.away = False
        attempts.update(A, peak_MB=2.0)
        assert read_attempts(attempts.path(A)) == [attempt(end="out_of_memory"), attempt(peak_MB=2.0)]
        disk.away = True
        attempts.finish(A)
        disk.away = False
        attempts.start(attempt(B))
        assert read_attempts(attempts.path(A)) == [attempt(end="out_of_memory")]

    def test_history_that_was_never_read_is_added_to(self, tmp_path, disk):
        Attempts(tmp_path).start(attempt(end="out_of_memory"))
        attempts = Attempts(tmp_path)
        disk.away = True
        attempts.start(attempt())
        assert attempts.of(A) == [attempt()]
        disk.away = False
        assert attempts.of(A) == [attempt(end="out_of_memory"), attempt()]
        disk.full = True
        attempts.update(A, peak_MB=1.0)
        disk.full = False
        attempts.update(A, peak_MB=2.0)
        assert read_attempts(attempts.path(A)) == [attempt(end="out_of_memory"), attempt(peak_MB=2.0)]

    @pytest.mark.parametrize("lost", [False, True])
    def test_what_another_job_has_written_since_is_left(self, tmp_path, disk, lost):
        """It has taken the label over; this one finds out by its claim, or by the file."""
        attempts = Attempts(tmp_path)
        disk.full = True
        attempts.start(attempt())
        disk.full = False
        if lost:
            attempts.lose(A)
        else:
            Attempts(tmp_path).start(attempt(run="another"))
        before = None if lost else attempts.path(A).stat().st_ino
        attempts.start(attempt(B))
        assert lost or attempts.path(A).stat().st_ino == before, "nor written again as it is"
        assert [a.run for a in read_attempts(attempts.path(A))] == ([] if lost else ["another"])
        assert attempts.of(A) == ([] if lost else [attempt(run="another")])

    def test_a_finished_attempt_that_was_never_written_leaves_nothing(self, tmp_path, disk):
        attempts = Attempts(tmp_path)
        disk.full = True
        attempts.start(attempt())
        attempts.finish(A)
        disk.full = False
        attempts.start(attempt(B))
        assert [path.name for path in tmp_path.iterdir()] == [f"{B}.json"]
        attempts.finish(B)
        assert not list(tmp_path.iterdir())

    def test_taking_nothing_away_is_no_sign_that_the_disk_is_back(self, tmp_path, disk, capsys):
        attempts = Attempts(tmp_path)
        disk.full = True
        attempts.start(attempt())
        capsys.readouterr()
        attempts.finish(A)
        attempts.finish(B)
        assert capsys.readouterr().out == ""

    def test_finishing_leaves_earlier_attempts(self, tmp_path):
        attempts = Attempts(tmp_path)
        attempts.start(attempt(end="out_of_time"))
        attempts.start(attempt())
        attempts.finish(A)
        assert read_attempts(attempts.path(A)) == [attempt(end="out_of_time")]


class TestRunningEngines:
    def test_a_full_results_disk_ends_no_engine(self, desk, monkeypatch, capsys):
        """Full before the first label, with room again after the last heartbeat: every label is computed once."""

        def refuse(path, data):
            raise FULL

        monkeypatch.setattr(attempts_module, "write_json", refuse)
        slow = dict.fromkeys((A, B, C, D), lambda: time.sleep(0.5))
        found = desk.label(slow, heartbeat_s=0.1)
        assert [r.status for r in found] == ["ok"] * 4 and desk.began() == [A, B, C, D] == desk.began("ended")
        assert capsys.readouterr().out.count("No space left on device") == 1

    def test_a_running_attempt_is_written_down_at_every_heartbeat(self, desk, monkeypatch):
        written: list[tuple[str, float]] = []
        update = Attempts.update

        def note(attempts, key, **changes):
            written.append((key, changes.get("elapsed_s", 0.0)))
            update(attempts, key, **changes)

        monkeypatch.setattr(Attempts, "update", note)
        desk.label({B: lambda: time.sleep(1.5)}, heartbeat_s=0.2)
        elapsed = [seconds for key, seconds in written if key == B]
        assert len(elapsed) >= 3 and elapsed == sorted(elapsed) and elapsed[-1] > 0.5

    @pytest.mark.parametrize(("failing", "more"), [((A, B, C), ""), ((A, B, C, D), " and 1 more")])
    def test_a_job_names_three_labels_that_are_to_be_tried_again(self, desk, failing, more):
        with pytest.raises(QuarryError, match="to be tried again") as caught:
            desk.label(dict.fromkeys(failing, EngineResult(MACHINE_FAULT)))
        assert ("more" in str(caught.value)) == bool(more) and more in str(caught.value)
        for key in failing:
            [attempt] = read_attempts(desk.attempts / f"{key}.json")
            assert attempt.elapsed_s <= attempt.job_elapsed_s < 300

    def test_what_the_cost_depends_on_is_what_the_engine_says(self, desk):
        size = {"basis_functions": 9}
        found = desk.label({B: EngineResult("ok", {"energy": 1.0}, size=size)})
        assert found[1].cost["size"] == size and found[0].cost["size"] == {"atoms": len(STRUCTURES[0])}

    def test_the_label_is_in_the_store_before_anything_is_written_into_the_results(self, desk, monkeypatch):
        states = []
        finish = Attempts.finish

        def note(attempts, key):
            states.append(desk.store.get(key) is not None)
            finish(attempts, key)

        monkeypatch.setattr(Attempts, "finish", note)
        desk.label()
        assert states == [True] * 4

    def test_a_read_only_results_disk(self, desk):
        """The labels are in the store, the job's end says what is wrong, and the next job has all of them."""
        results = desk.folder / "results"
        desk.attempts, desk.output = results / "attempts", results / "job.json"
        with read_only(results):
            with pytest.raises(QuarryError, match=r"job\.json cannot be written \(Read-only file system\)") as caught:
                desk.label(dict.fromkeys((A, B), lambda: time.sleep(0.5)), heartbeat_s=0.1)
            assert "\n" not in str(caught.value)
        assert all(desk.store.get(i) is not None for i in (A, B, C, D))
        assert all(r.ok for r in desk.label()) and desk.began() == [A, B, C, D]

    def test_a_failure_waits_for_its_ledger(self, desk, monkeypatch, capsys):
        """The disk is back when the next label has ended."""
        refuse_first_failure(monkeypatch)
        bad = EngineResult("engine_error", message="no")
        found = desk.label({B: bad})
        assert [r.status for r in found] == ["ok", "engine_error", "ok", "ok"] and desk.began() == [A, B, C, D]
        assert desk.failed.get(B) == found[1]
        assert "engine_error cannot be written down yet (No space left" in capsys.readouterr().out

    def test_a_failure_is_written_down_at_the_end_also_when_the_job_fails(self, desk, monkeypatch):
        refuse_first_failure(monkeypatch)
        with pytest.raises(QuarryError, match="to be tried again"):
            desk.label({A: die(signal.SIGKILL), B: EngineResult("engine_error")}, STRUCTURES[:2], retries=1)
        assert desk.failed.get(B) is not None

    def test_a_label_that_no_folder_takes_is_kept_until_one_does(self, desk, monkeypatch, capsys):
        put, times = desk.store.put, []

        def refuse(record):
            times.append(record)
            if len(times) < 4:
                raise StoreError(desk.store.folder, "no space")
            return put(record)

        def full(path, data):
            raise FULL

        beats = []
        beat = labeler_module.Claim.beat
        monkeypatch.setattr(labeler_module.Claim, "beat", lambda claim: beats.append(1) or beat(claim))
        monkeypatch.setattr(desk.store, "put", refuse)
        monkeypatch.setattr(ledger_module, "publish_once", full)
        [found] = desk.label(structures=STRUCTURES[:1])
        assert found.ok and desk.store.get(A) == found and len(times) == 4 and len(beats) >= 3
        assert capsys.readouterr().out.count("kept in memory") == 1

    def test_a_label_that_no_folder_takes_until_the_jobs_end_is_told_to_be_lost(self, desk, monkeypatch):
        def refuse(record):
            raise StoreError(desk.store.folder, "no space")

        def full(path, data):
            raise FULL

        monkeypatch.setattr(desk.store, "put", refuse)
        monkeypatch.setattr(ledger_module, "publish_once", full)
        limits = JobLimits(1e5, started=time.monotonic(), end=time.monotonic() + 1.5)
        with pytest.raises(QuarryError, match=f"{A}: its label is lost, no folder takes it") as caught:
            desk.label(structures=STRUCTURES[:1], limits=limits)
        assert "\n" not in str(caught.value)

    def test_lines_that_cannot_be_printed_end_nothing(self, desk, monkeypatch):
        """The job's output may be on the same full disk."""

        def refuse(*_, **__):
            raise FULL

        monkeypatch.setattr("builtins.print", refuse)
        monkeypatch.setattr(attempts_module, "write_json", refuse)
        found = desk.label({B: EngineResult("engine_error")}, heartbeat_s=0.1)
        assert [r.status for r in found] == ["ok", "engine_error", "ok", "ok"]


class TestMachineFaults:
    def test_it_is_tried_again_and_never_counts(self, desk):
        fault = EngineResult(MACHINE_FAULT, message="labeling.scratch: /scratch on h: No space left on device")
        for _ in range(4):
            with pytest.raises(
                QuarryError, match=rf"to be tried again: {B} \(machine_fault: labeling.scratch: /scratch"
            ):
                desk.label({B: fault}, retries=0)
        assert desk.began("ended") == [A, C, D], "the others are finished"
        assert [a.verdict for a in Attempts(desk.attempts).of(B)] == [MACHINE_FAULT] * 4
        assert desk.failed.failures() == {} and desk.store.get(B) is None
        found = desk.label(retries=0)
        assert all(r.ok for r in found) and [e[0] for e in found[1].cost["earlier_attempts"]] == [MACHINE_FAULT] * 4

    def test_an_engine_whose_disk_is_full_says_so(self, desk):
        def full():
            raise ValueError("cannot write") from FULL

        with pytest.raises(QuarryError, match=rf"{A} \(machine_fault: ValueError: cannot write\)"):
            desk.label({A: full}, STRUCTURES[:1], retries=0)
