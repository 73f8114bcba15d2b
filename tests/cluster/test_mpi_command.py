"""A program of several MPI tasks through the command engine: on this machine, and as jobs of a real Slurm."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import ase.io
import numpy as np
import psutil
import pytest

from quarry.config.resources import LabelResources
from quarry.structures import Structure
from support.campaigns import REPOSITORY, CampaignFolder, stand_in_configuration
from support.commands import WATER, command_engines
from support.profiles import SLURM

SOURCE = REPOSITORY / "tests" / "support" / "mpi" / "harmonic_mpi.c"
TASKS, MEMORY_MB = 3, 1800
COMMAND = "$launcher $base/harmonic_mpi structure.xyz 2.5 1.1"
OUTPUT = {
    "file": "result.json",
    "format": "json",
    "keys": {"energy": "total", "gradient": "derivative"},
    "units": {"energy": "eV", "gradient": "eV/Angstrom"},
}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tests' own MPI program, compiled."""
    for name in ("mpicc", "mpirun"):
        if shutil.which(name) is None:
            pytest.skip(f"MPI is not installed: no {name}")
    path = tmp_path_factory.mktemp("mpi") / "harmonic_mpi"
    subprocess.run(["mpicc", "-O1", "-o", path, SOURCE, "-lm"], check=True)
    return path


def wait_for(condition: Callable[[], bool], what: str, timeout_s: float = 120) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"no {what} after {timeout_s} s"
        time.sleep(0.1)


def springs(positions: np.ndarray) -> tuple[float, np.ndarray]:
    """Energy (eV) and forces (eV/Angstrom) that the program is to find."""
    vectors = positions[:, None] - positions[None]
    distances = np.linalg.norm(vectors, axis=2) + np.eye(len(positions))
    stretch = (distances - 1.1) * (1 - np.eye(len(positions)))
    return 0.25 * 2.5 * np.sum(stretch**2), -2.5 * np.sum((stretch / distances)[:, :, None] * vectors, axis=1)


def test_mpirun_here(program: Path, tmp_path: Path) -> None:
    resources = LabelResources(tasks=TASKS, memory_MB=MEMORY_MB)
    engine = command_engines(tmp_path)(COMMAND, OUTPUT, resources, launcher="mpirun", success=f"{TASKS} ranks done")
    shutil.copy(program, tmp_path / "campaign")
    engine.check([1, 8])
    result = engine.label(WATER, 1)
    assert result.status == "ok", result.message
    energy, forces = springs(WATER.positions)
    assert result.properties["energy"] == pytest.approx(energy, rel=1e-12)
    assert np.array(result.properties["forces"]) == pytest.approx(forces, abs=1e-12)
    (tmp_path / "campaign" / "harmonic_mpi").write_text("#!/bin/sh\nexit 7\n")
    assert engine.label(WATER, 1).status == "engine_error"


@pytest.mark.parametrize("kill", [os.killpg, os.kill])
def test_tasks_end_with_the_engine(kill: Callable[[int, int], None], program: Path, tmp_path: Path) -> None:
    """Whether the engine's process group is killed, as by the label job, or the engine alone: no task outlives it."""
    script = (
        "import sys; from pathlib import Path; from support.commands import *\n"
        f"engine = command_engines(Path({str(tmp_path)!r}))({COMMAND + ' 900'!r}, {OUTPUT!r}, LabelResources(tasks=2),"
        " launcher='mpirun', environment={'QUARRY_TEST': '$base'})\n"
        f"import shutil; shutil.copy({str(program)!r}, {str(tmp_path / 'campaign')!r})\n"
        "engine.label(WATER, 1)\n"
    )
    path = os.pathsep.join([str(REPOSITORY / "workflow_scripts"), str(REPOSITORY / "tests")])
    engine = subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,
    )
    program_path = str(tmp_path / "campaign" / "harmonic_mpi")

    def tasks() -> list[psutil.Process]:
        # psutil keeps its objects and the executable that each had when first asked: a task that was seen between its
        # fork and its exec would be mpirun for ever.
        psutil.process_iter.cache_clear()
        return [p for p in psutil.process_iter(["exe"]) if p.info["exe"] == program_path]

    try:
        wait_for(lambda: len(tasks()) == 2, "start of the tasks")
        kill(engine.pid, signal.SIGKILL)
        engine.wait()
        wait_for(lambda: not tasks(), "end of the tasks")
    finally:
        for process in (engine, *tasks()):
            process.kill()


def test_campaign_of_mpi_jobs_on_slurm(program, slurm_cluster, tmp_path) -> None:
    """Each label is a Slurm job of three tasks with the campaign's memory; srun and mpirun start them all, with one answer."""
    by_mpirun = COMMAND.replace("$launcher", "mpirun -np $tasks")
    share = "echo $memory_per_task_MB $$SLURM_JOB_ID >> $base/shares.log"
    settings = stand_in_configuration(
        labeling={
            "engine": "command",
            "command": f"{COMMAND}; mv result.json srun.json; {by_mpirun}; cmp result.json srun.json; {share}",
            "output": OUTPUT,
            "launcher": "srun",
            "launcher_options": "--mpi=pmi2",
            "success": f"^({TASKS} ranks done\n){{2}}$",
            "retries": 0,
        },
        test={"size": 1},
        stop={"rrmse": None, "max_labels": 4},
        resources={"label": {"threads": 1, "tasks": TASKS, "memory_MB": MEMORY_MB, "walltime_min": 5}},
    )
    folder = CampaignFolder.create(tmp_path / "campaign", settings)
    shutil.copy(program, folder.path)
    folder.options = SLURM
    folder.environment = dict(slurm_cluster.environment)
    outcome = folder.run(timeout=300)
    assert outcome.code == 0, outcome.text[-3000:]
    records = folder.labels()
    assert len(records) == 4
    assert all(record.ok for record in records), [record.message for record in records]
    pool = {s.structure_id: s for s in map(Structure.from_atoms, ase.io.read(folder.path / "pool.extxyz", ":"))}
    for record in records:
        energy, forces = springs(pool[record.structure_id].positions)
        assert record.properties["energy"] == pytest.approx(energy, rel=1e-12)
        assert np.array(record.properties["forces"]) == pytest.approx(forces, abs=1e-12)
    assert all(record.cost["tasks"] == TASKS for record in records)
    shares = [line.split() for line in (folder.path / "shares.log").read_text().splitlines()]
    assert {share for share, _ in shares} == {str(int(0.75 * MEMORY_MB) // TASKS)}
    assert len({job for _, job in shares}) == 4, "a Slurm job per label"
    jobs = slurm_cluster.run("scontrol", "show", "job", "-o").splitlines()
    jobs = [job for job in jobs if "label_structure" in job and str(folder.path) in job]
    assert len(jobs) == 4
    for job in jobs:
        assert all(
            entry in job for entry in ("NumTasks=3 ", "CPUs/Task=1 ", "NumNodes=1 ", f"MinMemoryNode={MEMORY_MB}M")
        )
