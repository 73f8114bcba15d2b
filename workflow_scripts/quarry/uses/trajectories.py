"""A trajectory at constant energy, and how well it keeps it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import ase.units
import numpy as np
from ase import Atoms
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import Stationary, ZeroRotation
from ase.md.verlet import VelocityVerlet
from numpy.typing import NDArray

from quarry.config.uses import MolecularDynamics
from quarry.errors import QuarryError
from quarry.uses.vibrations import rigid_motions

FRICTION_PER_FS = 0.01
"""Of the thermostat: it forgets velocities in 100 fs."""


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Frames of a trajectory, the first at time zero.

    times_fs, potential_eV, kinetic_eV, temperature_K (of the motions that are free: all but translations, and rotations of
    molecules): shape (n_frames,). positions_A: shape (n_frames, n_atoms, 3).
    """

    times_fs: NDArray[np.float64]
    potential_eV: NDArray[np.float64]
    kinetic_eV: NDArray[np.float64]
    temperature_K: NDArray[np.float64]
    positions_A: NDArray[np.float64]

    def energy_drift(self) -> tuple[float, float]:
        """Return drift and fluctuation of the total energy: its slope (meV/atom/ps, least squares), and the root mean square
        distance from that line (meV/atom).
        """
        energies = 1e3 * (self.potential_eV + self.kinetic_eV) / self.positions_A.shape[1]
        times_ps = self.times_fs / 1e3
        slope, start = np.polyfit(times_ps, energies - energies[0], 1)
        off = energies - energies[0] - slope * times_ps - start
        return float(slope), float(np.sqrt(np.mean(off**2)))


def run(atoms: Atoms, settings: MolecularDynamics, rng: np.random.Generator, tell: Callable[[str], None]) -> Trajectory:
    """Return a trajectory from a structure with a calculator; the structure is not changed. tell: gets a line now and then.

    A Langevin thermostat, then velocity Verlet. The centre of mass rests, and molecules do not turn. Raises QuarryError where the
    calculator refuses a geometry, with the time.
    """
    moving = atoms.copy()
    moving.calc = atoms.calc
    step = settings.time_step_fs * ase.units.fs
    widths = np.sqrt(moving.get_masses() * ase.units.kB * settings.temperature_K)
    moving.set_momenta(rng.standard_normal((len(moving), 3)) * widths[:, None])
    _at_rest(moving)
    warm = round(1000 * settings.equilibration_ps / settings.time_step_fs)
    friction = FRICTION_PER_FS / ase.units.fs
    bath = Langevin(moving, step, temperature_K=settings.temperature_K, friction=friction, fixcm=False, rng=rng)
    _advance(bath, warm, "with the thermostat")
    _at_rest(moving)
    rigid = 3 if moving.pbc.any() else rigid_motions(moving.positions, moving.get_masses()).shape[1]
    free = 3 * len(moving) - rigid
    frames = [_frame(moving, free)]
    verlet = VelocityVerlet(moving, step)
    for number in range(1, settings.n_frames + 1):
        _advance(verlet, settings.steps_of_frame, "at constant energy")
        frames.append(_frame(moving, free))
        if number % max(1, settings.n_frames // 10) == 0:
            tell(f"frame {number} of {settings.n_frames}")
    potential, kinetic, temperature, positions = (np.array(part) for part in zip(*frames, strict=True))
    times_fs = np.arange(len(frames), dtype=np.float64) * settings.steps_of_frame * settings.time_step_fs
    return Trajectory(times_fs, potential, kinetic, temperature, positions)


def _at_rest(atoms: Atoms) -> None:
    # Not at the price of hotter vibrations, as ASE has it by default.
    Stationary(atoms, preserve_temperature=False)
    if not atoms.pbc.any():
        # The axis of a straight molecule, about which nothing turns, is a division by zero that ASE drops.
        with np.errstate(divide="ignore", invalid="ignore"):
            ZeroRotation(atoms, preserve_temperature=False)


def _advance(dynamics: VelocityVerlet | Langevin, steps: int, how: str) -> None:
    try:
        dynamics.run(steps)
    except QuarryError as error:
        raise QuarryError(
            f"uses.md: the trajectory leaves what the model knows after {dynamics.nsteps} steps {how}: {error}; lower "
            "uses.md.temperature_K or time_step_fs, or label more"
        ) from error


def _frame(atoms: Atoms, free: int) -> tuple[float, float, float, NDArray[np.float64]]:
    kinetic = atoms.get_kinetic_energy()
    return atoms.get_potential_energy(), kinetic, 2.0 * kinetic / (free * ase.units.kB), atoms.positions.copy()
