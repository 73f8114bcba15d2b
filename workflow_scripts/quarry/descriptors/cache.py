"""The descriptor of structures by their ids: read where a pool's are stored, computed where they are not."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from quarry.config.descriptors import Descriptor, InverseDistances
from quarry.descriptors.compute import PreparedDescriptor, check_fits, prepared
from quarry.descriptors.features_file import read_features, read_settled
from quarry.errors import QuarryError
from quarry.structures import Structure, StructureSet
from quarry.structures.files import read_job_input, read_pool_ids, read_structure_group, write_structure_group
from quarry.structures.structure import IdIndex

REFERENCE = "reference.extxyz"
"""The reference geometry beside ``features.h5``."""


class FeatureCache:
    """The features of structures, those of a pool from its file.

    settings: section descriptor. settled: what the descriptor took from the pool, with the number of features (``width``).
    """

    def __init__(
        self,
        settings: Descriptor,
        settled: dict[str, Any],
        reference: Structure | None = None,
        path: str | None = None,
        base: Path | None = None,
    ) -> None:
        """reference: equilibrium geometry, for inverse_distances. path: ``features.h5``; None: all are computed. base: folder
        of the campaign file, for descriptors that read files.
        """
        self.base = base
        self.settings = settings
        self.settled = settled
        self._reference = reference
        self._path = path
        self._kept: tuple[IdIndex, NDArray[np.float64]] | None = None

    @classmethod
    def of_pool(cls, path: str, settings: Descriptor, base: Path | None = None) -> FeatureCache:
        """Return the features of a pool. path: ``features.h5``, beside the pool's reference geometry. base: as above."""
        return cls(settings, read_settled(path), path=path, base=base)

    @property
    def reference(self) -> Structure | None:
        """The reference geometry, where the descriptor has one."""
        if self._reference is None and self._path is not None and isinstance(self.settings, InverseDistances):
            self._reference = read_job_input(Path(self._path).with_name(REFERENCE))[0].structure
        return self._reference

    @cached_property
    def _descriptor(self) -> PreparedDescriptor:
        return prepared(self.settings, self.settled, self.reference, self.base)

    @cached_property
    def _stored(self) -> IdIndex:
        """Where structures stand in the file."""
        return IdIndex(np.zeros(0, dtype=np.str_) if self._path is None else read_pool_ids(self._path))

    def keep(self, structures: StructureSet) -> None:
        """Keep the features of structures in memory: they will be asked for again and again."""
        self._kept = IdIndex(structures.ids), self.of(structures)

    def of(self, structures: StructureSet) -> NDArray[np.float64]:
        """Return the features, shape (n, d), float64. Raises QuarryError for a structure that the descriptor cannot do."""
        if self._kept is not None:
            found, rows = self._kept[0].find(structures.ids)
            if found.all():
                return self._kept[1][rows]
        found, rows = self._stored.find(structures.ids)
        if found.all() and self._path is not None:
            return read_features(self._path, rows)
        features = np.empty((len(structures), self.settled.get("width", self._descriptor.width)))
        if found.any():
            features[found] = read_features(str(self._path), rows[found])
        missing = np.flatnonzero(~found)
        others = structures.subset(missing)
        check_fits(others, self.settings, self._descriptor)
        for start, block in self._descriptor.blocks(others):
            # As they would be stored, so that a structure has the same features in a pool and outside.
            features[missing[start : start + len(block)]] = block.astype(self._descriptor.dtype)
        return features

    def beyond_reach(self, structures: StructureSet) -> NDArray[np.bool_]:
        """Return which structures have no two atoms within the descriptor's reach, see ``PreparedDescriptor``."""
        return self._descriptor.beyond_reach(structures, self.of(structures))

    def forces(self, structures: StructureSet, by_feature: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return forces, shape (n_atoms_total, 3), of the derivatives of an energy by the features, shape (n, d).

        Raises QuarryError for a descriptor without derivatives.
        """
        if self._descriptor.forces is None:
            raise QuarryError(
                f"descriptor.kind: {self.settings.kind} has no derivatives by the positions, so that its models have no "
                "forces; use inverse_distances, or model.kind: gmnn"
            )
        return self._descriptor.forces(structures, self.of(structures), by_feature)

    def write(self, group: h5py.Group) -> None:
        """Write what the descriptor needs (not the features) into a group of a model's HDF5 file."""
        group.attrs["settings"] = self.settings.model_dump_json()
        group.attrs.update(self.settled)
        if self.reference is not None:
            write_structure_group(group.create_group("reference"), StructureSet.from_structures([self.reference]))

    @classmethod
    def read(cls, group: h5py.Group, base: Path | None = None) -> FeatureCache:
        """Read what ``write`` wrote; the features of all structures are computed when they are asked for.

        base: folder of the campaign file, for descriptors that read files.
        """
        from pydantic import TypeAdapter

        settings: Descriptor = TypeAdapter(Descriptor).validate_json(str(group.attrs["settings"]))
        settled = {name: value.tolist() for name, value in group.attrs.items() if name != "settings"}
        reference = read_structure_group(group["reference"])[0] if "reference" in group else None
        return cls(settings, settled, reference, base=base)
