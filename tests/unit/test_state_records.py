"""Snakemake's own records: a damaged one counts as none."""

from __future__ import annotations

from pathlib import Path

import pytest
from snakemake.persistence.file import FilePersistence

from quarry.campaign.state_records import forgive_damaged_records


@pytest.fixture
def read(tmp_path, monkeypatch):
    monkeypatch.setattr(FilePersistence, "_io_read", FilePersistence._io_read)
    forgive_damaged_records()
    forgive_damaged_records()
    records = FilePersistence.__new__(FilePersistence)
    monkeypatch.setattr(records, "_record_path", lambda subject, key: str(Path(subject) / key), raising=False)
    return lambda content: (tmp_path / "key").write_bytes(content) and records._io_read(tmp_path, "key")


@pytest.mark.parametrize("content", [b"\xe0\x00\xff" * 50, b"{", b"[1]", b"3", b"\n"])
def test_a_damaged_record_is_none(read, content):
    assert read(content) == {}


def test_a_whole_one_is_read(read):
    assert read(b'{"rule": "a"}') == {"rule": "a"}


def test_without_the_shim_garbage_ends_every_start(tmp_path, monkeypatch):
    """When Snakemake reads such a record as none by itself the shim can go."""
    records = FilePersistence.__new__(FilePersistence)
    monkeypatch.setattr(records, "_record_path", lambda subject, key: str(Path(subject) / key), raising=False)
    (tmp_path / "key").write_bytes(b"\xe0\x00\xff")
    with pytest.raises(UnicodeDecodeError):
        FilePersistence._io_read(records, tmp_path, "key")
