"""Lines for whoever reads the output of a job or of a run. Standard library only."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress

_before_exit: list[Callable[[], None]] = []


def tell(line: str) -> None:
    """Print a line to standard output; a full disk under a job's output does not end the job."""
    with suppress(OSError, ValueError):
        print(f"Quarry: {line}", flush=True)


def say(line: str) -> None:
    """Print a line to standard error, where Snakemake prints; a full disk under it does not end the run."""
    with suppress(OSError, ValueError):
        print(f"Quarry: {line}", file=sys.stderr, flush=True)


def before_exit(act: Callable[[], None]) -> None:
    """Let something be done before this process ends at once (``os._exit``), which gives a terminal no chance to be put right."""
    _before_exit.append(act)


def put_right() -> None:
    """Do what was asked for with ``before_exit``."""
    for act in _before_exit:
        with suppress(OSError, ValueError, RuntimeError):
            act()
