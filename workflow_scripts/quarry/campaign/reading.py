"""Whether a file can be read to its end: what is known of a file whose receipt is gone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from quarry.csv_tables import rows_of


def can_be_read(path: str | Path) -> bool:
    """Return whether a file is complete, as far as its format shows it; where that shows nothing, it counts as complete."""
    check = CHECKS.get(Path(path).suffix)
    if check is None:
        return True
    try:
        return check(Path(path))
    except (OSError, ValueError, IndexError, RuntimeError):
        return False


def frames_of(path: Path) -> int | None:
    """Return how many intact frames an extended-xyz file has and nothing else; None if something is cut off."""
    lines = path.read_text().split("\n")
    place, count = 0, 0
    while place + 2 < len(lines):
        place += int(lines[place]) + 2
        count += 1
    return count if count and place + 1 == len(lines) and lines[-1] == "" else None


def _table(path: Path) -> bool:
    text = path.read_bytes().decode()
    rows = rows_of(text.splitlines(keepends=True), strict=True)
    return text.endswith("\n") and all(len(row) == len(rows[0]) for row in rows)


def _json(path: Path) -> bool:
    json.loads(path.read_bytes())
    return True


def _arrays(path: Path) -> bool:
    # Here: a file without a receipt is rare, and a start needs numpy for nothing else.
    import h5py

    def read(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            item[()]

    with h5py.File(path, "r") as file:
        file.visititems(read)
    return True


CHECKS: dict[str, Callable[[Path], bool]] = {
    ".csv": _table,
    ".json": _json,
    ".h5": _arrays,
    ".extxyz": lambda path: frames_of(path) is not None,
}
"""By the end of a file's name, what tells an intact one from one that is cut off."""
