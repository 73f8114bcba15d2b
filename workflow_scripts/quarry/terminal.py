"""Lines for whoever reads the output of a job or of a run. Standard library only."""

from __future__ import annotations

import sys
from contextlib import suppress


def tell(line: str) -> None:
    """Print a line; a full disk under the job's output is no reason to end what is being computed."""
    with suppress(OSError, ValueError):
        print(f"Quarry: {line}", flush=True)


def say(line: str) -> None:
    """Print a line about the run where Snakemake prints its own; a full disk under it does not end the run."""
    with suppress(OSError, ValueError):
        print(f"Quarry: {line}", file=sys.stderr, flush=True)
