"""Features of a structure set by the kind of descriptor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quarry.config.descriptors import (
    KINDS_FOR_CELLS,
    CoulombMatrix,
    Descriptor,
    InverseDistances,
    Mbtr,
    Pretrained,
    Soap,
    TableFeatures,
)
from quarry.descriptors.coulomb import coulomb_matrix
from quarry.descriptors.distances import forces_of, inverse_distances
from quarry.descriptors.reach import within_cutoff
from quarry.errors import QuarryError
from quarry.structures import Structure, StructureSet

BLOCK_BYTES = 64_000_000
"""Size of the features that are computed at a time."""


@dataclass(frozen=True)
class PreparedDescriptor:
    """A descriptor made ready for a pool: what depends on all its structures is settled.

    width: number of features. compute: gives the features of structures, float64 of shape (n, width). settled: what was
    taken from the pool, e.g. its elements. dtype: of stored features; float32 where they are many: it is exact to 6e-8,
    models read all features from the same file, and compute in float64. within_reach: gives, for n structures and their features
    of shape (n, width), in which of them any two atoms are near enough to be seen, shape (n,); None: in all. forces: gives
    forces, shape (n_atoms_total, 3), of structures, their features and the derivatives of an energy by these, both of shape
    (n, width); None: where the descriptor has no derivatives.
    """

    width: int
    compute: Callable[[StructureSet], NDArray[np.float64]]
    settled: dict[str, Any] = field(default_factory=dict)
    dtype: str = "float64"
    within_reach: Callable[[StructureSet, NDArray[np.float64]], NDArray[np.bool_]] | None = None
    forces: Callable[[StructureSet, NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]] | None = None

    def beyond_reach(self, structures: StructureSet, features: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which structures have several atoms of which no two are within the descriptor's reach, shape (n,).

        Of these it says which atoms there are, and nothing about where: other geometries have the same features. features: of
        these structures.
        """
        several = np.diff(structures.offsets) > 1
        return several & ~self.within_reach(structures, features) if self.within_reach else np.zeros_like(several)

    def blocks(self, structures: StructureSet) -> Iterator[tuple[int, NDArray[np.float64]]]:
        """Yield (first row, features of shape (n_block, width)) block by block, in bounded memory."""
        count = max(1, BLOCK_BYTES // (8 * max(1, self.width)))
        for start in range(0, len(structures), count):
            rows = np.arange(start, min(start + count, len(structures)))
            yield start, self.compute(structures.subset(rows))


def prepare(
    structures: StructureSet, settings: Descriptor, reference: Structure | None, base: Path | None = None
) -> PreparedDescriptor:
    """Make a descriptor ready for a pool.

    settings: the section descriptor. reference: equilibrium geometry, for inverse_distances only. base: folder of the campaign
    file, for descriptors that read files.
    Raises QuarryError for a missing reference, a periodic structure where the descriptor knows no cells, and a descriptor
    that cannot do such a pool.
    """
    if isinstance(settings, TableFeatures):
        if structures.features is None:
            raise QuarryError("descriptor.kind: table is for a pool of rows (pool.source: table); use another kind")
        return prepared(settings, {"width": structures.features.shape[1]})
    _refuse_rows(structures, settings)
    refuse_cells(structures, settings)
    settled: dict[str, Any] = {}
    if isinstance(settings, CoulombMatrix):
        settled = {"largest_molecule": int(np.diff(structures.offsets).max(initial=0))}
    elif isinstance(settings, Mbtr | Soap | Pretrained):
        settled = {"elements": sorted({int(z) for z in np.unique(structures.numbers)})}
    return prepared(settings, settled, reference, base)


def prepared(
    settings: Descriptor, settled: Mapping[str, Any], reference: Structure | None = None, base: Path | None = None
) -> PreparedDescriptor:
    """Return a descriptor with what was taken from a pool before: ``PreparedDescriptor.settled``, of rows their width.

    Arguments and errors otherwise as ``prepare``.
    """
    if isinstance(settings, TableFeatures):
        return PreparedDescriptor(settled["width"], _features_of)
    if isinstance(settings, InverseDistances):
        if reference is None:
            raise QuarryError("descriptor.reference: inverse_distances needs an equilibrium geometry; give its file")
        pairs = len(reference) * (len(reference) - 1) // 2
        return PreparedDescriptor(pairs, lambda part: inverse_distances(part, reference), forces=forces_of)
    if isinstance(settings, CoulombMatrix):
        largest = int(settled["largest_molecule"])
        width = largest * (largest + 1) // 2
        return PreparedDescriptor(width, lambda part: coulomb_matrix(part, largest), {"largest_molecule": largest})
    elements = [int(z) for z in settled.get("elements", ())]
    if isinstance(settings, Mbtr):
        from quarry.descriptors.mbtr import check_elements, mbtr, mbtr_width, mbtr_within_reach

        check_elements(settings, elements)
        return PreparedDescriptor(
            mbtr_width(settings, len(elements)),
            lambda part: mbtr(part, settings, elements),
            {"elements": elements},
            "float32",
            lambda _, features: mbtr_within_reach(settings, len(elements), features),
        )
    if isinstance(settings, Pretrained):
        from quarry.descriptors.pretrained import pretrained_of

        width, reach_A, compute = pretrained_of(settings, elements, base)
        settled = {"elements": elements} if settings.pooling == "elements" else {}
    else:
        assert isinstance(settings, Soap)
        from quarry.descriptors.soap import soap_of

        width, compute = soap_of(settings, elements)
        reach_A, settled = settings.cutoff_A, {"elements": elements}
    return PreparedDescriptor(width, compute, settled, "float32", lambda part, _: within_cutoff(reach_A, part))


def check_fits(structures: StructureSet, settings: Descriptor, descriptor: PreparedDescriptor) -> None:
    """Raise QuarryError, one line, if a descriptor that was made ready for a pool cannot do other structures."""
    if isinstance(settings, TableFeatures):
        found = 0 if structures.features is None else structures.features.shape[1]
        if found != descriptor.width:
            raise QuarryError(f"descriptor.kind: table: a row has {found} features, the pool's have {descriptor.width}")
        return
    _refuse_rows(structures, settings)
    refuse_cells(structures, settings)
    settled = descriptor.settled
    sizes = np.diff(structures.offsets)
    if "largest_molecule" in settled and len(sizes) and sizes.max() > settled["largest_molecule"]:
        raise QuarryError(
            f"descriptor.kind: {settings.kind} was made ready for molecules of up to {settled['largest_molecule']} atoms; "
            f"structure {structures.ids[int(np.argmax(sizes))]} has {int(sizes.max())}"
        )
    strange = ~np.isin(structures.numbers, settled.get("elements", structures.numbers))
    if strange.any():
        atom = int(np.argmax(strange))
        row = int(np.searchsorted(structures.offsets, atom, side="right")) - 1
        raise QuarryError(
            f"descriptor.kind: {settings.kind} was made ready for the elements {settled['elements']}; structure "
            f"{structures.ids[row]} holds {int(structures.numbers[atom])}"
        )


def _refuse_rows(structures: StructureSet, settings: Descriptor) -> None:
    if structures.features is not None:
        raise QuarryError(
            f"descriptor.kind: {settings.kind} needs structures, the pool holds rows of features; use kind: table"
        )


def refuse_cells(structures: StructureSet, settings: Descriptor) -> None:
    """Raise QuarryError, naming the kinds that take them, for periodic structures where the descriptor knows no cells."""
    periodic = structures.pbc.any(axis=1)
    if periodic.any() and not settings.takes_cells:
        first = int(np.argmax(periodic))
        raise QuarryError(
            f"descriptor.kind: {settings.kind} is for molecules, but structure {first + 1} of {len(structures)} "
            f"({structures.ids[first]}) is periodic ({int(periodic.sum())} such); use kind: {' or '.join(KINDS_FOR_CELLS)}"
        )


def _features_of(structures: StructureSet) -> NDArray[np.float64]:
    assert structures.features is not None
    return structures.features


def compute_features(
    structures: StructureSet, settings: Descriptor, reference: Structure | None
) -> NDArray[np.float64]:
    """Return the features of all structures, shape (n, d), float64; arguments and errors as ``prepare``.

    Compute the features of a whole pool in one call: the width may depend on its largest structure and its elements.
    """
    return prepare(structures, settings, reference).compute(structures)
