"""Pipes, folders, devices and links to nothing where a record, a claim or a file of attempts belongs: nobody waits for ever."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from pathlib import Path

import pytest

from quarry.files import NotAFileError, read_file
from quarry.labeling.attempts import Attempt, Attempts, read_attempts
from quarry.labeling.claims import Claims
from quarry.labeling.ledger import LabelLedger
from quarry.labeling.record import read_records
from quarry.labeling.store import LabelStore
from support.stages import METHOD_ID, label_record

ID = "ab" + "0" * 18


def bind(path: Path) -> None:
    # A socket's path may not be long.
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


KINDS = {
    "pipe": os.mkfifo,
    "folder": lambda path: (path.mkdir(), (path / "inside").touch()),
    "link to nothing": lambda path: path.symlink_to("nowhere"),
    "link to a device": lambda path: path.symlink_to("/dev/null"),
    "socket": bind,
}


@pytest.fixture(params=KINDS)
def put_no_file(request):
    def put(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        KINDS[request.param](path)

    # Opening a pipe for reading waits for a writer.
    signal.alarm(60)
    yield put
    signal.alarm(0)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_reading_says_what_it_is(put_no_file, tmp_path):
    put_no_file(tmp_path / "x")
    with pytest.raises(NotAFileError, match=r"a pipe or device|a folder|a link to nothing|a socket or device"):
        read_file(tmp_path / "x")


def test_a_file_is_read_with_its_state(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    content, state = read_file(tmp_path / "x")
    assert content == b"abc" and state.st_mtime_ns == (tmp_path / "x").stat().st_mtime_ns
    (tmp_path / "link").symlink_to("x")
    assert read_file(tmp_path / "link")[0] == b"abc"
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "y")
    before = open_descriptors()
    for path in (tmp_path, tmp_path / "x"):
        for _ in range(5):
            with contextlib.suppress(NotAFileError):
                read_file(path)
    assert open_descriptors() == before


def test_in_place_of_a_record_it_is_moved_aside(put_no_file, tmp_path, capsys):
    store = LabelStore(tmp_path / "store", METHOD_ID, {})
    put_no_file(store.path(ID))
    assert store.get(ID) is None
    assert [path.name for path in store.path(ID).parent.iterdir()] == [f"{ID}.json.damaged"]
    assert f"{ID}.json" in capsys.readouterr().out
    assert store.put(label_record(ID)) == label_record(ID) == store.get(ID)


def test_in_place_of_a_record_while_it_is_computed(put_no_file, tmp_path):
    store = LabelStore(tmp_path / "store", METHOD_ID, {})
    put_no_file(store.path(ID))
    assert store.put(label_record(ID)) == label_record(ID) == store.get(ID)


def test_in_place_of_a_claim_it_is_nobodys_and_named(put_no_file, tmp_path, capsys):
    claims = Claims(tmp_path / "method", 20.0)
    path = tmp_path / "method" / "claims" / "ab" / f"{ID}.0.json"
    put_no_file(path)
    assert claims.holder(ID) is None and not claims.is_held(ID)
    capsys.readouterr()
    claim = claims.acquire(ID)
    assert claim is not None and claim.number == 1 and claim.beat()
    assert str(path) in capsys.readouterr().out
    claim.release()


def test_in_place_of_the_holders_own_claim_it_is_lost(put_no_file, tmp_path):
    claim = Claims(tmp_path / "method", 0.0).acquire(ID)
    assert claim is not None
    claim.path.unlink()
    put_no_file(claim.path)
    assert not claim.beat()
    claim.release()


def test_in_place_of_a_failed_label(put_no_file, tmp_path, capsys):
    failed = LabelLedger(tmp_path / "failed")
    record = label_record(ID, status="engine_error", properties={})
    put_no_file(failed.path(ID))
    assert failed.get(ID) is None and failed.put(ID, record) == record == failed.get(ID)
    assert "moved aside" in capsys.readouterr().out


def test_in_place_of_label_files_and_attempts(put_no_file, tmp_path):
    put_no_file(tmp_path / "job.json")
    with pytest.raises(ValueError, match=r"job\.json: damaged label record"):
        read_records(tmp_path / "job.json")
    assert read_attempts(tmp_path / "job.json") == []
    attempts = Attempts(tmp_path)
    attempts.start(Attempt("job", "run", "h", 1000, 60))
    attempts.update("job", peak_MB=5.0)
    assert [a.peak_MB for a in attempts.of("job")] == [5.0]
