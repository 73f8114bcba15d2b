#!/usr/bin/env python3
"""Cancel jobs that submit.py submitted: cancel.py JOB ..., or cancel.py --all for whatever a run has left behind.

`--all` means every job of this working directory whose end has not been told yet. Run it where Snakemake ran.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress

from schedulers import SCHEDULERS, STATE, read_record


def main(jobs: list[str]) -> None:
    """Cancel the jobs."""
    if jobs == ["--all"]:
        jobs = sorted(path.stem for path in STATE.glob("*.job"))
    by_scheduler: dict[str, list[str]] = {}
    for job in jobs:
        with suppress(FileNotFoundError):
            by_scheduler.setdefault(read_record(job)["scheduler"], []).append(job)
    for scheduler, ids in by_scheduler.items():
        # Snakemake ends this script after two seconds; a session of its own lets a slow scheduler finish the job.
        process = subprocess.Popen([*SCHEDULERS[scheduler].cancel, *ids], start_new_session=True)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=1)


if __name__ == "__main__":
    main(sys.argv[1:])
