"""Trajectories that run side by side: where their atoms are, how they move, and the steps that all of them take at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import ase.units
import numpy as np
from ase.data import atomic_masses
from numpy.typing import NDArray

from quarry.structures import StructureSet

BOLTZMANN_EV_K = ase.units.kB
ACCELERATION = ase.units.fs**2
"""Acceleration in Angstrom/fs^2 by a force of 1 eV/Angstrom on a mass of 1 u."""


@dataclass(frozen=True, eq=False)
class Walkers:
    """Structures with velocities.

    structures: where the atoms are now; their ids say nothing. velocities: Angstrom/fs, shape (n_atoms_total, 3). masses: u,
    shape (n_atoms_total,).
    """

    structures: StructureSet
    velocities: NDArray[np.float64]
    masses: NDArray[np.float64]

    @staticmethod
    def at_rest(structures: StructureSet) -> Walkers:
        """Return structures whose atoms do not move, with standard atomic weights."""
        masses = np.asarray(atomic_masses)[structures.numbers]
        return Walkers(structures, np.zeros((len(masses), 3)), masses)

    def __len__(self) -> int:
        return len(self.structures)

    def subset(self, rows: NDArray[np.int64]) -> Walkers:
        """Return the walkers at ``rows``, in that order."""
        atoms = self.structures.atoms_of(rows)
        return Walkers(self.structures.subset(rows), self.velocities[atoms], self.masses[atoms])

    @property
    def owners(self) -> NDArray[np.int64]:
        """The walker of each atom, shape (n_atoms_total,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.structures.offsets))

    def moved(self, positions: NDArray[np.float64], cells: NDArray[np.float64] | None = None) -> Walkers:
        """Return the walkers at other positions (Angstrom), perhaps in other cells (Angstrom, shape (n, 3, 3))."""
        other = self.structures.cells if cells is None else cells
        return replace(self, structures=replace(self.structures, positions=positions, cells=other))

    def sums(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum over the atoms of each walker, shape (n, ...). values: shape (n_atoms_total, ...)."""
        found = np.zeros((len(self), *values.shape[1:]))
        np.add.at(found, self.owners, values)
        return found

    def strongest(self, forces: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the length of the largest force on an atom of each walker, in the forces' unit, shape (n,)."""
        return np.maximum.reduceat(np.linalg.norm(forces, axis=1), self.structures.offsets[:-1])

    @property
    def kinetic_eV(self) -> NDArray[np.float64]:
        """The kinetic energy of each walker, eV, shape (n,)."""
        return 0.5 * self.sums(self.masses * (self.velocities**2).sum(axis=1)) / ACCELERATION

    @property
    def temperature_K(self) -> NDArray[np.float64]:
        """The kinetic temperature of each walker by three degrees of freedom an atom, kelvin, shape (n,)."""
        return 2.0 * self.kinetic_eV / (3.0 * np.diff(self.structures.offsets) * BOLTZMANN_EV_K)

    def without_drift(self) -> Walkers:
        """Return the walkers without the motion of their centres of mass."""
        momentum = self.sums(self.masses[:, None] * self.velocities)
        drift = momentum / self.sums(self.masses)[:, None]
        return replace(self, velocities=self.velocities - drift[self.owners])


def as_frames(structures: StructureSet) -> StructureSet:
    """Return structures with ids that no other structure has: caches must not take them for known ones."""
    return replace(structures, ids=np.array([f"frame {k}" for k in range(len(structures))]))


def heated(walkers: Walkers, temperature_K: float, generators: Sequence[np.random.Generator]) -> Walkers:
    """Return walkers with velocities of the Maxwell-Boltzmann distribution, without motion of the centre of mass.

    generators: one for each walker, so that a trajectory does not depend on those beside it.
    """
    normal = noise_of(walkers, generators)
    width = np.sqrt(BOLTZMANN_EV_K * temperature_K * ACCELERATION / walkers.masses)
    return replace(walkers, velocities=width[:, None] * normal).without_drift()


def noise_of(walkers: Walkers, generators: Sequence[np.random.Generator]) -> NDArray[np.float64]:
    """Return standard normal numbers for each atom, shape (n_atoms_total, 3), each walker's from its own generator."""
    sizes = np.diff(walkers.structures.offsets)
    return np.concatenate([rng.standard_normal((size, 3)) for rng, size in zip(generators, sizes, strict=True)])
