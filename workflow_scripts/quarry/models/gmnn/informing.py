"""What labels of structures would tell the networks of a potential (``quarry.models.optimal_design``), and its gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from quarry.models.base import Informativeness, UncertaintyGradient
from quarry.models.gmnn.features import change_gradient, sensitivities
from quarry.models.gmnn.neighbours import Batch
from quarry.models.gmnn.potential import Parameters, Potential
from quarry.models.optimal_design import Known, Sensitivities
from quarry.structures import StructureSet

Block = tuple[NDArray[np.int64], Batch, Tensor, Potential, Sequence[Parameters]]
"""Rows of structures, they as a batch, numbers of their atoms' elements, the potential, the parameters of its networks."""


class Informing:
    """What the known structures fix of each network; it is kept for the next structures that are asked about."""

    def __init__(self, blocks: Callable[[StructureSet], Iterator[Block]], networks: int) -> None:
        """blocks: yields structures block by block. networks: how many there are."""
        self._blocks, self._networks = blocks, networks
        self._ids, self._kept = b"", dict[str, list[Known]]()

    def change(self, structures: StructureSet, known: StructureSet, want: frozenset[str]) -> dict[str, Informativeness]:
        """Return how informative labels of structures would be, the mean over the networks, by criterion (energy, forces).

        known: all training structures.
        """
        kept = {name: self._knowing(known, name) for name in sorted(want)}
        return {
            name: Informativeness.mean([one.change(self._sensitive(structures, name, m)) for m, one in enumerate(each)])
            for name, each in kept.items()
        }

    def gradient(self, structures: StructureSet, known: StructureSet) -> UncertaintyGradient:
        """Return the gradient of the informativeness of energies relative to that of the known structures."""
        kept = self._knowing(known, "energy")
        share = 1.0 / len(kept) / float(np.mean([one.own for one in kept]))
        gradient = np.zeros((len(structures.numbers), 3)), np.zeros((len(structures), 3, 3))
        for rows, batch, elements, potential, networks in self._blocks(structures):
            for one, parameters in zip(kept, networks, strict=True):
                found = change_gradient(potential, parameters, batch, elements, one.slopes)
                for whole, where, part in zip(gradient, (batch.atoms, rows), found, strict=True):
                    whole[where] += share * part
        return UncertaintyGradient(*gradient)

    def _knowing(self, known: StructureSet, criterion: str) -> list[Known]:
        ids = known.ids.tobytes()
        if self._ids != ids:
            self._ids, self._kept = ids, {}
        if criterion not in self._kept:
            members = range(self._networks)
            self._kept[criterion] = [Known(partial(self._sensitive, known, criterion, m)) for m in members]
        return self._kept[criterion]

    def _sensitive(self, structures: StructureSet, criterion: str, network: int) -> Iterator[Sensitivities]:
        for rows, batch, elements, potential, networks in self._blocks(structures):
            yield sensitivities(potential, networks[network], batch, elements, len(rows), criterion)
