"""Tables that a crash may have cut off."""

from __future__ import annotations

import pytest

from quarry.csv_tables import read_dicts, read_whole_dicts, write_dicts

ROWS = [{"id": "a", "seconds": "12.5"}, {"id": "b, c", "seconds": "130"}, {"id": "d", "seconds": ""}]


def test_what_is_left_of_a_table_is_its_first_rows(tmp_path):
    """Wherever it was cut: no row of which a part is gone, and no number that lacks its last figures."""
    path = tmp_path / "table.csv"
    write_dicts(path, ["id", "seconds"], ROWS)
    table = path.read_bytes()
    assert read_whole_dicts(path) == read_dicts(path) == ROWS
    ends = [end for end, sign in enumerate(table, 1) if sign == ord("\n")]
    for size in range(len(table) + 1):
        path.write_bytes(table[:size])
        whole = sum(end <= size for end in ends)
        assert read_whole_dicts(path) == ROWS[: max(0, whole - 1)]


def test_a_table_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "table.csv"
    write_dicts(path, ["id", "seconds"], ROWS)
    with pytest.raises(ValueError, match=r"table\.csv lacks columns: core_hours, labels$"):
        read_whole_dicts(path, ("id", "labels", "core_hours"))
