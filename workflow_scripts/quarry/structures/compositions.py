"""Elements and compositions: what a model has seen of them, and which structures are unfamiliar to it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quarry.structures.structure import StructureSet

NEGLIGIBLE = 1e-6
"""Atoms of a composition that others do not explain, below which it is explained."""


def element_counts(structures: StructureSet, elements: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return how many atoms of each element n structures have, shape (n, k). elements: atomic numbers, shape (k,)."""
    owner = np.repeat(np.arange(len(structures)), np.diff(structures.offsets))
    counts = np.zeros((len(structures), len(elements)))
    for column, element in enumerate(elements):
        counts[:, column] = np.bincount(owner[structures.numbers == element], minlength=len(structures))
    return counts


def formulas_of(structures: StructureSet) -> dict[str, int]:
    """Return how many structures there are of each formula (Hill)."""
    from ase.data import chemical_symbols
    from ase.formula import Formula

    elements = np.unique(structures.numbers)
    counts, numbers = np.unique(element_counts(structures, elements).astype(np.int64), axis=0, return_counts=True)
    symbols = [chemical_symbols[number] for number in elements]
    return {
        Formula.from_dict({s: int(n) for s, n in zip(symbols, row, strict=True) if n}).format("hill"): int(number)
        for row, number in zip(counts, numbers, strict=True)
        if row.any()
    }


def compositions(structures: StructureSet) -> NDArray[np.int64]:
    """Return a number for the composition of each structure, shape (n,); structures of the same elements have the same."""
    counts = element_counts(structures, np.unique(structures.numbers))
    return np.unique(counts, axis=0, return_inverse=True)[1].ravel()


def count_of_compositions(structures: StructureSet) -> int:
    """Return how many compositions the structures have together; 0 of none."""
    return int(compositions(structures).max()) + 1 if len(structures) else 0


def unfamiliar(known: StructureSet, others: StructureSet, compositions: bool) -> NDArray[np.bool_]:
    """Return which of the others have elements that no known structure has, shape (n,).

    compositions: also those whose counts of elements are no linear combination of the known ones, so that a sum over
    elements that was fitted to total energies of the known structures says nothing of theirs.
    """
    elements = np.unique(known.numbers)
    counts = element_counts(others, elements)
    strange = counts.sum(axis=1) < np.diff(others.offsets)
    if compositions and len(elements):
        seen = np.unique(element_counts(known, elements), axis=0)
        _, values, rows = np.linalg.svd(seen, full_matrices=False)
        basis = rows[values > NEGLIGIBLE * values.max(initial=0.0)]
        rest = counts - counts @ basis.T @ basis
        strange |= np.abs(rest).max(axis=1, initial=0.0) > NEGLIGIBLE * np.maximum(1.0, counts.sum(axis=1))
    return np.asarray(strange, dtype=bool)


def unfamiliar_message(known: StructureSet, strange: StructureSet) -> str:
    """Return what is unfamiliar about ``strange`` structures, for a message: elements that no known one has, or compositions."""
    from ase.data import chemical_symbols

    elements = np.setdiff1d(strange.numbers, known.numbers)
    if not len(elements):
        return "compositions that no sum over elements fitted to the training labels can know"
    return f"elements that no training label has ({', '.join(chemical_symbols[int(e)] for e in elements)})"
