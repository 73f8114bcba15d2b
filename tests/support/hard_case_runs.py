"""Hard cases again and again on several machines (``support.machines``), from start orbitals that are turned a little.

The turn is another one for each seed, and larger than rounding: what comes out must not depend on either.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from support.machines import Machine

SHAKE = 1e-9
"""Angle (radian) by which the start orbitals are rotated into each other."""


@dataclass(frozen=True)
class Job:
    """One label. seed: of the shaken start, 0: not shaken. method: changes of the case's. settings: of the engine."""

    name: str
    seed: int = 0
    method: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)


def run(jobs: Sequence[Job], machine: Machine) -> list[dict[str, Any]]:
    """Label on a machine; return of each job its status, message, energy_hartree (None without), attempts and details."""
    return list(machine.run("support.hard_case_runs", [machine.threads, [asdict(job) for job in jobs]]))


def shaken(density: Any, seed: int) -> NDArray[np.float64]:
    """Return a density, shape (..., n, n), whose orbitals are rotated by ``SHAKE``."""
    from scipy.linalg import expm

    density = np.asarray(density)
    if seed == 0:
        return density
    noise = np.random.default_rng(seed).normal(size=density.shape)
    turns = [expm(SHAKE * (a - a.T)) for a in noise.reshape(-1, *noise.shape[-2:])]
    parts = [u @ d @ u.T for u, d in zip(turns, density.reshape(-1, *density.shape[-2:]), strict=True)]
    return np.reshape(parts, density.shape)


def _label(job: Job, threads: int) -> dict[str, Any]:
    from quarry.labeling.engines.pyscf_engine import PyscfEngine
    from quarry.labeling.engines.pyscf_runs import HARTREE_EV
    from support.hard_cases import HARD_CASES

    class Shaken(PyscfEngine):
        def _calculation(self, *arguments: Any, **keys: Any) -> Any:
            calculation = super()._calculation(*arguments, **keys)
            guess = calculation.get_init_guess
            calculation.get_init_guess = lambda *a, **k: shaken(guess(*a, **k), job.seed)
            return calculation

    (case,) = (case for case in HARD_CASES if case.name == job.name)
    engine = Shaken(case.method.model_copy(update={"forces": False, **job.method}), **job.settings)
    result = engine.label(case.structure, threads)
    energy = result.properties.get("energy")
    return {
        "status": result.status,
        "message": result.message,
        "energy_hartree": None if energy is None else energy / HARTREE_EV,
        "attempts": result.attempts,
        "details": result.details,
    }


def main() -> None:
    """Label the jobs that stand on stdin."""
    threads, jobs = json.load(sys.stdin)
    print(json.dumps([_label(Job(**job), threads) for job in jobs]))


if __name__ == "__main__":
    main()
