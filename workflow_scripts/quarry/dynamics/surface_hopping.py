"""Trajectories that hop between adiabatic potentials, by the Landau-Zener probability of energy gaps alone.

A. K. Belyaev, O. V. Lebedev, Phys. Rev. A 84, 014701 (2011), in the form of A. K. Belyaev, C. Lasser, G. Trigila, J. Chem. Phys.
140, 224108 (2014). At a local minimum in time of the gap Z between the current state and its neighbour, a trajectory hops with

    P = exp(-pi / (2 hbar) sqrt(Z^3 / Z''))

Z'' is the second derivative of Z by the time. The square of the gap of two linear diabatic potentials with a constant coupling is
a parabola in time; so minimum and second derivative are those of the parabola through Z^2 at three times, a the lowest value:
Z^3 / Z'' = 2 a^2 / (Z^2)''. For that model the probability does not depend on the time step.

Hops begin where the gap was smallest of the three times; the velocities of all atoms are scaled so that the total energy is kept.
Where the kinetic energy is too small, a hop is frustrated: the trajectory stays in its state and keeps its velocities.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import constants

from quarry.dynamics.walkers import ACCELERATION

Numbers = NDArray[np.float64]
HBAR_EV_FS = constants.hbar / constants.e / constants.femto

Surfaces = Callable[[Numbers, NDArray[np.int64]], tuple[Numbers, Numbers]]
"""Energies (eV, ascending, shape (n, n_states)) and forces (eV/Angstrom, shape (n, n_states, n_atoms, 3)) of all states at
positions (Angstrom, shape (n, n_atoms, 3)) of the trajectories of these numbers."""
FINISHED, ENERGY, UNPHYSICAL = "finished", "energy_not_conserved", "unphysical"
"""Fates of a trajectory."""


@dataclass(frozen=True)
class Settings:
    """time_step_fs, length_fs: femtoseconds. energy_tolerance_eV: by how much the total energy of a trajectory may be off
    its first before it ends.
    """

    time_step_fs: float
    length_fs: float
    energy_tolerance_eV: float

    @property
    def steps(self) -> int:
        """Time steps of a trajectory."""
        return max(1, round(self.length_fs / self.time_step_fs))


@dataclass(frozen=True, eq=False)
class Start:
    """positions: Angstrom. velocities: Angstrom/fs; both of shape (n_atoms, 3)."""

    positions: Numbers
    velocities: Numbers


@dataclass
class Hop:
    """A hop, or one that was frustrated. time_fs, gap_eV: where it begins. probability: of Landau and Zener."""

    time_fs: float
    before: int
    after: int
    gap_eV: float
    probability: float
    frustrated: bool


@dataclass
class Path:
    """A trajectory: one row for each time, the first at 0.

    states: numbers from the ground state, 0. total_eV: potential of its state and kinetic energy. energies_eV: of all states.
    fate: finished, or why it ended early. evaluations: how often the potentials were asked.
    """

    positions: list[Numbers]
    velocities: list[Numbers]
    states: list[int]
    total_eV: list[float] = field(default_factory=list)
    energies_eV: list[Numbers] = field(default_factory=list)
    forces: list[Numbers] = field(default_factory=list)
    hops: list[Hop] = field(default_factory=list)
    fate: str = ""
    message: str = ""
    evaluations: int = 0
    known_from: int = 0

    def add(self, positions: Numbers, velocities: Numbers, state: int) -> None:
        """Append a time."""
        self.positions.append(positions)
        self.velocities.append(velocities)
        self.states.append(state)

    def back(self) -> None:
        """Drop the last time."""
        for row in (self.positions, self.velocities, self.states, self.total_eV, self.energies_eV, self.forces):
            row.pop()

    @property
    def energy_deviation_eV(self) -> float:
        """Largest distance of the total energy from the first."""
        return float(np.abs(np.array(self.total_eV) - self.total_eV[0]).max()) if self.total_eV else 0.0


def probability(gaps_eV: Sequence[float], time_step_fs: float) -> float:
    """Return the probability of Landau and Zener at a minimum of the gap, of its values at three times.

    gaps_eV: the middle one smallest.
    """
    before, middle, after = (float(gap) ** 2 for gap in gaps_eV)
    curvature = (before - 2 * middle + after) / time_step_fs**2
    if curvature <= 0:
        return 0.0
    slope = (after - before) / (2 * time_step_fs)
    # A gap that vanishes between two times is a crossing; rounding may make the lowest value negative.
    lowest = max(0.0, middle - slope**2 / (2 * curvature))
    return float(np.exp(-np.pi / (2 * HBAR_EV_FS) * lowest * np.sqrt(2.0 / curvature)))


def kinetic_eV(velocities: Numbers, masses_u: Numbers) -> float:
    """Return the kinetic energy. velocities: Angstrom/fs, shape (n_atoms, 3)."""
    return 0.5 * float(np.sum(masses_u[:, None] * velocities**2)) / ACCELERATION


def propagate(
    starts: Sequence[Start],
    state: int,
    masses_u: Numbers,
    surfaces: Surfaces,
    settings: Settings,
    generators: Sequence[np.random.Generator],
    fault: Callable[[Numbers, Numbers], str] = lambda positions, forces: "",
) -> list[Path]:
    """Return trajectories from given starts, all in one state at first; each asks for all its states once a step, all together.

    masses_u: shape (n_atoms,). generators: one for each trajectory; a number is drawn for each minimum of a gap. fault: says of
    positions and forces (n_atoms, 3) what is no chemistry, and so ends a trajectory.
    """
    paths = [Path([start.positions], [start.velocities], [state]) for start in starts]
    _ask(paths, range(len(paths)), surfaces, masses_u)
    step, masses = settings.time_step_fs, masses_u[:, None]
    while going := [number for number, path in enumerate(paths) if not path.fate]:
        for number in going:
            path = paths[number]
            now = path.states[-1]
            # W. C. Swope et al., J. Chem. Phys. 76, 637 (1982): half a kick, the drift, and half a kick with the new forces.
            half = path.velocities[-1] + 0.5 * step * ACCELERATION * path.forces[-1][now] / masses
            path.add(path.positions[-1] + step * half, half, now)
        _ask(paths, going, surfaces, masses_u, step)
        for number in going:
            path = paths[number]
            path.message = fault(path.positions[-1], path.forces[-1][path.states[-1]])
            if path.message:
                path.fate = UNPHYSICAL
            elif abs(path.total_eV[-1] - path.total_eV[0]) > settings.energy_tolerance_eV:
                path.fate = ENERGY
            else:
                _hop(path, masses_u, step, generators[number])
            if not path.fate and len(path.states) > settings.steps:
                path.fate = FINISHED
    return paths


def _ask(
    paths: Sequence[Path], rows: Sequence[int], surfaces: Surfaces, masses_u: Numbers, kick_fs: float = 0.0
) -> None:
    """Give the last time of trajectories its energies and forces, and finish its kick."""
    energies, forces = surfaces(np.stack([paths[row].positions[-1] for row in rows]), np.array(rows, dtype=np.int64))
    for row, energy, force in zip(rows, energies, forces, strict=True):
        path, now = paths[row], paths[row].states[-1]
        path.evaluations += 1
        path.velocities[-1] = path.velocities[-1] + 0.5 * kick_fs * ACCELERATION * force[now] / masses_u[:, None]
        path.energies_eV.append(energy)
        path.forces.append(force)
        path.total_eV.append(float(energy[now]) + kinetic_eV(path.velocities[-1], masses_u))


def _hop(path: Path, masses_u: Numbers, step_fs: float, rng: np.random.Generator) -> None:
    """Hop at the time before the last one, if the gap was smallest there and chance has it so."""
    if len(path.states) - path.known_from < 3:
        return
    now = path.states[-1]
    chances = []
    for other in (now - 1, now + 1):
        if 0 <= other < len(path.energies_eV[-1]):
            gaps = [abs(float(energies[other] - energies[now])) for energies in path.energies_eV[-3:]]
            if gaps[1] < gaps[0] and gaps[1] <= gaps[2]:
                chances.append((other, gaps[1], probability(gaps, step_fs)))
    if not chances:
        return
    # Both neighbours may be at once as near as they come.
    drawn = rng.random() * max(1.0, sum(chance for _, _, chance in chances))
    hit = np.flatnonzero(drawn < np.cumsum([chance for _, _, chance in chances]))
    if not len(hit):
        return
    other, gap, chance = chances[hit[0]]
    path.back()
    place = len(path.states) - 1
    kinetic = kinetic_eV(path.velocities[-1], masses_u)
    needed = float(path.energies_eV[-1][other] - path.energies_eV[-1][now])
    frustrated = needed > kinetic
    path.hops.append(Hop(place * step_fs, now, other, gap, chance, frustrated))
    # Not this minimum again: the next one that counts lies behind the next time.
    path.known_from = place + 1
    if not frustrated:
        path.velocities[-1] = (
            path.velocities[-1] * np.sqrt(1.0 - needed / kinetic) if kinetic > 0 else path.velocities[-1]
        )
        path.states[-1] = other


def populations(
    states: Sequence[Sequence[int] | NDArray[np.int64]], n_states: int, settings: Settings
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return how many trajectories are in each state at each time, shape (n_times, n_states), and how many there are, (n_times,).

    states: of each trajectory at its times. One that ended early counts up to its end.
    """
    counts = np.zeros((settings.steps + 1, n_states), dtype=np.int64)
    for path in states:
        counts[np.arange(len(path)), np.asarray(path)] += 1
    return counts, counts.sum(axis=1)
