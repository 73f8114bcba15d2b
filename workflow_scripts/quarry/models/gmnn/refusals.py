"""What a potential cannot learn or judge."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from quarry.errors import QuarryError
from quarry.models.base import TrainingData, check_labels
from quarry.structures import StructureSet
from quarry.structures.compositions import element_counts


def doubts_about(data: TrainingData, learnt: Sequence[str]) -> list[str]:
    """Return what is doubtful about training labels, a line each. learnt: properties.

    Raises QuarryError if there is nothing to learn, or a label is not finite.
    """
    check_labels("gmnn", data, learnt)
    if not len(data.structures.numbers):
        raise QuarryError("model.kind: gmnn learns from structures, and these have no atoms; choose another kind")
    states = np.stack([data.structures.charges, data.structures.multiplicities], axis=1)
    numbers = len(np.unique(states, axis=0))
    if numbers == 1:
        return []
    return [
        f"the training labels are of {numbers} charges or multiplicities, which gmnn does not see: it takes them for one"
    ]


def check_elements(structures: StructureSet, elements: NDArray[np.int64]) -> None:
    """Raise QuarryError if structures have other elements than those that were learnt (atomic numbers, rising)."""
    strange = np.setdiff1d(structures.numbers, elements)
    if len(strange):
        names = ", ".join(chemical_symbols[number] for number in strange)
        counts = element_counts(structures, strange).sum(axis=1)
        first = structures.ids[np.flatnonzero(counts)[0]]
        raise QuarryError(
            f"model.kind: gmnn has learnt nothing of the element {names} (structure {first}, {int((counts > 0).sum())} in "
            "all); label some of them (query.initial), or leave them out of the pool"
        )
