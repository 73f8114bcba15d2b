"""Snakemake's own records: a damaged one counts as none."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake.io import IOCache, _IOFile
from snakemake.persistence.file import FilePersistence

from quarry.campaign.state_records import Look, read_records_with, record_path, show_as_there


@pytest.fixture
def read(tmp_path, monkeypatch):
    monkeypatch.setattr(FilePersistence, "_io_read", FilePersistence._io_read)
    read_records_with(lambda output: b'{"rule": "packed"}' if output == "absent" else None)
    read_records_with(lambda output: None)
    records = FilePersistence.__new__(FilePersistence)
    records._metadata_path = tmp_path
    monkeypatch.setattr(records, "_record_path", lambda subject, key: str(Path(subject) / key), raising=False)
    return lambda content, key="key": (tmp_path / "key").write_bytes(content) and records._io_read(tmp_path, key)


@pytest.mark.parametrize("content", [b"\xe0\x00\xff" * 50, b"{", b"[1]", b"3", b"\n"])
def test_a_damaged_record_is_none(read, content):
    assert read(content) == {}


def test_a_whole_one_is_read(read):
    assert read(b'{"rule": "a"}') == {"rule": "a"}


def test_a_finished_iteration_is_not_made_again_for_the_inputs_of_another_version(read, monkeypatch):
    monkeypatch.setattr(IOCache, "__init__", IOCache.__init__)
    monkeypatch.setattr("quarry.campaign.state_records._looks", {})
    content = b'{"rule": "a", "input": ["b"]}'
    show_as_there("results/other", Look(lambda: [], lambda output: output == "another"))
    assert read(content) == json.loads(content)
    show_as_there("results/this", Look(lambda: [], lambda output: output == "key"))
    assert read(content) == {"rule": "a"}


def test_what_is_only_shown_as_there_is_not_write_protected(tmp_path, monkeypatch):
    """Graph and dry run of an unfinished iteration of an earlier version ended so: its batch is to be made anew."""
    for owner, name in ((IOCache, "__init__"), (_IOFile, "protected")):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    monkeypatch.setattr("quarry.campaign.state_records._looks", {})
    shown, guarded = tmp_path / "batch.h5", tmp_path / "guarded"
    guarded.touch()
    monkeypatch.setattr("os.access", lambda path, mode: False)  # an administrator may write to all files
    show_as_there("results/toy", Look(lambda: [(str(shown), 1.0)], lambda output: False))
    rule = SimpleNamespace(workflow=SimpleNamespace(iocache=IOCache(10)))

    def state(path):
        file = _IOFile(str(path), None)
        file.rule = rule
        return asyncio.run(file.exists_local()), asyncio.run(file.protected())

    assert state(shown) == (True, False)
    assert state(guarded) == (True, True)


def test_an_absent_one_is_looked_for_where_it_is_packed(read):
    assert read(b"{}", "absent") == {"rule": "packed"} and read(b"{}", "other") == {}


def test_a_record_lies_where_snakemake_puts_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    persistence = FilePersistence(path=Path(".snakemake"))
    for output in ("results/a/main/iter_000/labels/b.json", "results/" + 60 * "long_name/" + "ü.json"):
        persistence._io_write(persistence._metadata_path, {"rule": output}, output)
        assert json.loads(record_path(output).read_bytes()) == {"rule": output}


def test_without_the_shim_garbage_ends_every_start(tmp_path, monkeypatch):
    """When Snakemake reads such a record as none by itself the shim can go."""
    records = FilePersistence.__new__(FilePersistence)
    monkeypatch.setattr(records, "_record_path", lambda subject, key: str(Path(subject) / key), raising=False)
    (tmp_path / "key").write_bytes(b"\xe0\x00\xff")
    with pytest.raises(UnicodeDecodeError):
        FilePersistence._io_read(records, tmp_path, "key")
