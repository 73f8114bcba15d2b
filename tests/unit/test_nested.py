"""The Snakemake process of a cluster job ends with the job's script."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from quarry.campaign import nested

LIBRARY = Path(nested.__file__).parents[2]
NESTED = """
import signal, subprocess, sys, threading, time
from quarry.campaign.nested import end_with_parent
end_with_parent(look_s=0.1, grace_s=2.0)
program = [sys.executable, "-c", sys.argv[1]]
children = [subprocess.Popen(program), subprocess.Popen(["sleep", "60"], process_group=0)]
open("pids", "w").write(" ".join(str(child.pid) for child in children))
signal.signal(signal.SIGTERM, lambda *_: None)
lock = threading.Lock()
lock.acquire()
lock.acquire()  # as Snakemake's exit handler does
"""
LABELS = """
import signal, sys, time
def given_back(*_):
    open("given back", "w")
    sys.exit(1)
signal.signal(signal.SIGTERM, given_back)
open("ready", "w")
time.sleep(60)
"""
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open('ready', 'w'); time.sleep(60)"


def wait_for(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    assert condition()


def gone(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Start a job's script with a hung Snakemake process in it that runs a program; return the script's process."""
    monkeypatch.chdir(tmp_path)
    started = []

    def start(program):
        # A shell in a shell, as the script of profiles/cluster-generic has it.
        command = f'("{sys.executable}" -c "$1" "$2"; true); true'
        process = subprocess.Popen(
            ["sh", "-c", command, "sh", NESTED, program],
            env={**os.environ, "PYTHONPATH": str(LIBRARY)},
            start_new_session=True,
        )
        started.append(process)
        wait_for(lambda: Path("ready").exists() and len(Path("pids").read_text().split()) == 2)
        [shell] = psutil.Process(process.pid).children()
        [child] = shell.children()
        return process, child.pid, *map(int, Path("pids").read_text().split())

    yield start
    for process in started:
        for child in psutil.process_iter(["pid"]):
            if child.pid in map(int, Path("pids").read_text().split()):
                child.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_it_ends_with_its_script_and_the_label_is_given_back(script):
    process, inner, program, engine = script(LABELS)
    time.sleep(0.5)
    assert not gone(inner) and not gone(program), "nothing ends while the script lives"
    process.kill()
    process.wait()
    wait_for(lambda: gone(inner) and gone(program))
    assert Path("given back").exists()
    assert not gone(engine), "an engine is ended by its label job, not from here"


def test_a_program_that_does_not_listen_is_killed(script):
    process, inner, program, _ = script(DEAF)
    process.kill()
    process.wait()
    wait_for(lambda: gone(inner) and gone(program))


def test_a_cancelled_job_whose_snakemake_hangs_in_its_handler(script):
    """The signal reaches the whole group: the script dies of it, Snakemake waits for a lock, the program listens."""
    process, inner, program, _ = script(LABELS)
    os.killpg(process.pid, signal.SIGTERM)
    process.wait()
    wait_for(lambda: gone(inner) and gone(program))


def test_a_process_that_init_started_has_no_parent_to_watch(monkeypatch):
    """In a container; and no process of another group is watched, such as the shell of a terminal."""
    started = []
    monkeypatch.setattr(os, "getppid", lambda: 1)
    monkeypatch.setattr(nested.threading, "Thread", lambda **_: started.append(True))
    nested.end_with_parent()
    assert not started
    monkeypatch.undo()
    assert next(iter(nested._parents())) == os.getppid()
    assert all(os.getpgid(pid) == os.getpgrp() for pid in list(nested._parents())[1:])
