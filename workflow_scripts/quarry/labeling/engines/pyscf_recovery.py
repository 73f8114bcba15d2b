"""Recovery steps to an SCF solution.

No step changes the level of theory: guess, mixing of Fock matrices, level shift, smearing or solver. The solution it hands back
is one of the unchanged calculation (functional, basis, grid, density fitting, convergence; no level shift, integer
occupations), so that all steps give the same energy where they find the same solution. They need not: molecules that need
recovery often have several SCF solutions, and only a stability analysis tells a minimum from a saddle point.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from pyscf import scf

from quarry.labeling.engines.pyscf_runs import ROUGH_CONVERGENCE_HARTREE, Runs, ScfNotConverged, attempt
from quarry.labeling.engines.pyscf_stability import minimum_below

SMEARING_HARTREE = (0.03, 0.01, 0.003)
"""Fermi widths, one run after another (9500 K to 950 K), each from the density of the one before."""


def _plain(runs: Runs) -> scf.hf.SCF:
    return runs.run(runs.fresh())


def _guess(runs: Runs) -> scf.hf.SCF:
    # Hueckel orbitals need no atomic tables, only the basis; the default guess is a superposition of minimal-basis atoms.
    return runs.run(runs.fresh(init_guess="mod_huckel"))


def _diis(runs: Runs) -> scf.hf.SCF:
    density = runs.rough(DIIS=scf.ADIIS, diis_space=12, max_cycle=min(30, runs.max_cycles))
    return runs.run(runs.fresh(diis_space=16, diis_damp=0.3), density)


def _smearing(runs: Runs) -> scf.hf.SCF:
    density = None
    for width in SMEARING_HARTREE:
        warm = runs.fresh(conv_tol=ROUGH_CONVERGENCE_HARTREE).smearing(sigma=width, method="fermi", fix_spin=True)
        density = np.asarray(runs.once(warm, density).make_rdm1())
    return runs.run(runs.fresh(), density)


def _level_shift(runs: Runs) -> scf.hf.SCF:
    # Damping alone calms the first cycles; DIIS would extrapolate from them.
    density = runs.rough(
        level_shift=0.7, damp=0.5, diis=None, diis_start_cycle=runs.max_cycles + 1, max_cycle=min(40, runs.max_cycles)
    )
    density = runs.rough(density, level_shift=0.2, damp=0.3, diis_start_cycle=6)
    return runs.run(runs.fresh(), density)


def _newton(runs: Runs) -> scf.hf.SCF:
    density = runs.rough(level_shift=0.3, max_cycle=min(15, runs.max_cycles))
    solution = runs.second_order(density)
    # This solver keeps the orbitals filled that it starts with, and may well end at a saddle point far up.
    return minimum_below(runs, solution)[0] if solution.converged else solution


RECOVERY_STEPS: dict[str, Callable[[Runs], scf.hf.SCF]] = {
    "plain": _plain,
    "guess": _guess,
    "diis": _diis,
    "smearing": _smearing,
    "level_shift": _level_shift,
    "newton": _newton,
}
"""The recovery steps by their names in ``labeling.recovery``."""


def climb(runs: Runs, steps: Sequence[str], attempts: list[dict[str, Any]]) -> scf.hf.SCF:
    """Return the first converged solution of the named steps, which are tried in their order.

    attempts: gets an entry for each step: name, cycles (of all its runs), converged, energy (eV, of the last run, None
    where it is not finite), wall_s, cpu_s, and error if it raised one.
    Raises ScfNotConverged if no step converges, and what PySCF raised if every step raised something.
    """
    errors: list[Exception] = []
    for name in steps:
        try:
            solution = attempt(runs, name, RECOVERY_STEPS[name], attempts)
        except MemoryError:
            raise
        except Exception as error:
            # A guess that PySCF lacks for an element, a singular matrix: the next step may do.
            errors.append(error)
            continue
        if solution.converged:
            return solution
    if len(errors) == len(steps):
        raise errors[0]
    tried = ", ".join(f"{a['name']} {a['cycles']} cycles" for a in attempts)
    raise ScfNotConverged(f"SCF not converged ({tried})")
