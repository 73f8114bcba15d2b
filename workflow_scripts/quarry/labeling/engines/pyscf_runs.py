"""The SCF runs of one structure, how they are counted and how they fail."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyscf import scf
from pyscf.data import nist

from quarry.config.base import ENERGY_UNITS_EV

HARTREE_EV = ENERGY_UNITS_EV["hartree"]
BOHR_A = float(nist.BOHR)

ROUGH_CONVERGENCE_HARTREE = 1e-5
"""Convergence of a run whose density is only the start of the next one."""


ROTATION_RAD = 1e-3
"""Angle (radian) by which start orbitals are rotated into each other: the guess of a symmetric molecule may be just as close to
several solutions, and rounding would choose between them, by processor, library and number of threads."""


class Unsolved(Exception):
    """A calculation that ends without a label for a reason of chemistry."""

    status = ""
    """Failure class of the label."""


class ScfNotConverged(Unsolved):
    """No step led to a converged SCF solution."""

    status = "scf_not_converged"


def forces_of(gradient: Any) -> NDArray[np.float64]:
    """Return the forces, eV/Angstrom, of a gradient of PySCF's, hartree/bohr, both of shape (n_atoms, 3)."""
    return -np.asarray(gradient, dtype=np.float64) * HARTREE_EV / BOHR_A


def rotated_guess(calculation: scf.hf.SCF) -> None:
    """Let a calculation start from densities, shape (..., n, n), whose orbitals are rotated by ``ROTATION_RAD``, always alike."""
    guess = calculation.get_init_guess

    def rotated(*arguments: Any, **keys: Any) -> NDArray[np.float64]:
        density = np.asarray(guess(*arguments, **keys))
        # Cosines of squares are as good as random; the turn is one to first order, the rest is far below convergence.
        square = np.cos(np.arange(density.size, dtype=np.float64) ** 2).reshape(density.shape)
        rotation = ROTATION_RAD * (square - np.swapaxes(square, -1, -2))
        return density + rotation @ density - density @ rotation

    calculation.get_init_guess = rotated


class Runs:
    """The SCF runs of one structure and method: they share integrals and grid, and their cycles are counted.

    calculation: the unchanged calculation, never run itself.
    """

    def __init__(self, calculation: scf.hf.SCF) -> None:
        self._calculation = calculation
        self.cycles = 0
        """Of all runs since this was last set to zero."""
        self.last: scf.hf.SCF | None = None
        self.max_cycles = int(calculation.max_cycle)

    def fresh(self, **settings: Any) -> scf.hf.SCF:
        """Return the unchanged calculation without a solution, then the settings of a run that is only a start."""
        calculation = self._calculation.copy()
        calculation.scf_summary = {}
        for name, value in settings.items():
            setattr(calculation, name, value)
        return calculation

    def run(self, calculation: scf.hf.SCF, density: NDArray[np.float64] | None = None) -> scf.hf.SCF:
        """Iterate from a density (or the calculation's own guess) to convergence or ``max_cycle``.

        PySCF looks once more after the last cycle and may take the convergence back: where molecules are soft, rounding
        decides that. Such a run goes on from where it stands with the cycles that are left.
        """
        limit = left = int(calculation.max_cycle)
        try:
            while not self.once(calculation, density).converged and 0 < calculation.cycles < left:
                left -= int(calculation.cycles)
                calculation.max_cycle = left
                density = np.asarray(calculation.make_rdm1())
        finally:
            calculation.max_cycle = limit
        return calculation

    def once(self, calculation: scf.hf.SCF, density: NDArray[np.float64] | None = None) -> scf.hf.SCF:
        """Iterate to convergence, ``max_cycle``, or until PySCF takes the convergence back; for a run that is only a start."""
        self.last = calculation
        calculation.cycles = 0
        try:
            calculation.kernel(dm0=density)
        finally:
            self.cycles += int(calculation.cycles)
        # PySCF keeps the integrals of a small molecule with the object that made them.
        self._calculation._eri = calculation._eri
        return calculation

    def rough(self, density: NDArray[np.float64] | None = None, **settings: Any) -> NDArray[np.float64]:
        """Return the density of a run that is only a start, converged or not."""
        run = self.once(self.fresh(conv_tol=ROUGH_CONVERGENCE_HARTREE, **settings), density)
        return np.asarray(run.make_rdm1())

    def second_order(
        self, density: NDArray[np.float64] | None = None, orbitals: Any = None, occupations: Any = None
    ) -> scf.hf.SCF:
        """Return the end of PySCF's second-order solver, started from a density or from orbitals and occupations.

        The solver's convergence criteria, energy and gradient are those of the unchanged calculation, as which the end is
        handed back. Its cycles are macro-iterations, each worth several Fock matrices.
        """
        solver = self.fresh().newton()
        solver.cycles = 0

        def count(state: dict[str, Any]) -> None:
            solver.cycles = int(state["imacro"]) + 1

        solver.callback = count
        self.last = solver
        try:
            if density is not None:
                solver.kernel(dm0=density)
            else:
                solver.kernel(orbitals, occupations)
        finally:
            self.cycles += solver.cycles
        solution = solver.undo_soscf()
        solution.callback = None
        return solution


def attempt(runs: Runs, name: str, step: Callable[[Runs], scf.hf.SCF], attempts: list[dict[str, Any]]) -> scf.hf.SCF:
    """Take one step and enter it in the attempts, whatever comes of it; see ``pyscf_recovery.climb``."""
    wall, cpu = time.perf_counter(), time.process_time()
    runs.cycles, runs.last = 0, None
    entry: dict[str, Any] = {"name": name, "cycles": 0, "converged": False, "energy": None}
    try:
        solution = step(runs)
        entry["converged"] = bool(solution.converged)
        return solution
    except Exception as error:
        entry["error"] = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise
    finally:
        energy = float(getattr(runs.last, "e_tot", math.nan)) * HARTREE_EV
        entry["energy"] = energy if math.isfinite(energy) else None
        entry["cycles"] = runs.cycles
        entry["wall_s"] = time.perf_counter() - wall
        entry["cpu_s"] = time.process_time() - cpu
        attempts.append(entry)
