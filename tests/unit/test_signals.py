"""Signals to the main process: whatever its main thread holds or waits for, it ends as promised."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

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
