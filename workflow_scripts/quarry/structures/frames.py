"""Labelled structures as frames of ASE, under the names that ASE, MACE, SevenNet and fairchem read without options."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from quarry.files import atomic_path
from quarry.properties import PROPERTIES
from quarry.structures.filters import is_isolated_atom
from quarry.structures.labelled import LabelledSet

if TYPE_CHECKING:
    from ase import Atoms

SPINS_OF_OTHERS = ("total_spin", "spin")
"""Names of the multiplicity in MACE (beside total_charge) and in fairchem (beside charge)."""
CONFIG_TYPE, ISOLATED_ATOM = "config_type", "IsolatedAtom"
"""By which MACE knows the energies of free atoms."""


def frames_of(labelled: LabelledSet, rows: Iterable[int]) -> list[Atoms]:
    """Return labels at rows as frames of ASE, in that order.

    Energy (eV), forces (eV/Angstrom), stress (eV/Angstrom^3), dipole (e*Angstrom) and charges (e) are the frame's results, and
    stand in ``info`` and ``arrays`` under MACE's names (``REF_energy`` ..., the stress as ASE's six numbers). Charge and
    multiplicity have the names of MACE and fairchem too; the user's own names (``Source.exported``) and file and frame stand
    beside ours.
    """
    references = reference_atoms(labelled)
    return [_frame(labelled, index, index in references) for index in rows]


def write_extxyz(labelled: LabelledSet, path: str | Path) -> None:
    """Write labels as extended XYZ; ``ase.io.read`` gives energies, forces and stresses back.

    Labels that are rejected are not in it: whoever reads it learns from all of it.
    """
    write_frames(path, frames_of(labelled, np.flatnonzero(labelled.used).tolist()))


def write_frames(path: str | Path, frames: Iterable[Atoms]) -> None:
    """Write extended XYZ through ASE; the same frames give the same bytes, none an empty file."""
    from ase.io import write

    found = list(frames)
    with atomic_path(path) as temporary:
        if found:
            write(temporary, found, format="extxyz")
        else:
            temporary.write_bytes(b"")


def reference_atoms(labelled: LabelledSet) -> frozenset[int]:
    """Return the rows of the free atoms whose energies are references: neutral, and of each element the lowest one."""
    energies = labelled.properties.get("energy")
    if energies is None:
        return frozenset()
    structures = labelled.structures
    lowest: dict[int, int] = {}
    single = (np.diff(structures.offsets) == 1) & (structures.charges == 0) & labelled.used & np.isfinite(energies)
    for row in np.flatnonzero(single).tolist():
        element = int(structures.numbers[structures.offsets[row]])
        better = element not in lowest or energies[row] < energies[lowest[element]]
        if better and is_isolated_atom(structures[row]):
            lowest[element] = row
    return frozenset(lowest.values())


def _frame(labelled: LabelledSet, index: int, is_reference: bool) -> Atoms:
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.stress import full_3x3_to_voigt_6_stress

    structure = labelled.structures[index]
    atoms = structure.to_atoms()
    if structure.features is None:
        atoms.info.update(total_charge=structure.charge)
        atoms.info.update(dict.fromkeys(SPINS_OF_OTHERS, structure.multiplicity))
    atoms.info["structure_id"] = "s" + structure.structure_id
    source = labelled.sources[index]
    if source is not None:
        atoms.info.update(source.exported())
    if is_reference:
        if CONFIG_TYPE in atoms.info:
            atoms.info[f"source_{CONFIG_TYPE}"] = atoms.info[CONFIG_TYPE]
        atoms.info[CONFIG_TYPE] = ISOLATED_ATOM
    if structure.features is not None:
        # As lists (and those below): ASE would write an array of one number as a plain number.
        atoms.info["features"] = structure.features.tolist()
    atoms.info.update(role=str(labelled.roles[index]), iteration=int(labelled.iterations[index]))
    results: dict[str, Any] = {}
    for name, value in labelled.label(index).items():
        entry = PROPERTIES[name]
        if entry.ase and entry.rank == 2:
            value = full_3x3_to_voigt_6_stress(value)
        if entry.ase:
            results[name] = value
            name = entry.reference
        else:
            name = entry.key
        if entry.of_atoms:
            # Extended XYZ has rows of numbers: those of all states one after another.
            atoms.set_array(name, value if entry.state_axis is None else value.reshape(len(value), -1))
        elif entry.one_number:
            atoms.info[name] = int(value) if entry.whole else float(value)
        else:
            atoms.info[name] = value if entry.ase else value.tolist()
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms
