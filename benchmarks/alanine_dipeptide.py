"""Alanine dipeptide in vacuum with the AMBER force field ff19SB by OpenMM, as an ASE calculator.

A campaign uses it with this file beside its own (pip install openmm):

    labeling: {engine: ase, calculator: "alanine_dipeptide:Amber"}
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from numpy.typing import NDArray

EV_PER_KJ_MOL = 0.010364269656262174
PHI, PSI = (4, 6, 8, 14), (6, 8, 14, 16)
"""Atoms of the two dihedral angles of the Ramachandran map."""
ATOMS = (
    ("ACE", ("HH31", "CH3", "HH32", "HH33", "C", "O")),
    ("ALA", ("N", "H", "CA", "HA", "CB", "HB1", "HB2", "HB3", "C", "O")),
    ("NME", ("N", "H", "CH3", "HH31", "HH32", "HH33")),
)
"""Residues and the names of their atoms, in the order of the positions."""
BONDS = (
    *((1, 0), (1, 2), (1, 3), (1, 4), (4, 5), (4, 6), (6, 7), (6, 8), (8, 9), (8, 10), (10, 11), (10, 12), (10, 13)),
    *((8, 14), (14, 15), (14, 16), (16, 17), (16, 18), (18, 19), (18, 20), (18, 21)),
)
EXTENDED = np.array(
    [
        *([2.0, 1.0, 0.0], [2.0, 2.09, 0.0], [1.486, 2.454, 0.89], [1.486, 2.454, -0.89], [3.427, 2.641, 0.0]),
        *([4.391, 1.877, 0.0], [3.555, 3.97, 0.0], [2.733, 4.556, 0.0], [4.853, 4.614, 0.0], [5.408, 4.316, 0.89]),
        *([5.661, 4.221, -1.232], [5.123, 4.521, -2.131], [6.63, 4.719, -1.206], [5.809, 3.141, -1.241]),
        *([4.713, 6.129, 0.0], [3.601, 6.653, 0.0], [5.846, 6.835, 0.0], [6.737, 6.359, 0.0], [5.846, 8.284, 0.0]),
        *([4.819, 8.648, 0.0], [6.36, 8.648, 0.89], [6.36, 8.648, -0.89]),
    ]
)
"""An extended geometry with ideal bonds, Angstrom."""
NUMBERS = np.array([{"H": 1, "C": 6, "N": 7, "O": 8}[name[0]] for _, names in ATOMS for name in names])


@lru_cache(maxsize=1)
def system() -> Any:
    """Return OpenMM's system: no cutoff, no constraint."""
    from openmm import app

    topology = app.Topology()
    chain, atoms = topology.addChain(), []
    for residue, names in ATOMS:
        made = topology.addResidue(residue, chain)
        atoms += [topology.addAtom(name, app.Element.getBySymbol(name[0]), made) for name in names]
    for first, second in BONDS:
        topology.addBond(atoms[first], atoms[second])
    field = app.ForceField("amber19/protein.ff19SB.xml")
    return field.createSystem(topology, nonbondedMethod=app.NoCutoff, constraints=None)


@lru_cache(maxsize=1)
def context() -> Any:
    """Return a context that computes energies and forces in double precision on one core."""
    import openmm

    integrator = openmm.VerletIntegrator(1e-6)
    return openmm.Context(system(), integrator, openmm.Platform.getPlatformByName("Reference"))


def energy_and_forces(positions: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """Return the energy, eV, and the forces, eV/Angstrom, shape (22, 3). positions: Angstrom, shape (22, 3)."""
    from openmm import unit

    context().setPositions(0.1 * positions)
    state = context().getState(getEnergy=True, getForces=True)
    kj_mol = unit.kilojoule_per_mole
    forces = np.asarray(state.getForces(asNumpy=True).value_in_unit(kj_mol / unit.angstrom))
    return float(state.getPotentialEnergy().value_in_unit(kj_mol)) * EV_PER_KJ_MOL, EV_PER_KJ_MOL * forces


class Amber(Calculator):
    """The force field as a calculator, of alanine dipeptide with its atoms in the order of ``ATOMS``."""

    implemented_properties: list[str] = ["energy", "forces"]  # noqa: RUF012 (as ASE's own class has it)

    def calculate(self, atoms: Atoms | None = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        """Compute energy and forces."""
        super().calculate(atoms, properties, system_changes)
        if list(self.atoms.numbers) != NUMBERS.tolist():
            raise ValueError("this is no alanine dipeptide with its atoms in the order of alanine_dipeptide.ATOMS")
        energy, forces = energy_and_forces(self.atoms.positions)
        self.results = {"energy": energy, "forces": forces}


def dihedrals(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return phi and psi, degrees from -180 to 180, shape (n, 2). positions: Angstrom, shape (n, 22, 3)."""
    found = []
    for a, b, c, d in (PHI, PSI):
        first, axis, last = (positions[:, j] - positions[:, i] for i, j in ((a, b), (b, c), (c, d)))
        left, right = np.cross(first, axis), np.cross(axis, last)
        across = np.linalg.norm(axis, axis=1) * (first * right).sum(axis=1)
        found.append(np.degrees(np.arctan2(across, (left * right).sum(axis=1))))
    return np.stack(found, axis=1)


def turned(phi: float, psi: float) -> NDArray[np.float64]:
    """Return ``EXTENDED`` with other dihedral angles, degrees."""
    atoms = Atoms(NUMBERS, EXTENDED)
    atoms.set_dihedral(*PHI, phi, indices=[*range(9, 22)])
    atoms.set_dihedral(*PSI, psi, indices=[*range(15, 22)])
    return np.asarray(atoms.positions)


def trajectory(
    temperature_K: float, steps: int, every: int, seed: int, start: tuple[float, float] | None = None
) -> NDArray[np.float64]:
    """Return frames of Langevin dynamics with the force field itself, Angstrom, shape (n, 22, 3), in steps of 1 fs.

    every: steps between frames. start: dihedral angles, degrees; None: extended. The geometry is optimised first.
    """
    import openmm
    from openmm import unit

    integrator = openmm.LangevinMiddleIntegrator(
        temperature_K * unit.kelvin, 1.0 / unit.picosecond, 1.0 * unit.femtosecond
    )
    integrator.setRandomNumberSeed(seed)
    run = openmm.Context(system(), integrator, openmm.Platform.getPlatformByName("Reference"))
    run.setPositions(0.1 * (EXTENDED if start is None else turned(*start)))
    openmm.LocalEnergyMinimizer.minimize(run)
    run.setVelocitiesToTemperature(temperature_K * unit.kelvin, seed)
    frames = []
    for _ in range(steps // every):
        integrator.step(every)
        positions = run.getState(getPositions=True).getPositions(asNumpy=True)
        frames.append(np.asarray(positions.value_in_unit(unit.angstrom)))
    return np.array(frames)
