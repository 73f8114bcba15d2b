"""A search for conformers: torsions at random, then a relaxation on the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from ase import Atoms

from quarry.config.samplers import Conformers as Settings
from quarry.dynamics.files import Trajectories
from quarry.dynamics.samplers.base import Origin
from quarry.dynamics.samplers.relaxation import Relaxation
from quarry.dynamics.samplers.torsions import needed_bonds, turned
from quarry.structures.copies import copy_groups

SAME_A = 0.15
"""Relaxed geometries that no atom of is further off than this are one conformer, Angstrom."""


class Conformers:
    """Turns all rotatable bonds of the start at random, and relaxes it."""

    def __init__(self, settings: Settings, origin: Origin) -> None:
        """Take how bonds are told and what ends a relaxation."""
        self.settings, self.relaxation = settings, Relaxation(settings, origin)

    def check_start(self, start: Atoms) -> None:
        """Raise QuarryError where a molecule has no bond that can be turned."""
        needed_bonds(start, self.settings.bond_factor)

    def path(self, start: Atoms, number: int, rng: np.random.Generator) -> Iterator[Atoms]:
        """Yield the steps of the relaxation (``PathSampler``)."""
        moved = start
        for bond in needed_bonds(start, self.settings.bond_factor):
            moved = turned(moved, bond, float(rng.uniform(0.0, 360.0)))
        moved.calc = start.calc
        yield from self.relaxation.path(moved, number, rng)


def distinct_of(parts: Sequence[Trajectories]) -> dict[str, int]:
    """Return how many different minima the relaxations of an iteration have reached; mirror images are one."""
    ended = [part.structures[k] for part in parts for k, fate in enumerate(part.fates) if fate == "complete"]
    groups, _, _ = copy_groups(ended, SAME_A)
    return {"distinct_conformers": len(np.unique(groups))}
