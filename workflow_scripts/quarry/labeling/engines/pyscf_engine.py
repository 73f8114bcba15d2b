"""Labels from PySCF: Hartree-Fock and density functional theory, energy, analytic forces and excited states."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import io
import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyscf
from numpy.typing import NDArray
from pyscf import dft, gto, lib, scf
from pyscf.data import nist
from pyscf.dft import libxc
from pyscf.gto import basis as basis_library
from scipy.spatial.distance import pdist
from threadpoolctl import threadpool_limits

from quarry.config.engines.pyscf import PyscfLabeling
from quarry.config.methods import PyscfMethod
from quarry.config.resources import LabelResources
from quarry.errors import QuarryError, reason_of
from quarry.labeling.engines.base import EngineResult, status_of
from quarry.labeling.engines.pyscf_recovery import climb
from quarry.labeling.engines.pyscf_runs import HARTREE_EV, Runs, ScfNotConverged, Unsolved, attempt, turned_guess
from quarry.labeling.engines.pyscf_stability import below_closed_shell, look, minimum_below
from quarry.structures import Structure

BOHR_A = float(nist.BOHR)
"""PySCF's own value: positions are converted with it, so that forces are derivatives with respect to them."""

SHORTEST_DISTANCE_A = 0.1
"""Atoms closer than this are a damaged structure: nuclei fuse below it, basis sets become linearly dependent above."""

DEFAULT_RECOVERY: tuple[str, ...] = tuple(PyscfLabeling.model_fields["recovery"].default)

# PySCF would write a checkpoint file per calculation, which nobody reads here.
scf.hf.MUTE_CHKFILE = True


class PyscfEngine:
    """Labels from PySCF, restricted for multiplicity 1 and unrestricted otherwise.

    Properties: energy (eV, with dispersion), forces (eV/Angstrom, the negative analytic gradient of the ground state),
    homo, lumo and gap (eV; over both spins; lumo and gap are None if the basis leaves no virtual orbital; the gap is
    negative for a solution that recovery found and that breaks the order of filling), dipole (e*Angstrom, Cartesian,
    origin at the centre of mass, which matters for ions only), excitation_energies and oscillator_strengths on request.
    Details: stability (``quarry.labeling.stability``), excitations (its attempts), both where asked for.

    recovery: names of the ways to the SCF solution, in their order (see ``pyscf_recovery``); none means plain.
    stability: which instabilities are followed downhill: none, internal or external (both). looks: look for internal and
    external ones also where none is followed.
    """

    name = "pyscf"
    periodic = False
    one_job_per_batch = False
    shortest_distance_A = SHORTEST_DISTANCE_A

    def __init__(
        self,
        method: PyscfMethod,
        recovery: Sequence[str] = DEFAULT_RECOVERY,
        stability: str = "none",
        looks: bool = False,
    ) -> None:
        self.method = method
        self.recovery = tuple(recovery) or ("plain",)
        self.stability = stability
        self.looks = looks
        self.hartree_fock = is_hartree_fock(method.xc)

    @classmethod
    def of(cls, labeling: PyscfLabeling, base: Path, resources: LabelResources) -> Self:
        """Return the engine of a section (see ``Engine.of``)."""
        return cls(labeling.method, labeling.recovery, labeling.stability, labeling.look_for_instabilities)

    def method_identity(self) -> dict[str, Any]:
        """Return everything that changes the number, the functional as libxc resolves it.

        recovery, looks, max_cycles and allow_vv10 are left out: they decide whether there is a number, not which (of several
        SCF solutions any may be found, with or without recovery; stability asks for a minimum). The basis is the name
        without case, blanks, - and _ (6-31G* and 6-31g(d) are two identities). What is not asked for is not named.
        Raises QuarryError for an unknown functional.
        """
        method = self.method
        on_request: dict[str, Any] = {}
        if self.stability != "none":
            on_request["stability"] = self.stability
        if method.excitations is not None:
            on_request["excitations"] = method.excitations.identity()
        if not method.forces:
            on_request["forces"] = False
        return {
            "engine": self.name,
            "functional": "hf" if self.hartree_fock else resolve_functional(method.xc),
            "basis": normalised_basis_name(method.basis),
            "ecp": None if method.ecp is None else normalised_basis_name(method.ecp),
            "grid_level": None if self.hartree_fock else method.grid_level,
            "convergence_hartree": method.convergence_hartree,
            "density_fitting": method.density_fitting,
            # The damping parameters belong to the functional's name, which libxc's components do not hold.
            "dispersion": None if method.dispersion is None else f"{method.dispersion}:{dispersion_name(method.xc)}",
            **on_request,
        }

    def size(self, structure: Structure) -> dict[str, int]:
        """Return the numbers of atoms and of basis functions."""
        return _size(self.molecule(structure))

    def versions(self) -> dict[str, str]:
        """Return the versions of PySCF, libxc and, when used, pyscf-dispersion."""
        versions = {"pyscf": pyscf.__version__, "libxc": str(libxc.__version__)}
        if self.method.dispersion is not None:
            versions["pyscf-dispersion"] = importlib.metadata.version("pyscf-dispersion")
        return versions

    def check(self, elements: list[int]) -> None:
        """Raise QuarryError for what PySCF cannot do with this method and these elements (atomic numbers)."""
        from quarry.labeling.engines.pyscf_checks import check_method

        check_method(self.method, elements)

    def check_molecules(self, molecules: Iterable[Structure]) -> None:
        """Raise QuarryError for a molecule that has fewer excited states in the basis than are asked for."""
        from quarry.labeling.engines.pyscf_checks import check_count_of_states

        check_count_of_states(self.method, molecules)

    def label(self, structure: Structure, threads: int) -> EngineResult:
        """Compute all properties of one structure; whatever goes wrong ends as a typed result."""
        problem = _invalid(structure)
        if problem:
            return EngineResult("invalid_structure", message=problem)
        result = EngineResult("engine_error")
        try:
            with lib.with_omp_threads(threads), threadpool_limits(limits=threads, user_api="blas"):
                molecule = self.molecule(structure)
                result.size = _size(molecule)
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
                solution = self._ground_state(self.molecule(structure), EngineResult("ok"))
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
        turned_guess(calculation)
        return calculation

    def _ground_state(self, molecule: gto.Mole, result: EngineResult) -> scf.hf.SCF:
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
            return _ground_state_properties(self._ground_state(molecule, result), self.method.forces)
        from quarry.labeling.engines.pyscf_excitations import check_count, excited_states

        check_count(molecule, wanted)
        solution = self._ground_state(molecule, result)
        trials: list[dict[str, Any]] = []
        result.details["excitations"] = trials
        # First the states: they may fail, and then the forces would be for nothing.
        states, characters = excited_states(solution, wanted, trials)
        if characters is not None:
            result.details["characters"] = characters
        return {**_ground_state_properties(solution, self.method.forces), **states}


def _size(molecule: gto.Mole) -> dict[str, int]:
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
        gradient = np.asarray(calculation.nuc_grad_method().kernel())
        properties["forces"] = (-gradient * HARTREE_EV / BOHR_A).tolist()
    return properties


def is_hartree_fock(xc: str) -> bool:
    """Return whether a name means Hartree-Fock rather than a functional."""
    return xc.strip().lower() == "hf"


@contextlib.contextmanager
def quiet() -> Iterator[io.StringIO]:
    """Collect what PySCF prints on stdout and stderr, and drop its warnings."""
    printed = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        warnings.simplefilter("ignore")
        yield printed


def one_line(error: BaseException) -> str:
    """Return PySCF's reason in one line."""
    return f"PySCF: {reason_of(error, named=True)}"


def normalised_basis_name(name: str) -> str:
    """Return a basis set's name as PySCF looks it up: no case, blanks, - and _."""
    return str(basis_library._format_basis_name(name))


def dispersion_name(xc: str) -> str:
    """Return the functional's name under which the dispersion library looks up its parameters."""
    return "".join(xc.lower().split())


@functools.cache
def load_core_potential(name: str, symbol: str) -> list[Any] | None:
    """Return PySCF's data of an effective core potential ([core electrons, ...]) for an element, or None."""
    try:
        with quiet():
            return list(basis_library.load_ecp(name, symbol)) or None
    except Exception:
        # An empty list, BasisNotFoundError, RuntimeError or TypeError, depending on where PySCF misses it.
        return None


def resolve_functional(xc: str) -> dict[str, Any]:
    """Return a functional as libxc resolves it.

    exact_exchange: PySCF's (hybrid, alpha, omega) given explicitly (a hybrid of libxc has its own inside).
    components: sorted (libxc number, factor) pairs. Nicknames of the same functional give the same result.
    Raises QuarryError (with the key xc) if neither PySCF nor libxc knows the name, or if it fits several functionals.
    """
    try:
        with quiet() as remarks:
            exchange, components = libxc.parse_xc(xc)
    except Exception as error:
        raise QuarryError(f"xc: '{xc}' is unknown ({one_line(error)})") from error
    if "Possible xc_code" in remarks.getvalue():
        # PySCF would take one of a Python set, another one in another process.
        raise QuarryError(f"xc: '{xc}' fits several functionals of libxc; write its full name, e.g. MGGA_X_...")
    factors: dict[int, float] = {}
    for number, factor in components:
        factors[int(number)] = factors.get(int(number), 0.0) + float(factor)
    if not factors and not any(exchange):
        raise QuarryError(f"xc: '{xc}' names no functional; name one, or hf")
    if not all(math.isfinite(value) for value in (*exchange, *factors.values())):
        raise QuarryError(f"xc: '{xc}' has a factor that is not finite")
    return {
        "exact_exchange": [float(value) for value in exchange],
        "components": [[number, factors[number]] for number in sorted(factors)],
    }
