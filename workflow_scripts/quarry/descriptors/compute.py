"""Features of a structure set by the kind of descriptor."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from quarry.descriptors.coulomb import coulomb_matrix
from quarry.descriptors.distances import inverse_distances
from quarry.errors import QuarryError
from quarry.structures import Structure, StructureSet


def _inverse_distances(structures: StructureSet, reference: Structure | None) -> NDArray[np.float64]:
    if reference is None:
        raise QuarryError("descriptor.reference: inverse_distances needs an equilibrium geometry; give its file")
    return inverse_distances(structures, reference)


def _coulomb_matrix(structures: StructureSet, reference: Structure | None) -> NDArray[np.float64]:
    return coulomb_matrix(structures)


DESCRIPTORS: dict[str, Callable[[StructureSet, Structure | None], NDArray[np.float64]]] = {
    "inverse_distances": _inverse_distances,
    "coulomb_matrix": _coulomb_matrix,
}
"""What ``descriptor.kind`` may name."""


def compute_features(structures: StructureSet, kind: str, reference: Structure | None) -> NDArray[np.float64]:
    """Return the features of all structures, shape (n, d), float64.

    kind: a key of ``DESCRIPTORS``. reference: equilibrium geometry, for inverse_distances only. Compute the features of
    a whole pool in one call: the width of coulomb_matrix depends on the largest structure.
    Raises QuarryError for an unknown kind, a missing reference, a periodic structure and what a descriptor cannot do.
    """
    if kind not in DESCRIPTORS:
        raise QuarryError(f"descriptor.kind: '{kind}' is not one of {', '.join(DESCRIPTORS)}")
    periodic = structures.pbc.any(axis=1)
    if periodic.any():
        raise QuarryError(
            f"descriptor.kind: {kind} is for molecules, but structure {structures.ids[int(np.argmax(periodic))]} is "
            "periodic; set pbc to False in its file or use another pool"
        )
    return DESCRIPTORS[kind](structures, reference)
