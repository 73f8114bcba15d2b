"""Files without a receipt: whole ones are told from cut ones by their format."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from quarry.campaign.reading import can_be_read
from support.stub_files import write_stub

XYZ = "2\nLattice\nH 0 0 0\nH 0 0 1\n"


@pytest.fixture(params=["table.csv", "facts.json", "data.h5", "frames.extxyz"])
def path(request, tmp_path) -> Path:
    path = tmp_path / request.param
    if path.suffix == ".extxyz":
        path.write_text(XYZ * 3)
    else:
        write_stub(path, "words")
    return path


def test_a_whole_file(path):
    assert can_be_read(path)


@pytest.mark.parametrize("damage", ["half", "empty", "garbage", "last byte", "folder", "absent"])
def test_a_damaged_file(path, damage):
    data = path.read_bytes()
    path.unlink()
    changed = {"half": data[: len(data) // 2], "empty": b"", "garbage": b"\x00\xff" * 50, "last byte": data[:-1]}
    if damage == "folder":
        path.mkdir()
    elif damage != "absent":
        path.write_bytes(changed[damage])
    if (path.suffix, damage) == (".json", "last byte"):
        assert can_be_read(path), "its last line's end says nothing"
    else:
        assert not can_be_read(path)


def test_a_table_with_a_short_row(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("a,b\n1,2\n1\n")
    assert not can_be_read(path)


def test_arrays_are_read_to_their_end(tmp_path):
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.arange(10_000), chunks=(100,), compression="gzip")
    assert can_be_read(path)
    data = bytearray(path.read_bytes())
    data[-300:-100] = bytes(200)
    path.write_bytes(data)
    assert not can_be_read(path)


def test_a_format_that_tells_nothing_is_taken_as_it_is(tmp_path):
    (tmp_path / "figure.svg").write_text("<svg")
    assert can_be_read(tmp_path / "figure.svg")
