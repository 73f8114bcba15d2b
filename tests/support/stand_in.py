"""Stand-in labels for tests and benchmarks: analytic energies, every finished call written down.

Imported by name in label jobs (``labeling.function``), so it must lie in the campaign's working directory.
"""

import os
import time
from pathlib import Path

import numpy as np


def morse(atoms, calls="calls.log", seconds=0.0, fail=(), version=1):
    """Energy (eV) as a sum of Morse terms over atom pairs, with forces by central differences.

    calls: file that gets a line per finished call. seconds: time that a call takes. fail: structure ids that raise.
    """
    if atoms.info["structure_id"] in fail:
        raise RuntimeError("this structure was told to fail")
    if seconds:
        time.sleep(seconds)
    energy = _energy(atoms.positions)
    forces = np.zeros_like(atoms.positions)
    for index in np.ndindex(*forces.shape):
        moved = [atoms.positions.copy(), atoms.positions.copy()]
        moved[0][index] += 1e-4
        moved[1][index] -= 1e-4
        forces[index] = -(_energy(moved[0]) - _energy(moved[1])) / 2e-4
    if calls:
        with open(calls, "a") as handle:
            handle.write(f"{atoms.info['structure_id']}\n")
    return {"energy": energy, "forces": forces, "gap": 5.0 + energy}


def _energy(positions):
    i, j = np.triu_indices(len(positions), 1)
    r = np.linalg.norm(positions[i] - positions[j], axis=1)
    return float(np.sum((1 - np.exp(-1.2 * (r - 1.0))) ** 2))


def flaky(atoms, folder="flaky", times=1, **options):
    """Kill the job's own process the first ``times`` times a structure is labelled, as a failing node would."""
    Path(folder).mkdir(exist_ok=True)
    mark = Path(folder) / atoms.info["structure_id"]
    count = len(mark.read_text()) if mark.exists() else 0
    if count < times:
        mark.write_text("x" * (count + 1))
        os._exit(17)
    return morse(atoms, **options)
