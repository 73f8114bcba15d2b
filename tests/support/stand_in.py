"""Stand-in labels for tests and benchmarks: analytic energies, every finished call written down.

Imported by name in label jobs (``labeling.function``), so it must lie in the campaign's working directory.
"""

import os
import signal
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
    """Kill the whole job the first ``times`` times a structure is labelled, as a failing node would."""
    if _count(atoms, folder) <= times:
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    return morse(atoms, **options)


def hungry(atoms, needs_MB, folder="hungry", **options):
    """Take ``needs_MB`` of memory, and write down each attempt."""
    _count(atoms, folder)
    taken = np.ones(int(needs_MB * 2**17))
    time.sleep(1.0)
    return {**morse(atoms, **options), "gap": float(taken[0])}


def slow_at_first(atoms, folder="slow", slow=(), seconds=60.0, **options):
    """Take long for some structures, the first time only."""
    if atoms.info["structure_id"] in slow and _count(atoms, folder) == 1:
        time.sleep(seconds)
    return morse(atoms, **options)


def fails_without(atoms, file, only=(), **options):
    """Fail (for some structures, or all) until a file exists, as a program does whose cause of failure the user repairs."""
    if not Path(file).exists() and (not only or atoms.info["structure_id"] in only):
        raise RuntimeError("not repaired yet")
    return morse(atoms, **options)


def _count(atoms, folder):
    """Return how often this structure was tried, this time included."""
    Path(folder).mkdir(exist_ok=True)
    mark = Path(folder) / atoms.info["structure_id"]
    count = 1 + (len(mark.read_text()) if mark.exists() else 0)
    mark.write_text("x" * count)
    return count


def lines(atoms, states=3, **options):
    """Excitation energies (eV) and oscillator strengths that change smoothly with the bonds; the second state is dark at
    the equilibrium, and its strength grows with the asymmetry.
    """
    i, j = np.triu_indices(len(atoms), 1)
    r = np.linalg.norm(atoms.positions[i] - atoms.positions[j], axis=1)
    numbers = np.arange(1, states + 1)
    energies = 4.0 + numbers + 0.4 * np.sin(numbers) * (r.sum() - 3.4)
    strengths = 0.1 * numbers * np.exp(-((r[0] - 0.96) ** 2)) * np.where(numbers == 2, 5 * (r[0] - r[1]) ** 2, 1.0)
    label = morse(atoms, **options)
    return {"energy": label["energy"], "excitation_energies": energies, "oscillator_strengths": strengths}


def two_states(atoms, calls="calls.log", gap_eV=1.0, coupling_eV=0.05, step_A=1e-4):
    """Energies and forces of two states of a bent molecule of three atoms that come close where both bonds are stretched."""

    def energies(positions):
        ground = _energy(positions)
        stretched = sum(np.linalg.norm(positions[other] - positions[0]) for other in (1, 2)) - 2.0
        # Of two diabatic potentials the one that is higher at the minimum falls with the stretching.
        half = 0.5 * (gap_eV - 4.0 * stretched)
        return ground + half + np.array([-1.0, 1.0]) * np.hypot(half, coupling_eV)

    forces = np.zeros((len(atoms), 2, 3))
    for atom, axis in np.ndindex(atoms.positions.shape):
        moved = [atoms.positions.copy(), atoms.positions.copy()]
        moved[0][atom, axis] += step_A
        moved[1][atom, axis] -= step_A
        forces[atom, :, axis] = -(energies(moved[0]) - energies(moved[1])) / (2 * step_A)
    if calls:
        with open(calls, "a") as handle:
            handle.write(f"{atoms.info['structure_id']}\n")
    states = energies(atoms.positions)
    return {"energy": states[0], "forces": forces[:, 0], "state_energies": states, "state_forces": forces}
