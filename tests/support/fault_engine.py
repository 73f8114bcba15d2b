"""A stand-in engine that does what a plan says before it labels: dies, hangs, lies, or takes its job with it."""

from __future__ import annotations

import errno
import math
import os
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from quarry.labeling.engines.base import EngineResult
from quarry.labeling.engines.function import FunctionEngine
from quarry.processes import start_ticks
from quarry.structures import Structure

ENGINE_FAULTS = {
    "killed engine": 14,
    "killed job": 14,
    "result lost with its job": 8,
    "cancelled job": 10,
    "time limit": 6,
    "memory limit": 8,
    "unconverged SCF": 10,
    "NaN energy": 12,
    "garbage printed": 12,
    "exception": 12,
    "missing program": 8,
    "engine exits": 8,
    "scratch full": 8,
    "frozen job": 6,
    "store refuses": 8,
    "results full": 8,
}
"""What befalls a call of the engine, and how often."""
LAST_FAULTS = ("frozen job", "store refuses", "results full")

HANG_S = 60.0
"""Longer than anything waits for it; the engine is ended before."""
TAKEN_MB = 500


def note(path: Path, *words: str) -> None:
    """Append a line to a file, whole even when many processes write to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, (" ".join(words) + "\n").encode())
    os.close(descriptor)


def noted(path: Path) -> Counter[str]:
    """How often each structure was written down."""
    return Counter(path.read_text().split()) if path.exists() else Counter()


def energy_of(distance: float) -> float:
    """The right energy (eV) of two atoms at a distance (Angstrom)."""
    return 4.5 * (1 - math.exp(-1.9 * (distance - 0.74))) ** 2 - 31.7


class FaultyEngine(FunctionEngine):
    """Labels with ``energy_of``; the n-th call for a structure meets the n-th fault of its plan, later ones none.

    folder: where it writes down which calls began, which faults they met, which calls finished (with a right result),
    and of these whose result is destroyed by the fault itself.
    """

    def __init__(self, folder: Path, plan: dict[str, list[str]]) -> None:
        super().__init__("support.fault_engine:call", {"folder": folder, "plan": plan})

    def label(self, structure: Structure, threads: int) -> EngineResult:
        result = super().label(structure, threads)
        if "unconverged" in result.message:
            return EngineResult("scf_not_converged", {"energy": -1.0}, message="50 cycles")
        return result


def call(atoms: Any, folder: Path, plan: dict[str, list[str]]) -> Any:
    """Label a structure, or do what is planned for this call."""
    structure_id = atoms.info["structure_id"]
    number, faults = noted(folder / "began")[structure_id], plan[structure_id]
    note(folder / "began", structure_id)
    if number >= len(faults):
        return plain(atoms, folder)
    name = faults[number].replace(" ", "_")
    note(folder / "met", structure_id, name)
    return globals()[name.lower()](atoms, folder)


def plain(atoms: Any, folder: Path) -> dict[str, Any]:
    time.sleep(0.03)
    energy = energy_of(float(atoms.positions[1, 2]))
    note(folder / "finished", atoms.info["structure_id"])
    return {"energy": energy}


def killed_engine(atoms: Any, folder: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed_job(atoms: Any, folder: Path) -> None:
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(HANG_S)


def result_lost_with_its_job(atoms: Any, folder: Path) -> None:
    plain(atoms, folder)
    note(folder / "destroyed", atoms.info["structure_id"])
    killed_job(atoms, folder)


def cancelled_job(atoms: Any, folder: Path) -> None:
    os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(HANG_S)


def time_limit(atoms: Any, folder: Path) -> None:
    time.sleep(HANG_S)


def memory_limit(atoms: Any, folder: Path) -> None:
    taken = np.ones(TAKEN_MB * 2**17)
    time.sleep(HANG_S)
    assert taken[0] == 1


def unconverged_scf(atoms: Any, folder: Path) -> None:
    raise RuntimeError("unconverged")


def nan_energy(atoms: Any, folder: Path) -> dict[str, Any]:
    return {"energy": float("nan")}


def garbage_printed(atoms: Any, folder: Path) -> Any:
    os.write(1, b"\x00\xff\x1b[2J" * 1000)
    os.write(2, b"Segmentation fault (not)\n")
    return {"energy": "\ufffd-12..5e"}


def exception(atoms: Any, folder: Path) -> None:
    raise RuntimeError("the grid\nhas no points")


def missing_program(atoms: Any, folder: Path) -> None:
    subprocess.run(["a-program-that-is-not-here"], check=True)


def engine_exits(atoms: Any, folder: Path) -> None:
    os._exit(3)


def scratch_full(atoms: Any, folder: Path) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/scratch/big")


def results_full(atoms: Any, folder: Path) -> dict[str, Any]:
    """The disk of the results takes nothing while this label is computed: long enough for some heartbeats."""
    flag = folder / "full" / str(os.getppid())
    flag.parent.mkdir(exist_ok=True)
    flag.touch()
    try:
        time.sleep(1.5)
        return plain(atoms, folder)
    finally:
        flag.unlink()


def frozen_job(atoms: Any, folder: Path) -> dict[str, Any]:
    """The job stands still (not its engine), long enough for others to take over if they want the label."""
    job = os.getppid()
    mark = folder / "frozen" / str(job)
    mark.parent.mkdir(exist_ok=True)
    mark.write_text(atoms.info["structure_id"])
    os.kill(job, signal.SIGSTOP)
    while mark.exists() and start_ticks(job) is not None:
        time.sleep(0.05)
    # A job that has lost its label ends its engine at its next look.
    time.sleep(1.5)
    return plain(atoms, folder)


def store_refuses(atoms: Any, folder: Path) -> dict[str, Any]:
    flag = folder / "refuse" / atoms.info["structure_id"]
    flag.parent.mkdir(exist_ok=True)
    flag.touch()
    return plain(atoms, folder)
