"""Options with which Snakemake runs on the tests' own Slurm, by each of the cluster profiles."""

from __future__ import annotations

import contextlib
from pathlib import Path

from quarry.submission.commands import link_submit
from support.campaigns import REPOSITORY

SLURM = [
    *("--profile", str(REPOSITORY / "profiles" / "slurm")),
    *("--profile", str(REPOSITORY / "tests" / "cluster" / "slurm-overrides")),
    *("--workflow-profile", "none"),
]
CLUSTER_GENERIC = [
    *("--workflow-profile", str(REPOSITORY / "profiles" / "cluster-generic")),
    *("--seconds-between-status-checks", "1", "--latency-wait", "10"),
    *("--cluster-generic-status-cmd", ".snakemake/cluster-generic/status.py --cache 1 --grace 4"),
]
OPTIONS = {"slurm": SLURM, "cluster-generic": CLUSTER_GENERIC}


def lend_submit(folder: Path, project: Path = REPOSITORY) -> None:
    """Link the submit command into a working directory, as Quarry's Snakefile does. project: folder of the profiles."""
    with contextlib.chdir(folder):
        link_submit(project)
