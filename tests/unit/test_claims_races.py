"""Claims of labels under real concurrency: many processes, killed and stopped holders, real clocks."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from quarry.labeling.claims import Claims

FORK = multiprocessing.get_context("fork")
ID = "ab" + "0" * 18
HEARTBEAT_S = 20.0


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "label_store" / "method"


def leave_dead(folder: Path, number: int) -> None:
    """Make a claim of a process of this host that is gone."""
    claim = Claims(folder, HEARTBEAT_S).acquire(ID)
    assert claim is not None and claim.number == number
    claim.path.write_text(json.dumps({**json.loads(claim.path.read_text()), "ticks": "1"}))


def test_a_stopped_holder_notices_the_loss_when_it_goes_on(folder):
    """SIGSTOP, takeover, SIGCONT; real clocks."""
    heartbeat_s = 0.1
    beats, commands = FORK.Queue(), FORK.Event()

    def hold():
        claim = Claims(folder, heartbeat_s).acquire(ID)
        while claim.beat():
            if not commands.is_set():
                beats.put(True)
                commands.set()
            time.sleep(heartbeat_s / 2)
        claim.release()
        beats.put(False)

    process = FORK.Process(target=hold)
    process.start()
    assert beats.get(timeout=60)
    waiting = Claims(folder, heartbeat_s)
    for _ in range(20):
        assert waiting.acquire(ID) is None, "a holder that beats is left alone"
        time.sleep(heartbeat_s)
    os.kill(process.pid, signal.SIGSTOP)
    claim = None
    while claim is None:
        time.sleep(heartbeat_s / 2)
        claim = waiting.acquire(ID)
    os.kill(process.pid, signal.SIGCONT)
    assert beats.get(timeout=60) is False
    process.join()
    assert claim.number == 1 and claim.beat() and claim._is_ours()


def contend(folder: Path, number: int, rounds: int, barrier, held) -> None:
    """Take, hold and give back claims; every moment in between nobody else may be inside."""
    claims = Claims(folder, HEARTBEAT_S)
    for round_ in range(rounds):
        structure_id = f"{round_ % 3:02d}" + "f" * 18
        barrier.wait()
        deadline = time.monotonic() + 60
        while (claim := claims.acquire(structure_id)) is None:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        # An exclusive create of our own: fails if another holds the same label.
        inside = folder / f"inside_{structure_id}"
        os.close(os.open(inside, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        held.put((structure_id, claim.number))
        time.sleep(0.0005 * (number % 3))
        assert claim.beat()
        inside.unlink()
        claim.release()


@pytest.mark.parametrize("hard_links", [True, False])
def test_many_processes_race_and_one_holds_at_any_time(folder, monkeypatch, hard_links):
    def refuse(source, target):
        raise OSError(95, "Operation not supported")

    if not hard_links:
        monkeypatch.setattr(os, "link", refuse)
    folder.mkdir(parents=True)
    count, rounds = 8, 25
    barrier, held = FORK.Barrier(count), FORK.Queue()
    processes = [FORK.Process(target=contend, args=(folder, n, rounds, barrier, held)) for n in range(count)]
    for process in processes:
        process.start()
    claimed = [held.get(timeout=120) for _ in range(count * rounds)]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert len(claimed) == len(set(claimed)), "a number was used twice"


def test_of_many_that_find_a_dead_holder_one_takes_over(folder):
    count = 8
    for round_ in range(20):
        leave_dead(folder, number=2 * round_)
        barrier, answers, finished = FORK.Barrier(count), FORK.Queue(), FORK.Event()

        def take(barrier=barrier, answers=answers, finished=finished):
            claims = Claims(folder, HEARTBEAT_S)
            barrier.wait()
            answers.put(any(claims.acquire(ID) is not None for _ in range(5)))
            finished.wait(60)

        processes = [FORK.Process(target=take) for _ in range(count)]
        for process in processes:
            process.start()
        won = [answers.get(timeout=60) for _ in processes]
        finished.set()
        for process in processes:
            process.join()
        assert won.count(True) == 1
