"""A labelling engine as a calculator of ASE."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from quarry.errors import QuarryError
from quarry.structures import Structure

Labels = Callable[[Sequence[Structure]], Sequence[Mapping[str, Any]]]
"""Returns the properties (``quarry.properties``) of each structure's label."""


class LabelCalculator(Calculator):
    """Energies, forces and stresses of labels. asked: the structures that it was asked for, positions rounded as a pool's.

    Charge and multiplicity stand in ``atoms.info``.
    """

    def __init__(self, labels: Labels) -> None:
        super().__init__()
        self.implemented_properties = ["energy", "free_energy", "forces", "stress"]
        self._labels = labels
        self.asked: dict[str, Structure] = {}

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Label the atoms. Raises QuarryError if the label lacks what is wanted."""
        super().calculate(atoms, properties, system_changes)
        structure = structure_of(self.atoms)
        self.asked[structure.structure_id] = structure
        label = self._labels([structure])[0]
        self.results = {"energy": float(label["energy"]), "free_energy": float(label["energy"])}
        for name in ("forces", "stress"):
            if label.get(name) is not None:
                values = np.asarray(label[name], dtype=float)
                self.results[name] = values if name == "forces" else values.ravel()[[0, 4, 8, 5, 2, 1]]
        lacking = [name for name in properties if name not in self.results]
        if lacking:
            raise QuarryError(f"the labels have no {lacking[0]}, which the reference of this use needs")


def with_ground_state(label: Mapping[str, Any]) -> dict[str, Any]:
    """Return a label's properties; energy and forces that it lacks are those of its lowest state, where it has several."""
    found = dict(label)
    for name, states, axis in (("energy", "state_energies", 0), ("forces", "state_forces", 1)):
        if found.get(name) is None and found.get(states) is not None:
            found[name] = np.take(np.asarray(found[states], dtype=float), 0, axis=axis)
    return found


def structure_of(atoms: Atoms) -> Structure:
    """Return atoms as a structure with the charge and multiplicity of their ``info``, positions rounded as a pool's."""
    return Structure.of_atoms(atoms, int(atoms.info["charge"]), int(atoms.info["multiplicity"]))
