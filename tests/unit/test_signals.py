"""Signals to the main process: whatever its main thread holds or waits for, it ends as promised."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from quarry.campaign.closing import close_finished, close_unfinished
from quarry.campaign.invocation import Invocation
from quarry.status.reading import read_status
from quarry.submission import signals
from support.made_up import MadeUp

LIBRARY = Path(__file__).parents[2] / "workflow_scripts"
HEAD = f"""
import os, pathlib, signal, sys, threading
sys.path.insert(0, {str(LIBRARY)!r})
from snakemake.scheduling.job_scheduler import JobScheduler
from quarry.submission import executors, signals
main = workflow.is_main_process
if main:
    executors.install(pathlib.{LIBRARY.parent!r})
    signals.install(workflow, promise_s=3.0)
"""
# What an unlucky moment is: the signal comes while the main thread holds the scheduler's lock.
WITH_THE_LOCK = """
finish_jobs = JobScheduler._finish_jobs
def finishing(scheduler):
    if scheduler._tofinish and not os.path.exists("asked"):
        open("asked", "w").close()
        os.kill(os.getpid(), signal.SIGTERM)
    finish_jobs(scheduler)
JobScheduler._finish_jobs = finishing
"""
# A cancel that never returns, as with a scheduler whose commands hang.
HANGS = """
executors.Ending.cancel = lambda executor: threading.Event().wait()
"""
CHAIN = """
rule all:
    input: "second"
rule first:
    output: "first"
    shell: "touch {output}"
rule second:
    input: "first"
    output: "second"
    shell: "touch {output}"
"""
# Snakemake's own cleaning up, in which a second interrupt was a traceback.
SLOW_END = """
from snakemake.api import SnakemakeApi
clean_up = SnakemakeApi._cleanup
def cleaning_up(api):
    import time
    pathlib.Path("ending").touch()
    time.sleep(2)
    clean_up(api)
SnakemakeApi._cleanup = cleaning_up
"""
LONG = """
rule long:
    output: "long"
    shell: "echo $$ > pid; exec sleep 300"
"""


@pytest.fixture
def start(tmp_path):
    started = []

    def run(*parts):
        (tmp_path / "Snakefile").write_text("".join(parts))
        process = subprocess.Popen(
            [sys.executable, "-m", "snakemake", "--cores", "1", "--workflow-profile", "none"],
            cwd=tmp_path,
            stderr=(tmp_path / "words").open("w"),
            start_new_session=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(path: Path) -> None:
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.05)


def pid_of_the_job(folder: Path) -> int:
    end = time.monotonic() + 60
    while not (folder / "pid").exists() or not (folder / "pid").read_text().strip():
        assert time.monotonic() < end
        time.sleep(0.05)
    return int((folder / "pid").read_text())


def test_term_while_the_main_thread_holds_the_lock(start, tmp_path):
    process = start(HEAD, WITH_THE_LOCK, CHAIN)
    assert process.wait(timeout=60) != 0
    message = (tmp_path / "words").read_text()
    assert "Will exit after finishing currently running jobs" in message
    assert (tmp_path / "first").exists() and not (tmp_path / "second").exists(), "nothing new is started"


def test_an_interrupt_of_the_main_process_alone_ends_its_jobs(start, tmp_path):
    process = start(HEAD, LONG)
    job = pid_of_the_job(tmp_path)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) != 0
    assert not Path(f"/proc/{job}").exists()


def test_an_interrupted_run_that_hangs_is_ended_with_its_jobs(start, tmp_path):
    process = start(HEAD, HANGS, LONG)
    job = pid_of_the_job(tmp_path)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    assert "has not ended; it is ended now" in (tmp_path / "words").read_text()
    assert not Path(f"/proc/{job}").exists()


def test_further_interrupts_do_not_break_the_orderly_end(start, tmp_path):
    process = start(HEAD.replace("3.0", "60.0"), SLOW_END, LONG)
    job = pid_of_the_job(tmp_path)
    for wait_s in (0.0, 0.1, 0.1):
        process.send_signal(signal.SIGINT)
        time.sleep(wait_s)
    wait_for(tmp_path / "ending")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 1
    words = (tmp_path / "words").read_text()
    assert "this run is ending" in words
    assert "Traceback" not in words and "KeyboardInterrupt" not in words
    assert not Path(f"/proc/{job}").exists()


@pytest.mark.parametrize("asked", [[], [signal.SIGINT], [signal.SIGTERM]])
def test_a_run_that_somebody_ended_has_not_broken_off(asked, monkeypatch, tmp_path, capsys):
    made = MadeUp(tmp_path, max_labels=30)
    made.begin_run()
    monkeypatch.setattr(signals, "_asked", asked)
    close_unfinished(SimpleNamespace(paths=made.paths, invocation=Invocation.RUN))
    words = capsys.readouterr().err
    assert ("was interrupted" in words) == bool(asked)
    assert ("Remove the cause" in words) == (not asked)
    assert read_status(made.paths).state == ("stopped" if asked else "broken_off")


def test_a_look_at_the_graph_of_a_running_campaign_ends_no_run(tmp_path, capsys):
    """`snakemake dag_pictures` beside a run."""
    made = MadeUp(tmp_path, max_labels=30)
    made.begin_run()
    before = Path(made.paths.last_run).read_bytes()
    for close in (close_finished, close_unfinished):
        close(SimpleNamespace(paths=made.paths, invocation=Invocation.INSPECTION))
    assert Path(made.paths.last_run).read_bytes() == before
    assert not capsys.readouterr().err
