"""Jobs that a scheduler does not take: what can never succeed, the waiting line, what is said how often."""

from __future__ import annotations

import random
import sys
import threading
import time
from pathlib import Path

import pytest

from quarry.submission.executors import submit_message
from quarry.submission.line import WaitingLine
from quarry.submission.refusals import Refusal, Reminders, pause_s, words_of
from quarry.submission.slurm import job_id_of

sys.path.insert(0, str(Path(__file__).parents[2] / "profiles" / "cluster-generic"))
from schedulers import SCHEDULERS

LIMIT = (
    "sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: Batch job submission failed: Job violates accounting/QOS "
    "policy (job submit limit, user's size and/or time limits)"
)
FOR_GOOD = [
    "sbatch: error: invalid partition specified: nope\n"
    "sbatch: error: Batch job submission failed: Invalid partition name specified",
    "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified",
    "sbatch: error: Batch job submission failed: Invalid qos specification",
    "sbatch: error: Batch job submission failed: Requested time limit is invalid (missing or exceeds some limit)",
    "sbatch: error: Memory specification can not be satisfied\n"
    "sbatch: error: Batch job submission failed: Requested node configuration is not available",
    LIMIT.replace("AssocMaxSubmitJobLimit", "QOSMaxCpuPerJobLimit"),
    "sbatch: unrecognized option '--foo'\nTry \"sbatch --help\" for more information",
    "The given account nope appears to be invalid. Available accounts:\nchem",
    "qsub: Unknown queue",
    "qsub: Job violates queue and/or server resource limits",
    'Unable to run job: unknown queue "foo".',
    "foo: No such queue. Job not submitted.",
    "no job id in 'Thank you for your job'",
    "cron: set QUARRY_SCHEDULER to one of slurm, pbs, torque, sge, lsf",
]
FOR_NOW = [
    LIMIT,
    LIMIT.replace("AssocMaxSubmitJobLimit", "QOSMaxSubmitJobPerUserLimit"),
    "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
    "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
    "sbatch: error: Batch job submission failed: Required partition not available (inactive or drain)",
    "sbatch: error: Batch job submission failed: Unspecified error",
    "sbatch: error: Maintenance of the file system, please come back on Monday",
    "qsub: would exceed queue generic's per-user limit of jobs in 'Q' state",
    "Unable to run job: job rejected: only 100 jobs are allowed per user (current job count: 100).",
    "User <me>: Pending job threshold reached. Retrying in 60 seconds...",
    "",
]


@pytest.mark.parametrize("answer", FOR_GOOD)
def test_what_can_never_succeed_is_told_by_its_words(answer):
    assert Refusal(words_of(answer)).for_good


@pytest.mark.parametrize("answer", FOR_NOW)
def test_everything_else_may_succeed_later(answer):
    assert not Refusal(words_of(answer)).for_good


def test_words_of_an_answer_are_one_line():
    assert words_of(LIMIT).startswith("AssocMaxSubmitJobLimit; Batch job submission failed: Job violates")
    assert words_of("\n  \n") == "no word of explanation"
    assert len(words_of("x" * 1000)) == 300


@pytest.mark.parametrize(
    "message",
    [
        f"SLURM sbatch failed. The error message was '{LIMIT}'.\n    sbatch call:\n        sbatch --parsable\n",
        f"Error submitting jobscript (exit code 1):\n{LIMIT}\n",
        f"Job submission failed with exception: {LIMIT}",
    ],
)
def test_the_words_are_found_in_what_a_plugin_says(message):
    assert words_of(submit_message(message)) == words_of(LIMIT)


def test_a_submit_command_without_a_word_is_told_by_its_exit_code():
    assert submit_message("Error submitting jobscript (exit code 3):\n") == "exit code 3 of the submit command"
    missing = submit_message("Error submitting jobscript (exit code 127):\n")
    assert missing == "exit code 127 of the submit command: the shell cannot run what cluster-generic-submit-cmd names"


def test_pauses_grow_to_five_minutes_with_jitter():
    chance = random.Random(1)
    pauses = [pause_s(n, chance) for n in range(1, 30)]
    assert all(0.8 * want <= pause <= 1.2 * want for pause, want in zip(pauses, [5, 10, 20, 40, 80, 160], strict=False))
    assert all(240 <= pause <= 360 for pause in pauses[6:])
    assert len(set(pauses)) == len(pauses)


def test_what_goes_on_is_said_again_at_growing_intervals():
    reminders = Reminders(first_s=600)
    assert [t for t in range(0, 40000, 60) if reminders.is_due(f"job {t} refused", t)] == [
        *(0, 600, 1800, 4200, 9000, 18600, 37800),
    ]
    assert reminders.is_due("something else", 0)


# --- the line


class Scheduler:
    """Takes ``room`` jobs and refuses further ones; some it never takes."""

    def __init__(self, room=0, never=(), cannot=()):
        self.room, self.never, self.cannot = room, never, cannot
        self.taken, self.asked, self.given_up, self.handed_back, self.said = [], [], [], [], []
        self.stopping = False
        self.line = WaitingLine(
            submit=self.submit,
            give_up=lambda job, refusal: self.given_up.append(job),
            hand_back=self.handed_back.append,
            say=self.said.append,
            is_stopping=lambda: self.stopping,
            pause_s=lambda refusals: 0.02,
            spacing_s=0.0,
        )

    def submit(self, job):
        self.asked.append(job)
        if job in self.never:
            return Refusal("Invalid partition name specified")
        if job in self.cannot or self.room <= 0:
            return Refusal("AssocMaxSubmitJobLimit")
        self.room -= 1
        self.taken.append(job)
        return None

    def wait_for(self, condition):
        end = time.monotonic() + 5
        while not condition():
            assert time.monotonic() < end, vars(self)
            time.sleep(0.005)


def test_refused_jobs_wait_in_their_order_and_are_told_once():
    scheduler = Scheduler(room=2)
    for job in range(6):
        scheduler.line.put(job)
    assert scheduler.taken == [0, 1]
    assert scheduler.asked.count(3) == 0, "while jobs wait, others go to the end without being tried"
    for _ in range(4):
        scheduler.room = 1
        scheduler.wait_for(lambda: scheduler.room == 0)
    assert sorted(scheduler.taken) == list(range(6))
    assert not scheduler.given_up
    assert len(scheduler.said) == 1 and "AssocMaxSubmitJobLimit" in scheduler.said[0]
    scheduler.wait_for(lambda: scheduler.line._thread is None)
    scheduler.room = 1
    scheduler.line.put(6)
    assert scheduler.taken[-1] == 6, "an empty line holds nobody up"


def test_a_job_that_is_never_taken_is_given_up_at_once_and_holds_up_no_other():
    scheduler = Scheduler(room=0, never=[1, 3])
    for job in range(5):
        scheduler.line.put(job)
    scheduler.room = 10
    scheduler.wait_for(lambda: len(scheduler.taken) + len(scheduler.given_up) == 5)
    assert sorted(scheduler.taken) == [0, 2, 4]
    assert sorted(scheduler.given_up) == [1, 3]


def test_a_job_that_is_refused_again_and_again_holds_up_no_other():
    scheduler = Scheduler(room=10, cannot=[0])
    for job in range(5):
        scheduler.line.put(job)
    scheduler.wait_for(lambda: len(scheduler.taken) == 4)
    assert sorted(scheduler.taken) == [1, 2, 3, 4]
    scheduler.line.close()


def test_the_end_of_a_job_makes_the_line_try_again():
    scheduler = Scheduler()
    scheduler.line._pause_s = lambda refusals: 1000.0
    scheduler.line.put(0)
    scheduler.room = 1
    time.sleep(0.1)
    assert not scheduler.taken
    scheduler.line.wake()
    scheduler.wait_for(lambda: scheduler.taken == [0])


def test_a_run_that_stops_gets_its_waiting_jobs_back():
    scheduler = Scheduler()
    scheduler.line._pause_s = lambda refusals: 1000.0
    for job in range(3):
        scheduler.line.put(job)
    scheduler.stopping = True
    scheduler.wait_for(lambda: scheduler.handed_back == [1, 2, 0] or scheduler.handed_back == [0, 1, 2])
    assert scheduler.line._thread is None


def test_a_closed_line_submits_nothing_more():
    scheduler = Scheduler()
    for job in range(3):
        scheduler.line.put(job)
    scheduler.line.close()
    asked = len(scheduler.asked)
    scheduler.room = 10
    scheduler.line.put(9)
    time.sleep(0.1)
    assert len(scheduler.asked) == asked
    assert not scheduler.taken
    assert "quarry-submissions" not in [thread.name for thread in threading.enumerate()]


# --- job ids


ID_ANSWERS = {
    "slurm": ["1234\n", "1234;cluster\n", "2026-11-26 08:00 maintenance\n1234\n", "Quota: 20 of 30\n\n1234;c1\n"],
    "pbs": ["1234.server.site.org\n", "2026-11-26 maintenance\n1234.server\n", "30 jobs left\n1234[].server\n"],
    "sge": ["1234\n", "2026-11-26 maintenance\n1234\n", "1234.1-10:1\n"],
    "lsf": ["Job <1234> is submitted to queue <normal>.\n", "2026: Job <1> was the last\nJob <1234> is submitted\n"],
}


@pytest.mark.parametrize(("scheduler", "answer"), [(s, a) for s, answers in ID_ANSWERS.items() for a in answers])
def test_a_job_id_is_not_taken_out_of_a_banner(scheduler, answer):
    assert SCHEDULERS[scheduler].parse_job_id(answer).startswith("1234")
    if scheduler == "slurm":
        assert job_id_of(answer) == "1234" == SCHEDULERS["slurm"].parse_job_id(answer)


@pytest.mark.parametrize("answer", ["", "2026-11-26 08:00 maintenance\n", "Submitted, thank you\n"])
def test_no_id_is_an_error_and_no_guess(answer):
    with pytest.raises(ValueError, match="no job id in"):
        job_id_of(answer)
    for scheduler in SCHEDULERS.values():
        with pytest.raises(ValueError, match="no job id in"):
            scheduler.parse_job_id(answer)
