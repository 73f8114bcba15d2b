"""Relaxations on the model."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ase import Atoms
from ase.optimize import BFGS, FIRE, LBFGS

from quarry.config.samplers import Conformers
from quarry.config.samplers import Relaxation as Settings
from quarry.dynamics.samplers.base import Origin

OPTIMISERS = {"bfgs": BFGS, "lbfgs": LBFGS, "fire": FIRE}


class Relaxation:
    """Goes down to a minimum by an optimiser of ASE; its steps are the frames."""

    def __init__(self, settings: Settings | Conformers, origin: Origin) -> None:
        """Take what ends a relaxation."""
        self.settings = settings

    def path(self, start: Atoms, number: int, rng: np.random.Generator) -> Iterator[Atoms]:
        """Yield the steps of a relaxation, the start first (``PathSampler``)."""
        optimiser = OPTIMISERS[self.settings.optimiser](start, logfile=None)
        for _ in optimiser.irun(fmax=self.settings.max_force_eV_A, steps=self.settings.steps):
            yield start
