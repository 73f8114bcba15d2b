"""Claims of labels: one holder at a time, dead ones are taken over, and the clocks of the hosts do not matter."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from quarry.errors import QuarryError
from quarry.labeling import claims as claims_module
from quarry.labeling.claims import MISSED_HEARTBEATS, Claims
from quarry.labeling.record import encode_records
from quarry.labeling.store import StoreError, place_of
from support.stages import label_record

FORK = multiprocessing.get_context("fork")
ID = "ab" + "0" * 18
HEARTBEAT_S = 20.0


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "label_store" / "method"


@pytest.fixture
def clock(monkeypatch):
    """The monotonic clock of this process, which stands still unless it is told to go on."""

    class Clock:
        now = 1000.0

        def wait(self, seconds: float) -> None:
            self.now += seconds

    clock = Clock()
    monkeypatch.setattr(claims_module.time, "monotonic", lambda: clock.now)
    return clock


def files(folder: Path) -> list[str]:
    return sorted(p.name for p in (folder / "claims").rglob("*") if p.is_file())


def publish(folder: Path) -> None:
    path = place_of(folder, ID)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_records([label_record(ID)]))


def elsewhere(folder: Path, number: int = 0, **changes) -> Path:
    """Make a claim of a process on another host, or of another kind."""
    holder = Claims(folder, HEARTBEAT_S)
    claim = holder.acquire(ID)
    assert claim is not None and claim.number == number
    owner = {**json.loads(claim.path.read_text()), "host": "elsewhere", "token": "another", **changes}
    claim.path.write_text(json.dumps({key: value for key, value in owner.items() if value is not None}))
    return claim.path


def wait_for(claims: Claims, clock, seconds: float, look_every_s: float = 10.0, between=None):
    """Ask for a claim again and again for some time by the watcher's clock; return it, or None."""
    for _ in range(int(seconds / look_every_s)):
        claim = claims.acquire(ID)
        if claim is not None:
            return claim
        clock.wait(look_every_s)
        if between:
            between()
    return None


class TestHolding:
    def test_a_free_label_is_claimed_at_once(self, folder):
        claim = Claims(folder, HEARTBEAT_S).acquire(ID)
        assert claim is not None and claim.beat()
        assert claim.path == folder / "claims" / "ab" / f"{ID}.0.json"
        assert files(folder) == [f"{ID}.0.json"]

    def test_a_held_label_is_not_claimed_again(self, folder):
        claim = Claims(folder, HEARTBEAT_S).acquire(ID)
        other = Claims(folder, HEARTBEAT_S)
        assert claim is not None and other.acquire(ID) is None and other.acquire(ID) is None
        assert other.acquire("ab" + "1" * 18) is not None

    def test_the_holder_is_named(self, folder, monkeypatch):
        monkeypatch.setenv("SLURM_JOB_ID", "4711")
        claims = Claims(folder, HEARTBEAT_S)
        assert claims.holder(ID) is None
        claim = claims.acquire(ID)
        holder = claims.holder(ID)
        assert holder is not None and claim is not None
        assert (holder["pid"], holder["slurm_job"], holder["heartbeat_s"]) == (os.getpid(), "4711", HEARTBEAT_S)
        claim.release()
        assert claims.holder(ID) is None

    def test_the_heartbeat_touches_the_file_and_keeps_its_content(self, folder, clock):
        claim = Claims(folder, HEARTBEAT_S).acquire(ID)
        assert claim is not None
        before = claim.path.read_bytes()
        os.utime(claim.path, (1, 1))
        clock.wait(HEARTBEAT_S / 4)
        assert claim.beat() and claim.path.stat().st_mtime == 1, "not more often than needed"
        clock.wait(HEARTBEAT_S / 4)
        assert claim.beat() and claim.path.stat().st_mtime > 1
        assert claim.path.read_bytes() == before


class TestRelease:
    def test_without_a_label_it_is_free_at_once_and_the_number_is_not_used_again(self, folder):
        claims = Claims(folder, HEARTBEAT_S)
        claim = claims.acquire(ID)
        assert claim is not None
        claim.release()
        assert not claim.beat()
        again = Claims(folder, HEARTBEAT_S).acquire(ID)
        assert again is not None and again.number == 1 and again.beat()

    def test_with_the_label_in_the_store_nothing_is_left(self, folder):
        for number in range(3):
            claim = Claims(folder, HEARTBEAT_S).acquire(ID)
            assert claim is not None and claim.number == number
            if number < 2:
                claim.release()
        publish(folder)
        claim.release()
        assert files(folder) == []

    def test_again_does_nothing(self, folder):
        claim = Claims(folder, HEARTBEAT_S).acquire(ID)
        assert claim is not None
        publish(folder)
        claim.release()
        successor = Claims(folder, HEARTBEAT_S).acquire(ID)
        assert successor is not None and successor.path == claim.path
        claim.release()
        assert successor._is_ours() and not claim.beat()

    @pytest.mark.parametrize("published", [False, True])
    def test_it_never_touches_a_successors(self, folder, clock, published):
        old = Claims(folder, HEARTBEAT_S).acquire(ID)
        new = wait_for(Claims(folder, HEARTBEAT_S), clock, 200)
        assert old is not None and new is not None and new.number == 1
        before = new.path.read_bytes()
        if published:
            publish(folder)
        old.release()
        assert new.path.read_bytes() == before and new.beat()
        assert Claims(folder, HEARTBEAT_S).acquire(ID) is None

    def test_the_file_of_another_under_the_same_name_is_left(self, folder):
        claim = Claims(folder, HEARTBEAT_S).acquire(ID)
        assert claim is not None
        claim.path.write_text(json.dumps({"token": "another"}))
        for published in (False, True):
            if published:
                publish(folder)
            claim._touched = 0.0
            claim.release()
            assert claim.path.read_text() == json.dumps({"token": "another"})


class TestTakingOver:
    def test_a_killed_process_of_this_host_at_once(self, folder):
        def hold(answers):
            answers.put(Claims(folder, HEARTBEAT_S).acquire(ID) is not None)
            time.sleep(600)

        answers = FORK.Queue()
        process = FORK.Process(target=hold, args=(answers,))
        process.start()
        assert answers.get(timeout=60)
        waiting = Claims(folder, HEARTBEAT_S)
        assert waiting.acquire(ID) is None
        process.kill()
        process.join()
        claim = waiting.acquire(ID)
        assert claim is not None and claim.number == 1 and claim.beat()

    @pytest.mark.parametrize("offset_s", [0, -86400 * 365, -3600, 3600, 86400 * 365])
    def test_another_hosts_clock_does_not_matter(self, folder, clock, offset_s):
        """Living: the time stamp moves, whatever it says. Dead: it does not, for six heartbeats of the watcher's clock."""
        path, waiting = elsewhere(folder), Claims(folder, HEARTBEAT_S)
        beats = iter(range(1000))

        def beat():
            stamp = time.time() + offset_s + next(beats)
            os.utime(path, (stamp, stamp))

        beat()
        assert wait_for(waiting, clock, 3600, between=beat) is None
        assert wait_for(waiting, clock, MISSED_HEARTBEATS * HEARTBEAT_S) is None
        claim = waiting.acquire(ID)
        assert claim is not None and claim.number == 1

    def test_the_holders_heartbeat_counts_not_the_watchers(self, folder, clock):
        elsewhere(folder, heartbeat_s=300.0)
        waiting = Claims(folder, 1.0)
        assert wait_for(waiting, clock, 6 * 300.0) is None
        assert waiting.acquire(ID) is not None

    @pytest.mark.parametrize(
        "changes", [{"boot": "another"}, {"namespace": "pid:[1]"}, {"pid": 2**22 + 1}, {"ticks": "1"}], ids=str
    )
    def test_a_process_that_cannot_be_seen_from_here_is_not_taken_for_dead(self, folder, clock, changes):
        elsewhere(folder, **changes)
        waiting = Claims(folder, HEARTBEAT_S)
        assert wait_for(waiting, clock, 100) is None
        assert wait_for(waiting, clock, 100) is not None

    def test_a_process_number_that_is_in_use_again_is_not_the_holder(self, folder):
        elsewhere(folder, host=os.uname().nodename, ticks="1")
        assert Claims(folder, HEARTBEAT_S).acquire(ID) is not None

    def test_a_process_that_lives_but_does_not_beat_hangs(self, folder, clock):
        claim = Claims(folder, HEARTBEAT_S).acquire(ID)
        waiting = Claims(folder, HEARTBEAT_S)
        assert claim is not None and wait_for(waiting, clock, 120) is None
        assert waiting.acquire(ID) is not None
        assert not claim.beat() and not claim.beat()

    def test_a_watcher_that_slept_does_not_take_its_own_sleep_for_the_holders_death(self, folder, clock):
        """A batch system may suspend both; the watcher may be the first to go on."""
        elsewhere(folder)
        waiting = Claims(folder, HEARTBEAT_S)
        for _ in range(MISSED_HEARTBEATS):
            assert waiting.acquire(ID) is None
            clock.wait(36000)
        assert waiting.acquire(ID) is not None

    @pytest.mark.parametrize(
        "content",
        [
            *(b"", b"{", b"[]", b"\xff", b'{"heartbeat_s": -1}', b'{"pid": "x", "released": 1}'),
            *(b'{"heartbeat_s": 1e9}', b'{"heartbeat_s": Infinity}', b'{"heartbeat_s": NaN}', b'{"heartbeat_s": "60"}'),
        ],
    )
    def test_a_damaged_claim_is_watched_too(self, folder, clock, content):
        """It may not be whole yet on a file system without hard links."""
        elsewhere(folder).write_bytes(content)
        waiting = Claims(folder, HEARTBEAT_S)
        assert wait_for(waiting, clock, 120) is None
        assert waiting.acquire(ID) is not None

    def test_a_new_holder_is_watched_from_the_start(self, folder, clock):
        elsewhere(folder)
        first, second = Claims(folder, HEARTBEAT_S), Claims(folder, HEARTBEAT_S)
        assert wait_for(second, clock, 110) is None
        assert wait_for(first, clock, 200) is not None
        path = folder / "claims" / "ab" / f"{ID}.1.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "host": "elsewhere"}))
        assert wait_for(second, clock, 110) is None

    def test_names_that_are_no_claims_are_left_alone(self, folder):
        place = folder / "claims" / "ab"
        place.mkdir(parents=True)
        for name in (f".{ID}.7.json.1.ab.tmp", f"{ID}.x.json", f"{ID}.7.json.damaged", f"{ID}0.7.json"):
            (place / name).write_text("{}")
        claim = Claims(folder, HEARTBEAT_S).acquire(ID)
        assert claim is not None and claim.number == 0 and claim.beat()


@pytest.mark.parametrize(("code", "words"), [(28, "No space left on device"), (30, "Read-only file system")])
def test_a_store_that_cannot_be_written_is_named_in_one_line(folder, monkeypatch, code, words):
    def fail(*_):
        raise OSError(code, words)

    monkeypatch.setattr(claims_module, "publish_once", fail)
    with pytest.raises(StoreError) as caught:
        Claims(folder, HEARTBEAT_S).acquire(ID)
    message = str(caught.value)
    assert isinstance(caught.value, QuarryError)
    assert "\n" not in message and words in message and str(folder) in message and "labeling.store" in message


class TestFileServerAway:
    def test_a_heartbeat_that_cannot_be_told_is_no_loss(self, folder, clock, monkeypatch):
        claim = Claims(folder, HEARTBEAT_S).acquire(ID)
        clock.wait(HEARTBEAT_S)

        def stale(*_):
            raise OSError(116, "Stale file handle")

        monkeypatch.setattr(os, "utime", stale)
        assert claim is not None and claim.beat()
        monkeypatch.undo()
        assert claim.beat()

    def test_release_does_not_fail(self, folder, monkeypatch):
        claim = Claims(folder, HEARTBEAT_S).acquire(ID)

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(claims_module, "atomic_path", full)
        monkeypatch.setattr(claims_module, "open", full, raising=False)
        assert claim is not None
        claim.release()
        assert claim._is_ours(), "others wait until it is stale"

    def test_a_full_disk_is_told_of_the_release_in_the_place_of_old_bytes(self, folder, monkeypatch):
        claim = Claims(folder, HEARTBEAT_S).acquire(ID)
        assert claim is not None
        size = claim.path.stat().st_size

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(claims_module, "atomic_path", full)
        claim.release()
        assert json.loads(claim.path.read_text()) == {"released": True} and claim.path.stat().st_size == size
        monkeypatch.undo()
        successor = Claims(folder, HEARTBEAT_S).acquire(ID)
        assert successor is not None and successor.number == 1

    @pytest.mark.parametrize(("code", "counts"), [(30, False), (5, False), (13, True)])
    def test_silence_counts_only_while_a_heartbeat_could_arrive(self, folder, clock, monkeypatch, code, counts):
        """A file system that takes no time stamps takes the holder's neither; one that refuses only us does."""
        elsewhere(folder)
        waiting = Claims(folder, HEARTBEAT_S)
        assert waiting.acquire(ID) is None

        def refuse(path, *_):
            raise OSError(code, os.strerror(code), path)

        monkeypatch.setattr(os, "utime", refuse)
        taken = wait_for(waiting, clock, 10 * MISSED_HEARTBEATS * HEARTBEAT_S)
        assert (taken is not None) is counts
        monkeypatch.undo()
        monkeypatch.setattr(claims_module.time, "monotonic", lambda: clock.now)
        if not counts:
            assert wait_for(waiting, clock, (MISSED_HEARTBEATS - 1) * HEARTBEAT_S) is None
            assert wait_for(waiting, clock, 2 * HEARTBEAT_S) is not None

    def test_a_claim_that_is_gone_is_lost(self, folder, clock):
        claim = Claims(folder, HEARTBEAT_S).acquire(ID)
        assert claim is not None
        claim.path.unlink()
        clock.wait(HEARTBEAT_S)
        assert not claim.beat()


def test_a_group_can_write_everything_when_the_umask_says_so(folder):
    before = os.umask(0o002)
    try:
        claim = Claims(folder, HEARTBEAT_S).acquire(ID)
        assert claim is not None
        paths = [claim.path, *claim.path.relative_to(folder.parent).parents]
        modes = {oct((folder.parent / p).stat().st_mode & 0o777) for p in paths[1:]}
        assert modes == {"0o775"} and claim.path.stat().st_mode & 0o777 == 0o664
        claim.release()
        assert claim.path.stat().st_mode & 0o777 == 0o664
    finally:
        os.umask(before)


def test_a_claim_that_goes_between_listing_and_reading_is_asked_for_again(folder, monkeypatch):
    """Its holder has published the label: whoever asked looks into the store before it asks again."""
    elsewhere(folder)

    def gone(path):
        raise FileNotFoundError(path)

    monkeypatch.setattr(claims_module, "_read", gone)
    assert Claims(folder, HEARTBEAT_S).acquire(ID) is None


def test_a_claim_is_held_until_it_is_given_back(folder):
    claims = Claims(folder, HEARTBEAT_S)
    assert not claims.is_held(ID)
    claim = claims.acquire(ID)
    assert Claims(folder, HEARTBEAT_S).is_held(ID) is True
    claim.release()
    assert Claims(folder, HEARTBEAT_S).is_held(ID) is False
