"""Geometry optimisation and harmonic normal modes of one molecule, with the engine that labels too, or with PySCF."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import ase.units
import numpy as np
import scipy.linalg
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.data import chemical_symbols
from ase.optimize import BFGS
from numpy.typing import NDArray
from pyscf import gto
from pyscf.hessian import thermo

from quarry.config.methods import PyscfMethod
from quarry.errors import QuarryError
from quarry.labeling.engines.base import Engine, EngineResult
from quarry.labeling.engines.pyscf_engine import PyscfEngine
from quarry.sampling.hessian import STEP_A
from quarry.sampling.modes import NormalModes, with_fixed_signs
from quarry.structures import Structure
from quarry.uses.vibrations import displaced, hessian

FORCE_LIMIT_EV_A = 5e-4
"""The optimisation ends when no atom has a larger force (eV/Angstrom)."""
STATIONARY_EV_A = 0.05
"""Largest force of a start geometry that is taken as it is (eV/Angstrom): farther from a stationary point, normal modes have
no meaning."""
MAX_STEPS = 500
LINEAR_A = 5e-3
"""A molecule with all atoms this close to a straight line is linear: an optimised bend is exact to about 1e-3."""
SCF_HARTREE = 1e-10
"""The SCF converges at least this far here: Hessian and force limit need better orbitals than an energy."""


class Hessian(Protocol):
    """A method of the geometry: energies and forces, and second derivatives."""

    @property
    def engine(self) -> Engine:
        """Labels geometries with energy and forces."""
        ...

    @property
    def threads(self) -> int:
        """Threads of a label."""
        ...

    @property
    def finer(self) -> str:
        """End of a sentence on what else may help against imaginary frequencies of its own making, or an empty text."""
        ...

    def of(self, structure: Structure) -> NDArray[np.float64]:
        """Return the second derivatives of the energy, hartree/bohr^2, shape (n_atoms, n_atoms, 3, 3)."""
        ...

    def identity(self) -> dict[str, Any]:
        """Return the method as the file of normal modes names it."""
        ...


class AnalyticHessian:
    """A method of PySCF, with its own second derivatives."""

    finer = ", or choose a finer grid_level of the method"

    def __init__(self, method: PyscfMethod, threads: int) -> None:
        """method: the labels' own may leave forces out and ask for excited states; a geometry is the other way round."""
        self._method = method.model_copy(update={"forces": True, "excitations": None})
        limit = min(method.convergence_hartree, SCF_HARTREE)
        self.engine, self.threads = PyscfEngine(self._method.model_copy(update={"convergence_hartree": limit})), threads

    def of(self, structure: Structure) -> NDArray[np.float64]:
        """Return the second derivatives (``Hessian.of``)."""
        return self.engine.hessian(structure, self.threads)

    def identity(self) -> dict[str, Any]:
        """Return the method (``Hessian.identity``)."""
        return PyscfEngine(self._method).method_identity()


class DisplacedHessian:
    """Any engine whose labels have forces: their central differences, each atom moved by ``STEP_A`` in each direction."""

    finer = ""

    def __init__(self, engine: Engine, threads: int) -> None:
        """engine: labels with energy and forces."""
        self.engine, self.threads = engine, threads

    def of(self, structure: Structure) -> NDArray[np.float64]:
        """Return the second derivatives (``Hessian.of``), 6 labels for each atom."""
        n, forces = len(structure), []
        for positions in displaced(structure.positions, STEP_A):
            moved = Structure(structure.numbers, positions, structure.charge, structure.multiplicity)
            forces.append(_label(self.engine, moved, self.threads).properties["forces"])
        symmetric = hessian(np.array(forces), STEP_A).reshape(n, 3, n, 3)
        return symmetric.transpose(0, 2, 1, 3) * ase.units.Bohr**2 / ase.units.Hartree

    def identity(self) -> dict[str, Any]:
        """Return the method (``Hessian.identity``)."""
        return {**self.engine.method_identity(), "hessian_step_A": STEP_A}


def compute_normal_modes(
    start: Structure, source: Hessian, log: Callable[[str], None], optimise: bool = True
) -> NormalModes:
    """Optimise a molecule and compute its harmonic normal modes.

    source: the method of both. optimise: False takes the start geometry as it is; one that is straight to 0.005 Angstrom is laid
    along z, and exactly. log gets a line per optimisation step, or one with the largest force, and one about the result.
    Raises QuarryError if the optimisation or an SCF does not converge, if it ends at a saddle point, and without an
    optimisation if the start geometry is no minimum.
    """
    if len(start) < 2:
        raise QuarryError("pool.molecule: a single atom has no vibrations; a wigner pool needs at least two atoms")
    engine, threads = source.engine, source.threads
    equilibrium = _optimised(start, engine, threads, log) if optimise else start
    if _distance_from_line(equilibrium.positions).max() < LINEAR_A:
        # On a straight line the Hessian has 3N - 5 vibrations; a hair beside it a bend would pass for a rotation.
        equilibrium = _straightened(equilibrium)
        if optimise:
            equilibrium = _optimised(equilibrium, engine, threads, log)
    label = _label(engine, equilibrium, threads)
    if not optimise:
        _check_stationary(_forces(label, equilibrium), log)
    hessian, molecule = source.of(equilibrium), _bare_molecule(equilibrium)
    masses = molecule.atom_mass_list(isotope_avg=True)
    analysis = thermo.harmonic_analysis(molecule, hessian, imaginary_freq=False, mass=masses)
    frequencies = np.asarray(analysis["freq_wavenumber"], dtype=np.float64)
    log("frequencies (1/cm): " + " ".join(f"{f:.1f}" for f in frequencies))
    modes = NormalModes(
        equilibrium=equilibrium,
        frequencies_cm=frequencies,
        modes=with_fixed_signs(np.asarray(analysis["norm_mode"], dtype=np.float64)),
        masses_u=np.asarray(masses, dtype=np.float64),
        energy_eV=label.properties["energy"],
        method=source.identity(),
    )
    if optimise:
        # Symmetric forces keep a symmetric start symmetric.
        remedy = f"move the atoms of the start geometry by about 0.2 Angstrom, out of its symmetry{source.finer}"
        modes.check("pool.molecule: the optimised geometry", remedy)
    else:
        remedy = "optimise it (set pool.optimise: True) or start from a minimum of the same method"
        modes.check("pool.molecule: the start geometry", remedy)
    return modes


def _check_stationary(forces: NDArray[np.float64], log: Callable[[str], None]) -> None:
    largest = float(np.linalg.norm(forces, axis=1).max())
    log(f"start geometry, not optimised: largest force {largest:.5f} eV/Angstrom")
    if largest > STATIONARY_EV_A:
        raise QuarryError(
            f"pool.molecule: the start geometry is no stationary point, its largest force is {largest:.3f} eV/Angstrom "
            f"(at most {STATIONARY_EV_A}); optimise it (set pool.optimise: True) or start from a minimum of the same method"
        )


class _EngineCalculator(Calculator):
    """ASE's view of the engine; positions are not rounded on the way, or the forces would be rough."""

    def __init__(self, engine: Engine, structure: Structure, threads: int) -> None:
        super().__init__()
        self.implemented_properties = ["energy", "forces"]
        self.engine, self.structure, self.threads = engine, structure, threads

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        s = self.structure
        here = Structure(s.numbers, np.array(self.atoms.positions), s.charge, s.multiplicity)
        label = _label(self.engine, here, self.threads)
        self.results = {"energy": label.properties["energy"], "forces": _forces(label, here)}


def _forces(label: EngineResult, structure: Structure) -> NDArray[np.float64]:
    return _without_rigid_motion(np.array(label.properties["forces"]), structure.positions)


def _label(engine: Engine, structure: Structure, threads: int) -> EngineResult:
    result = engine.label(structure, threads)
    if result.status != "ok":
        raise QuarryError(
            f"pool.molecule: no energy and forces for a geometry ({result.status}: {result.message}); "
            "check geometry, charge and multiplicity, or choose another pool.geometry_method"
        )
    return result


def _bare_molecule(structure: Structure) -> gto.Mole:
    """Return nuclei, which is all that the analysis of a Hessian asks for.

    Each has one function: PySCF warns on the terminal of atoms without any.
    """
    molecule = gto.Mole()
    atoms = [(int(z), tuple(place)) for z, place in zip(structure.numbers, structure.positions, strict=True)]
    basis = {chemical_symbols[z]: [[0, [1.0, 1.0]]] for z in set(structure.numbers.tolist())}
    molecule.build(dump_input=False, parse_arg=False, verbose=0, atom=atoms, unit="Angstrom", basis=basis, spin=None)
    return molecule


def _without_rigid_motion(forces: NDArray[np.float64], positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return forces without net force and torque.

    PySCF's gradients leave out the response of the integration grid, so that coarse grids push the whole molecule
    (0.003 eV/Angstrom for water at level 1); BFGS would follow that push and never end.
    """
    centred = positions - positions.mean(axis=0)
    motions = [np.tile(axis, len(positions)) for axis in np.eye(3)]
    motions += [np.cross(axis, centred).ravel() for axis in np.eye(3)]
    basis = scipy.linalg.orth(np.array(motions).T, rcond=1e-8)
    flat = forces.ravel()
    return (flat - basis @ (basis.T @ flat)).reshape(-1, 3)


def _optimised(start: Structure, engine: Engine, threads: int, log: Callable[[str], None]) -> Structure:
    """Return the nearest stationary point by BFGS, rounded as structures are."""
    atoms = Atoms(numbers=start.numbers, positions=start.positions)
    atoms.calc = _EngineCalculator(engine, start, threads)
    optimiser = BFGS(atoms, logfile=None)

    def report() -> None:
        force = np.linalg.norm(atoms.get_forces(), axis=1).max()
        energy = atoms.get_potential_energy()
        log(f"optimisation step {optimiser.nsteps}: {energy:.6f} eV, largest force {force:.5f} eV/Angstrom")

    optimiser.attach(report)
    if not optimiser.run(fmax=FORCE_LIMIT_EV_A, steps=MAX_STEPS):
        raise QuarryError(
            f"pool.molecule: the geometry optimisation has not converged after {MAX_STEPS} steps; "
            "start from a better geometry, or choose a finer pool.geometry_method.grid_level"
        )
    return Structure.create(start.numbers, atoms.positions, start.charge, start.multiplicity)


def _principal_axes(positions: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    centred = positions - positions.mean(axis=0)
    return centred, np.linalg.svd(centred)[2]


def _distance_from_line(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each atom's distance from the best straight line, Angstrom, shape (n_atoms,)."""
    centred, axes = _principal_axes(positions)
    return np.linalg.norm(centred - np.outer(centred @ axes[0], axes[0]), axis=1)


def _straightened(structure: Structure) -> Structure:
    """Return a linear molecule on the z axis, where rounding keeps it exactly straight; its first atom is lowest."""
    centred, axes = _principal_axes(structure.positions)
    along = centred @ axes[0]
    positions = np.zeros_like(centred)
    positions[:, 2] = along * (1.0 if along[0] < along[-1] else -1.0)
    return Structure.create(structure.numbers, positions, structure.charge, structure.multiplicity)
