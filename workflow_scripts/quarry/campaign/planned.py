"""``planned.csv``: what the jobs of a batch are predicted to take. Standard library only (read at parse time).

It stands beside ``batch.csv`` and not in it, because it follows from measured times, which vary from run to run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from quarry.csv_tables import read_whole_dicts, write_rows

COLUMNS = ("job", "structures", "predicted_s", "walltime_min", "memory_MB")

JOB_START_S = 3.0
"""Wall time (s) that a label job takes to start and to write its record (measured on a local machine; see benchmarks)."""


@dataclass(frozen=True)
class PlannedJob:
    """One label job. structures: how many it labels. predicted_s: median of its wall time (s).

    walltime_min, memory_MB: what it is to ask for, growth of later attempts not counted. None where there is no model
    of the cost, or where the configuration's figures are to be used.
    """

    job: str
    structures: int
    predicted_s: float | None = None
    walltime_min: int | None = None
    memory_MB: int | None = None


def write_planned(path: str | Path, jobs: Iterable[PlannedJob]) -> None:
    """Write the table."""
    predicted = ((job, None if job.predicted_s is None else f"{job.predicted_s:.3f}") for job in jobs)
    write_rows(path, COLUMNS, ([j.job, j.structures, p, j.walltime_min, j.memory_MB] for j, p in predicted))


def planned_jobs(path: str | Path) -> Mapping[str, PlannedJob]:
    """Return the jobs of a batch by name; none if there is no table, or a damaged one.

    Nothing but resources depends on it, so that the configuration's figures do instead.
    """
    try:
        stat = Path(path).stat()
        return _read(str(path), stat.st_mtime_ns, stat.st_size)
    except (OSError, ValueError):
        return {}


@lru_cache(maxsize=16)
def _read(path: str, mtime_ns: int, size: int) -> Mapping[str, PlannedJob]:
    # Asked once per job, of which there may be thousands.
    return {
        row["job"]: PlannedJob(
            row["job"],
            int(row["structures"]),
            float(row["predicted_s"]) if row["predicted_s"] else None,
            int(row["walltime_min"]) if row["walltime_min"] else None,
            int(row["memory_MB"]) if row["memory_MB"] else None,
        )
        for row in read_whole_dicts(path)
        if set(row) == set(COLUMNS)
    }


def memory_MB(path: str | Path, job: str, configured_MB: int) -> int:
    """Return the memory (MB) of a label job's first attempt: as planned, else the configuration's figure."""
    planned = planned_jobs(path).get(job)
    return configured_MB if planned is None or planned.memory_MB is None else planned.memory_MB


def walltime_min(path: str | Path, job: str, configured_min: int) -> int:
    """Return the walltime (minutes) of a label job's first attempt: as planned, else the configuration's figure."""
    planned = planned_jobs(path).get(job)
    return configured_min if planned is None or planned.walltime_min is None else planned.walltime_min
