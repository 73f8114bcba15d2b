"""Lines for whoever reads the output of a job or of a run. Standard library only."""

from __future__ import annotations

import sys
from contextlib import suppress


def tell(line: str) -> None:
    """Print a line to standard output; a full disk under a job's output does not end the job."""
    with suppress(OSError, ValueError):
        print(f"Quarry: {line}", flush=True)


def say(line: str) -> None:
    """Print a line to standard error, where Snakemake prints; a full disk under it does not end the run."""
    with suppress(OSError, ValueError):
        print(f"Quarry: {line}", file=sys.stderr, flush=True)
