"""What the pages of the documentation say to type, and a checkout to try it in."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from support.campaigns import REPOSITORY


def commands_of(text: str) -> list[str]:
    """Return the lines of a page's console blocks, without comments."""
    blocks = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    return [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]


def files_of(text: str) -> dict[str, str]:
    """Return the files that a page tells to make: blocks whose first line is a comment with a name."""
    blocks = re.findall(r"```(?:python|yaml)\n(# (\S+\.(?:py|yaml))\n.*?)```", text, re.DOTALL)
    return {name: content for content, name in blocks}


def make_checkout(path: Path) -> Path:
    """Return a copy of the files that git tracks, as a clone has them."""
    files = subprocess.run(
        ["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.split()
    for file in files:
        (path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPOSITORY / file, path / file)
    return path


def environment(checkout: Path) -> dict[str, str]:
    """Return the environment of a shell in which this Python's snakemake is found first, with a configuration of its own."""
    folder = checkout.parent / "bin"
    folder.mkdir(exist_ok=True)
    shim = folder / "snakemake"
    shim.write_text(f'#!/bin/sh\nexec {sys.executable} -m snakemake "$@"\n')
    shim.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "XDG_CONFIG_HOME": str(checkout.parent / "xdg")}


def run_in(checkout: Path, command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command there."""
    return subprocess.run(command, cwd=checkout, env=environment(checkout), capture_output=True, text=True, check=False)


def link_profiles(checkout: Path) -> None:
    """Do what `make profiles` does."""
    done = run_in(checkout, [sys.executable, "workflow_scripts/quarry/campaign/link_profiles.py", "profiles"])
    assert done.returncode == 0, done.stderr
