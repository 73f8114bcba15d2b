#!/usr/bin/env python3
"""Print success, failed or running for a job that submit.py submitted.

status.py --cache SECONDS --grace SECONDS JOB

Only the exit code that the job left itself makes a success. Only a queue that answers, and lists the job no more for
the time of grace, makes a job without an exit code a failure. Everything else, errors of this script included, is
`running`: the next look will tell.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
import traceback
from pathlib import Path

from schedulers import SCHEDULERS, STATE, number, read_record, record_path, replace_file


def exit_code(token: str) -> int | None:
    """Return the exit code that the job left, None if it has left none (yet)."""
    try:
        return int((STATE / f"{token}.exit").read_text())
    except FileNotFoundError:
        return None


def queue(scheduler: str, cache_s: float) -> tuple[float, set[str] | None]:
    """Return when the queue was last listed and the jobs in it, None if the scheduler did not answer then.

    All jobs share one listing, and a scheduler in trouble is left alone between two.
    """
    path = STATE / f"queue.{scheduler}.json"
    try:
        listed_at, jobs = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        listed_at, jobs = 0.0, None
    if not 0 <= time.time() - listed_at < cache_s:
        listed_at, active = time.time(), SCHEDULERS[scheduler].active_jobs()
        jobs = None if active is None else sorted(active)
        replace_file(path, [listed_at, jobs])
    return listed_at, None if jobs is None else set(jobs)


def is_dead(job_id: str, scheduler: str, token: str, cache_s: float, grace_s: float) -> bool:
    """Tell whether the queue has listed the job no more for `grace_s` seconds."""
    missing_since = STATE / f"{token}.missing"
    listed_at, active = queue(scheduler, cache_s)
    if active is None:
        return False
    if number(job_id) in active:
        missing_since.unlink(missing_ok=True)
        return False
    if not missing_since.exists():
        replace_file(missing_since, listed_at)
    return bool(listed_at - json.loads(missing_since.read_text()) >= grace_s)


def forget(job_id: str, token: str) -> None:
    """Remove the files of a job whose end has been told."""
    for path in (STATE / f"{token}.exit", STATE / f"{token}.missing", record_path(job_id)):
        path.unlink(missing_ok=True)


def main() -> None:
    """Print the job's status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=float, required=True, help="seconds for which a listing of the queue is good")
    parser.add_argument("--grace", type=float, required=True, help="seconds after which a missing job has failed")
    parser.add_argument("job")
    arguments = parser.parse_args()
    try:
        record = read_record(arguments.job)
    except FileNotFoundError:
        print(f"job {arguments.job} has no record in {STATE}", file=sys.stderr)
        print("failed")
        return
    token = record["token"]
    code = exit_code(token)
    if code is None and is_dead(arguments.job, record["scheduler"], token, arguments.cache, arguments.grace):
        code = exit_code(token)
        code = 1 if code is None else code
    print({None: "running", 0: "success"}.get(code, "failed"), flush=True)
    if code is not None:
        forget(arguments.job, token)
    if code == 0:
        Path(record["log"]).unlink(missing_ok=True)


if __name__ == "__main__":
    # Ctrl-C reaches the whole process group; the main process handles it, and needs our answer to go on.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        main()
    except Exception:
        traceback.print_exc()
        print("running")
