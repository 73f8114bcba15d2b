"""What a potential cannot learn or judge."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from quarry.errors import QuarryError
from quarry.models.base import TrainingData
from quarry.structures import StructureSet
from quarry.structures.compositions import element_counts


def doubts_about(data: TrainingData, learnt: Sequence[str]) -> list[str]:
    """Return what is doubtful about training labels, a line each. learnt: properties.

    Raises QuarryError if there is nothing to learn, or a label is not finite.
    """
    if not len(data):
        raise QuarryError("model.kind: gmnn: there is nothing to train on")
    if not len(data.structures.numbers):
        raise QuarryError("model.kind: gmnn learns from structures, and these have no atoms; choose another kind")
    for name in learnt:
        values = data.targets[name]
        periodic = data.structures.pbc.all(axis=1)
        judged = values[periodic] if name == "stress" else values
        if not np.isfinite(judged).all():
            raise QuarryError(f"model.kind: gmnn: a training label's {name} is not a finite number; leave it out")
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
