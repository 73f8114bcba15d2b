"""Excited states from PySCF by linear response: Tamm-Dancoff approximation and TDDFT (time-dependent Hartree-Fock, CIS).

A list of states that lacks one is a wrong label: every root counts, none is left out in silence.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyscf import gto, scf

from quarry.config.methods import Excitations
from quarry.errors import reason_of
from quarry.labeling.engines.pyscf_runs import HARTREE_EV, Unsolved
from quarry.labeling.engines.pyscf_stability import UNSTABLE_BELOW_HARTREE, lowest_curvature, on_grid
from quarry.labeling.transition_orbitals import TransitionOrbitals, leading_pairs

Gradients = Callable[[], list[NDArray[np.float64]]]
"""Returns gradients of excited states."""
MORE_GUESSES = 5
"""Start vectors beyond the wanted states: a low state that starts high is found then."""

ADMIXTURE = 0.03
"""Norm of what is added to each start vector: single orbital pairs of a symmetric molecule may all lack the symmetry of a low
state, which the solver would never find then."""

MORE_CYCLES = 3
"""Factor on the cycles of the second attempt."""

FEW_EXCITATIONS = 60
"""Up to this many, the second attempt solves for all of them: the solver's restarts do not converge in so small a space."""


LOWEST_EV = 0.03
"""A lower excitation energy of full linear response is a flat direction of the ground state, along which the integration grid's
noise decides between a small energy and none at all; a label must not depend on that."""

PAIRS_HOLD, MOST_PAIRS = 0.98, 4
"""Pairs of natural transition orbitals that are kept of a state: those that hold this share of it, not more than so many."""


class ExcitationsNotConverged(Unsolved):
    """Not all excited states that were asked for have been found."""

    status = "excitations_not_converged"


def count_excitations(molecule: gto.Mole) -> int:
    """Return how many single excitations a basis has: occupied x virtual orbitals (of both spins for open shells)."""
    alpha, beta = molecule.nelec
    basis_functions = int(molecule.nao_nr())
    excitations = [n * (basis_functions - n) for n in (alpha, beta)]
    return excitations[0] if molecule.spin == 0 else sum(excitations)


def check_count(molecule: gto.Mole, wanted: Excitations) -> None:
    """Raise ExcitationsNotConverged if the basis has fewer excited states than asked for."""
    possible = count_excitations(molecule)
    if wanted.n_states > possible:
        raise ExcitationsNotConverged(
            f"{wanted.n_states} excited states are asked for, and the basis of this structure has {possible}; "
            "lower excitations.n_states or choose a larger basis"
        )


def excited_states(
    solution: scf.hf.SCF, wanted: Excitations, trials: list[dict[str, Any]]
) -> tuple[dict[str, list[float]], dict[str, Any] | None, Gradients | None]:
    """Return excitation_energies (eV, ascending) and oscillator_strengths (length gauge) of the lowest states, their natural
    transition orbitals (``TransitionOrbitals.to_json``), and what computes their gradients, these if they are wanted.

    solution: a converged ground state. trials: gets an entry for each attempt: roots (asked for), converged (one for each
    wanted state), wall_s, cpu_s. The second one solves for more roots with more cycles.
    Raises ExcitationsNotConverged, naming the roots, for the first that is not converged or that is missing.
    """
    if wanted.kind == "tddft" and not _fills_in_order(solution):
        raise ExcitationsNotConverged(
            "the ground state is unstable or degenerate: it leaves an orbital empty below a filled one, so that its lowest "
            "states are no excitations"
        )
    if wanted.kind == "tddft" and not _is_pure(solution):
        # PySCF's solver for exact exchange leaves out the roots that an instability makes imaginary.
        curvature, _ = lowest_curvature(solution)
        if curvature < UNSTABLE_BELOW_HARTREE:
            raise ExcitationsNotConverged(
                f"the ground state is unstable or degenerate (curvature {curvature:.1e} hartree), so that its lowest states "
                "are no excitations; set labeling.stability to internal, or (degenerate ones) excitations.kind to tda"
            )
    if wanted.grid_level is not None:
        solution = on_grid(solution, wanted.grid_level)
    possible = _possible(solution)
    guesses = min(wanted.n_states + MORE_GUESSES, possible)
    more = possible if possible <= FEW_EXCITATIONS else guesses
    problem = ""
    for roots, cycles in ((wanted.n_states, wanted.max_cycles), (more, MORE_CYCLES * wanted.max_cycles)):
        wall, cpu = time.perf_counter(), time.process_time()
        solver, energies, strengths, converged = _solve(solution, wanted, roots, cycles, max(guesses, roots))
        problem = _problem(energies, converged, wanted)
        trials.append(
            {
                "roots": roots,
                "converged": [bool(c) for c in converged[: wanted.n_states]],
                "wall_s": time.perf_counter() - wall,
                "cpu_s": time.process_time() - cpu,
            }
        )
        if not problem:
            properties = {
                "excitation_energies": (energies[: wanted.n_states] * HARTREE_EV).tolist(),
                "oscillator_strengths": strengths[: wanted.n_states].tolist(),
            }
            orbitals = _transition_orbitals(solver, wanted.n_states) if wanted.characters else None
            return properties, orbitals, partial(_gradients, solver, wanted.n_states) if wanted.forces else None
    raise ExcitationsNotConverged(problem)


def _problem(energies: NDArray[np.float64], converged: NDArray[np.bool_], wanted: Excitations) -> str:
    """Return what is wrong with the lowest roots, or nothing."""
    n_states = wanted.n_states
    if not np.isfinite(energies).all() or (energies <= 0).any():
        return (
            "an excitation energy is not positive: the ground state is unstable or degenerate; set labeling.stability to "
            "internal, or (degenerate ones) excitations.kind to tda"
        )
    if wanted.kind == "tddft" and energies.size and (lowest := float(energies.min()) * HARTREE_EV) < LOWEST_EV:
        return (
            f"the lowest excitation energy is {lowest:.3f} eV, below {LOWEST_EV} eV: the ground state is degenerate or nearly "
            "so, and its lowest states are no excitations; set excitations.kind to tda"
        )
    if len(energies) < n_states:
        return f"PySCF found {len(energies)} of {n_states} excited states"
    open_roots = [str(k + 1) for k in range(n_states) if not converged[k]]
    if open_roots:
        return f"excited states not converged: {', '.join(open_roots)} of {n_states}"
    return ""


def _solve(
    solution: scf.hf.SCF, wanted: Excitations, roots: int, cycles: int, guesses: int
) -> tuple[Any, NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Return PySCF's solver, and energies (hartree, ascending), oscillator strengths and convergence of the roots it finds."""
    from pyscf import tdscf

    solver = (tdscf.TDA if wanted.kind == "tda" else tdscf.TDDFT)(solution)
    solver.conv_tol = wanted.convergence
    solver.max_cycle = cycles
    # PySCF would drop low roots (below 0.03 eV, and below 0.9 eV where it solves for squares) and number the others anew.
    solver.positive_eig_threshold = -np.inf
    start = _start_vectors(solution, guesses)
    if solver.get_init_guess(solution, 1).shape[1] == 2 * start.shape[1]:
        start = np.hstack([start, np.zeros_like(start)])
    try:
        with np.errstate(invalid="ignore"):
            solver.kernel(x0=start, nstates=roots)
    except (RuntimeError, np.linalg.LinAlgError) as error:
        raise ExcitationsNotConverged(f"PySCF's {wanted.kind} solver gave up: {reason_of(error)}") from error
    energies = np.atleast_1d(np.asarray(solver.e, dtype=np.float64))
    converged = np.atleast_1d(np.asarray(solver.converged, dtype=bool))[: len(energies)]
    if not np.isfinite(energies).all() or (energies <= 0).any():
        return solver, energies, np.zeros(len(energies)), converged
    strengths = np.asarray(solver.oscillator_strength(gauge="length"), dtype=np.float64)
    order = np.argsort(energies, kind="stable")
    return solver, energies[order], strengths[order], converged[order]


def _gradients(solver: Any, n_states: int) -> list[NDArray[np.float64]]:
    """Return the gradients of the total energies of the lowest excited states, hartree/bohr, shape (n_atoms, 3) each.

    Raises ExcitationsNotConverged if PySCF cannot compute one.
    """
    method = solver.nuc_grad_method()
    gradients = []
    for k in np.argsort(solver.e, kind="stable")[:n_states]:
        try:
            gradients.append(np.asarray(method.kernel(state=int(k) + 1), dtype=np.float64))
        except (RuntimeError, np.linalg.LinAlgError) as error:
            raise ExcitationsNotConverged(
                f"PySCF gave no gradient of state {len(gradients) + 1}: {reason_of(error)}"
            ) from error
    return gradients


def _transition_orbitals(solver: Any, n_states: int) -> dict[str, Any]:
    """Return the leading natural transition orbitals of the lowest states as data for the label record.

    The transition density is that of X + Y (M. E. Casida, 1995); with the Tamm-Dancoff approximation Y is 0.
    """
    solution = solver._scf
    molecule = solution.mol
    values, vectors = np.linalg.eigh(solution.get_ovlp())
    root = (vectors * np.sqrt(values)) @ vectors.T
    coefficients, occupations = np.asarray(solution.mo_coeff), np.asarray(solution.mo_occ)
    spins = zip(coefficients.reshape(-1, *coefficients.shape[-2:]), np.atleast_2d(occupations), strict=True)
    orbitals = [(root @ c[:, filled > 0], root @ c[:, filled == 0]) for c, filled in spins]
    states = []
    for k in np.argsort(solver.e, kind="stable")[:n_states]:
        x, y = solver.xy[k]
        # A number 0 stands for the Y of the Tamm-Dancoff approximation; open shells have a tuple, alpha and beta.
        pairs = [(x, y)] if len(orbitals) == 1 else zip(x, y, strict=True)
        amplitudes = [np.asarray(one) + np.asarray(other) for one, other in pairs]
        filled, empty = zip(*orbitals, strict=True)
        states.append(leading_pairs(amplitudes, filled, empty, PAIRS_HOLD, MOST_PAIRS))
    momenta = [
        int(molecule.bas_angular(shell)) for shell in range(molecule.nbas) for _ in range(molecule.bas_nctr(shell))
    ]
    return TransitionOrbitals(tuple(momenta), tuple(states)).to_json()


def _start_vectors(solution: scf.hf.SCF, count: int) -> NDArray[np.float64]:
    """Return the excitations of the lowest orbital energy differences, lowest first, each with a bit of everything.

    Shape (count, n_excitations), the excitations as PySCF orders them: occupied x virtual orbitals, spin after spin.
    """
    spins = zip(np.atleast_2d(solution.mo_energy), np.atleast_2d(solution.mo_occ), strict=True)
    differences = np.concatenate(
        [(energies[filled == 0] - energies[filled > 0][:, None]).ravel() for energies, filled in spins]
    )
    lowest = np.argsort(differences, kind="stable")[:count]
    vectors = np.zeros((len(lowest), differences.size))
    vectors[np.arange(len(lowest)), lowest] = 1.0
    # Cosines of squares are as good as random and always the same.
    mixed = np.cos(np.outer(np.arange(1, len(lowest) + 1), np.arange(1, differences.size + 1) ** 2))
    return vectors + ADMIXTURE * mixed / np.linalg.norm(mixed, axis=1)[:, None]


def _possible(solution: scf.hf.SCF) -> int:
    """Return the number of single excitations of the solution (linear dependencies of the basis taken out)."""
    occupations = np.atleast_2d(np.asarray(solution.mo_occ))
    return int(sum((spin > 0).sum() * (spin == 0).sum() for spin in occupations))


def _is_pure(solution: scf.hf.SCF) -> bool:
    """Return whether a calculation is one of a functional without exact exchange."""
    numerical = getattr(solution, "_numint", None)
    return numerical is not None and not numerical.libxc.is_hybrid_xc(solution.xc)


def _fills_in_order(solution: scf.hf.SCF) -> bool:
    """Return whether each spin's occupied orbitals lie below its empty ones."""
    spins = zip(np.atleast_2d(solution.mo_energy), np.atleast_2d(solution.mo_occ), strict=True)
    return all(
        energies[filled > 0].max(initial=-np.inf) < energies[filled == 0].min(initial=np.inf)
        for energies, filled in spins
    )
