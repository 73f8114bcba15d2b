"""What a network of another package is to Quarry, and how it is asked of many structures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from ase.data import chemical_symbols
from numpy.typing import NDArray
from torch import Tensor

from quarry.errors import QuarryError
from quarry.structures import Structure, StructureSet
from quarry.structures.structure import blocks_of

TOGETHER = 256
"""Atoms of a block of structures that are computed together; layers of these networks take some MB an atom."""


@dataclass
class Output:
    """Of n structures: energies (eV, double, shape (n,)), forces (eV/Angstrom, (n_atoms, 3)) and stresses (eV/Angstrom^3,
    (n, 3, 3), the sign of ASE) where they are asked for.
    """

    energies: Tensor
    forces: Tensor | None = None
    stresses: Tensor | None = None


class Network(Protocol):
    """A potential of another package. Its energies have atomic references of their own."""

    kind: str
    elements: NDArray[np.int64]
    """Atomic numbers that it knows, ascending."""
    takes_cells: bool
    cutoff_A: float
    """Distance within which atoms are neighbours."""
    module: torch.nn.Module

    def graph(self, structure: Structure) -> Any:
        """Return a structure with its neighbours, as the package wants it."""
        ...

    def evaluate(self, graphs: Sequence[Any], derivatives: bool, learn: bool) -> Output:
        """Return energies, and forces if ``derivatives``; learn: they will be differentiated by the weights."""
        ...

    def atomic_features(self, graphs: Sequence[Any]) -> Tensor:
        """Return the rotationally invariant features of the atoms before the last layers, shape (n_atoms, width)."""
        ...

    def description(self) -> dict[str, Any]:
        """Return what the network is made from beside its weights, as JSON-able data."""
        ...


def check_domain(network: Network, structures: StructureSet, key: str) -> None:
    """Raise QuarryError, one line, for structures that a network cannot take. key: of the configuration, that names it."""
    strange = ~np.isin(structures.numbers, network.elements)
    if strange.any():
        first = int(np.searchsorted(structures.offsets, np.argmax(strange), side="right")) - 1
        names = ", ".join(chemical_symbols[number] for number in np.unique(structures.numbers[strange]))
        raise QuarryError(
            f"{key}: the network does not know the element {names} (structure {structures.ids[first]}); use another network, or "
            "leave such structures out of the pool"
        )
    periodic = structures.pbc.any(axis=1)
    if periodic.any() and not network.takes_cells:
        first = structures.ids[int(np.argmax(periodic))]
        raise QuarryError(f"{key}: it takes molecules only, and structure {first} is periodic; use another kind")


def blocks(network: Network, structures: StructureSet) -> Iterator[tuple[NDArray[np.int64], list[Any]]]:
    """Yield rows of structures with their graphs, in blocks of bounded size."""
    for rows in blocks_of(structures.offsets, TOGETHER):
        yield rows, [network.graph(structures[int(row)]) for row in rows]


def predict(network: Network, structures: StructureSet, derivatives: bool) -> dict[str, NDArray[np.float64]]:
    """Return energies (eV, shape (n,)), with derivatives forces (eV/Angstrom, (n_atoms, 3)) and stresses (eV/Angstrom^3,
    (n, 3, 3)) too; stresses are NaN of what is not periodic in three directions, or where the network gives none.
    """
    network.module.eval()
    n = len(structures)
    found = {"energy": np.empty(n)}
    if derivatives:
        found |= {"forces": np.empty((len(structures.numbers), 3)), "stress": np.full((n, 3, 3), np.nan)}
    for rows, graphs in blocks(network, structures):
        output = network.evaluate(graphs, derivatives, learn=False)
        found["energy"][rows] = output.energies.detach().cpu().numpy()
        if derivatives:
            assert output.forces is not None
            found["forces"][structures.atoms_of(rows)] = output.forces.detach().cpu().numpy()
            if output.stresses is not None:
                found["stress"][rows] = output.stresses.detach().cpu().numpy()
    if derivatives:
        found["stress"][~structures.pbc.all(axis=1)] = np.nan
    return found


def pooled(
    network: Network, structures: StructureSet, pooling: str, elements: Sequence[int] = ()
) -> NDArray[np.float64]:
    """Return the features of structures, shape (n, width), with pooling ``elements`` (n, n_elements * width).

    pooling: mean or sum of the atoms' features, or a sum for each of the elements (elements).
    """
    network.module.eval()
    parts = []
    for rows, graphs in blocks(network, structures):
        with torch.no_grad():
            atoms = network.atomic_features(graphs).double().cpu().numpy()
        numbers, sizes = structures.numbers[structures.atoms_of(rows)], np.diff(structures.offsets)[rows]
        begins = np.cumsum(sizes) - sizes
        chosen = [numbers == z for z in elements] if pooling == "elements" else [np.ones(len(numbers), dtype=bool)]
        sums = [np.add.reduceat(np.where(mask[:, None], atoms, 0.0), begins, axis=0) for mask in chosen]
        part = np.concatenate(sums, axis=1)
        parts.append(part / sizes[:, None] if pooling == "mean" else part)
    return np.concatenate(parts)
