"""CSV tables that are intact or absent; the same rows give the same bytes. Standard library only (used at parse time)."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, TypeVar

from quarry.files import read_file, write_text

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Item = TypeVar("Item", bound="DataclassInstance")

READERS: dict[Any, Callable[[str], Any]] = {"str": str, "int": int, "float": float}
"""How a field is read, by its type as it is written in the class."""
OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
"""What stands between the columns of tables of other kinds."""


def write_rows(path: str | os.PathLike[str], columns: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Write rows below the names of their columns, in UTF-8, so that the file is intact or absent; None is an empty cell."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_text(path, buffer.getvalue())


def write_dicts(path: str | os.PathLike[str], columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write rows by the names of their columns; what a row lacks is an empty cell.

    Raises ValueError if a row has a name that is no column.
    """
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, buffer.getvalue())


def separator_fault(path: str | os.PathLike[str]) -> str:
    """Return what is wrong with a user's table whose columns are not separated by commas, empty if they are."""
    with open(path, newline="", encoding="utf-8-sig", errors="replace") as handle:
        head = handle.readline()
    found = next((name for sign, name in OTHER_SEPARATORS.items() if sign in head and "," not in head), "")
    return (
        f"its columns are separated by {found}; write commas between them, and numbers with points (1.5)"
        if found
        else ""
    )


def rows_of(lines: Iterable[str], strict: bool = False) -> list[list[str]]:
    """Return the rows of a table's lines as texts. strict: a quote that is not closed is an error too.

    Raises ValueError for lines that are no CSV.
    """
    try:
        return list(csv.reader(lines, strict=strict))
    except csv.Error as error:
        raise ValueError(str(error)) from error


def read_rows(path: str | os.PathLike[str], encoding: str | None = None) -> list[list[str]]:
    """Return the rows of a table as texts, that of the names first.

    encoding: None: that of the machine. Raises ValueError for a file that is no CSV, OSError for one that cannot be read.
    """
    with open(path, newline="", encoding=encoding) as handle:
        return rows_of(handle)


def read_dicts(path: str | os.PathLike[str]) -> list[dict[str, str]]:
    """Return the rows of a table of Quarry's own as texts, by the names of their columns; errors as of ``read_rows``.

    A cell that a row lacks is None.
    """
    return _dicts_of(read_file(path)[0])


def read_whole_dicts(path: str | os.PathLike[str], columns: Iterable[str] = ()) -> list[dict[str, str]]:
    """Return the rows that have a cell for each column, as ``read_dicts`` does: what a crash has cut off is left out.

    columns: that the table must have. Raises ValueError if it lacks one, and what ``read_dicts`` raises.
    """
    # Quarry ends each line, so that a last cell may be cut off where no line ends.
    whole, end, _ = read_file(path)[0].rpartition(b"\n")
    rows = [row for row in _dicts_of(whole + end) if None not in row and None not in row.values()]
    if rows and not set(columns) <= set(rows[0]):
        raise ValueError(f"{path} lacks columns: {', '.join(sorted(set(columns) - set(rows[0])))}")
    return rows


def _dicts_of(table: bytes) -> list[dict[str, str]]:
    try:
        return list(csv.DictReader(io.StringIO(table.decode(), newline="")))
    except csv.Error as error:
        raise ValueError(str(error)) from error


def write_items(path: str | os.PathLike[str], kind: type[Item], items: Iterable[Item]) -> None:
    """Write instances of a dataclass, a column for each field."""
    write_dicts(path, [field.name for field in fields(kind)], (asdict(item) for item in items))


def read_items(path: str | os.PathLike[str], kind: type[Item]) -> list[Item]:
    """Read what ``write_items`` wrote of a dataclass whose fields are texts and numbers."""
    readers = {field.name: READERS[field.type] for field in fields(kind)}
    return [kind(**{name: read(row[name]) for name, read in readers.items()}) for row in read_dicts(path)]
