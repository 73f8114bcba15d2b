"""Jobs that Slurm holds: told, or let go where a node failed to start them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from quarry.submission import slurm
from quarry.submission.refusals import Reminders

JOBS = [SimpleNamespace(external_jobid=str(n)) for n in (1, 2, 3, 4)]


@pytest.fixture
def held(monkeypatch):
    """Return the commands that were given, a clock, and a look at four jobs, three of which wait."""
    commands, clock = [], [1000.0]
    answers = {"squeue": "1|Resources\n2|JobHeldUser\n3|launch failed requeued held\n9|launch failed requeued held\n"}

    def answer(*command):
        commands.append(command)
        return answers.get(command[0], "")

    monkeypatch.setattr(slurm, "slurm_answer", answer)
    monkeypatch.setattr(slurm.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(
        slurm, "last_listing", [{"1": "PENDING", "2": "PENDING", "3": "PENDING", "4": "RUNNING", "9": "PENDING"}]
    )
    watch = SimpleNamespace(run_uuid="run", _held=Reminders(), _reasons_at=1000.0)
    return commands, clock, lambda jobs=JOBS: slurm.Watchful._look_for_held(watch, jobs)


def test_what_a_node_failed_to_start_is_submitted_again_and_what_somebody_holds_is_told(held, capsys):
    commands, clock, look = held
    look()
    assert commands == [], "most jobs wait for a while"
    clock[0] += slurm.REASONS_EVERY_S
    look()
    ask = ("squeue", "--noheader", "--name", "run", "--states=PENDING", "--format=%i|%r")
    assert commands == [ask, ("scancel", "3")], "jobs of others are left alone"
    assert capsys.readouterr().err.splitlines() == [
        "Quarry: jobs 2 are held; 'scontrol release 2' lets them run, 'scancel' submits them again",
        "Quarry: a node failed to start the jobs 3; they are cancelled and submitted again",
    ]
    clock[0] += 1
    look()
    assert len(commands) == 2, "no further load on the controller"


def test_nothing_is_asked_while_every_job_runs(held):
    commands, clock, look = held
    clock[0] += 10 * slurm.REASONS_EVERY_S
    look(JOBS[3:])
    assert commands == []
