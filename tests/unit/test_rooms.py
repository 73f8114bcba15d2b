"""Modules import each other in one direction only, and so do the rooms (packages) that they stand in."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.imports import QUARRY, cycles, import_graph, modules, rooms

ROOMS = (
    "structures",
    "points",
    "config",
    "networks",
    "descriptors",
    "models",
    "query",
    "labeling",
    "uses",
    "sampling",
    "dynamics",
    "spectra",
    "stopping",
    "evaluation",
    "submission",
    "reporting",
    "campaign",
    "status",
    "run_output",
    "product",
    "stages",
    "command_line",
)
"""A room imports from rooms before it and from the modules beside them, which import from no room."""
FOR_USERS = ("calculator",)
"""Modules beside the rooms for programs of the user: they import from rooms, and no room imports them."""


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    return import_graph()


def test_no_module_imports_one_that_imports_it(graph: dict[str, set[str]]) -> None:
    assert cycles(graph) == []


def test_rooms_import_in_one_direction(graph: dict[str, set[str]]) -> None:
    packages = {path.parent.name for path in QUARRY.glob("*/__init__.py")}
    assert packages == set(ROOMS), "say in ROOMS where a room stands"
    place = {f"quarry.{name}": number for number, name in enumerate((*ROOMS, *FOR_USERS))}
    wrong = {
        (room, other)
        for room, others in rooms(graph).items()
        for other in others
        if place.get(other, -1) > place.get(room, -1)
    }
    assert not wrong


def test_files_are_short() -> None:
    root = QUARRY.parents[1]
    lines = {
        path.relative_to(root): len(path.read_text().splitlines())
        for folder, files in (
            ("workflow_scripts", "**/*.py"),
            ("tests", "**/*.py"),
            ("benchmarks", "*.py"),
            ("rules", "*.smk"),
        )
        for path in (root / folder).glob(files)
    }
    lines[Path("Snakefile")] = len((root / "Snakefile").read_text().splitlines())
    assert len(lines) > 100
    assert [path for path, count in lines.items() if count >= (400 if path.suffix == ".py" else 200)] == []


def test_one_module_reads_and_writes_csv_tables() -> None:
    users = {path.name for path in modules().values() if "import csv\n" in path.read_text()}
    assert users == {"csv_tables.py"}


def test_a_circle_is_found_wherever_the_import_stands(tmp_path: Path) -> None:
    package = tmp_path / "quarry"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "one.py").write_text("from quarry.two import f\n")
    (package / "two.py").write_text("def f():\n    import quarry.three\n")
    (package / "three.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from quarry import one\n"
    )
    assert cycles(import_graph(package)) == [["quarry.one", "quarry.three", "quarry.two"]]
    (package / "three.py").write_text("import json\n")
    assert cycles(import_graph(package)) == []
