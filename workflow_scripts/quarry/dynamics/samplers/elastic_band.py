"""Nudged elastic bands of the model between given minima."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ase import Atoms
from ase.build import minimize_rotation_and_translation
from ase.mep import NEB
from ase.optimize import FIRE

from quarry.config.samplers import ElasticBand as Settings
from quarry.dynamics.model_calculator import ModelCalculator
from quarry.dynamics.samplers.base import Origin
from quarry.errors import QuarryError
from quarry.structures.files import read_molecule


class ElasticBand:
    """Relaxes a band (G. Henkelman, B. P. Uberuaga, H. Jonsson, J. Chem. Phys. 113, 9901 (2000), by ASE) from the interpolation
    of S. Smidstrup et al., J. Chem. Phys. 140, 214106 (2014); its images after each step are the frames.
    """

    def __init__(self, settings: Settings, origin: Origin) -> None:
        """Read the minima. Raises QuarryError where they are not the same atoms in the same order."""
        self.settings = settings
        key = "pool.explore.sampler.minima"
        self.structures = [read_molecule(origin.base / name, key, index="-1") for name in settings.minima]
        first = self.structures[0]
        for name, other in zip(settings.minima[1:], self.structures[1:], strict=True):
            if not np.array_equal(first.numbers, other.numbers):
                raise QuarryError(f"{key}: {name} has other atoms than {settings.minima[0]}, or another order of them")
        for one, two, name in zip(self.structures, self.structures[1:], settings.minima[1:], strict=False):
            if one.structure_id == two.structure_id:
                raise QuarryError(f"{key}: {name} is the structure before it; a band needs two minima")

    def path(self, start: Atoms, number: int, rng: np.random.Generator) -> Iterator[list[Atoms]]:
        """Yield the images of a band after each step (``PathSampler``); of start the calculator alone is used."""
        ends = [self.structures[number].to_atoms(), self.structures[number + 1].to_atoms()]
        if not ends[0].pbc.any():
            minimize_rotation_and_translation(ends[0], ends[1])
        images = [ends[0], *(ends[0].copy() for _ in range(self.settings.images)), ends[1]]
        calculator = start.calc
        assert isinstance(calculator, ModelCalculator)
        for image in images:
            image.calc = calculator.again()
        band = NEB(images, climb=self.settings.climb, method="improvedtangent")
        band.interpolate(method="idpp", mic=bool(ends[0].pbc.any()))
        optimiser = FIRE(band, logfile=None)
        # Looked at before the band asks for forces, and before each step.
        yield images
        for _ in optimiser.irun(fmax=self.settings.max_force_eV_A, steps=self.settings.steps):
            yield images
