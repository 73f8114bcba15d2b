"""PySCF calculations: Hartree-Fock and density functional theory, energy, analytic forces and excited states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyscf import dft, gto, lib, scf
from scipy.spatial.distance import pdist
from threadpoolctl import threadpool_limits

from quarry.config.engines.pyscf import PyscfLabeling
from quarry.config.methods import PyscfMethod
from quarry.errors import QuarryError
from quarry.labeling.engines.base import EngineResult, status_of
from quarry.labeling.engines.pyscf_active_space import ActiveSpaceStates
from quarry.labeling.engines.pyscf_names import is_hartree_fock, load_core_potential, one_line
from quarry.labeling.engines.pyscf_recovery import climb
from quarry.labeling.engines.pyscf_runs import (
    BOHR_A,
    HARTREE_EV,
    Runs,
    ScfNotConverged,
    Unsolved,
    attempt,
    forces_of,
    rotated_guess,
)
from quarry.labeling.engines.pyscf_stability import below_closed_shell, look, minimum_below
from quarry.structures import Structure

"""PySCF's own value: positions are converted with it, so that forces are derivatives with respect to them."""

SHORTEST_DISTANCE_A = 0.1
"""Atoms closer than this are a damaged structure: nuclei fuse below it, basis sets become linearly dependent above."""

DEFAULT_RECOVERY: tuple[str, ...] = tuple(PyscfLabeling.model_fields["recovery"].default)

# PySCF would write a checkpoint file per calculation, which nobody reads here.
scf.hf.MUTE_CHKFILE = True


class PyscfCalculator:
    """Computes structures with one method, restricted for multiplicity 1 and unrestricted otherwise.

    Properties: energy (eV, with dispersion), forces (eV/Angstrom, the negative analytic gradient of the ground state),
    homo, lumo and gap (eV; over both spins; lumo and gap are None if the basis leaves no virtual orbital; the gap is
    negative for a solution that recovery found and that breaks the order of filling), dipole (e*Angstrom, Cartesian,
    origin at the centre of mass, which matters for ions only), excitation_energies and oscillator_strengths on request.
    Details: stability (``quarry.labeling.stability``), excitations (its attempts), both where asked for.

    recovery: names of the recovery steps, in their order (see ``pyscf_recovery``); none means plain.
    stability: which instabilities are followed downhill: none, internal or external (both). looks: look for internal and
    external ones also where none is followed.
    active_space: labels are of its states instead of the method's.
    """

    def __init__(
        self,
        method: PyscfMethod,
        recovery: Sequence[str] = DEFAULT_RECOVERY,
        stability: str = "none",
        looks: bool = False,
        active_space: ActiveSpaceStates | None = None,
    ) -> None:
        self.method = method
        self.recovery = tuple(recovery) or ("plain",)
        self.stability = stability
        self.looks = looks
        self.active_space = active_space
        self.hartree_fock = is_hartree_fock(method.xc)

    def label(self, structure: Structure, threads: int) -> EngineResult:
        """Compute all properties of one structure; whatever goes wrong ends as a typed result."""
        problem = _invalid(structure)
        if problem:
            return EngineResult("invalid_structure", message=problem)
        result = EngineResult("engine_error")
        try:
            with lib.with_omp_threads(threads), threadpool_limits(limits=threads, user_api="blas"):
                molecule = self.molecule(structure)
                result.size = size_of(molecule)
                if self.active_space is not None:
                    result.properties = self.active_space.properties(self, structure, result)
                else:
                    result.properties = self._properties(molecule, result)
                result.status = "ok"
        except Unsolved as error:
            result.status, result.message = error.status, str(error)
        except MemoryError:
            result.status, result.message = "out_of_memory", "PySCF: out of memory"
        except Exception as error:
            result.status, result.message = status_of(error), one_line(error)
        if not all(np.isfinite(value).all() for value in result.properties.values() if value is not None):
            result.status, result.message = "engine_error", "PySCF gave a number that is not finite"
            result.properties = {}
        return result

    def hessian(self, structure: Structure, threads: int) -> NDArray[np.float64]:
        """Return the analytic second derivatives of the energy, hartree/bohr^2, shape (n_atoms, n_atoms, 3, 3).

        Raises QuarryError if the SCF does not converge; what PySCF raises passes.
        """
        with lib.with_omp_threads(threads), threadpool_limits(limits=threads, user_api="blas"):
            try:
                solution = self.ground_state(self.molecule(structure), EngineResult("ok"))
            except ScfNotConverged as error:
                raise QuarryError(
                    f"the SCF of the Hessian did not converge ({error}); raise max_cycles or choose another method"
                ) from error
            return np.asarray(solution.Hessian().kernel(), dtype=np.float64)

    def molecule(self, structure: Structure) -> gto.Mole:
        """Return the PySCF molecule: spherical basis functions, no symmetry, positions as they are."""
        molecule = gto.Mole()
        molecule.build(
            dump_input=False,
            parse_arg=False,
            verbose=0,
            atom=[
                (int(z), tuple(map(float, xyz))) for z, xyz in zip(structure.numbers, structure.positions, strict=True)
            ],
            unit="Angstrom",
            basis=self.method.basis,
            ecp=self._core_potentials(structure),
            charge=structure.charge,
            spin=structure.multiplicity - 1,
            symmetry=False,
            cart=False,
        )
        return molecule

    def _core_potentials(self, structure: Structure) -> dict[str, str]:
        """Return the ECP of each element that has one: PySCF prints a line for each element that has none."""
        if self.method.ecp is None:
            return {}
        symbols = [gto.mole._symbol(int(z)) for z in np.unique(structure.numbers)]
        return {symbol: self.method.ecp for symbol in symbols if load_core_potential(self.method.ecp, symbol)}

    def _calculation(self, molecule: gto.Mole, unrestricted: bool = False) -> scf.hf.SCF:
        """Return the SCF calculation of this level of theory, not yet run. unrestricted: also for a closed shell."""
        restricted = molecule.spin == 0 and not unrestricted
        if self.hartree_fock:
            calculation = scf.RHF(molecule) if restricted else scf.UHF(molecule)
        else:
            calculation = (dft.RKS if restricted else dft.UKS)(molecule, xc=self.method.xc)
            calculation.grids.level = self.method.grid_level
        if self.method.density_fitting:
            from pyscf import df

            # PySCF's default auxiliary basis, with its own fallback for elements that the default lacks.
            auxiliary = df.make_auxbasis(molecule, xc="HF" if self.hartree_fock else self.method.xc)
            calculation = calculation.density_fit(auxbasis=auxiliary)
        calculation.disp = self.method.dispersion
        calculation.conv_tol = self.method.convergence_hartree
        calculation.max_cycle = self.method.max_cycles
        rotated_guess(calculation)
        return calculation

    def ground_state(self, molecule: gto.Mole, result: EngineResult) -> scf.hf.SCF:
        """Return the converged SCF solution; attempts and stability go into the result. Raises ScfNotConverged."""
        runs = Runs(self._calculation(molecule))
        solution = climb(runs, self.recovery, result.attempts)
        if self.stability == "none" and not self.looks:
            return solution

        unrestricted = Runs(self._calculation(molecule, unrestricted=True)) if self.stability == "external" else None

        def downhill(runs: Runs) -> scf.hf.SCF:
            end, found = (solution, look(solution)) if self.stability == "none" else minimum_below(runs, solution)
            try:
                end = below_closed_shell(end, found, unrestricted, before=solution)
            finally:
                if unrestricted is not None:
                    runs.cycles, runs.last = runs.cycles + unrestricted.cycles, unrestricted.last or runs.last
            result.details["stability"] = found
            return end

        return attempt(runs, "stability", downhill, result.attempts)

    def _properties(self, molecule: gto.Mole, result: EngineResult) -> dict[str, Any]:
        """Return all properties; attempts and details go into the result."""
        wanted = self.method.excitations
        if wanted is None:
            return _ground_state_properties(self.ground_state(molecule, result), self.method.forces)
        from quarry.labeling.engines.pyscf_excitations import check_count, excited_states

        check_count(molecule, wanted)
        solution = self.ground_state(molecule, result)
        trials: list[dict[str, Any]] = []
        result.details["excitations"] = trials
        # First the states: they may fail, and then the forces would be for nothing.
        states, transition_orbitals, gradients = excited_states(solution, wanted, trials)
        if transition_orbitals is not None:
            result.details["characters"] = transition_orbitals
        found = {**_ground_state_properties(solution, self.method.forces or wanted.forces), **states}
        if gradients is not None:
            forces = [np.array(found["forces"]), *map(forces_of, gradients())]
            energies = found["energy"] + np.array([0.0, *found["excitation_energies"]])
            found |= {"state_energies": energies.tolist(), "state_forces": np.stack(forces, axis=1).tolist()}
        return found


def size_of(molecule: gto.Mole) -> dict[str, int]:
    """Return what the cost of a label depends on: numbers of atoms and basis_functions."""
    return {"atoms": int(molecule.natm), "basis_functions": int(molecule.nao_nr())}


def _invalid(structure: Structure) -> str | None:
    """Return why a structure cannot be labelled, or None."""
    unpaired = structure.multiplicity - 1
    if len(structure) == 0:
        return "the structure has no atoms"
    if any(structure.pbc):
        return "the structure is periodic; this engine labels molecules"
    if not ((structure.numbers >= 1) & (structure.numbers <= 118)).all():
        return "the structure holds an atomic number outside 1 to 118"
    if not np.isfinite(structure.positions).all():
        return "a position is not finite"
    if len(structure) > 1 and pdist(structure.positions).min() < SHORTEST_DISTANCE_A:
        return f"two atoms are closer than {SHORTEST_DISTANCE_A} Angstrom"
    if structure.electrons < 1 or not 0 <= unpaired <= structure.electrons or (structure.electrons - unpaired) % 2:
        return (
            f"{structure.electrons} electrons (charge {structure.charge}) cannot have multiplicity "
            f"{structure.multiplicity}"
        )
    return None


def _ground_state_properties(calculation: scf.hf.SCF, forces: bool) -> dict[str, Any]:
    """Return the properties of a converged calculation in the units of ``PROPERTIES``."""
    molecule = calculation.mol
    energies, occupations = np.ravel(calculation.mo_energy), np.ravel(calculation.mo_occ)
    homo = float(energies[occupations > 0].max()) * HARTREE_EV
    virtual = energies[occupations == 0]
    lumo = float(virtual.min()) * HARTREE_EV if virtual.size else None
    masses = molecule.atom_mass_list(isotope_avg=True)
    origin = masses @ molecule.atom_coords() / masses.sum()
    dipole = np.asarray(calculation.dip_moment(unit="AU", origin=origin, verbose=0))
    properties = {
        "energy": float(calculation.e_tot) * HARTREE_EV,
        "homo": homo,
        "lumo": lumo,
        "gap": None if lumo is None else lumo - homo,
        "dipole": (dipole * BOHR_A).tolist(),
    }
    if forces:
        properties["forces"] = forces_of(calculation.nuc_grad_method().kernel()).tolist()
    return properties
