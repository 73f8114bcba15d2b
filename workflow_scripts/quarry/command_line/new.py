"""Write a commented campaign file for a task, which runs as it is.

Nothing else is written, and no file is replaced. Campaigns are run by snakemake.
"""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path
from string import Template

from quarry.config.installed import REPOSITORY
from quarry.errors import QuarryError
from quarry.files import publish_once

TEMPLATES = Path(__file__).with_name("templates")
SCHEMA = Path("config") / "schema.json"
TASKS = {
    "potential": "an interatomic potential of a molecule: energies and forces by PySCF",
    "dynamics": "an interatomic potential whose own trajectories find what to label",
    "search": "the molecules of a file with the highest HOMO energies",
    "spectrum": "the absorption spectrum of a molecule by ML-NEA",
    "labels": "learning from labels that the file has already",
    "program": "labels by a program of your own",
}
"""Each has a template of its name."""
LONGEST_NAME = 60


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``quarry new``."""
    words = "; ".join(f"{name}: {meaning}" for name, meaning in TASKS.items())
    parser.add_argument("--task", required=True, choices=list(TASKS), help=words)
    parser.add_argument(
        "--molecule", required=True, type=Path, metavar="FILE", help="structure file: one molecule, or many"
    )
    parser.add_argument("--to", type=Path, metavar="FILE", help="the file to write (default: NAME_TASK.yaml, here)")


def run(arguments: argparse.Namespace) -> int:
    """Write the campaign file and say how it is run."""
    molecule: Path = arguments.molecule
    if not molecule.is_file():
        raise QuarryError(f"--molecule {molecule}: there is no such file; name one with a structure, e.g. ethanol.xyz")
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", molecule.stem).strip("_-")[:LONGEST_NAME]
    name = f"{stem or 'molecule'}_{arguments.task}"
    target: Path = arguments.to or Path(f"{name}.yaml")
    if os.path.lexists(target):
        raise QuarryError(f"{target} is there already; name another file with --to, or remove it")
    if not target.parent.is_dir():
        raise QuarryError(f"--to {target}: there is no folder {target.parent}; make it, or name another file")
    text = campaign_file(arguments.task, name, molecule, target)
    try:
        written = publish_once(target, text.encode())
    except OSError as error:
        raise QuarryError(f"--to {target}: cannot be written ({error.strerror or error}); name another file") from error
    if not written:
        raise QuarryError(f"{target} is there already; name another file with --to, or remove it")
    print(f"{target}: {TASKS[arguments.task]}")
    print(f"look at it, then: snakemake -n --configfile {target}     # what would run; without -n it runs")
    return 0


def campaign_file(task: str, name: str, molecule: Path, target: Path) -> str:
    """Return the text of a campaign file. target: where it will lie; paths in it are relative to that folder."""
    folder = target.parent.resolve()
    # As YAML in single quotes: whatever a path has in it.
    quoted = "'" + os.path.relpath(molecule.resolve(), folder).replace("'", "''") + "'"
    template = Template((TEMPLATES / f"{task}.yaml").read_text())
    # Of a library that is installed by itself the schema lies in the deployed project (docs/module.md).
    project = next((place for place in (REPOSITORY, Path.cwd()) if (place / SCHEMA).is_file()), REPOSITORY)
    return template.substitute(name=name, molecule=quoted, schema=os.path.relpath(project / SCHEMA, folder))
