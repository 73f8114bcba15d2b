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

from quarry.files import atomic_path, canonical_json
from quarry.structures.files import read_structure_group, write_structure_group
from quarry.structures.sources import Source, read_sources, write_sources
from quarry.structures.structure import Structure, StructureSet

SCALARS = ("energy", "homo", "lumo", "gap", "class", "value")
STATES = ("excitation_energies", "oscillator_strengths", "state_order", "state_overlap")
"""Properties with a value for each excited state."""
SPINS_OF_OTHERS = ("total_spin", "spin")
"""Names of the multiplicity in MACE (beside total_charge) and in fairchem (beside charge)."""
UNITS = {
    "energy": "eV",
    "homo": "eV",
    "lumo": "eV",
    "gap": "eV",
    "forces": "eV/Angstrom",
    "dipole": "e*Angstrom",
    "excitation_energies": "eV",
    "oscillator_strengths": "1",
    "state_order": "1",
    "state_overlap": "1",
    "class": "1",
    "value": "1",
}


@dataclass(frozen=True, eq=False)
class LabelledSet:
    """Structures with their labels.

    roles: n strings (train, test). iterations: shape (n,), when each was labelled. properties: energy, homo, lumo, gap
    (eV), class (a whole number) and value (a number without unit) of shape (n,); dipole (e*Angstrom) of shape (n, 3);
    forces (eV/Angstrom) of shape (n_atoms_total, 3); excitation_energies (eV) and oscillator_strengths of shape
    (n, n_states), n_states being the largest of all labels; of the same shape, of states that were followed, state_order
    (number, from 0 by energy, of the label's state that is state k of the reference) and state_overlap (by which it was
    found). What a label lacks is NaN; a property that no label has is absent.
    state_reference: structure_id of the reference geometry and characters of its states (``StateCharacters.to_json``).
    sources: where each structure comes from, n of them; None: not from a file, or not known.
    left_out: ids of labels that are kept and counted, but that nothing learns from or is measured by.
    """

    structures: StructureSet
    roles: NDArray[np.str_]
    iterations: NDArray[np.int64]
    properties: dict[str, NDArray[np.float64]]
    state_reference: dict[str, Any] | None = None
    sources: Sequence[Source | None] = ()
    left_out: frozenset[str] = frozenset()

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
        left_out: frozenset[str] = frozenset(),
    ) -> LabelledSet:
        """Pack structures and the properties of their label records, in their order."""
        packed: dict[str, NDArray[np.float64]] = {}
        for name in SCALARS:
            if any(p.get(name) is not None for p in properties):
                packed[name] = np.array([np.nan if p.get(name) is None else p[name] for p in properties], dtype=float)
        if any(p.get("dipole") is not None for p in properties):
            packed["dipole"] = np.array([[np.nan] * 3 if p.get("dipole") is None else p["dipole"] for p in properties])
        for name in STATES:
            states = [np.asarray([] if p.get(name) is None else p[name], dtype=float) for p in properties]
            n_states = max((len(values) for values in states), default=0)
            if n_states:
                packed[name] = np.array([np.append(v, np.full(n_states - len(v), np.nan)) for v in states])
        if any(p.get("forces") is not None for p in properties):
            blocks = [
                np.full((len(s), 3), np.nan) if p.get("forces") is None else np.asarray(p["forces"], dtype=float)
                for s, p in zip(structures, properties, strict=True)
            ]
            packed["forces"] = np.concatenate(blocks)
        return LabelledSet(
            structures=StructureSet.from_structures(structures),
            roles=np.array(list(roles), dtype="<U10"),
            iterations=np.array(list(iterations), dtype=np.int64),
            properties=packed,
            state_reference=state_reference,
            sources=list(sources),
            left_out=left_out,
        )

    def __len__(self) -> int:
        return len(self.structures)

    def record(self, index: int) -> dict[str, Any]:
        """Return the properties of one structure (scalars as float, dipole, forces and excited states as arrays)."""
        atoms = slice(int(self.structures.offsets[index]), int(self.structures.offsets[index + 1]))
        return {name: values[atoms] if name == "forces" else values[index] for name, values in self.properties.items()}

    def joined(self, other: LabelledSet) -> LabelledSet:
        """Return this set followed by another."""
        both = (self, other)
        return LabelledSet.from_records(
            structures=[s for part in both for s in part.structures],
            roles=[str(r) for part in both for r in part.roles],
            iterations=[int(i) for part in both for i in part.iterations],
            properties=[_without_nan(part.record(i)) for part in both for i in range(len(part))],
            state_reference=self.state_reference or other.state_reference,
            sources=[source for part in both for source in part.sources],
            left_out=self.left_out | other.left_out,
        )

    def subset(self, rows: NDArray[np.int64]) -> LabelledSet:
        """Return the labels of some rows, in that order."""
        atoms = self.structures.atoms_of(rows)
        return LabelledSet(
            structures=self.structures.subset(rows),
            roles=self.roles[rows],
            iterations=self.iterations[rows],
            properties={name: v[atoms if name == "forces" else rows] for name, v in self.properties.items()},
            state_reference=self.state_reference,
            sources=[self.sources[int(row)] for row in rows],
            left_out=self.left_out,
        )

    def without_left_out(self) -> LabelledSet:
        """Return the labels that are used."""
        return self.subset(np.flatnonzero(self.used)) if self.left_out else self

    @property
    def used(self) -> NDArray[np.bool_]:
        """Which labels are not left out, shape (n,)."""
        return ~np.isin(self.structures.ids, sorted(self.left_out))

    def indices(self, role: str) -> NDArray[np.int64]:
        """Return the positions of the structures with a role whose labels are used."""
        return np.flatnonzero((self.roles == role) & self.used)

    def targets(self, target: str) -> NDArray[np.float64]:
        """Return the values of a target, shape (n,): eV, the norm of the dipole in e*Angstrom, or a value as it is."""
        values = self.properties[target]
        return np.linalg.norm(values, axis=1) if target == "dipole" else values

    def write(self, path: str | Path, attributes: Mapping[str, str]) -> None:
        """Write HDF5. The same labels give the same bytes."""
        with atomic_path(path) as temporary, h5py.File(temporary, "w") as handle:
            handle.attrs.update(attributes)
            write_structure_group(handle.create_group("structures"), self.structures)
            handle.create_dataset("roles", data=self.roles.astype("S10"))
            handle.create_dataset("iterations", data=self.iterations)
            group = handle.create_group("properties")
            for name in sorted(self.properties):
                group.create_dataset(name, data=self.properties[name]).attrs["unit"] = UNITS[name]
            if self.state_reference is not None:
                group = handle.create_group("state_reference")
                group.attrs["structure_id"] = self.state_reference["structure_id"]
                characters = canonical_json(self.state_reference["characters"])
                group.create_dataset("characters", data=np.bytes_(characters.encode()))
            write_sources(handle, self.sources)
            if self.left_out:
                handle.create_dataset("left_out", data=np.array(sorted(self.left_out), dtype="S"))

    @staticmethod
    def read(path: str | Path) -> LabelledSet:
        """Read what ``write`` wrote."""
        with h5py.File(path, "r") as handle:
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
                left_out=frozenset(i.decode() for i in handle["left_out"][()]) if "left_out" in handle else frozenset(),
            )

    def write_extxyz(self, path: str | Path) -> None:
        """Write extended XYZ through ASE; ``ase.io.read`` gives energies (eV) and forces (eV/Angstrom) back.

        Charge and multiplicity have the names of MACE and fairchem too; the user's own names (``Source.exported``) and file
        and frame (source_file, source_frame) stand beside ours. Labels that are left out are not in it: whoever reads it learns
        from all of it.
        """
        from ase.calculators.singlepoint import SinglePointCalculator
        from ase.io import write

        frames = []
        for index in np.flatnonzero(self.used).tolist():
            structure = self.structures[index]
            atoms = structure.to_atoms()
            if structure.features is None:
                atoms.info.update(total_charge=structure.charge)
                atoms.info.update(dict.fromkeys(SPINS_OF_OTHERS, structure.multiplicity))
            atoms.info["structure_id"] = "s" + structure.structure_id
            source = self.sources[index]
            if source is not None:
                atoms.info.update(source.exported())
            if structure.features is not None:
                # As lists (and those below): ASE would write an array of one number as a plain number.
                atoms.info["features"] = structure.features.tolist()
            atoms.info.update(role=str(self.roles[index]), iteration=int(self.iterations[index]))
            properties = _without_nan(self.record(index))
            results = {k: properties[k] for k in ("energy", "forces", "dipole") if k in properties}
            atoms.info.update({f"{k}_eV": float(properties[k]) for k in ("homo", "lumo", "gap") if k in properties})
            names = {name: name for name in STATES} | {"excitation_energies": "excitation_energies_eV"}
            if "value" in properties:
                atoms.info["value"] = float(properties["value"])
            if "class" in properties:
                atoms.info["class"] = int(properties["class"])
            atoms.info.update({name: properties[k].tolist() for k, name in names.items() if k in properties})
            atoms.calc = SinglePointCalculator(atoms, **results)
            frames.append(atoms)
        with atomic_path(path) as temporary:
            write(temporary, frames, format="extxyz")


def _without_nan(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a label has; of the excited states those that it has."""
    kept = {name: value[~np.isnan(value)] if name in STATES else value for name, value in properties.items()}
    return {name: value for name, value in kept.items() if np.size(value) and not np.isnan(value).any()}
