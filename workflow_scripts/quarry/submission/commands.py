"""The submit command of profiles/cluster-generic, where the profile finds it whatever Snakefile is run."""

from __future__ import annotations

import os
from pathlib import Path

PROFILE = Path("profiles", "cluster-generic")
"""Folder of the profile in the project."""
PLACE = Path(".snakemake", PROFILE.name)
"""Folder of its commands in the working directory; submit.py links the others into it."""


def link_submit(project: Path) -> None:
    """Link the submit command into the working directory. project: folder of Quarry's Snakefile."""
    tool, link = project / PROFILE / "submit.py", PLACE / "submit.py"
    if link.is_symlink() and link.readlink() == tool:
        return
    PLACE.mkdir(parents=True, exist_ok=True)
    temporary = link.with_name(f"{link.name}.{os.getpid()}.tmp")
    temporary.symlink_to(tool)
    temporary.replace(link)
