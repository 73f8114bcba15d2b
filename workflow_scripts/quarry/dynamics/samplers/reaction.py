"""Trajectories that start at a transition state, forward and backward in time, and where they end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from ase.data import covalent_radii
from numpy.typing import NDArray

from quarry.config.samplers import Reaction as Settings
from quarry.dynamics.exploration import Fate
from quarry.dynamics.files import Trajectories
from quarry.dynamics.samplers.base import Origin
from quarry.dynamics.walkers import ACCELERATION, BOLTZMANN_EV_K, Walkers, as_frames
from quarry.errors import QuarryError
from quarry.models.base import Model
from quarry.sampling.hessian import modes_from_forces
from quarry.sampling.modes import NormalModes
from quarry.sampling.wigner import LOW_CM, sample_wigner_motion
from quarry.structures import Structure, StructureSet
from quarry.structures.files import read_molecule

KEY = "pool.explore.sampler"


class Reaction:
    """Starts on both sides of a transition state."""

    def __init__(self, settings: Settings, origin: Origin) -> None:
        """Read the transition state. Raises QuarryError where it is none, or a bond names an atom that it has not."""
        self.settings, path = settings, origin.base / settings.transition_state
        key = f"{KEY}.transition_state"
        self.modes: NormalModes | None = None
        if path.suffix == ".json":
            self.modes = NormalModes.read(path)
            imaginary = int((self.modes.frequencies_cm < 0.0).sum())
            if imaginary != 1:
                raise QuarryError(
                    f"{key}: {path.name} has {imaginary} imaginary modes, and a transition state has one; compute them again "
                    "at a saddle point"
                )
            self.structure = self.modes.equilibrium
        else:
            self.structure = read_molecule(path, key, index="-1")
        self.structures = [self.structure]
        for pair in (*settings.forming, *settings.breaking):
            if max(pair) >= len(self.structure):
                raise QuarryError(
                    f"{KEY}: the bond {pair} names an atom that {path.name} has not; correct it (atoms are counted from 0)"
                )

    def starts(self, model: Model, temperature_K: float, generators: Sequence[np.random.Generator]) -> Walkers:
        """Return the starts of trajectories, pair by pair: one point of phase space, and the same with all velocities reversed.

        Positions and momenta of the modes that are vibrations have their Wigner distribution; the momentum along the reaction
        coordinate has the thermal distribution of those that cross (weighted by the flux), toward the products in the first
        of a pair. Modes below 100 1/cm are taken as if they were there. model: whose Hessian counts where the configuration
        names no modes. generators: one for each trajectory.
        """
        modes = self.modes or modes_from_forces(self.structure, lambda x: self._forces(model, x))
        toward = modes.modes[0] * (-1.0 if self._gain(modes.modes[0]) < 0 else 1.0)
        rest = replace(modes, frequencies_cm=np.maximum(modes.frequencies_cm[1:], LOW_CM), modes=modes.modes[1:])
        structures, velocities = [], []
        for rng in generators[::2]:
            structure, velocity = self.structure, np.zeros_like(toward)
            if len(rest.modes):
                structure, velocity = sample_wigner_motion(rest, temperature_K, rng)
            energy_eV = -BOLTZMANN_EV_K * temperature_K * np.log1p(-rng.uniform())
            velocity = velocity + np.sqrt(2.0 * ACCELERATION * energy_eV) * toward
            structures += [structure, structure]
            velocities += [velocity, -velocity]
        walkers = Walkers.at_rest(StructureSet.from_structures(structures))
        return replace(walkers, velocities=np.concatenate(velocities))

    def goal(self, frame: Structure) -> Fate | None:
        """Return whether a frame is one of the products or of the reactants; None: neither."""
        forming = self._ratios(frame, self.settings.forming)
        breaking = self._ratios(frame, self.settings.breaking)
        within, beyond = self.settings.formed_within, self.settings.broken_beyond
        if (forming < within).all() and (breaking > beyond).all():
            return Fate.PRODUCTS
        if (forming > beyond).all() and (breaking < within).all():
            return Fate.REACTANTS
        return None

    def _forces(self, model: Model, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        n = len(positions)
        same = StructureSet.from_structures([self.structure] * n)
        moved = as_frames(replace(same, positions=positions.reshape(-1, 3)))
        return model.predict(moved, frozenset({"energy", "forces"})).mean["forces"].reshape(positions.shape)

    def _gain(self, direction: NDArray[np.float64]) -> float:
        """Return how much broken bonds lengthen and formed ones shorten along a direction, per unit of it."""
        gain = 0.0
        for pairs, sign in ((self.settings.breaking, 1.0), (self.settings.forming, -1.0)):
            for i, j in pairs:
                bond = self.structure.positions[j] - self.structure.positions[i]
                gain += sign * float(bond @ (direction[j] - direction[i])) / float(np.linalg.norm(bond))
        return gain

    def _ratios(self, frame: Structure, pairs: Sequence[Sequence[int]]) -> NDArray[np.float64]:
        """Return the lengths of bonds over the sum of their covalent radii."""
        i, j = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
        radii = np.asarray(covalent_radii)[frame.numbers]
        return np.linalg.norm(frame.positions[i] - frame.positions[j], axis=1) / (radii[i] + radii[j])


def pairs_of(parts: Sequence[Trajectories]) -> dict[str, int]:
    """Return how many pairs connect reactants and products, how many came back to the side that they came from, and how many
    have not ended on two sides; and how many trajectories ended on each side.
    """
    halves = [pair for part in parts for pair in zip(part.fates[::2], part.fates[1::2], strict=True)]
    sides = Counter(fate for pair in halves for fate in pair)
    ended = [set(pair) for pair in halves if set(pair) <= {Fate.REACTANTS, Fate.PRODUCTS}]
    reactive = sum(len(pair) == 2 for pair in ended)
    return {
        "reactive_pairs": reactive,
        "returned_pairs": len(ended) - reactive,
        "unfinished_pairs": len(halves) - len(ended),
        "reactants": sides[Fate.REACTANTS],
        "products": sides[Fate.PRODUCTS],
    }
