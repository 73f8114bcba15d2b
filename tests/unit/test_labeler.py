"""A label job: what it does with the store, claims and ledger, and with an engine that dies, hangs or eats memory."""

import multiprocessing
import os
import signal
import time
from dataclasses import replace
from datetime import datetime

import psutil
import pytest

from quarry.errors import QuarryError
from quarry.labeling.attempts import ENDS, MACHINE_FAULT, Attempt, Attempts, counted, needed, read_attempts
from quarry.labeling.claims import Claims
from quarry.labeling.engines.base import EngineResult
from quarry.labeling.limits import JobLimits
from quarry.labeling.record import read_records
from support.scripted import METHOD, METHOD_ID, STRUCTURES, A, B, C, D, Desk, die, eat, raising, seconds_until


def pause() -> None:
    time.sleep(0.2)


@pytest.fixture
def desk(tmp_path) -> Desk:
    return Desk(tmp_path)


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

    def test_labels_of_a_job_ran_one_after_another_by_their_records(self, desk):
        """To the second, short ones seem to have run together: an overview said 1.9 at a time of a job of one core."""
        found = desk.label(dict.fromkeys((A, B, C, D), pause))
        ends = [datetime.fromisoformat(record.finished).timestamp() for record in found]
        begins = [end - record.cost["wall_s"] for end, record in zip(ends, found, strict=True)]
        assert all(later > end - 0.05 for end, later in zip(ends, begins[1:], strict=False))

    def test_a_record_has_the_net_force_and_torque_of_its_forces(self, desk):
        right = [[0.0, 0.0, 0.5], [0.0, 0.0, -0.5]]
        pulled = [[0.25, 0.0, 0.5], [0.25, 0.0, -0.5]]
        found = desk.label({A: EngineResult("ok", {"forces": right}), B: EngineResult("ok", {"forces": pulled})})
        assert found[0].details["net_force"] == 0.0 and found[1].details["net_force"] == pytest.approx(0.25)
        assert "net_torque" in found[0].details and "net_force" not in found[2].details, "an energy alone has none"

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

    def test_a_label_is_stored_whatever_it_lacks(self, desk):
        """Whether a campaign can learn it is for its merge to say; for another one it is paid already."""
        found = desk.label(
            {C: EngineResult("ok", {"energy": 1.0, "excitation_energies": [5.0], "oscillator_strengths": [5.0]})}
        )
        assert all(record.ok for record in found)
        assert desk.store.get(C) == found[2] and found[2].properties["excitation_energies"] == [5.0]

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
        assert desk.failed.failures() == {}


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
        assert found[1].cost["wall_s"] == 0 and len(found[1].cost["earlier_attempts"]) == 2
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
    @pytest.mark.parametrize("status", ["ok", "scf_not_converged"])
    def test_a_label_finished_between_look_and_claim_is_not_computed(self, desk, monkeypatch, status):
        """The other job publishes and gives its claim back after this one has found nothing."""
        other = desk.record(STRUCTURES[1], status=status, properties={"energy": 0.8} if status == "ok" else {})
        acquire = Claims.acquire

        def acquire_after_the_other(claims, structure_id):
            if structure_id == B and not other.ok:
                desk.failed.put(B, other)
            elif structure_id == B:
                desk.store.put(other)
            return acquire(claims, structure_id)

        monkeypatch.setattr(Claims, "acquire", acquire_after_the_other)
        found = desk.label()
        assert desk.began() == [A, C, D] and found[1] == other
        assert not list((desk.store.folder / "claims").rglob("*.json")) or not other.ok

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

    def test_a_new_attempt_has_used_nothing(self):
        new = self.attempt()
        assert (new.elapsed_s, new.job_elapsed_s, new.peak_MB, new.end) == (0.0, 0.0, 0.0, None)
        assert new.verdict == "killed"

    def test_the_limits_belong_to_what_is_suspect(self):
        assert self.attempt(peak_MB=600).verdict == "out_of_memory" and self.attempt(peak_MB=599).verdict == "killed"
        assert self.attempt(job_elapsed_s=540).verdict == "out_of_time"
        assert self.attempt(job_elapsed_s=539).verdict == "killed"

    @pytest.mark.parametrize("end", ENDS)
    def test_an_end_that_was_written_down_is_believed(self, end):
        assert self.attempt(end=end, peak_MB=900).verdict == end
        late = self.attempt(end=end, job_elapsed_s=600).verdict
        assert late == ("out_of_time" if end == "cancelled" else end)

    def test_what_counts_against_a_label(self):
        """Kills without a trace within one run; ends by signal, a late start and faults of the machine never."""
        of_this_run = [self.attempt(end=end) for end in ENDS]
        of_another = [self.attempt(end=end, run="another") for end in ENDS]
        assert [a.end for a in counted(of_this_run, "run")] == ["out_of_memory", "out_of_time", "killed"]
        assert [a.end for a in counted(of_another, "run")] == ["out_of_memory", "out_of_time"]
        assert set(ENDS) == {"out_of_memory", "out_of_time", "interrupted", "cancelled", "killed", MACHINE_FAULT}

    def test_a_file_that_cannot_be_read_counts_as_none(self, tmp_path):
        (tmp_path / "file").touch()
        assert read_attempts(tmp_path / "file" / "job.json") == []

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
