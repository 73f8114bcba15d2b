"""Potentials with uncertainties for trajectories, as models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.emt import EMT

from quarry.models.base import STD_GRADIENT, Prediction, UncertaintyGradient
from quarry.structures import Structure
from support.campaigns import stand_in_configuration

WATER = Structure.create([8, 1, 1], np.array([[0.0, 0.0, 0.117], [0.0, 0.757, -0.469], [0.0, -0.757, -0.469]]))


@dataclass
class EmtModel:
    """Effective medium theory; the uncertainty of the energy is the largest distance between two atoms."""

    calls: int = 0
    die_after: int | None = None

    def predict(self, structures, want):
        self.calls += 1
        if self.die_after is not None and self.calls > self.die_after:
            raise KeyboardInterrupt
        energies, forces, stresses, std = [], [], [], []
        for structure in structures:
            atoms = structure.to_atoms()
            atoms.calc = EMT()
            energies.append(atoms.get_potential_energy())
            forces.append(atoms.get_forces())
            stresses.append(atoms.get_stress(voigt=False) if "stress" in want else np.zeros((3, 3)))
            std.append(atoms.get_all_distances().max())
        mean = {"energy": np.array(energies), "forces": np.concatenate(forces), "stress": np.array(stresses)}
        return Prediction(mean, {"energy": np.array(std)})


@dataclass
class Springs:
    """Each atom bound to the origin by a spring (eV/Angstrom^2); no uncertainty."""

    constant: float
    uncertainty: float = 0.0
    seen: list = field(default_factory=list)

    def predict(self, structures, want):
        n = len(structures)
        forces = -self.constant * structures.positions
        energies = np.zeros(n)
        return Prediction(
            {"energy": energies, "forces": forces, "stress": np.zeros((n, 3, 3))},
            {"energy": np.full(n, self.uncertainty)},
        )


@dataclass
class TwoWells:
    """An atom in two wells along x at -1 and 1 Angstrom and springs across; the uncertainty of the energy grows with x.

    barrier_eV: between the wells. spring: eV/Angstrom^2. slope: of the uncertainty, 1/Angstrom. calls: as of ``EmtModel``.
    """

    barrier_eV: float = 0.5
    spring: float = 30.0
    slope: float = 1e-3
    calls: int = 0
    die_after: int | None = None

    def predict(self, structures, want):
        self.calls += 1
        if self.die_after is not None and self.calls > self.die_after:
            raise KeyboardInterrupt
        x = structures.positions[:, 0]
        forces = -self.spring * structures.positions
        forces[:, 0] = -4.0 * self.barrier_eV * x * (x * x - 1.0)
        energies = self.barrier_eV * (x * x - 1.0) ** 2
        energies += 0.5 * self.spring * (structures.positions[:, 1:] ** 2).sum(axis=1)
        gradient = np.zeros_like(structures.positions)
        gradient[:, 0] = self.slope
        said = UncertaintyGradient(gradient) if STD_GRADIENT in want else None
        return Prediction({"energy": energies, "forces": forces}, {"energy": 10.0 + self.slope * x}, std_gradient=said)


@dataclass
class OfAtoms:
    """Any energy (eV) of ASE atoms; forces by central differences. The uncertainty of the energy is ``unsure`` of the atoms."""

    energy: Callable[[Atoms], float]
    unsure: Callable[[Atoms], float] = lambda atoms: 0.0
    step_A: float = 1e-5

    def predict(self, structures, want):
        energies, forces, std = [], [], []
        for structure in structures:
            atoms = structure.to_atoms()
            energies.append(self.energy(atoms))
            std.append(self.unsure(atoms))
            if "forces" in want:
                forces.append(self.forces(atoms))
        mean = {"energy": np.array(energies)} | ({"forces": np.concatenate(forces)} if forces else {})
        return Prediction(mean, {"energy": np.array(std)})

    def forces(self, atoms):
        found = np.zeros((len(atoms), 3))
        for place in np.ndindex(found.shape):
            for sign in (1.0, -1.0):
                moved = atoms.copy()
                moved.positions[place] += sign * self.step_A
                found[place] -= sign * self.energy(moved) / (2.0 * self.step_A)
        return found


def double_well(atoms):
    """Return the energy of a diatomic with minima at 1 and 2 Angstrom and a barrier of 1 eV at 1.5 Angstrom."""
    return 16.0 * ((atoms.get_distance(0, 1) - 1.5) ** 2 - 0.25) ** 2


def threefold(atoms):
    """Return the energy of a chain of four atoms with stiff bonds and angles and a threefold torsion: minima at 60, 180, 300."""
    wanted = ((0, 1, 1.0), (1, 2, 1.45), (2, 3, 1.0), (0, 2, 1.9), (1, 3, 1.9))
    stiff = sum(20.0 * (atoms.get_distance(i, j) - length) ** 2 for i, j, length in wanted)
    return stiff + 0.2 * (1.0 + np.cos(3.0 * np.radians(atoms.get_dihedral(0, 1, 2, 3))))


INITIAL = {"source": "file", "files": ["pool.extxyz"]}


def dynamics(
    explore: dict[str, Any] | None = None, pool: dict[str, Any] | None = None, **changes: Any
) -> dict[str, Any]:
    """Return the configuration of a campaign of trajectories."""
    source = {"source": "dynamics", "initial": INITIAL, "explore": explore or {}, **(pool or {})}
    configuration = stand_in_configuration(pool=source, target="energy_forces", model={"kind": "kreg"})
    return {**configuration, **changes}
