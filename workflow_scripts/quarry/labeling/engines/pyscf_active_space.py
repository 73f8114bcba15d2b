"""Labels of several states by state-averaged CASSCF: energies and analytic forces of each.

The orbitals of every label begin with those of a reference geometry. The structure is turned onto the reference for that, since
basis functions do not turn with a molecule, and its forces are turned back.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray
from pyscf import scf

from quarry.config.methods import ActiveSpace
from quarry.errors import QuarryError
from quarry.labeling.engines.pyscf_runs import HARTREE_EV, Unsolved, forces_of
from quarry.structures import Structure
from quarry.structures.superposition import rotation_onto

GRADIENT_TOLERANCE = 1e-5
"""Convergence of the orbital gradient (hartree): state-specific gradients are as wrong as the orbitals."""
SPIN_SHIFT_HARTREE = 1.0
"""Energy that a state of another spin is raised by, times its excess of <S^2>: more than states of interest are high."""
SPIN_TOLERANCE = 1e-3
"""How far <S^2> of a state may be off."""


class StatesNotConverged(Unsolved):
    """CASSCF or the response of its orbitals has not converged."""

    status = "excitations_not_converged"


class ActiveSpaceChanged(Unsolved):
    """The active orbitals have become others than those of the reference."""

    status = "active_space_changed"


def in_place_of(structure: Structure, reference: Structure) -> tuple[Structure, NDArray[np.float64]]:
    """Return the structure turned onto the reference geometry, and the rotation that did it.

    Raises ActiveSpaceChanged for other atoms than the reference's.
    """
    if not np.array_equal(structure.numbers, reference.numbers):
        raise ActiveSpaceChanged("the atoms are others than those of active_space.reference, or in another order")
    centred, onto = (positions - positions.mean(axis=0) for positions in (structure.positions, reference.positions))
    rotation = rotation_onto(centred, onto)
    return replace(structure, positions=centred @ rotation), rotation


def optimised(
    solution: scf.hf.SCF, space: ActiveSpace, orbitals: NDArray[np.float64] | None, details: dict[str, Any]
) -> Any:
    """Return the converged CASSCF calculation from start orbitals, or those of Hartree-Fock (None).

    details: gets cycles, natural_occupations, and overlap with the space of the start. Raises StatesNotConverged and
    ActiveSpaceChanged.
    """
    from pyscf import mcscf

    calculation = mcscf.CASSCF(solution, space.orbitals, space.electrons)
    spin = solution.mol.spin / 2
    # Without it the lowest roots may be of other spins.
    calculation.fix_spin_(shift=SPIN_SHIFT_HARTREE, ss=spin * (spin + 1))
    calculation = calculation.state_average_([1.0 / space.n_states] * space.n_states)
    calculation.conv_tol, calculation.conv_tol_grad = space.convergence_hartree, GRADIENT_TOLERANCE
    calculation.max_cycle_macro = space.max_cycles
    counted = [0]
    calculation.callback = lambda state: counted.__setitem__(0, int(state.get("imacro", 0)))
    begin = solution.mo_coeff if orbitals is None else orbitals
    calculation.kernel(begin)
    details["cycles"] = counted[0]
    if not calculation.converged:
        raise StatesNotConverged(f"CASSCF is not converged after {counted[0]} cycles")
    squares = [
        float(calculation.fcisolver.states_spin_square(calculation.ci, calculation.ncas, calculation.nelecas)[0][k])
        for k in range(space.n_states)
    ]
    if np.abs(np.array(squares) - spin * (spin + 1)).max() > SPIN_TOLERANCE:
        raise StatesNotConverged(f"a state is of another spin: <S^2> {', '.join(f'{value:.3f}' for value in squares)}")
    density = calculation.fcisolver.make_rdm1(calculation.ci, calculation.ncas, calculation.nelecas)
    details["natural_occupations"] = np.linalg.eigvalsh(density)[::-1].round(6).tolist()
    if orbitals is not None:
        active = slice(calculation.ncore, calculation.ncore + calculation.ncas)
        between = begin[:, active].T @ solution.get_ovlp() @ calculation.mo_coeff[:, active]
        details["overlap"] = float(np.linalg.svd(between, compute_uv=False).min())
        if details["overlap"] < space.smallest_overlap:
            raise ActiveSpaceChanged(
                f"the active orbitals are others than those of the reference: smallest overlap {details['overlap']:.2f}, below "
                f"active_space.smallest_overlap = {space.smallest_overlap}"
            )
    return calculation


def label_of(calculation: Any, rotation: NDArray[np.float64]) -> dict[str, Any]:
    """Return the properties of a converged calculation, turned back.

    Raises StatesNotConverged if a response of the orbitals does not converge.
    """
    energies = np.asarray(calculation.e_states, dtype=np.float64)
    order = np.argsort(energies, kind="stable")
    gradients = calculation.nuc_grad_method()
    forces = []
    for state in order:
        forces.append(forces_of(gradients.kernel(state=int(state))) @ rotation.T)
        if not gradients.converged:
            raise StatesNotConverged(
                f"the response of the orbitals of state {state} is not converged, so that it has no forces"
            )
    return {
        "energy": float(energies[order[0]] * HARTREE_EV),
        "forces": forces[0].tolist(),
        "state_energies": (energies[order] * HARTREE_EV).tolist(),
        "state_forces": np.stack(forces, axis=1).tolist(),
    }


class ActiveSpaceStates:
    """Labels of an active space. The reference's orbitals are computed once in a process."""

    def __init__(self, space: ActiveSpace, reference: Structure) -> None:
        self.space = space
        self.reference = reference
        self._known: dict[tuple[int, int], Any] = {}

    def identity(self) -> dict[str, Any]:
        """Return everything that changes the number, the reference geometry among it."""
        return {
            **self.space.identity(),
            "numbers": self.reference.numbers.tolist(),
            "positions": self.reference.positions.tolist(),
        }

    def check(self, elements: Sequence[int]) -> None:
        """Raise QuarryError if the pool has elements that the reference has not."""
        strange = sorted(set(elements) ^ set(self.reference.numbers.tolist()))
        if strange:
            raise QuarryError(
                f"labeling.active_space.reference: pool and reference have other elements ({chemical_symbols[strange[0]]}); "
                "give a geometry of the pool's molecule"
            )

    def check_molecule(self, calculator: Any, structure: Structure) -> None:
        """Raise QuarryError if the active space does not fit a molecule, or its atoms are others than the reference's."""
        if not np.array_equal(structure.numbers, self.reference.numbers):
            raise QuarryError(
                "labeling.active_space.reference: the pool has other atoms, or in another order; give a geometry of its molecule"
            )
        molecule, space = calculator.molecule(structure), self.space
        inactive = molecule.nelectron - space.electrons
        unpaired = structure.multiplicity - 1
        if inactive < 0 or inactive % 2 or unpaired > space.electrons or (space.electrons - unpaired) % 2:
            raise QuarryError(
                f"labeling.active_space.electrons = {space.electrons}: of {molecule.nelectron} electrons with multiplicity "
                f"{structure.multiplicity} that leaves no whole number of filled orbitals; change it"
            )
        if inactive // 2 + space.orbitals > molecule.nao_nr():
            raise QuarryError(
                f"labeling.active_space.orbitals = {space.orbitals}: the basis has only {molecule.nao_nr()} orbitals; lower it"
            )

    def properties(self, calculator: Any, structure: Structure, result: Any) -> dict[str, Any]:
        """Return all properties of a structure; attempts and details go into the result.

        calculator: the ``PyscfCalculator`` of the Hartree-Fock method. Raises Unsolved.
        """
        details = result.details.setdefault("active_space", {})
        turned, rotation = in_place_of(structure, self.reference)
        key = (structure.charge, structure.multiplicity)
        if key not in self._known:
            centred = self.reference.positions - self.reference.positions.mean(axis=0)
            start = replace(structure, positions=centred)
            at_reference = calculator.ground_state(calculator.molecule(start), result)
            self._known[key] = optimised(at_reference, self.space, None, {})
        known = self._known[key]
        solution = calculator.ground_state(calculator.molecule(turned), result)
        wall, cpu = time.perf_counter(), time.process_time()
        problem: dict[str, Any] = {"name": "casscf", "converged": False}
        try:
            from pyscf import mcscf

            orbitals = mcscf.project_init_guess(
                mcscf.CASSCF(solution, self.space.orbitals, self.space.electrons), known.mo_coeff, prev_mol=known.mol
            )
            calculation = optimised(solution, self.space, orbitals, details)
            properties = label_of(calculation, rotation)
            problem["converged"] = True
            return properties
        except Unsolved as error:
            problem["error"] = str(error)
            raise
        finally:
            spent = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
            result.attempts.append({**problem, "cycles": details.get("cycles", 0), **spent})
