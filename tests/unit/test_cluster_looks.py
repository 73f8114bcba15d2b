"""Looks at jobs on a cluster: no job is lost from sight, none is waited for that is gone, and what is asked at the start."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from types import SimpleNamespace

import pytest
import snakemake_executor_plugin_slurm as plugin
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

from quarry.errors import QuarryError, is_machine_fault
from quarry.labeling.store import StoreError
from quarry.submission import BESIDE_MAIN, slurm
from quarry.submission.executors import Discerning, Patient
from quarry.submission.marks import MARK, forget_mark, is_marked


class Job:
    """A job as far as an executor asks about it."""

    def __init__(self, name="label_structure", log=()):
        self.name, self.log = name, list(log)
        self.attempt, self.restart_times = 1, 3
        self.resources = {}

    def log_error(self, msg, **kwargs):
        self.message = msg


class Plugin(RemoteExecutor):
    """A plugin whose look does what a test says."""

    def __init__(self, workflow, logger):
        self.workflow, self.logger, self.run_uuid = workflow, logger, "run"
        self.lock, self.active_jobs, self.wait = threading.Lock(), [], True
        self.cancelled, self.submitted = [], []
        self._next_seconds_between_status_checks = 60
        self._job_submission_executor = SimpleNamespace(shutdown=lambda wait, cancel_futures: None)

    def run_job(self, job):
        message = self.answers.pop(0)
        if message is None:
            self.submitted.append(job)
        elif isinstance(message, Exception):
            raise message
        else:
            self.report_job_error(SubmittedJobInfo(job), msg=message)

    async def check_active_jobs(self, active_jobs):
        for job_info in active_jobs:
            what = self.look(job_info)
            if what == "keep":
                yield job_info
            elif what == "done":
                self.report_job_success(job_info)

    def cancel_jobs(self, active_jobs):
        self.cancelled = [job_info.external_jobid for job_info in active_jobs]

    def shutdown(self):
        pass


@pytest.fixture
def events():
    return []


@pytest.fixture
def executor(events, monkeypatch):
    monkeypatch.setattr(slurm, "problem_of", lambda *arguments: None)
    monkeypatch.setattr(slurm, "slurm_configuration", dict)
    scheduler = SimpleNamespace(
        finish_callback=lambda job: events.append(("done", job)),
        error_callback=lambda job: events.append(("failed", job)),
        _user_kill=None,
    )
    settings = SimpleNamespace(status_command="squeue", init_seconds_before_status_checks=15, status_attempts=120)
    workflow = SimpleNamespace(
        scheduler=scheduler,
        executor_settings=settings,
        execution_settings=SimpleNamespace(retries=0),
        dag=None,
    )
    made = type("Executor", (Discerning, slurm.Watchful, Patient, Plugin), {})(workflow, logging.getLogger())
    yield made
    made.line.close()


@pytest.fixture
def listings(monkeypatch):
    """Answers of the queue, one after the other; the last one stays."""
    answers = [{}]
    real = (plugin.query_job_status, plugin.get_min_job_age, plugin.validate_or_get_slurm_job_id)

    async def answer(command, logger):
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        return (None, None) if found is None else (found, 0.01)

    monkeypatch.setattr(plugin, "query_job_status", answer)
    monkeypatch.setattr(plugin, "get_min_job_age", lambda: None)
    slurm.repair_functions()
    yield answers
    plugin.query_job_status, plugin.get_min_job_age, plugin.validate_or_get_slurm_job_id = real


def infos(count):
    return [SubmittedJobInfo(Job(), external_jobid=str(100 + n)) for n in range(count)]


def look(executor, jobs):
    async def collect():
        return [job_info async for job_info in executor.check_active_jobs(jobs)]

    return asyncio.run(collect())


def test_a_job_that_a_look_does_not_mention_is_kept(executor, events):
    jobs = infos(3)
    executor.look = lambda job_info: {"100": "done", "101": "keep", "102": "forget"}[job_info.external_jobid]
    assert [job_info.external_jobid for job_info in look(executor, jobs)] == ["101", "102"]
    assert events == [("done", jobs[0].job)]


def test_an_exception_in_a_look_ends_nothing_and_is_told_once(executor, events, capsys):
    jobs = infos(3)

    def break_down(job_info):
        if job_info is jobs[1]:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return "done"

    executor.look = break_down
    for _ in range(3):
        assert look(executor, jobs[1:]) == jobs[1:]
    assert look(executor, jobs) == jobs[1:]
    assert events == [("done", jobs[0].job)]
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Quarry:")]
    assert "Resource temporarily unavailable" in line


def test_a_cancel_in_the_middle_of_a_look_reaches_the_jobs(executor):
    jobs = infos(3)
    executor.look = lambda job_info: executor.cancel() or "keep" if job_info is jobs[1] else "done"
    look(executor, jobs)
    assert executor.cancelled == ["101", "102"]


def test_the_end_of_a_run_does_not_wait_for_the_next_look(executor):
    threading.Timer(0.2, lambda: setattr(executor, "wait", False)).start()
    began = time.monotonic()
    asyncio.run(executor.sleep())
    assert time.monotonic() - began < 10


def ask(executor, listing):
    """Make a look that asks the queue, as the plugin's own does."""
    listing[:] = listing

    async def check(self, active_jobs):
        found, _ = await plugin.query_job_status("squeue", self.logger)
        for job_info in active_jobs:
            if found is None:
                return
            if found.get(job_info.external_jobid) == "COMPLETED":
                self.report_job_success(job_info)
            else:
                yield job_info

    return check


@pytest.fixture
def asking(executor, listings, monkeypatch):
    """An executor whose look asks the queue, with a clock that goes on when a test says so."""
    monkeypatch.setattr(Plugin, "check_active_jobs", ask(executor, listings))
    clock = [1000.0]
    monkeypatch.setattr(slurm.time, "monotonic", lambda: clock[0])
    executor._answered = clock[0]
    executor.clock = clock
    return executor


def test_a_job_that_the_queue_lists_no_more_has_failed_after_a_minute(asking, listings, events):
    [job] = infos(1)
    listings[:] = [{"100": "RUNNING"}]
    assert look(asking, [job]) == [job]
    listings[:] = [{"99": "RUNNING"}]
    assert look(asking, [job]) == [job], "one look is not enough"
    asking.clock[0] += slurm.GONE_AFTER_S + 1
    assert look(asking, [job]) == []
    assert events == [("failed", job.job)]
    assert "no longer in the queue" in job.job.message
    assert job.job.attempt == 1, "and is tried again"


def test_a_job_that_comes_back_into_the_listing_is_none_that_is_gone(asking, listings, events):
    [job] = infos(1)
    for listing in ({}, {"100": "PENDING"}, {}):
        listings[:] = [listing]
        assert look(asking, [job]) == [job]
        asking.clock[0] += slurm.GONE_AFTER_S - 1
    assert events == []


def test_the_queue_has_the_last_word_over_accounting(asking, listings, events):
    """Accounting does not know the job; the queue shows it running, ended well, or not at all, or does not answer."""
    running, ended, silent = infos(1)[0], infos(1)[0], infos(1)[0]
    for job, queue, kept in (
        (running, {"100": "RUNNING"}, True),
        (silent, None, True),
        (ended, {"100": "COMPLETED"}, False),
    ):
        asking._missing.clear()
        listings[:] = [{}]
        look(asking, [job])
        asking.clock[0] += slurm.GONE_AFTER_S + 1
        listings[:] = [{}, queue]
        assert look(asking, [job]) == ([job] if kept else [])
    assert events == [("done", ended.job)]


def test_a_preempted_job_that_stays_so_is_submitted_again(asking, listings, events):
    [job] = infos(1)
    listings[:] = [{"100": "PREEMPTED"}]
    assert look(asking, [job]) == [job]
    asking.clock[0] += slurm.GONE_AFTER_S + 1
    assert look(asking, [job]) == []
    assert events == [("failed", job.job)]


def test_no_answer_keeps_every_job_and_is_told_after_two_minutes(asking, listings, events, capsys):
    jobs = infos(2)
    listings[:] = [None]
    for _ in range(20):
        assert look(asking, jobs) == jobs
        asking.clock[0] += 20
    assert events == []
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Quarry:")]
    assert "has not answered for 2 minutes" in line


def test_a_controller_that_is_away_does_not_turn_the_plugin_to_sacct(listings):
    assert plugin.get_min_job_age() == math.inf


def test_the_plugin_asks_once_for_the_age_of_jobs(monkeypatch):
    answers = [None, 300, 20]
    for name in ("query_job_status", "get_min_job_age", "validate_or_get_slurm_job_id"):
        monkeypatch.setattr(plugin, name, getattr(plugin, name))
    monkeypatch.setattr(plugin, "get_min_job_age", lambda: answers.pop(0))
    slurm.repair_functions()
    assert [plugin.get_min_job_age() for _ in range(4)] == [math.inf, 300, 300, 300]
    assert answers == [20]


def test_sacct_says_who_cancelled_a_job_and_the_plugin_knows_the_state(listings):
    listings[:] = [{"100": "CANCELLED by 1000", "101": "COMPLETED", "102": "CANCELLED+"}]
    found, _ = asyncio.run(plugin.query_job_status("sacct", logging.getLogger()))
    assert found == {"100": "CANCELLED", "101": "COMPLETED", "102": "CANCELLED"}


def test_the_plugin_takes_the_id_from_the_line_that_is_one(listings):
    answer = "2026-11-26 08:00 maintenance\n1234;cluster\n"
    assert plugin.validate_or_get_slurm_job_id(answer.strip().split(";")[0], answer) == "1234"


def test_an_unanswered_look_is_short(executor):
    assert executor.workflow.executor_settings.status_attempts == slurm.LOOK_ATTEMPTS


NONE = {"AccountingStorageType": "accounting_storage/none", "MinJobAge": "300 sec"}
DBD = {"AccountingStorageType": "accounting_storage/slurmdbd", "MinJobAge": "10 sec"}


@pytest.mark.parametrize(
    ("command", "configuration", "tools", "words"),
    [
        ("sacct", NONE, ("sbatch", "sacct"), "has no accounting"),
        ("squeue", NONE, ("sbatch", "sacct"), None),
        ("squeue", {**NONE, "MinJobAge": "30 sec"}, ("sbatch", "sacct"), "forgets ended jobs after 30 s"),
        ("squeue", DBD, ("sbatch", "sacct"), None),
        ("squeue", DBD, ("sbatch",), "forgets ended jobs after 10 s"),
        ("sacct", DBD, ("sbatch", "sacct"), None),
        ("sacct", {}, ("sbatch", "sacct"), None),
        ("squeue", {}, (), "no sbatch in PATH"),
    ],
)
def test_what_could_never_be_seen_is_refused_at_the_start_in_one_line(
    command, configuration, tools, words, monkeypatch
):
    monkeypatch.setattr(slurm.shutil, "which", lambda name: name if name in tools else None)
    problem = slurm.problem_of(command, 15, configuration)
    if words is None:
        assert problem is None
    else:
        assert words in problem and "\n" not in problem


def test_a_refusal_is_no_failed_job(executor, events, capsys):
    executor.line._pause_s = lambda refusals: 0.01
    executor.answers = [
        "SLURM sbatch failed. The error message was 'busy'.\n    sbatch call:\n  x\n",
        OSError("fork"),
        None,
    ]
    job = Job()
    executor.run_job(job)
    end = time.monotonic() + 5
    while not executor.submitted and time.monotonic() < end:
        time.sleep(0.01)
    assert executor.submitted == [job]
    assert events == [] and job.attempt == 1
    lines = capsys.readouterr().err
    assert "'busy'" in lines and "'fork'" in lines


def test_a_job_whose_resources_say_so_runs_beside_the_main_process(executor):
    here, there = Job("train_model"), Job("train_model")
    here.resources = {BESIDE_MAIN: 60}
    ran, executor.answers = [], [None]
    executor._beside = SimpleNamespace(run_job=ran.append)
    for job in (here, there):
        executor.run_job(job)
    assert ran == [here] and executor.submitted == [there]


def test_a_refusal_for_good_is_one_line_and_no_further_attempt(executor, events, capsys):
    message = "SLURM sbatch failed. The error message was 'Invalid partition name specified'.\n    sbatch call:\n  x\n"
    executor.answers = [message, message]
    jobs = [Job(), Job()]
    for job in jobs:
        executor.run_job(job)
    assert events == [("failed", job) for job in jobs]
    assert all(job.attempt > job.restart_times for job in jobs)
    [line] = capsys.readouterr().err.splitlines()
    assert "label_structure" in line and "'Invalid partition name specified'" in line


def test_a_job_with_a_fault_of_its_own_is_not_tried_again(executor, events, tmp_path):
    log = tmp_path / "job.log"
    log.write_text(f"dataset.h5 holds no label\n{MARK}\n")
    other = tmp_path / "other.log"
    other.write_text("killed\n")
    for path, tried_again in ((log, False), (other, True), (tmp_path / "none.log", True)):
        info = SubmittedJobInfo(Job(log=[path]), external_jobid="100")
        executor.report_job_error(info)
        assert (info.job.attempt <= info.job.restart_times) is tried_again
    assert executor.workflow.execution_settings.retries == 3


def test_the_mark_of_an_earlier_attempt_does_not_count(tmp_path):
    log = tmp_path / "job.log"
    log.write_text(f"wrong\n{MARK}\n")
    assert is_marked([log])
    forget_mark([log, tmp_path / "none.log"])
    assert not is_marked([log])
    log.write_text(f"{MARK}\nand more\n")
    assert not is_marked([log])


def chained(cause):
    try:
        try:
            raise cause
        except Exception as error:
            raise QuarryError("cannot read the pool") from error
    except QuarryError as error:
        return error


@pytest.mark.parametrize(
    ("error", "of_the_machine"),
    [
        (OSError(28, "No space left on device"), True),
        (MemoryError(), True),
        (StoreError("store", "is full"), True),
        (chained(OSError(5, "Input/output error")), True),
        (chained(ValueError("no number")), False),
        (QuarryError("pool.files: no such format"), False),
        (ZeroDivisionError(), False),
    ],
)
def test_which_errors_are_faults_of_the_machine(error, of_the_machine):
    assert is_machine_fault(error) is of_the_machine
