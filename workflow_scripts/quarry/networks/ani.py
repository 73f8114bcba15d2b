"""ANI by the package torchani: networks with random weights for the elements of the training set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols
from ase.units import Hartree
from numpy.typing import NDArray
from torch import Tensor
from torchani.arch import simple_ani

from quarry.config.networks import Ani, NetworkPotential
from quarry.networks.base import Output
from quarry.structures import Structure, StructureSet

ANGULAR_CUTOFF_A = 3.5
"""Largest distance in a triple (ANI-1x, ANI-2x)."""
NO_ATOM = -1


class AniNetwork:
    """A network of the package torchani, in eV."""

    kind = "ani"
    takes_cells = False

    def __init__(self, elements: Sequence[int], cutoff_A: float, device: torch.device) -> None:
        """elements: atomic numbers. Weights come from torch's generator."""
        self.elements: NDArray[np.int64] = np.array(sorted(elements), dtype=np.int64)
        self.cutoff_A = cutoff_A
        self.device = device
        self.module: torch.nn.Module = simple_ani(
            [chemical_symbols[number] for number in self.elements],
            # Names the reference energies of a method, and here there are none.
            lot="wb97x-631gd",
            radial_cutoff=cutoff_A,
            angular_cutoff=min(ANGULAR_CUTOFF_A, cutoff_A),
            repulsion=False,
            self_energies="zero",
        ).to(device)

    @classmethod
    def from_scratch(
        cls, settings: NetworkPotential, structures: StructureSet, seed: int, device: torch.device
    ) -> AniNetwork:
        """Return a network with random weights for the elements of structures."""
        assert isinstance(settings, Ani)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(np.unique(structures.numbers).tolist(), settings.cutoff_A, device)

    @classmethod
    def rebuilt(cls, description: Mapping[str, Any], device: torch.device) -> AniNetwork:
        """Make an untrained network from ``description``."""
        return cls(description["elements"], description["cutoff_A"], device)

    def description(self) -> dict[str, Any]:
        """Return elements and cutoff."""
        return {"elements": self.elements.tolist(), "cutoff_A": self.cutoff_A}

    def graph(self, structure: Structure) -> tuple[Tensor, Tensor]:
        """Return atomic numbers and positions."""
        return torch.from_numpy(structure.numbers), torch.from_numpy(structure.positions.astype(np.float32))

    def evaluate(self, graphs: Sequence[tuple[Tensor, Tensor]], derivatives: bool, learn: bool) -> Output:
        """Return energies, and forces."""
        rows = torch.nn.utils.rnn.pad_sequence([numbers for numbers, _ in graphs], True, NO_ATOM).to(self.device)
        positions = torch.nn.utils.rnn.pad_sequence([places for _, places in graphs], True).to(self.device)
        positions.requires_grad_(derivatives)
        with torch.set_grad_enabled(derivatives or learn):
            energies = self.module((rows, positions)).energies * Hartree
            if not derivatives:
                return Output(energies.double())
            gradient = torch.autograd.grad(energies.sum(), positions, create_graph=learn)[0]
        return Output(energies.double(), -gradient[rows != NO_ATOM])

    def atomic_features(self, graphs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """Nothing: each element has a network of its own, whose features mean something else."""
        raise NotImplementedError
