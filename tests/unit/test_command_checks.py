"""What the command engine refuses before any job, and what its labels' identity is."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quarry.config.resources import LabelResources
from quarry.errors import QuarryError
from quarry.files import canonical_json
from quarry.labeling.engines.command import CommandEngine
from quarry.structures import Structure
from support.commands import CATION, JSON, WATER, command_engines, labeling


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., CommandEngine]:
    monkeypatch.chdir(tmp_path)
    return command_engines(tmp_path)


def test_charge_and_multiplicity_are_never_ignored(engine: Callable[..., CommandEngine]) -> None:
    silent = engine("echo '{\"energy\": 1.0}'", state_in_xyz=False)
    assert silent.label(WATER, 1).status == "ok"
    assert silent.label(CATION, 1).status == "invalid_structure"
    with pytest.raises(QuarryError, match="charge 1"):
        silent.check_states([(0, 1), (1, 2)])
    half = engine("echo $charge; echo 1", state_in_xyz=False)
    with pytest.raises(QuarryError, match="multiplicity 2"):
        half.check_states([(1, 2)])
    engine("echo $charge $unpaired", state_in_xyz=False).check_states([(1, 2)])


def test_periodic_structures_only_where_declared(engine: Callable[..., CommandEngine]) -> None:
    cell = Structure.create([1, 1], np.array([[0.0, 0, 0], [0, 0, 0.7]]), cell=3 * np.eye(3), pbc=(True, True, False))
    answer = "grep -q 'Lattice=\"3.000000 ' structure.xyz && echo '{\"energy\": 1.0}'"
    assert engine(answer).label(cell, 1).status == "invalid_structure"
    assert engine(answer, periodic=True).label(cell, 1).status == "ok"


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"command": "no_such_program x"}, "there is no program 'no_such_program'"),
        ({"command": "A=1 B='2' no_such_program x"}, "there is no program 'no_such_program'"),
        ({"command": "no_such_program; echo"}, "there is no program 'no_such_program'"),
        ({"command": "./program x"}, "relative path"),
        ({"command": "echo $colour"}, "unknown placeholder $colour"),
        ({"command": "echo $(hostname)"}, "write $$"),
        ({"command": "echo $atoms"}, "unknown placeholder $atoms"),
        ({"command": "if true; echo"}, "bash does not understand it"),
        ({"command": "echo", "input": {"a": "missing.inp"}}, "labeling.input.a: cannot read"),
        ({"command": "echo", "input": {"a": "bad.inp"}}, "unknown placeholder $method"),
        ({"command": "echo", "environment": {"A": "$b"}}, "labeling.environment.A: unknown placeholder $b"),
        ({"command": "echo", "launcher": "mpirun"}, "has no $launcher"),
        ({"command": "echo", "resources": LabelResources(tasks=4)}, "neither $launcher nor $tasks"),
    ],
)
def test_check_refuses_in_one_line(
    settings: dict[str, Any], reason: str, engine: Callable[..., CommandEngine], tmp_path: Path
) -> None:
    (tmp_path / "campaign" / "bad.inp").write_text("! $method")
    with pytest.raises(QuarryError, match=r"^(labeling|resources)\.") as caught:
        engine(**settings).check([])
    assert reason in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "command",
    [
        "cd x && echo",
        "A=1 echo",
        "(nothing)",
        "for i in 1 2; do echo; done",
        "$base/../p",
        "'echo' a; b",
        '"a b" c',
        "A='1 2' echo",
        "cat; no_program",
    ],
)
def test_check_lets_pass_what_it_cannot_see(command: str, engine: Callable[..., CommandEngine], tmp_path: Path) -> None:
    for name in ("p", "a b"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(stat.S_IRWXU)
    engine(command, environment={"PATH": f"{tmp_path}:{os.environ['PATH']}"}).check([])


@pytest.mark.parametrize(
    "change",
    [
        {"output": {**JSON, "parser": "a:b"}},
        {"output": {"file": "stdout.txt"}},
        {"output": {"file": "a/b", "format": "json"}},
        {"output": {**JSON, "units": {"energy": "rydberg"}}},
        {"output": {**JSON, "units": {"forces": "hartree"}}},
        {"output": {**JSON, "keys": {"enthalpy": "H"}}},
        {"output": {"file": "a.engrad", "format": "engrad", "units": {"energy": "eV"}}},
        {"input": {"../x": "y"}},
        {"success": "(unclosed"},
        {"failure_patterns": {"x": "bad_luck"}},
    ],
)
def test_configuration_refuses(change: dict[str, Any]) -> None:
    labeling("echo")
    with pytest.raises(ValueError, match="validation error"):
        labeling("echo", **change)


def test_identity_is_what_changes_the_number(engine: Callable[..., CommandEngine], tmp_path: Path) -> None:
    template = tmp_path / "campaign" / "a.inp"
    template.write_text("one")

    def identity(command: str = "echo", resources: LabelResources | None = None, **settings: Any) -> str:
        made = engine(command, resources=resources, **{"input": {"a.inp": "a.inp"}, **settings})
        return canonical_json(made.method_identity())

    one = identity()
    way = {
        "scratch": "/x",
        "keep": ["a"],
        "launcher": "srun",
        "modules": ["m"],
        "success": "x",
        "environment": {"A": "b"},
    }
    assert one == identity(resources=LabelResources(tasks=4, memory_MB=100), **way)
    others = [
        identity("echo 2"),
        identity(version="2"),
        identity(input={}),
        identity(output={**JSON, "keys": {"energy": "E"}}),
    ]
    template.write_text("two")
    assert len({one, identity(), *others}) == 6


def test_failure_classes_are_those_of_the_engines() -> None:
    from typing import get_args

    from quarry.failures import FAILURE_CLASSES, FailureClass

    assert set(get_args(FailureClass)) == set(FAILURE_CLASSES)
