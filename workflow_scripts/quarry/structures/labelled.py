"""Labelled structures: ``dataset.h5`` and its extended-XYZ twin."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from quarry.errors import reason_of
from quarry.files import NotAFileError, canonical_json
from quarry.hdf5_files import checksum_of, new_hdf5
from quarry.properties import PROPERTIES, Property
from quarry.structures.files import read_structure_group, write_structure_group
from quarry.structures.sources import Source, read_sources, write_sources
from quarry.structures.structure import Structure, StructureSet

CHECKSUM = "labels_sha256"
"""Attribute of the file: ``checksum_of`` its labels, so that nobody learns from numbers that somebody or a disk changed."""
CHECKED = ("structures", "roles", "iterations", "properties", "left_out")


@dataclass(frozen=True, eq=False)
class LabelledSet:
    """Structures with their labels.

    roles: n strings (train, test). iterations: shape (n,), when each was labelled. properties: those of
    ``quarry.properties`` in their units, of shape (n,), (n, 3) or (n, 3, 3); with numbers for each atom (n_atoms_total,) or
    (n_atoms_total, 3); for each state (n, n_states), or of atoms (n_atoms_total, n_states, 3), n_states being the
    largest of all labels. Of states that were tracked, state_order is the number (from 0 by energy) of the label's state that is
    state k of the reference.
    What a label lacks is NaN; a property that no label has is absent.
    state_reference: structure_id of the reference geometry and natural transition orbitals of its states
    (``TransitionOrbitals.to_json``).
    sources: where each structure comes from, n of them; None: not from a file, or not known.
    rejected: ids of structures whose labels are kept and counted, but that nothing learns from or is measured by.
    """

    structures: StructureSet
    roles: NDArray[np.str_]
    iterations: NDArray[np.int64]
    properties: dict[str, NDArray[np.float64]]
    state_reference: dict[str, Any] | None = None
    sources: Sequence[Source | None] = ()
    rejected: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if not self.sources:
            object.__setattr__(self, "sources", [None] * len(self.structures))

    @staticmethod
    def from_records(
        structures: Sequence[Structure],
        roles: Sequence[str],
        iterations: Sequence[int],
        properties: Sequence[Mapping[str, Any]],
        state_reference: dict[str, Any] | None = None,
        sources: Sequence[Source | None] = (),
        rejected: frozenset[str] = frozenset(),
    ) -> LabelledSet:
        """Pack structures and the properties of their label records, in their order."""
        packed: dict[str, NDArray[np.float64]] = {}
        for name, entry in PROPERTIES.items():
            values = [answer.get(name) for answer in properties]
            if any(value is not None for value in values):
                packed.update(_packed(entry, values, [len(structure) for structure in structures]))
        return LabelledSet(
            structures=StructureSet.from_structures(structures),
            roles=np.array(list(roles), dtype="<U10"),
            iterations=np.array(list(iterations), dtype=np.int64),
            properties=packed,
            state_reference=state_reference,
            sources=list(sources),
            rejected=rejected,
        )

    def __len__(self) -> int:
        return len(self.structures)

    def record(self, index: int) -> dict[str, Any]:
        """Return the properties of one structure: scalars as float, others as arrays."""
        atoms = slice(int(self.structures.offsets[index]), int(self.structures.offsets[index + 1]))
        return {name: values[atoms if PROPERTIES[name].of_atoms else index] for name, values in self.properties.items()}

    def label(self, index: int) -> dict[str, Any]:
        """Return what one label has, in the table's order, shaped as ``record``; of the excited states those that it has."""
        return _without_nan(self.record(index))

    def joined(self, other: LabelledSet) -> LabelledSet:
        """Return this set followed by another."""
        both = (self, other)
        return LabelledSet.from_records(
            structures=[s for part in both for s in part.structures],
            roles=[str(r) for part in both for r in part.roles],
            iterations=[int(i) for part in both for i in part.iterations],
            properties=[part.label(i) for part in both for i in range(len(part))],
            state_reference=self.state_reference or other.state_reference,
            sources=[source for part in both for source in part.sources],
            rejected=self.rejected | other.rejected,
        )

    def subset(self, rows: NDArray[np.int64]) -> LabelledSet:
        """Return the labels at rows of shape (m,), in that order."""
        atoms = self.structures.atoms_of(rows)
        return LabelledSet(
            structures=self.structures.subset(rows),
            roles=self.roles[rows],
            iterations=self.iterations[rows],
            properties={name: v[atoms if PROPERTIES[name].of_atoms else rows] for name, v in self.properties.items()},
            state_reference=self.state_reference,
            sources=[self.sources[int(row)] for row in rows],
            rejected=self.rejected,
        )

    def without_rejected(self) -> LabelledSet:
        """Return the set without its rejected labels."""
        return self.subset(np.flatnonzero(self.used)) if self.rejected else self

    @property
    def used(self) -> NDArray[np.bool_]:
        """Which labels are not rejected, shape (n,)."""
        return ~np.isin(self.structures.ids, sorted(self.rejected))

    def indices(self, role: str) -> NDArray[np.int64]:
        """Return the rows of the structures with a role (train, test) whose labels are used, ascending."""
        return np.flatnonzero((self.roles == role) & self.used)

    def targets(self, target: str) -> NDArray[np.float64]:
        """Return the values of a property in its unit, shape (n,): of a vector its norm. Raises KeyError if no label has it."""
        values = self.properties[target]
        return np.linalg.norm(values, axis=1) if PROPERTIES[target].shape == "vector" else values

    def write(self, path: str | Path, attributes: Mapping[str, str]) -> None:
        """Write HDF5, with ``attributes`` of the file. The same labels give the same bytes."""
        with new_hdf5(path) as handle:
            self.write_into(handle, attributes)

    def write_into(self, handle: h5py.File, attributes: Mapping[str, str]) -> None:
        """Write what ``write`` writes into an open file."""
        handle.attrs.update(attributes)
        write_structure_group(handle.create_group("structures"), self.structures)
        handle.create_dataset("roles", data=self.roles.astype("S10"))
        handle.create_dataset("iterations", data=self.iterations)
        group = handle.create_group("properties")
        for name in sorted(self.properties):
            group.create_dataset(name, data=self.properties[name]).attrs["unit"] = PROPERTIES[name].unit
        if self.state_reference is not None:
            group = handle.create_group("state_reference")
            group.attrs["structure_id"] = self.state_reference["structure_id"]
            transition_orbitals = canonical_json(self.state_reference["characters"])
            group.create_dataset("characters", data=np.bytes_(transition_orbitals.encode()))
        write_sources(handle, self.sources)
        if self.rejected:
            handle.create_dataset("left_out", data=np.array(sorted(self.rejected), dtype="S"))
        handle.attrs[CHECKSUM] = checksum_of(handle, CHECKED)

    @staticmethod
    def read(path: str | Path) -> LabelledSet:
        """Read what ``write`` wrote. Raises ValueError, or OSError, for what it has not written or what is damaged."""
        if Path(path).exists() and not Path(path).is_file():
            # A pipe would be waited for without end.
            raise NotAFileError(f"{path} is no file")
        try:
            found = LabelledSet._read(path)
            if not found._fits():
                raise ValueError(f"{path}: damaged labels: its arrays do not belong together")
        except (AttributeError, LookupError, RuntimeError, TypeError) as error:
            # As h5py says it: a group that is gone, an object that cannot be read, an array that is a text.
            raise ValueError(f"{path}: damaged labels: {reason_of(error)}") from error
        return found

    def _fits(self) -> bool:
        """Whether all arrays are of the same structures."""
        structures, n = self.structures, len(self.structures.ids)
        n_atoms = len(structures.numbers)
        rows = [
            self.roles,
            self.iterations,
            structures.cells,
            structures.pbc,
            structures.charges,
            structures.multiplicities,
        ]
        each = [(values, n) for values in rows] + [(structures.positions, n_atoms), (structures.offsets, n + 1)]
        each += [(values, n_atoms if PROPERTIES[name].of_atoms else n) for name, values in self.properties.items()]
        return all(np.shape(values)[:1] == (length,) for values, length in each) and structures.offsets[-1] == n_atoms

    @staticmethod
    def _read(path: str | Path) -> LabelledSet:
        with h5py.File(path, "r") as handle:
            # Files of earlier versions have no checksum.
            if handle.attrs.get(CHECKSUM) not in (None, checksum_of(handle, CHECKED)):
                raise ValueError(f"{path}: damaged labels: they are not those that were written")
            group = handle.get("state_reference")
            roles = handle["roles"][()].astype("<U10")
            return LabelledSet(
                structures=read_structure_group(handle["structures"]),
                roles=roles,
                iterations=handle["iterations"][()],
                properties={name: handle["properties"][name][()] for name in handle["properties"]},
                state_reference=None
                if group is None
                else {
                    "structure_id": group.attrs["structure_id"],
                    "characters": json.loads(group["characters"][()]),
                },
                sources=read_sources(handle, np.arange(len(roles))),
                rejected=frozenset(i.decode() for i in handle["left_out"][()]) if "left_out" in handle else frozenset(),
            )


def _packed(entry: Property, values: Sequence[Any], sizes: Sequence[int]) -> dict[str, NDArray[np.float64]]:
    """Return the array of a property by its name; nothing if no label has a number.

    values: of each label, or None. sizes: numbers of atoms.
    """
    if entry.one_number:
        return {entry.name: np.array([np.nan if value is None else value for value in values], dtype=float)}
    arrays = [None if value is None else np.asarray(value, dtype=float) for value in values]
    n_states, axis = 0, entry.state_axis
    if axis is not None:
        n_states = max((array.shape[axis] for array in arrays if array is not None), default=0)
        if not n_states:
            return {}
    blocks = [np.full(entry.dimensions(n_atoms, n_states), np.nan) for n_atoms in sizes]
    for block, array in zip(blocks, arrays, strict=True):
        if array is not None:
            block[tuple(slice(n) for n in array.shape)] = array
    return {entry.name: np.concatenate(blocks) if entry.of_atoms else np.array(blocks)}


def _without_nan(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a label has, in the table's order; of the excited states those that it has."""
    kept = {}
    for name, entry in PROPERTIES.items():
        value = properties.get(name)
        if value is not None:
            kept[name] = value if entry.state_axis is None else _known_states(value, entry.state_axis)
    return {name: value for name, value in kept.items() if np.size(value) and not np.isnan(value).any()}


def _known_states(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Return values without the states of which a label has no number."""
    others = tuple(number for number in range(values.ndim) if number != axis)
    return np.compress(~np.isnan(values).all(axis=others), values, axis=axis)
