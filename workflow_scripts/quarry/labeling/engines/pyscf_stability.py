"""Is an SCF solution a minimum? The lowest curvature of the energy, and the way downhill where it is negative.

Internal stability: real orbitals, within the restricted or unrestricted energy (Seeger and Pople, J. Chem. Phys. 66, 3045
(1977), https://doi.org/10.1063/1.434318). The orbital Hessian is PySCF's, which leaves out the response of VV10.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyscf import lib, scf

from quarry.labeling.engines.pyscf_runs import HARTREE_EV, Runs, ScfNotConverged

UNSTABLE_BELOW_HARTREE = -1e-5
"""Lowest eigenvalue of the orbital Hessian that counts as an instability (PySCF's own limit)."""

FLAT_HARTREE = 1e-7
"""An instability that lowers the energy by less is a flat direction: an open shell turns about the axis of its molecule at
no cost, but for what the integration grid makes of it."""

MAX_FOLLOWED = 8
"""How often an instability is followed before the calculation counts as failed."""

STEP = 0.3
"""Length of the first step (radian); a long one along a flat direction might end higher."""

EXPLICIT_SIZE = 60
"""Orbital Hessians up to this size are diagonalised as a whole."""


def lowest_curvature(solution: scf.hf.SCF) -> tuple[float, NDArray[np.float64]]:
    """Return the lowest eigenvalue (hartree) of the orbital Hessian and its eigenvector, the rotation of the orbitals.

    The vector holds the virtual x occupied rotations, those of both spins one after the other, and has the norm 1. Where
    there is nothing to rotate, it is empty and the eigenvalue infinite.
    """
    solver = solution.newton()
    gradient, times_hessian, diagonal = solver.gen_g_hop(solution.mo_coeff, solution.mo_occ)
    size = gradient.size
    if size == 0:
        return np.inf, np.zeros(0)
    # PySCF's product is that of half the Hessian: see pyscf.scf.stability.
    if size <= EXPLICIT_SIZE:
        matrix = np.array([times_hessian(row) for row in np.eye(size)]) * 2
        values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
        return float(values[0]), vectors[:, 0]
    softest = np.argsort(diagonal)[:4]
    starts = [np.eye(1, size, k).ravel() for k in softest]
    # Unit vectors alone may all have one symmetry, and the instability another one.
    starts.append(np.cos(np.arange(size) ** 2) / (np.abs(diagonal) + 0.1))
    value, vector = lib.davidson(
        lambda x: times_hessian(x) * 2,
        starts,
        lambda residual, value, _: residual / _away_from_zero(diagonal * 2 - value),
        tol=1e-7,
        max_cycle=100,
        max_space=40,
        verbose=0,
    )
    return float(value), np.asarray(vector)


def _away_from_zero(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.abs(values) < 1e-8, 1e-8, values)


def minimum_below(runs: Runs, solution: scf.hf.SCF) -> tuple[scf.hf.SCF, dict[str, Any]]:
    """Follow the instabilities of a converged solution downhill; return the lowest solution and what was found.

    Found: stable, flat (the curvature is negative, but nothing is gained that way: the direction is flat but for the grid),
    followed (how many times), energies (eV, of the solutions on the way down: the first is the given one's, the last the
    end's), lowest_curvature (hartree, of the end; None without virtual orbitals).
    Raises ScfNotConverged if the way down does not converge or does not end.
    """
    energies = [float(solution.e_tot)]
    for followed in range(MAX_FOLLOWED + 1):
        curvature, direction = lowest_curvature(solution)
        stable = curvature >= UNSTABLE_BELOW_HARTREE
        lower = None if stable or followed == MAX_FOLLOWED else _step_down(runs, solution, direction, followed + 1)
        if stable or (lower is None and followed < MAX_FOLLOWED):
            return solution, {
                "stable": stable,
                "flat": not stable,
                "followed": followed,
                "energies": [energy * HARTREE_EV for energy in energies],
                "lowest_curvature": curvature if np.isfinite(curvature) else None,
            }
        if lower is not None:
            solution = lower
            energies.append(float(solution.e_tot))
    raise ScfNotConverged(f"the SCF solution is unstable, also after {MAX_FOLLOWED} followed instabilities")


def _step_down(runs: Runs, solution: scf.hf.SCF, direction: NDArray[np.float64], number: int) -> scf.hf.SCF | None:
    """Return a solution that is lower by more than ``FLAT_HARTREE``, None if neither way leads to one.

    Both ways along a curvature are downhill alike, but a long step may end in another valley, as high as this one. What
    counts is the gain over the lowest solution: steps between solutions that differ by rounding go up and down for ever.
    Raises ScfNotConverged if no step converges. number: of the step, for the message.
    """
    solver = solution.newton()
    ends = []
    for step in (STEP, -STEP):
        rotation = solver.update_rotate_matrix(step * direction, solution.mo_occ)
        orbitals = solver.rotate_mo(solution.mo_coeff, rotation)
        end = runs.second_order(orbitals=orbitals, occupations=solution.mo_occ)
        if end.converged:
            if end.e_tot < solution.e_tot - FLAT_HARTREE:
                return end
            ends.append(end)
    if not ends:
        raise ScfNotConverged(f"the SCF solution is unstable, and the way down did not converge (step {number})")
    return None
