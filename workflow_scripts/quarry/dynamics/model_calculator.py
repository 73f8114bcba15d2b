"""A model in memory as a calculator of ASE, with the uncertainty of a structure beside its energy and forces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from quarry.dynamics.uncertainty import Measure
from quarry.dynamics.walkers import as_frames
from quarry.models.base import Model
from quarry.structures import Structure, StructureSet

UNCERTAINTY = "uncertainty"


class ModelCalculator(Calculator):
    """What samplers ask: energy (eV), forces (eV/Angstrom), stress (eV/Angstrom^3) of cells, and ``uncertainty`` in the unit of
    the measure. Asked once for a structure, however often it is looked at (ASE's own rule).
    """

    name = "model"

    def __init__(self, model: Model, measure: Measure, charge: int, multiplicity: int, forces: bool = True) -> None:
        """Say what is predicted. charge, multiplicity: of all structures. forces: whether the model gives them."""
        super().__init__()
        self.model, self.measure, self.with_forces = model, measure, forces
        self.charge, self.multiplicity = charge, multiplicity
        self.implemented_properties = ["energy", "free_energy", UNCERTAINTY] + ["forces", "stress"] * forces

    def again(self) -> ModelCalculator:
        """Return another calculator of the same model: ASE wants one for each image of a band."""
        return ModelCalculator(self.model, self.measure, self.charge, self.multiplicity, self.with_forces)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Compute all results of a structure."""
        super().calculate(atoms, properties, system_changes)
        here: Any = self.atoms
        cell = np.array(here.cell.array) if here.pbc.any() else None
        pbc = (bool(here.pbc[0]), bool(here.pbc[1]), bool(here.pbc[2]))
        # Not rounded, or forces of small displacements would be rough.
        structure = Structure(
            here.numbers.astype(np.int64), np.array(here.positions), self.charge, self.multiplicity, cell, pbc
        )
        structures = as_frames(StructureSet.from_structures([structure]))
        periodic = all(pbc) and self.with_forces
        wants = self.measure.wants | {"energy"} | ({"forces"} if self.with_forces else set())
        found = self.model.predict(structures, frozenset(wants | ({"stress"} if periodic else set())))
        energy = float(found.mean["energy"][0])
        self.results = {"energy": energy, "free_energy": energy}
        self.results[UNCERTAINTY] = float(self.measure.of(self.model, structures, found)[0])
        if self.with_forces:
            self.results["forces"] = np.asarray(found.mean["forces"], dtype=np.float64)
        if periodic and "stress" in found.mean:
            self.results["stress"] = full_3x3_to_voigt_6_stress(found.mean["stress"][0])
