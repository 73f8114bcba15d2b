"""Snakemake run to its end, without paying for its imports each time: half of a dry run's work is to import Snakemake.

Each run is a process of its own, forked from one that has imported Snakemake and nothing of the project.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import snakemake

from support.job_processes import quick_python

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["snakemake.cli", "snakemake_executor_plugin_slurm"])


def run_snakemake(
    arguments: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    output: Path,
    timeout_s: float,
    forked_jobs: bool = True,
) -> int:
    """Run ``python -m snakemake`` in a folder and return its exit code.

    output: the file for what it prints. forked_jobs: jobs too are forked from a process that has their imports.
    """
    python = quick_python() if forked_jobs else sys.executable
    process = CONTEXT.Process(target=_run, args=(list(arguments), folder, dict(environment), output, python))
    process.start()
    process.join(timeout_s)
    if process.exitcode is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
        raise TimeoutError(f"Snakemake has not ended in {timeout_s} s:\n{output.read_text()}")
    return process.exitcode


def _run(arguments: list[str], folder: Path, environment: dict[str, str], output: Path, python: str) -> None:
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    with open(os.devnull) as nothing, open(output, "wb", buffering=0) as printed:
        os.dup2(nothing.fileno(), 0)
        os.dup2(printed.fileno(), 1)
        os.dup2(printed.fileno(), 2)
    sys.executable = python
    sys.argv = [str(Path(snakemake.__file__).with_name("__main__.py")), *arguments]
    sys.path[:] = [str(folder), *(path for path in sys.path if path not in PROJECT)]
    from snakemake.cli import main

    try:
        main()
    finally:
        # multiprocessing ends its processes without these.
        atexit._run_exitfuncs()


PROJECT = {str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "workflow_scripts")}
"""Places that pytest puts into the path, and a user's Python does not know."""
