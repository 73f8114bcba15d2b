"""How much memory and time the engine of this job may use before its own job would be killed."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass

import psutil

MEMORY_SHARE = 0.9
"""Share of the job's memory at which its engine is ended: beyond it the kernel or the scheduler kills everything."""
TIME_MARGIN_S, TIME_MARGIN_SHARE = 60.0, 0.1
"""The engine is ended this long before the job's time limit, or this share of it where that is shorter."""
SCHEDULER_VARIABLES = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")
"""Set by batch systems inside their jobs: there the memory of Snakemake's own processes belongs to the job as well."""


@dataclass(frozen=True)
class Allocation:
    """What a label job was given. threads: of each of its MPI tasks. memory_MB, walltime_min: of the whole job."""

    threads: int
    memory_MB: float
    walltime_min: float


@dataclass(frozen=True)
class JobLimits:
    """Limits of a label job. memory_MB: of the engine with its programs. started, end: moments of ``time.monotonic()`` (s)."""

    memory_MB: float
    started: float
    end: float


def limits_of_job(memory_MB: float, walltime_min: float) -> JobLimits:
    """Return the limits inside a job that was given this much memory and wall time."""
    overhead_MB, age_s = _own_processes()
    started = time.monotonic() - age_s
    walltime_s = 60 * walltime_min
    end = started + walltime_s - min(TIME_MARGIN_S, TIME_MARGIN_SHARE * walltime_s)
    # Slurm knows better when it is over: the partition's limit may be shorter, and reading the Snakefile took time.
    with suppress(KeyError, ValueError):
        left_s = float(os.environ["SLURM_JOB_END_TIME"]) - time.time()
        end = min(end, time.monotonic() + left_s - min(TIME_MARGIN_S, TIME_MARGIN_SHARE * walltime_s))
    return JobLimits(max(MEMORY_SHARE * memory_MB - overhead_MB, 0.25 * memory_MB), started, end)


def _own_processes() -> tuple[float, float]:
    """Return memory (MB) and age (s) of the job around the engine: this process, on a cluster also those above it."""
    here = psutil.Process()
    family = [here]
    if any(name in os.environ for name in SCHEDULER_VARIABLES):
        with suppress(psutil.Error):
            # Only the Snakemake inside the job ("--mode remote"), not a main process in an interactive allocation.
            family += [p for p in here.parents() if "--mode" in p.cmdline()]
    memory, born = 0, time.time()
    for process in family:
        with suppress(psutil.Error):
            memory += process.memory_info().rss
            born = min(born, process.create_time())
    return memory / 2**20, max(time.time() - born, 0.0)
