"""Calculators of ASE and a network of another package, in place of real ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from quarry.networks.base import Output
from quarry.structures import Structure

CALCULATOR = """
import numpy as np
from ase.calculators.calculator import Calculator, all_changes
class Pairs(Calculator):
    '''E = depth * sum over pairs of exp(-r), -30 eV for each atom; counts what it is asked.'''
    implemented_properties = ["energy", "forces"]
    asked = []
    def __init__(self, depth=2.0, table=None):
        super().__init__()
        self.depth = float(open(table).read()) if table else depth
    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        if 17 in atoms.numbers:
            raise ValueError("no parameters for Cl")
        Pairs.asked.append(len(atoms))
        vectors = atoms.positions[:, None] - atoms.positions[None]
        r = np.linalg.norm(vectors, axis=2) + np.eye(len(atoms))
        values = self.depth * np.exp(-r) * (1 - np.eye(len(atoms)))
        self.results["energy"] = 0.5 * values.sum() - 30.0 * len(atoms)
        self.results["forces"] = (values[:, :, None] * vectors / r[:, :, None]).sum(1)
"""
"""A module of the user's with a calculator."""


def pairs_energy_and_forces(structure: Structure, depth: float = 2.0) -> tuple[float, np.ndarray]:
    """What the calculator above says."""
    n = len(structure)
    vectors = structure.positions[:, None] - structure.positions[None]
    r = np.linalg.norm(vectors, axis=2) + np.eye(n)
    values = depth * np.exp(-r) * (1 - np.eye(n))
    return 0.5 * values.sum() - 30.0 * n, (values[:, :, None] * vectors / r[:, :, None]).sum(1)


def write_calculator(folder: Path, name: str) -> str:
    """Write the calculator as a module of a name; return its import path."""
    (folder / f"{name}.py").write_text(CALCULATOR)
    return f"{name}:Pairs"


class ToyModule(torch.nn.Module):
    """Two decays of pairs, with a weight for each element's feature."""

    def __init__(self, elements: Sequence[int]) -> None:
        super().__init__()
        self.weights = torch.nn.Parameter(torch.randn(len(elements), 2))


class ToyNetwork:
    """Stands for a package's network: pairs of atoms within a cutoff, molecules only."""

    kind = "ani"
    takes_cells = False
    cutoff_A = 4.0

    def __init__(self, elements: Sequence[int]) -> None:
        self.elements = np.array(elements)
        self.module = ToyModule(elements)

    @classmethod
    def pretrained(cls, model: str, device: Any) -> ToyNetwork:
        """A network with fixed weights; the file, if it is one, must be there."""
        if "/" in model:
            Path(model).read_bytes()
        torch.manual_seed(1)
        return cls([1, 6, 8])

    @classmethod
    def from_scratch(cls, settings: Any, structures: Any, seed: int, device: Any) -> ToyNetwork:
        torch.manual_seed(seed)
        return cls(np.unique(structures.numbers).tolist())

    @classmethod
    def rebuilt(cls, description: Mapping[str, Any], device: Any) -> ToyNetwork:
        return cls(description["elements"])

    def description(self) -> dict[str, Any]:
        return {"elements": self.elements.tolist()}

    def graph(self, structure: Structure) -> tuple[np.ndarray, Tensor]:
        return np.searchsorted(self.elements, structure.numbers), torch.from_numpy(structure.positions)

    def _features(self, positions: Tensor) -> Tensor:
        n = len(positions)
        far = 1e3 * torch.eye(n, dtype=positions.dtype)
        r = ((positions[:, None] - positions[None]) ** 2).sum(2).add(far).sqrt()
        return torch.stack([torch.exp(-r).sum(1), torch.exp(-2 * r).sum(1)], dim=1)

    def evaluate(self, graphs: Sequence[Any], derivatives: bool, learn: bool) -> Output:
        energies, forces = [], []
        for places, positions in graphs:
            moving = positions.clone().requires_grad_(derivatives)
            energy = (self._features(moving) * self.module.weights.double()[places]).sum()
            energies.append(energy)
            if derivatives:
                forces.append(-torch.autograd.grad(energy, moving, create_graph=learn)[0])
        return Output(torch.stack(energies), torch.cat(forces) if derivatives else None)

    def atomic_features(self, graphs: Sequence[Any]) -> Tensor:
        return torch.cat([self._features(positions) for _, positions in graphs])
