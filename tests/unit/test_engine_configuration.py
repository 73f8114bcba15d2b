"""What the campaign knows of its engine: input files, identity, and what is refused before any job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ase import Atoms
from ase.io import write

from quarry.config import load_configuration
from quarry.config.campaign import Configuration, inputs_of
from quarry.config.resources import LabelResources
from quarry.errors import QuarryError
from quarry.files import sha256_of
from quarry.stages.preflight import check
from support.campaigns import WATER, stand_in_configuration

ASE = {"engine": "ase", "calculator": "ase.calculators.lj:LennardJones", "arguments": {"rc": 5.0}}
COMMAND = {"engine": "command", "command": "echo", "output": {"file": "stdout.txt", "format": "json"}}
REPLAY = {"engine": "replay", "file": "table.npz", "columns": {"energy": "E"}}


def load(labeling: dict[str, Any], **changes: Any) -> Configuration:
    return load_configuration(stand_in_configuration(labeling=labeling, **changes), "campaign.yaml")


def test_inputs_are_all_files_that_the_engine_reads() -> None:
    base = Path("campaigns")

    def inputs(labeling: dict[str, Any]) -> list[str]:
        first, *others = inputs_of(load(labeling), base)
        assert first == base / "pool.extxyz"
        return [str(path.relative_to(base)) for path in others]

    assert inputs(ASE | {"files": {"model": "a.model"}}) == ["a.model"]
    assert inputs(COMMAND | {"input": {"job.inp": "b.inp", "more": "c"}}) == ["b.inp", "c"]
    assert inputs(REPLAY) == ["table.npz"]
    by_row = {"match": "row", "structures": ["pool.extxyz", {"path": "d.xyz", "index": ":3"}]}
    assert inputs(REPLAY | by_row) == ["table.npz", "d.xyz"]


def test_the_way_a_command_is_run_may_change() -> None:
    identity = load(COMMAND).identity()
    way = {
        "launcher": "srun",
        "launcher_options": "--mpi=pmi2",
        "memory_fraction": 0.5,
        "modules": ["a"],
        "environment": {"A": "b"},
        "version_command": "x --version",
        "scratch": "$TMPDIR",
        "keep": ["log"],
        "keep_in": "elsewhere",
    }
    assert load(COMMAND | way).identity() == identity
    for other in ({"command": "echo 2"}, {"version": "2"}, {"input": {"a": "b"}}, {"periodic": True}):
        assert load(COMMAND | other).identity() != identity


@pytest.mark.parametrize(
    ("labeling", "changes", "reason"),
    [
        (ASE, {"resources": {"label": {"tasks": 4}}}, "only labeling.engine command starts MPI tasks"),
        (ASE | {"charge_key": "info:"}, {}, "labeling.charge_key"),
        (ASE | {"properties": ["homo"]}, {}, "labeling.properties"),
        (ASE | {"properties": []}, {}, "labeling.properties"),
        (REPLAY | {"columns": {}}, {}, "labeling: the key columns is missing"),
        (REPLAY | {"columns": {"U0": "E"}}, {}, "'U0' is no property"),
        (REPLAY | {"match": "row"}, {}, "match: row needs the key structures"),
        (REPLAY | {"structures": ["a.xyz"]}, {}, "match: row needs the key structures"),
        (REPLAY | {"columns": {"forces": "F", "gradient": "G"}}, {}, "forces or gradient, not both"),
        (REPLAY | {"units": {"energy": "eV/Angstrom"}}, {}, "is no unit of energy"),
        (COMMAND | {"output": {"file": "a"}}, {}, "either a format or a parser"),
    ],
)
def test_mistakes_are_one_line_that_names_the_key(
    labeling: dict[str, Any], changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(QuarryError) as caught:
        load(labeling, **changes)
    assert reason in str(caught.value) and "\n" not in str(caught.value)


def test_a_charged_pool_needs_an_engine_that_is_told(tmp_path: Path) -> None:
    pool = [Atoms("OHH", WATER * (1 + 0.01 * i)) for i in range(12)]
    pool[7].info.update(charge=1, multiplicity=2)
    write(tmp_path / "pool.extxyz", pool)
    for labeling in (ASE, COMMAND):
        with pytest.raises(QuarryError, match="structures of charge 1"):
            check(load(labeling), tmp_path)
    told = COMMAND | {"command": "echo $charge $multiplicity", "input": {"a.inp": "a.inp"}}
    (tmp_path / "a.inp").write_text("$atoms")
    result = check(load(told), tmp_path)
    assert result["inputs"] == {name: sha256_of(tmp_path / name) for name in ("pool.extxyz", "a.inp")}
    assert result["method"]["input"] == {"a.inp": sha256_of(tmp_path / "a.inp")}


def test_periodic_structures_are_refused_before_any_job(tmp_path: Path) -> None:
    write(tmp_path / "pool.extxyz", [Atoms("OHH", WATER * (1 + 0.01 * i), cell=[9, 9, 9], pbc=True) for i in range(12)])
    with pytest.raises(QuarryError, match="labels molecules only"):
        check(load(ASE), tmp_path)
    with pytest.raises(QuarryError, match=r"descriptor\.kind: inverse_distances is for molecules, .* is periodic"):
        check(load(ASE | {"periodic": True}), tmp_path)


def test_cores_of_a_job_are_shared_by_its_tasks() -> None:
    assert LabelResources(threads=2, tasks=3).threads_of(6) == 2
    assert LabelResources(threads=2, tasks=3).threads_of(2) == 1, "Snakemake lowers a job's cores to those that it has"
    assert LabelResources(threads=4).threads_of(3) == 3
