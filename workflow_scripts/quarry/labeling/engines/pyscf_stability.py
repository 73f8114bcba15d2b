"""Is an SCF solution a minimum? The lowest curvature of the energy, and the way downhill where it is negative.

Internal stability: real orbitals, within the restricted or unrestricted energy; external stability of a closed shell: real
orbitals, within the unrestricted energy (R. Seeger and J. A. Pople, J. Chem. Phys. 66, 3045 (1977),
https://doi.org/10.1063/1.434318). The orbital Hessian is PySCF's, which leaves out the response of VV10.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyscf import lib, scf

from quarry.labeling.engines.pyscf_runs import HARTREE_EV, Runs, ScfNotConverged
from quarry.labeling.stability import (
    EXTERNAL,
    FLAT,
    FOLLOWED,
    NEVER_LOOKED_FOR,
    NOT_LOOKED_FOR,
    OPEN_SHELL,
    STABLE,
    UNSTABLE,
)

UNSTABLE_BELOW_HARTREE = -1e-5
"""Lowest eigenvalue of the orbital Hessian that counts as an instability (PySCF's own limit)."""

FLAT_HARTREE = 1e-7
"""An instability that lowers the energy by less is a flat direction: an open shell rotates about the axis of its molecule at
no cost, but for what the integration grid makes of it."""

MAX_FOLLOWED = 8
"""How often an instability is followed before the calculation counts as failed."""

STEP = 0.3
"""Length of the first step (radian); a long one along a flat direction might end higher."""

EXPLICIT_SIZE = 60
"""Orbital Hessians up to this size are diagonalised as a whole."""

COARSEST_GRID = 0
"""PySCF integration grid level of a look: it changes curvatures by about 0.002 hartree, at a tenth of the cost."""

ROUGH_HARTREE = 1e-3
"""Convergence of a look's eigenvalue."""

UNCERTAIN_HARTREE = 0.02
"""A look that finds a curvature closer to zero than this is repeated with the calculation's own grid and converged."""

ADMIXTURE = 0.1
"""Norm of what is added to each start vector: single orbital pairs may all lack the symmetry of the lowest eigenvector."""

LOOKED_AT = 3
"""Eigenvalues that a look brings to its convergence, so that the lowest one is among them."""

MISSING = (NotImplementedError, KeyError)
"""What PySCF raises where a functional has no second derivatives; a look must not cost the label."""

Products = Callable[[list[NDArray[np.float64]]], list[NDArray[np.float64]]]
"""Gives the products of the orbital Hessian with vectors."""


def lowest_curvature(solution: scf.hf.SCF) -> tuple[float, NDArray[np.float64]]:
    """Return the lowest eigenvalue (hartree) of the orbital Hessian and its eigenvector, the rotation of the orbitals.

    The vector holds the virtual x occupied rotations, those of both spins one after the other, and has the norm 1. Where
    there is nothing to rotate, it is empty and the eigenvalue infinite.
    """
    return _internal(solution)


def external_curvature(solution: scf.hf.SCF) -> tuple[float, NDArray[np.float64]]:
    """Return the lowest eigenvalue (hartree) for rotations that part the spins of a closed shell, and its eigenvector.

    Both spins' orbitals are rotated against each other, those of spin up by the vector / sqrt(2). The eigenvalue is that of
    a look (``COARSEST_GRID``, ``ROUGH_HARTREE``) unless it is close to zero. Infinite where there is nothing to rotate.
    """
    value, vector = _external(on_grid(solution, COARSEST_GRID), ROUGH_HARTREE)
    return (value, vector) if abs(value) > UNCERTAIN_HARTREE else _external(solution)


def _internal(solution: scf.hf.SCF, tolerance: float = 0.0) -> tuple[float, NDArray[np.float64]]:
    _, times_hessian, diagonal = solution.newton().gen_g_hop(solution.mo_coeff, solution.mo_occ)
    # PySCF's product is that of half the Hessian: see pyscf.scf.stability.
    return _lowest(lambda vectors: [2 * times_hessian(x) for x in vectors], 2 * diagonal, tolerance)


def _external(solution: scf.hf.SCF, tolerance: float = 0.0) -> tuple[float, NDArray[np.float64]]:
    """Return the lowest eigenvalue of the triplet block of the Hessian, 2 (A + B), and its eigenvector."""
    filled, empty = solution.mo_occ > 0, solution.mo_occ == 0
    occupied, virtual = solution.mo_coeff[:, filled], solution.mo_coeff[:, empty]
    differences = (solution.mo_energy[empty][:, None] - solution.mo_energy[filled]).ravel()
    if not differences.size:
        return np.inf, differences
    response = solution.gen_response(singlet=False, hermi=1)

    def products(vectors: list[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
        x = np.reshape(vectors, (len(vectors), virtual.shape[1], occupied.shape[1]))
        half = 2 * virtual @ x @ occupied.T
        potential = response(half + half.transpose(0, 2, 1))
        coupled = (virtual.T @ potential @ occupied).reshape(len(vectors), -1)
        return list(2 * (differences * np.asarray(vectors) + coupled))

    return _lowest(products, 2 * differences, tolerance)


def _lowest(products: Products, diagonal: NDArray[np.float64], tolerance: float) -> tuple[float, NDArray[np.float64]]:
    """Return the lowest eigenvalue of a symmetric matrix and its eigenvector. tolerance: of the eigenvalue; 0: converged."""
    size = diagonal.size
    if size == 0:
        return np.inf, np.zeros(0)
    if size <= EXPLICIT_SIZE:
        matrix = np.array(products(list(np.eye(size))))
        values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
        return float(values[0]), vectors[:, 0]
    spread = np.cos(np.arange(size) ** 2) / (np.abs(diagonal) + 0.2)
    spread /= np.linalg.norm(spread)
    starts = [np.eye(1, size, k).ravel() for k in np.argsort(diagonal, kind="stable")[:4]]
    starts = [*(start + ADMIXTURE * np.roll(spread, k) for k, start in enumerate(starts)), spread]
    _, values, vectors = lib.davidson1(
        products,
        starts,
        lambda residual, value, _: residual / _away_from_zero(diagonal - value),
        tol=tolerance or 1e-7,
        tol_residual=20 * tolerance or None,
        nroots=LOOKED_AT if tolerance else 1,
        max_cycle=100,
        max_space=40,
        verbose=0,
    )
    return float(values[0]), np.asarray(vectors[0])


def _away_from_zero(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.abs(values) < 1e-8, 1e-8, values)


def on_grid(solution: scf.hf.SCF, level: int) -> scf.hf.SCF:
    """Return the solution with another integration grid for the response of its functional."""
    if getattr(solution, "grids", None) is None:
        return solution
    from pyscf.dft import gen_grid

    coarser = solution.copy()
    coarser.grids = gen_grid.Grids(solution.mol)
    coarser.grids.level = level
    return coarser


def minimum_below(runs: Runs, solution: scf.hf.SCF) -> tuple[scf.hf.SCF, dict[str, Any]]:
    """Follow the instabilities of a converged solution downhill; return the lowest solution and what was found.

    Found (``quarry.labeling.stability``): stable, flat (the curvature is negative, but nothing is gained that way: the
    direction is flat but for the grid), internal (both as one word), followed (how many times), energies (eV, of the
    solutions on the way down: the first is the given one's, the last the end's), lowest_curvature (hartree, of the end;
    None without virtual orbitals).
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
                "internal": STABLE if stable else FLAT,
                "followed": followed,
                "energies": [energy * HARTREE_EV for energy in energies],
                "lowest_curvature": _plain(curvature),
            }
        if lower is not None:
            solution = lower
            energies.append(float(solution.e_tot))
    raise ScfNotConverged(f"the SCF solution is unstable, also after {MAX_FOLLOWED} followed instabilities")


def look(solution: scf.hf.SCF) -> dict[str, Any]:
    """Return the account of ``minimum_below`` of a solution that is only looked at: nothing is followed.

    lowest_curvature is then that of a look (``COARSEST_GRID``) unless it is close to zero.
    """
    found: dict[str, Any] = {"flat": False, "followed": 0, "energies": [float(solution.e_tot) * HARTREE_EV]}
    try:
        curvature, _ = _internal(on_grid(solution, COARSEST_GRID), ROUGH_HARTREE)
        if abs(curvature) <= UNCERTAIN_HARTREE:
            curvature, _ = lowest_curvature(solution)
    except MISSING:
        return {**found, "stable": None, "internal": NOT_LOOKED_FOR, "lowest_curvature": None}
    stable = curvature >= UNSTABLE_BELOW_HARTREE
    word = STABLE if stable else UNSTABLE
    return {**found, "stable": stable, "internal": word, "lowest_curvature": _plain(curvature)}


def below_closed_shell(
    solution: scf.hf.SCF, found: dict[str, Any], unrestricted: Runs | None, before: scf.hf.SCF | None = None
) -> scf.hf.SCF:
    """Look for the external instability of a solution, follow it if asked to, and return the lowest solution.

    found: the account of the internal stability; gets external, external_curvature and not_looked_for, and what it says is
    that of the unrestricted solution, with its spin_squared, where that one is returned. unrestricted: the unrestricted runs;
    None: only look. before: the closed shell whose internal instability was followed to the solution. A closed shell of lower
    symmetry may lead to a minimum far above the one below the symmetric closed shell: both are followed, the lowest end counts.
    Raises ScfNotConverged if no way down converges or ends.
    """
    found["not_looked_for"] = list(NEVER_LOOKED_FOR)
    if np.ndim(solution.mo_occ) > 1:
        found["external"] = OPEN_SHELL
        return solution
    try:
        curvature, direction = external_curvature(solution)
    except MISSING:
        found |= {"external": NOT_LOOKED_FOR, "not_looked_for": [EXTERNAL, *NEVER_LOOKED_FOR]}
        return solution
    stable = curvature >= UNSTABLE_BELOW_HARTREE
    found |= {"external": STABLE if stable else UNSTABLE, "external_curvature": _plain(curvature)}
    if unrestricted is None:
        return solution
    left = [] if stable else [(solution, curvature, direction, found["energies"])]
    if before is not None and found["followed"]:
        curvature, direction = external_curvature(before)
        if curvature < UNSTABLE_BELOW_HARTREE:
            left.append((before, curvature, direction, found["energies"][:1]))
    if not left:
        return solution
    ways, failures = [], []
    for closed, curvature, direction, energies in left:
        try:
            start = _parted(unrestricted, closed, direction)
            if start is not None:
                end, inside = minimum_below(unrestricted, start)
                ways.append((end, {**inside, "energies": [*energies, *inside["energies"]]}, curvature))
        except ScfNotConverged as failure:
            failures.append(failure)
    if not ways and failures:
        raise failures[0]
    end, inside, curvature = min(ways, key=lambda way: way[0].e_tot, default=(solution, {}, curvature))
    if end.e_tot >= solution.e_tot - FLAT_HARTREE:
        found["external"] = STABLE if stable else FLAT
        return solution
    inside["followed"] = len(inside["energies"]) - 1
    found |= {**inside, "external": FOLLOWED, "external_curvature": curvature}
    found["spin_squared"] = float(end.spin_square()[0])
    return end


def _parted(runs: Runs, solution: scf.hf.SCF, direction: NDArray[np.float64]) -> scf.hf.SCF | None:
    """Return an unrestricted solution that is lower than a closed shell by more than ``FLAT_HARTREE``, None without a gain.

    Either sign of the direction only exchanges the spins. Raises ScfNotConverged if no step converges.
    """
    solver = solution.newton()
    occupations = np.stack([solution.mo_occ / 2] * 2)
    converged = False
    for step in (STEP, STEP / 3, 2 * STEP):
        rotations = [solver.update_rotate_matrix(sign * step * direction, solution.mo_occ) for sign in (1, -1)]
        orbitals = np.stack([solver.rotate_mo(solution.mo_coeff, rotation) for rotation in rotations])
        end = runs.second_order(orbitals=orbitals, occupations=occupations)
        if end.converged and end.e_tot < solution.e_tot - FLAT_HARTREE:
            return end
        converged |= bool(end.converged)
    if not converged:
        raise ScfNotConverged("the closed shell is unstable, and the way to the unrestricted solution did not converge")
    return None


def _plain(curvature: float) -> float | None:
    return float(curvature) if np.isfinite(curvature) else None


def _step_down(runs: Runs, solution: scf.hf.SCF, direction: NDArray[np.float64], number: int) -> scf.hf.SCF | None:
    """Return the lowest solution that is lower by more than ``FLAT_HARTREE``, None if neither way leads to one.

    Both ways along a curvature are downhill alike, but may end in valleys of other depths; which way is called positive,
    rounding decides, so that both are gone. What counts is the gain over the lowest solution: steps between solutions that
    differ by rounding go up and down for ever.
    Raises ScfNotConverged if no step converges. number: of the step, for the message.
    """
    solver = solution.newton()
    ends = []
    for step in (STEP, -STEP):
        rotation = solver.update_rotate_matrix(step * direction, solution.mo_occ)
        orbitals = solver.rotate_mo(solution.mo_coeff, rotation)
        end = runs.second_order(orbitals=orbitals, occupations=solution.mo_occ)
        if end.converged:
            ends.append(end)
    if not ends:
        raise ScfNotConverged(f"the SCF solution is unstable, and the way down did not converge (step {number})")
    lowest = min(ends, key=lambda end: end.e_tot)
    return lowest if lowest.e_tot < solution.e_tot - FLAT_HARTREE else None
