"""Potentials with uncertainties for trajectories, as models."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from ase.calculators.emt import EMT

from quarry.models.base import Prediction


@dataclass
class EmtModel:
    """Effective medium theory; the uncertainty of the energy is the largest distance between two atoms."""

    calls: int = 0
    die_after: int | None = None

    def predict(self, structures, want):
        self.calls += 1
        if self.die_after is not None and self.calls > self.die_after:
            raise KeyboardInterrupt
        energies, forces, stresses, std = [], [], [], []
        for structure in structures:
            atoms = structure.to_atoms()
            atoms.calc = EMT()
            energies.append(atoms.get_potential_energy())
            forces.append(atoms.get_forces())
            stresses.append(atoms.get_stress(voigt=False) if "stress" in want else np.zeros((3, 3)))
            std.append(atoms.get_all_distances().max())
        mean = {"energy": np.array(energies), "forces": np.concatenate(forces), "stress": np.array(stresses)}
        return Prediction(mean, {"energy": np.array(std)})


@dataclass
class Springs:
    """Each atom bound to the origin by a spring (eV/Angstrom^2); no uncertainty."""

    constant: float
    uncertainty: float = 0.0
    seen: list = field(default_factory=list)

    def predict(self, structures, want):
        n = len(structures)
        forces = -self.constant * structures.positions
        energies = np.zeros(n)
        return Prediction(
            {"energy": energies, "forces": forces, "stress": np.zeros((n, 3, 3))},
            {"energy": np.full(n, self.uncertainty)},
        )
