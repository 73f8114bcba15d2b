"""The label store when it is damaged, full, read-only, on another file system, or used by many at once."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import resource
import shutil
import tempfile
from pathlib import Path

import pytest

from quarry.files import copy_file, publish_once
from quarry.labeling import store as store_module
from quarry.labeling.claims import Claims
from quarry.labeling.record import encode_records, read_records, write_records
from quarry.labeling.store import LabelStore, StoreError
from support.faults import DAMAGES, SHARED_MEMORY, damage, fill, read_only, small_disk
from support.stages import METHOD_ID, label_record

FORK = multiprocessing.get_context("fork")
ID = "ab" + "0" * 18


@pytest.fixture
def store(tmp_path) -> LabelStore:
    return LabelStore(tmp_path / "label_store", METHOD_ID, {"engine": "stand-in"})


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def check_error(caught: pytest.ExceptionInfo[StoreError], store: LabelStore, *words: str) -> None:
    message = str(caught.value)
    assert "\n" not in message and str(store.folder) in message and "labeling.store" in message
    assert [w for w in words if w not in message] == []


class TestDamage:
    @pytest.mark.parametrize("kind", DAMAGES)
    def test_it_is_moved_aside_named_and_paid_again(self, store, capsys, kind):
        store.put(label_record(ID))
        bad = damage(store.path(ID), kind)
        assert store.get(ID) is None
        assert names(store.path(ID).parent) == [f"{ID}.json.damaged"]
        assert store.path(ID).with_name(f"{ID}.json.damaged").read_bytes() == bad
        assert f"{ID}.json" in capsys.readouterr().out
        again = label_record(ID, host="again")
        assert store.put(again) == again == store.get(ID)

    @pytest.mark.parametrize(
        "records",
        [
            [label_record("cd" + "0" * 18)],
            [label_record(ID, method_id="f" * 16)],
            [label_record(ID, status="out_of_time", properties={})],
            [label_record(ID), label_record("cd" + "0" * 18)],
        ],
        ids=["another structure", "another method", "a failure", "two records"],
    )
    def test_a_whole_record_that_is_not_this_label_is_foreign(self, store, capsys, records):
        store.path(ID).parent.mkdir(parents=True)
        write_records(store.path(ID), records)
        assert store.get(ID) is None
        assert names(store.path(ID).parent) == [f"{ID}.json.damaged"]
        assert "the record of another label" in capsys.readouterr().out

    @pytest.mark.parametrize("kind", DAMAGES)
    def test_a_label_finished_beside_a_damaged_record_takes_its_place(self, store, kind):
        """Damaged after the look and before the label was published."""
        store.put(label_record(ID))
        damage(store.path(ID), kind)
        fresh = label_record(ID, host="fresh")
        assert store.put(fresh) == fresh
        assert read_records(store.path(ID)) == [fresh]

    def test_of_many_readers_of_a_damaged_record_none_harms_the_new_one(self, store):
        """All find it damaged at once, move it aside and publish; then there is one whole record."""
        count, rounds = 6, 40
        barrier, answers = FORK.Barrier(count), FORK.Queue()

        def work(number):
            seen = []
            for _ in range(rounds):
                barrier.wait()
                if number == 0:
                    store.path(ID).parent.mkdir(parents=True, exist_ok=True)
                    store.path(ID).write_bytes(b"[")
                barrier.wait()
                if store.get(ID) is None:
                    store.put(label_record(ID, host=str(number)))
                barrier.wait()
                kept = store.get(ID)
                seen.append(kept and kept.host)
            answers.put(seen)

        processes = [FORK.Process(target=work, args=(n,)) for n in range(count)]
        for process in processes:
            process.start()
        first, *others = [answers.get(timeout=120) for _ in processes]
        for process in processes:
            process.join()
        assert None not in first and all(other == first for other in others)

    def test_a_record_replaced_after_the_look_is_read_and_not_moved(self, store, monkeypatch):
        store.put(label_record(ID))
        damage(store.path(ID), "truncated")
        read = store_module.read_records

        def read_while_another_repairs(path):
            monkeypatch.setattr(store_module, "read_records", read)
            try:
                return read(path)
            finally:
                write_records(path, [label_record(ID, host="other")])

        monkeypatch.setattr(store_module, "read_records", read_while_another_repairs)
        found = store.get(ID)
        assert found is not None and found.host == "other"
        assert names(store.path(ID).parent) == [f"{ID}.json"]

    @pytest.mark.parametrize("how", ["in place", "by another file with the same time"])
    def test_a_record_repaired_after_the_second_look_is_not_touched(self, store, monkeypatch, capsys, how):
        """Nobody may find it missing for a moment: it would be paid for again."""
        store.put(label_record(ID))
        damage(store.path(ID), "truncated")
        read, looks = store_module.read_records, []
        good = label_record(ID, host="other")

        def read_before_another_repairs(path):
            looks.append(path)
            try:
                return read(path)
            finally:
                if len(looks) == 2 and how == "in place":
                    path.write_bytes(encode_records([good]))
                elif len(looks) == 2:
                    stamp = path.stat().st_mtime_ns
                    write_records(path, [good])
                    os.utime(path, ns=(stamp, stamp))

        monkeypatch.setattr(store_module, "read_records", read_before_another_repairs)
        monkeypatch.setattr(store_module, "move_aside", lambda path: pytest.fail("a good record was moved"))
        assert store.get(ID) == good and len(looks) == 3
        assert names(store.path(ID).parent) == [f"{ID}.json"] and capsys.readouterr().out == ""

    def test_a_record_repaired_in_the_moment_of_the_move_comes_back(self, store, monkeypatch, capsys):
        store.put(label_record(ID))
        damage(store.path(ID), "truncated")
        move, good = store_module.move_aside, label_record(ID, host="other")

        def move_after_another_has_repaired(path):
            write_records(path, [good])
            return move(path)

        monkeypatch.setattr(store_module, "move_aside", move_after_another_has_repaired)
        assert store.get(ID) == good == read_records(store.path(ID))[0]
        assert names(store.path(ID).parent) == [f"{ID}.json"] and capsys.readouterr().out == ""

    def test_a_record_that_is_damaged_whenever_it_is_written_is_an_error_not_a_loop(self, store, monkeypatch):
        monkeypatch.setattr(store_module, "publish_once", lambda path, data, rights: False)
        with pytest.raises(StoreError) as caught:
            store.put(label_record(ID))
        check_error(caught, store, "again and again")


class TestReadOnly:
    def test_reading_works_and_publishing_and_claiming_say_why_not(self, store):
        store.put(label_record(ID))
        new = "cd" + "0" * 18
        with read_only(store.folder.parent):
            assert store.get(ID) == label_record(ID)
            for act in (lambda: store.put(label_record(new)), lambda: Claims(store.folder, 1.0).acquire(new)):
                with pytest.raises(StoreError) as caught:
                    act()
                check_error(caught, store, "Read-only file system")
        assert store.put(label_record(new)) == label_record(new)

    def test_a_damaged_record_is_named_and_does_not_count(self, store, capsys):
        store.put(label_record(ID))
        bad = damage(store.path(ID), "truncated")
        with read_only(store.folder.parent):
            assert store.get(ID) is None
        assert store.path(ID).read_bytes() == bad
        assert "cannot be moved aside (Read-only file system)" in capsys.readouterr().out


class TestFullDisk:
    def test_a_store_that_fills_up_keeps_what_it_has_and_goes_on_when_there_is_room(self, tmp_path):
        with small_disk(tmp_path / "disk", 512) as disk:
            store = LabelStore(disk / "label_store", METHOD_ID, {})
            store.put(label_record(ID))
            filler = fill(disk)
            new = label_record("cd" + "0" * 18, message="x" * 8192)
            with pytest.raises(StoreError) as caught:
                store.put(new)
            check_error(caught, store, "No space left on device")
            with pytest.raises(StoreError) as caught:
                Claims(store.folder, 1.0).acquire("ef" + "0" * 18)
            check_error(caught, store, "No space left on device")
            assert store.get(ID) == label_record(ID) and store.get(new.structure_id) is None
            filler.unlink()
            assert [p for p in disk.rglob("*") if ".tmp" in p.name] == []
            assert store.put(new) == new == store.get(new.structure_id)

    @pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
    def test_a_link_that_fails_for_want_of_room_leaves_no_short_file(self, tmp_path, monkeypatch, code):
        def fail(source, target):
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, "link", fail)
        with pytest.raises(OSError, match=os.strerror(code)):
            publish_once(tmp_path / "record", b"x")
        assert names(tmp_path) == []

    def test_a_file_size_limit_in_mid_record(self, store):
        """A quota that cuts a write short: the record is not published, the store is as before."""

        def write(answers):
            resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))
            try:
                store.put(label_record(ID, message="x" * 8192))
            except StoreError as error:
                answers.put(str(error))

        answers = FORK.Queue()
        process = FORK.Process(target=write, args=(answers,))
        process.start()
        assert "File too large" in answers.get(timeout=60)
        process.join()
        assert names(store.path(ID).parent) == []


def test_a_file_that_may_not_be_read_is_no_missing_label(store, monkeypatch):
    store.put(label_record(ID))

    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(store_module, "read_records", refuse)
    with pytest.raises(StoreError) as caught:
        store.get(ID)
    check_error(caught, store, "Permission denied", f"{ID}.json")


@pytest.fixture
def other_file_system(tmp_path):
    if not SHARED_MEMORY.is_dir() or SHARED_MEMORY.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system here")
    folder = Path(tempfile.mkdtemp(dir=SHARED_MEMORY))
    yield folder
    shutil.rmtree(folder)


def test_a_store_on_another_file_system(other_file_system, tmp_path):
    store = LabelStore(other_file_system / "label_store", METHOD_ID, {})
    claim = Claims(store.folder, 1.0).acquire(ID)
    assert claim is not None and store.put(label_record(ID)) == label_record(ID)
    claim.release()
    copy_file(store.path(ID), tmp_path / "label.json")
    assert read_records(tmp_path / "label.json") == [label_record(ID)]
    damage(store.path(ID), "truncated")
    assert store.get(ID) is None and store.put(label_record(ID)) == label_record(ID)


def test_a_group_can_write_everything_when_the_umask_says_so(store):
    before = os.umask(0o002)
    try:
        store.put(label_record(ID))
        modes = {str(p.relative_to(store.folder.parent)): p.stat().st_mode & 0o777 for p in store.folder.rglob("*")}
        assert modes == {
            f"{METHOD_ID}/method.json": 0o664,
            f"{METHOD_ID}/ab": 0o775,
            f"{METHOD_ID}/ab/{ID}.json": 0o664,
        }
        copy_file(store.path(ID), store.folder / "copy.json")
        write_records(store.folder / "records.json", [label_record(ID)])
        assert {(store.folder / n).stat().st_mode & 0o777 for n in ("copy.json", "records.json")} == {0o664}
        assert store.folder.stat().st_mode & 0o777 == 0o775
    finally:
        os.umask(before)


def test_a_thousand_records_arrive_at_once(store):
    """Eight processes publish the same 1,000 labels: each label once, whole, and all agree on whose it is."""
    ids = [f"{number * 7919:020x}"[::-1] for number in range(1000)]
    count = 8
    barrier, answers = FORK.Barrier(count), FORK.Queue()

    def publish(number):
        barrier.wait()
        answers.put({i: store.put(label_record(i, host=f"node{number}")).host for i in ids})

    processes = [FORK.Process(target=publish, args=(n,)) for n in range(count)]
    for process in processes:
        process.start()
    told = [answers.get(timeout=300) for _ in processes]
    for process in processes:
        process.join()
    kept = {i: read_records(store.path(i))[0].host for i in ids}
    assert all(answer == kept for answer in told)
    assert sum(1 for p in store.folder.rglob("*") if p.is_file()) == len(ids) + 1
    assert json.loads((store.folder / "method.json").read_text()) == store.method
    assert encode_records([store.get(ids[0])]) == store.path(ids[0]).read_bytes()
