"""One main process per campaign: dead owners are told from living ones."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import socket
import time
from pathlib import Path

import pytest

from quarry.campaign import lease as lease_module
from quarry.campaign.lease import STALE_AFTER_S, Lease
from quarry.errors import QuarryError
from support.leases import check_refused, check_taken, foreign, holder

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "results" / "toy" / ".lease.json"


class TestOnThisMachine:
    def test_a_second_process_is_refused_while_the_first_lives(self, path):
        with holder(path) as process:
            check_refused(path, f"process {process.pid} on {socket.gethostname()}", "wait for it, or stop it there")
            assert process.poll() is None

    def test_a_living_owner_needs_no_heartbeat(self, path):
        """A suspended process is not dead."""
        with holder(path) as process:
            os.utime(path, (1, 1))
            check_refused(path, f"process {process.pid} ")

    def test_after_kill_9_the_lease_is_taken_over_at_once(self, path):
        with holder(path) as process:
            process.kill()
            process.wait()
            assert path.exists()
            check_taken(path)

    def test_a_killed_process_that_nobody_waited_for_is_dead(self, path):
        with holder(path) as process:
            process.kill()
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            check_taken(path)

    def test_a_process_that_ends_gives_it_back(self, path):
        with holder(path) as process:
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait() == 0
            assert not path.exists()

    def test_a_process_number_in_use_again_is_not_the_owner(self, path):
        owner = foreign(path, ticks="1")
        assert owner["pid"] == os.getpid()
        check_taken(path)

    def test_this_very_process_is_the_owner(self, path):
        """The control of the one above."""
        foreign(path)
        check_refused(path, f"process {os.getpid()} ")

    def test_a_restart_of_the_machine_ends_every_lease(self, path):
        foreign(path, boot="another boot")
        check_taken(path)

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"host": "x"}', b"\xff\xfe"])
    def test_a_damaged_lease_is_nobodys(self, path, content):
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        check_taken(path)

    def test_of_many_starters_one_wins(self, path):
        assert contest(path, starters=12) == 1

    def test_of_two_starters_that_find_a_dead_lease_one_wins(self, path):
        for _ in range(10):
            foreign(path, ticks="1")
            assert contest(path, starters=2) == 1
            path.unlink()


def contest(path: Path, starters: int) -> int:
    """Start processes at once; return how many got the lease. All live until the last has its answer."""
    barrier, answers, finished = FORK.Barrier(starters), FORK.Queue(), FORK.Event()

    def start():
        lease = Lease(path)
        barrier.wait()
        try:
            lease.acquire()
            answers.put("won")
        except Exception as error:
            answers.put(type(error).__name__)
        finished.wait(60)

    processes = [FORK.Process(target=start) for _ in range(starters)]
    for process in processes:
        process.start()
    results = [answers.get(timeout=60) for _ in processes]
    finished.set()
    for process in processes:
        process.join()
    assert set(results) <= {"won", "QuarryError"}, results
    return results.count("won")


def test_of_three_starters_that_find_a_dead_lease_one_wins(path, monkeypatch):
    """First and second see the dead lease; the second replaces it; the first renames the second's lease away, and
    before it can link it back the third finds none and publishes its own.
    """
    foreign(path, ticks="1")
    second, third = Lease(path), Lease(path)
    rename, won = os.rename, []

    def rename_late(source, target):
        monkeypatch.setattr(os, "rename", rename)
        second.acquire()
        won.append(second)
        rename(source, target)
        with contextlib.suppress(QuarryError):
            third.acquire()
            won.append(third)

    monkeypatch.setattr(os, "rename", rename_late)
    first = Lease(path)
    try:
        with contextlib.suppress(QuarryError):
            first.acquire()
            won.append(first)
        assert len(won) == 1
    finally:
        for lease in (first, second, third):
            lease.release()


class TestOnAnotherMachine:
    def test_a_fresh_lease_is_refused(self, path):
        foreign(path, age_s=STALE_AFTER_S - 30, host="elsewhere", pid=1234)
        check_refused(path, "process 1234 on elsewhere", f"{STALE_AFTER_S:.0f} s after its last heartbeat (90 s ago)")

    def test_a_stale_lease_is_taken_over(self, path):
        foreign(path, age_s=STALE_AFTER_S + 30, host="elsewhere", pid=1234)
        check_taken(path)

    def test_the_process_number_means_nothing_here(self, path):
        foreign(path, age_s=0, host="elsewhere", pid=2**22 + 1, ticks="1", boot="another boot")
        check_refused(path, "on elsewhere")
        foreign(path, age_s=STALE_AFTER_S + 1, host="elsewhere")
        check_taken(path)


class Ticker:
    """An event whose ``wait`` gives heartbeats and then the end, without waiting."""

    def __init__(self, beats: int) -> None:
        self.answers = [False] * beats + [True]

    def wait(self, timeout: float) -> bool:
        return self.answers.pop(0)


def own(path, age_s):
    """A lease whose file was last refreshed some time ago."""
    lease = Lease(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(lease.owner))
    os.utime(path, (time.time() - age_s,) * 2)
    return lease


class TestHeartbeat:
    def test_it_keeps_the_lease_fresh(self, path):
        lease = own(path, age_s=1000)
        lease._stop = Ticker(1)
        lease._beat()
        assert time.time() - path.stat().st_mtime < 60

    def test_it_beats_often_enough(self):
        assert 3 * lease_module.HEARTBEAT_S < STALE_AFTER_S

    def test_it_survives_a_lease_that_is_gone(self, path):
        lease = Lease(path)
        lease._stop = Ticker(2)
        lease._beat()

    def test_it_survives_a_file_server_that_is_away_for_a_moment(self, path, monkeypatch):
        lease, utime, errors = own(path, age_s=1000), os.utime, [OSError(116, "Stale file handle")]

        def sometimes(*arguments):
            if errors:
                raise errors.pop()
            utime(*arguments)

        monkeypatch.setattr(os, "utime", sometimes)
        lease._stop = Ticker(2)
        lease._beat()
        assert time.time() - path.stat().st_mtime < 60

    def test_it_leaves_the_lease_of_another_alone(self, path):
        lease = Lease(path)
        foreign(path, age_s=1000, host="elsewhere")
        lease._stop = Ticker(1)
        lease._beat()
        assert time.time() - path.stat().st_mtime > 900


class TestRelease:
    def test_it_removes_its_own(self, path):
        lease = Lease(path)
        lease.acquire()
        lease.release()
        assert not path.exists()
        lease.release()

    @pytest.mark.parametrize("changes", [{}, {"host": "elsewhere"}, {"pid": 1}])
    def test_it_leaves_anothers(self, path, changes):
        lease = Lease(path)
        lease.acquire()
        foreign(path, **changes)
        before = path.read_bytes()
        lease.release()
        assert path.read_bytes() == before

    def test_it_ends_the_heartbeat(self, path):
        lease = Lease(path)
        lease.acquire()
        lease.release()
        assert lease._stop.is_set()


def test_a_living_owner_whose_lease_cannot_be_read_is_not_robbed(path, monkeypatch):
    """Another user's file (mode 600) or a file server that is away for a moment."""
    with holder(path):
        read_bytes = Path.read_bytes

        def refuse(self):
            if self.name.startswith(path.name):
                raise PermissionError(13, "Permission denied")
            return read_bytes(self)

        monkeypatch.setattr(Path, "read_bytes", refuse)
        thief = Lease(path)
        try:
            with pytest.raises((QuarryError, OSError)):
                thief.acquire()
        finally:
            monkeypatch.undo()
            thief.release()
