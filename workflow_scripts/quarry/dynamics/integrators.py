"""How walkers move: constant energy, constant temperature, constant pressure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import ase.units
import numpy as np
from numpy.typing import NDArray

from quarry.dynamics.walkers import ACCELERATION, BOLTZMANN_EV_K, Walkers, noise_of


@dataclass(frozen=True, eq=False)
class Forces:
    """What drives walkers now: forces, eV/Angstrom, shape (n_atoms_total, 3); stress, eV/Angstrom^3, shape (n, 3, 3), or None."""

    forces: NDArray[np.float64]
    stress: NDArray[np.float64] | None = None

    def subset(self, walkers: Walkers, rows: NDArray[np.int64]) -> Forces:
        """Return the forces on the walkers at ``rows``."""
        stress = None if self.stress is None else self.stress[rows]
        return Forces(self.forces[walkers.structures.atoms_of(rows)], stress)


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What acts on walkers in a step: the potential, the temperature of the bath (kelvin), and chance, a generator for each."""

    potential: Callable[[Walkers], Forces]
    temperature_K: float
    generators: Sequence[np.random.Generator]


class Integrator(Protocol):
    """Moves walkers by a time step."""

    def step(self, walkers: Walkers, now: Forces, around: Surroundings) -> tuple[Walkers, Forces]:
        """Return the walkers a time step later, and the forces on them there; the potential is asked once.

        now: forces where the walkers are.
        """
        ...


def _kicked(walkers: Walkers, forces: Forces, time_fs: float) -> Walkers:
    acceleration = ACCELERATION * forces.forces / walkers.masses[:, None]
    return replace(walkers, velocities=walkers.velocities + time_fs * acceleration)


def _drifted(walkers: Walkers, time_fs: float) -> Walkers:
    return walkers.moved(walkers.structures.positions + time_fs * walkers.velocities)


@dataclass(frozen=True)
class VelocityVerlet:
    """Constant energy (W. C. Swope et al., J. Chem. Phys. 76, 637 (1982)). time_step_fs: femtoseconds."""

    time_step_fs: float

    def step(self, walkers: Walkers, now: Forces, around: Surroundings) -> tuple[Walkers, Forces]:
        """Return the walkers a time step later, and the forces on them (``Integrator``)."""
        half = 0.5 * self.time_step_fs
        walkers = _drifted(_kicked(walkers, now, half), self.time_step_fs)
        then = around.potential(walkers)
        return _kicked(walkers, then, half), then


@dataclass(frozen=True)
class Langevin:
    """Constant temperature: the splitting BAOAB of Langevin dynamics (B. Leimkuhler, C. Matthews, Appl. Math. Res. Express
    2013, 34).

    time_step_fs: femtoseconds. friction_per_ps: 1/ps.
    """

    time_step_fs: float
    friction_per_ps: float

    def step(self, walkers: Walkers, now: Forces, around: Surroundings) -> tuple[Walkers, Forces]:
        """Return the walkers a time step later, and the forces on them (``Integrator``)."""
        half = 0.5 * self.time_step_fs
        walkers = _drifted(_kicked(walkers, now, half), half)
        kept = np.exp(-self.friction_per_ps * 1e-3 * self.time_step_fs)
        width = np.sqrt((1.0 - kept**2) * BOLTZMANN_EV_K * around.temperature_K * ACCELERATION / walkers.masses)
        velocities = kept * walkers.velocities + width[:, None] * noise_of(walkers, around.generators)
        walkers = _drifted(replace(walkers, velocities=velocities), half)
        then = around.potential(walkers)
        return _kicked(walkers, then, half), then


@dataclass(frozen=True)
class Barostat:
    """Constant temperature and pressure: Langevin dynamics, and cells that keep their shape and change their volume by stochastic
    cell rescaling (M. Bernetti, G. Bussi, J. Chem. Phys. 153, 114107 (2020), for the logarithm of the volume).

    pressure_GPa: wanted. compressibility_per_GPa: the isothermal one that is assumed; it decides how fast volumes change, not
    which they are. time_constant_ps: of the volume.
    """

    thermostat: Langevin
    pressure_GPa: float
    compressibility_per_GPa: float
    time_constant_ps: float

    def step(self, walkers: Walkers, now: Forces, around: Surroundings) -> tuple[Walkers, Forces]:
        """Return the walkers a time step later, and the forces on them (``Integrator``). The potential must give stresses."""
        assert now.stress is not None
        volumes = np.abs(np.linalg.det(walkers.structures.cells))
        # Of the kinetic energy and the virial; a stress is positive where the cell wants to shrink.
        pressure = 2.0 * walkers.kinetic_eV / (3.0 * volumes) - np.trace(now.stress, axis1=1, axis2=2) / 3.0
        rate = (
            self.compressibility_per_GPa / ase.units.GPa / (self.time_constant_ps * 1e3) * self.thermostat.time_step_fs
        )
        thermal = BOLTZMANN_EV_K * around.temperature_K
        chance = np.array([rng.standard_normal() for rng in around.generators])
        strain = (
            rate * (pressure - self.pressure_GPa * ase.units.GPa) + np.sqrt(2.0 * thermal * rate / volumes) * chance
        )
        factor = np.exp(strain / 3.0)
        of_atoms = factor[walkers.owners][:, None]
        structures = walkers.structures
        walkers = replace(walkers, velocities=walkers.velocities / of_atoms).moved(
            structures.positions * of_atoms, structures.cells * factor[:, None, None]
        )
        return self.thermostat.step(walkers, now, around)
