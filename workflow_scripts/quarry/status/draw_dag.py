"""``snakemake --dag | python -m quarry.status.draw_dag FOLDER``: rules and jobs of the last iteration as pictures."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from quarry.errors import QuarryError
from quarry.files import write_text
from quarry.status.graph_drawing import svg_of
from quarry.status.job_graph import iteration_picture, read_dag, rule_picture

FILES = ("dag_rules.svg", "dag_iteration.svg")


def draw_dag(text: str, folder: str | Path, name: str, rules: Mapping[str, str] = {}) -> list[Path]:
    """Draw what ``snakemake --dag`` has printed into a folder and return the files.

    name: of the campaign, for the titles. rules: as in ``read_dag``. Raises QuarryError if there is no graph in the text.
    """
    graph = read_dag(text, rules)
    pictures = rule_picture(graph, f"{name}: rules and how many jobs each has"), iteration_picture(graph, name)
    paths = [Path(folder, file) for file in FILES]
    for path, picture in zip(paths, pictures, strict=True):
        write_text(path, svg_of(picture))
    return paths


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.stdin.isatty():
        sys.exit("Quarry: usage: snakemake --dag | python -m quarry.status.draw_dag FOLDER")
    try:
        print(*draw_dag(sys.stdin.read(), sys.argv[1], Path(sys.argv[1]).resolve().name), sep="\n")
    except (QuarryError, OSError) as error:
        sys.exit(f"Quarry: {error}")
