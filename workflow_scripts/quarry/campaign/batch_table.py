"""``batch.csv``: which structures an iteration labels, in which job. Standard library only (read at parse time)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from quarry.csv_tables import read_rows, write_items
from quarry.labeling.keys import key_of

COLUMNS = ("structure_id", "role", "job", "score", "retry_of")


@dataclass(frozen=True)
class BatchRow:
    """One structure of a batch.

    role: train or test. score: what the strategy ranked by, or empty. retry_of: key of the failed label that this row
    tries again, or empty.
    """

    structure_id: str
    role: str
    job: str
    score: str = ""
    retry_of: str = ""

    @property
    def key(self) -> str:
        """The label's name within the campaign: the structure id, with _r1, _r2 ... for its first, second ... retry."""
        return key_of(self.structure_id, self.retry_of)


def write_batch(path: str | Path, rows: Iterable[BatchRow]) -> None:
    """Write the table; the same rows give the same bytes."""
    write_items(path, BatchRow, rows)


def read_batch(path: str | Path) -> tuple[BatchRow, ...]:
    """Read the table. Raises ValueError if it is damaged."""
    stat = Path(path).stat()
    return _read_batch(str(path), stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=8)
def _read_batch(path: str, mtime_ns: int, size: int) -> tuple[BatchRow, ...]:
    # Snakemake asks for the same table again and again while it builds the graph.
    try:
        lines = read_rows(path)
    except ValueError as error:
        raise ValueError(f"{path}: damaged batch table: {error}") from error
    if not lines or tuple(lines[0]) != COLUMNS or any(len(line) != len(COLUMNS) for line in lines):
        raise ValueError(f"{path}: damaged batch table")
    return tuple(BatchRow(*line) for line in lines[1:])


def keys_of_job(path: str | Path, job: str) -> tuple[str, ...]:
    """Return the keys of the labels of a job; none if there is no such job, or no intact table."""
    try:
        stat = Path(path).stat()
        return _keys_by_job(str(path), stat.st_mtime_ns, stat.st_size).get(job, ())
    except (OSError, ValueError):
        return ()


@lru_cache(maxsize=8)
def _keys_by_job(path: str, mtime_ns: int, size: int) -> dict[str, tuple[str, ...]]:
    by_job = rows_by_job(_read_batch(path, mtime_ns, size))
    return {job: tuple(row.key for row in rows) for job, rows in by_job.items()}


def rows_by_job(rows: Iterable[BatchRow]) -> dict[str, list[BatchRow]]:
    """Return the rows of each job, jobs and rows in their order."""
    by_job: dict[str, list[BatchRow]] = {}
    for row in rows:
        by_job.setdefault(row.job, []).append(row)
    return by_job


def jobs_of(rows: Iterable[BatchRow]) -> list[str]:
    """Return the distinct jobs of a batch, in their order."""
    return list(dict.fromkeys(row.job for row in rows))
