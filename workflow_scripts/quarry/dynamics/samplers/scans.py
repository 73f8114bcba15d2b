"""Scans: geometries along a normal mode or a torsion, from the start on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ase import Atoms

from quarry.config.samplers import NormalModeScan as ModeSettings
from quarry.config.samplers import TorsionScan as TorsionSettings
from quarry.dynamics.samplers.base import Origin
from quarry.dynamics.samplers.torsions import needed_bonds, turned


class NormalModeScan:
    """From the minimum along a mode, one way or the other."""

    def __init__(self, settings: ModeSettings, origin: Origin) -> None:
        """Take the modes of the pool; before they are computed there are none."""
        self.settings, self.modes = settings, origin.modes

    def path(self, start: Atoms, number: int, rng: np.random.Generator) -> Iterator[Atoms]:
        """Yield the frames of a scan (``PathSampler``); start is not looked at."""
        assert self.modes is not None
        vectors = self.modes.modes
        mixture = np.zeros(len(vectors))
        if number < 2 * len(vectors):
            mixture[number // 2] = 1.0 - 2.0 * (number % 2)
        else:
            # By the widths of their harmonic motion, so that stiff modes do not prevail.
            mixture = rng.standard_normal(len(vectors)) / np.sqrt(self.modes.frequencies_cm)
        direction = np.tensordot(mixture, vectors, axes=1)
        direction *= self.settings.displacement_A / np.linalg.norm(direction, axis=1).max()
        for k in range(1, self.settings.points + 1):
            frame = self.modes.equilibrium.to_atoms()
            frame.positions += direction * (k / self.settings.points)
            yield frame


class TorsionScan:
    """A bond of the start, turned once around."""

    def __init__(self, settings: TorsionSettings, origin: Origin) -> None:
        """Take how a bond is turned."""
        self.settings = settings

    def check_start(self, start: Atoms) -> None:
        """Raise QuarryError where a molecule has no bond that can be turned."""
        needed_bonds(start, self.settings.bond_factor)

    def path(self, start: Atoms, number: int, rng: np.random.Generator) -> Iterator[Atoms]:
        """Yield the frames of a scan (``PathSampler``); walk ``number`` turns bond ``number`` modulo their number."""
        bonds = needed_bonds(start, self.settings.bond_factor)
        for k in range(self.settings.points):
            yield turned(start, bonds[number % len(bonds)], 360.0 * k / self.settings.points)
