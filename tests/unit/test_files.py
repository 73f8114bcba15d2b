"""Files are intact or absent, whatever happens to the process that writes them."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarry.files import (
    atomic_path,
    canonical_json,
    copy_file,
    digest_of,
    move_aside,
    publish_once,
    sha256_of,
    write_bytes,
    write_json,
    write_text,
)

FORK = multiprocessing.get_context("fork")
JSON_DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def names_in(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


class TestAtomicPath:
    def test_a_failing_body_leaves_the_old_file_and_nothing_else(self, tmp_path):
        target = tmp_path / "data"
        target.write_text("old")
        with pytest.raises(ZeroDivisionError), atomic_path(target) as temporary:
            temporary.write_text("half of the n")
            raise ZeroDivisionError
        assert names_in(tmp_path) == ["data"]
        assert target.read_text() == "old"

    def test_a_failing_body_without_an_old_file_leaves_nothing(self, tmp_path):
        with pytest.raises(KeyboardInterrupt), atomic_path(tmp_path / "data") as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt
        assert names_in(tmp_path) == []

    def test_a_body_that_writes_nothing_is_an_error_and_keeps_the_old_file(self, tmp_path):
        target = tmp_path / "data"
        target.write_text("old")
        with pytest.raises(FileNotFoundError), atomic_path(target):
            pass
        assert target.read_text() == "old"

    def test_a_full_disk_leaves_the_old_file_and_nothing_else(self, tmp_path, monkeypatch):
        target = tmp_path / "data"
        target.write_text("old")

        def full(descriptor):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            write_text(target, "new")
        assert names_in(tmp_path) == ["data"]
        assert target.read_text() == "old"

    def test_the_content_is_synced_before_the_rename_and_the_folder_after_it(self, tmp_path, monkeypatch):
        order = []
        fsync, replace = os.fsync, os.replace

        def spied_fsync(descriptor):
            order.append(("sync", Path(f"/proc/self/fd/{descriptor}").readlink().name))
            fsync(descriptor)

        def spied_replace(source, target):
            order.append(("rename", Path(target).name))
            replace(source, target)

        monkeypatch.setattr(os, "fsync", spied_fsync)
        monkeypatch.setattr(os, "replace", spied_replace)
        write_text(tmp_path / "data", "new")
        assert [action for action, _ in order] == ["sync", "rename", "sync"]
        assert order[0][1].startswith(".data.") and order[1][1] == "data" and order[2][1] == tmp_path.name

    def test_a_process_killed_in_mid_write_leaves_the_old_file(self, tmp_path):
        target = tmp_path / "data"
        target.write_text("old")

        def die():
            with atomic_path(target) as temporary:
                temporary.write_text("half")
                os.kill(os.getpid(), signal.SIGKILL)

        process = FORK.Process(target=die)
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert target.read_text() == "old"

    def test_a_reader_never_sees_half_a_file(self, tmp_path):
        target = tmp_path / "data"
        contents = {letter.encode() * 200_000 for letter in "ab"}
        write_bytes(target, b"a" * 200_000)
        finished, seen = threading.Event(), set()

        def read():
            while not finished.is_set():
                seen.add(target.read_bytes())

        reader = threading.Thread(target=read)
        reader.start()
        for _ in range(40):
            for content in contents:
                write_bytes(target, content)
        finished.set()
        reader.join()
        assert seen and seen <= contents

    def test_folders_are_made(self, tmp_path):
        write_text(tmp_path / "a" / "b" / "c", "x")
        assert (tmp_path / "a" / "b" / "c").read_text() == "x"


def refuse_links(source, target):
    raise OSError(95, "Operation not supported")


@pytest.mark.parametrize("hard_links", [True, False])
class TestPublishOnce:
    @pytest.fixture(autouse=True)
    def _file_system(self, hard_links, monkeypatch):
        if not hard_links:
            monkeypatch.setattr(os, "link", refuse_links)

    def test_one_of_many_processes_wins_and_its_content_is_whole(self, tmp_path):
        target, count = tmp_path / "folder" / "record", 12
        barrier, answers = FORK.Barrier(count), FORK.Queue()

        def publish(number):
            content = f"{number:04d}".encode() * 50_000
            barrier.wait()
            answers.put((number, publish_once(target, content)))

        processes = [FORK.Process(target=publish, args=(n,)) for n in range(count)]
        for process in processes:
            process.start()
        results = [answers.get(timeout=60) for _ in processes]
        for process in processes:
            process.join()
        winners = [number for number, won in results if won]
        assert len(winners) == 1
        assert target.read_bytes() == f"{winners[0]:04d}".encode() * 50_000
        assert names_in(target.parent) == ["record"]

    def test_what_is_there_stays(self, tmp_path):
        target = tmp_path / "record"
        assert publish_once(target, b"first") is True
        assert publish_once(target, b"second") is False
        assert target.read_bytes() == b"first"
        assert names_in(tmp_path) == ["record"]


def test_publish_once_fails_cleanly_on_a_full_disk(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        publish_once(tmp_path / "record", b"x")
    assert names_in(tmp_path) == []


def test_move_aside_keeps_every_damaged_copy(tmp_path):
    source = tmp_path / "record.json"
    moved = []
    for number in range(4):
        source.write_text(f"damage {number}")
        moved.append(move_aside(source))
        assert not source.exists()
    assert [p.read_text() for p in moved] == [f"damage {n}" for n in range(4)]
    assert [p.name for p in moved] == ["record.json.damaged"] + [f"record.json.damaged.{n}" for n in (1, 2, 3)]


def test_move_aside_does_not_touch_a_foreign_file_of_that_name(tmp_path):
    (tmp_path / "record.damaged").write_text("someone else's")
    (tmp_path / "record").write_text("mine")
    assert move_aside(tmp_path / "record").read_text() == "mine"
    assert (tmp_path / "record.damaged").read_text() == "someone else's"


def test_copy_file_is_newer_and_leaves_nothing_behind(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"content")
    os.utime(source, (1, 1))
    copy_file(source, target)
    assert target.read_bytes() == b"content"
    assert target.stat().st_mtime > 1_000_000
    assert names_in(tmp_path) == ["source", "target"]


def reordered(data):
    if isinstance(data, dict):
        return {key: reordered(data[key]) for key in reversed(list(data))}
    return [reordered(item) for item in data] if isinstance(data, list) else data


class TestJson:
    @given(JSON_DATA)
    def test_the_same_data_give_the_same_bytes_in_any_order_of_keys(self, data):
        assert canonical_json(data) == canonical_json(reordered(data))
        assert digest_of(data) == digest_of(reordered(data))

    @given(JSON_DATA)
    def test_it_is_json_and_nothing_is_lost(self, data):
        assert json.loads(canonical_json(data)) == data

    @given(JSON_DATA, JSON_DATA)
    def test_different_data_give_different_text(self, one, other):
        # Through JSON text, because Python calls 1, 1.0 and True equal.
        if json.dumps(one, sort_keys=True) != json.dumps(other, sort_keys=True):
            assert canonical_json(one) != canonical_json(other)

    def test_the_form_is_fixed(self):
        """Checksums on disk depend on it."""
        assert canonical_json({"b": [1, 2.5, None], "a": {"é": True}}) == '{"a":{"\\u00e9":true},"b":[1,2.5,null]}'

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
    def test_what_json_does_not_know_is_refused(self, value, tmp_path):
        with pytest.raises(ValueError, match="not JSON compliant"):
            canonical_json([value])
        with pytest.raises(ValueError, match="not JSON compliant"):
            write_json(tmp_path / "x.json", {"a": value})
        assert names_in(tmp_path) == []

    def test_write_json(self, tmp_path):
        write_json(tmp_path / "a.json", {"b": 1, "a": [1.5]})
        write_json(tmp_path / "b.json", {"a": [1.5], "b": 1})
        assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
        assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1.5], "b": 1}

    def test_digests(self, tmp_path):
        (tmp_path / "data").write_bytes(bytes(range(256)) * 5000)
        assert sha256_of(tmp_path / "data") == hashlib.sha256(bytes(range(256)) * 5000).hexdigest()
        assert digest_of([1, 2]) == hashlib.sha256(b"[1,2]").hexdigest()
        assert digest_of([1, 2], 7) == hashlib.sha256(b"[1,2]").hexdigest()[:7]
