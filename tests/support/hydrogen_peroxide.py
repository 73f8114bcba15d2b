"""A chain H-O-O-H with a threefold torsion, as an ASE calculator: engine of campaigns that cost next to nothing.

Imported by name in label jobs (``labeling.calculator``), so it must lie in the campaign's folder.
"""

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

BONDS = ((0, 1, 1.0), (1, 2, 1.45), (2, 3, 1.0), (0, 2, 1.9), (1, 3, 1.9))
"""Pairs of atoms and the lengths that their springs want, Angstrom."""


def energy_eV(atoms):
    """Stiff bonds and angles, and a torsion with minima at 60, 180 and 300 degrees and barriers of 0.4 eV."""
    stiff = sum(20.0 * (atoms.get_distance(i, j) - length) ** 2 for i, j, length in BONDS)
    return stiff + 0.2 * (1.0 + np.cos(3.0 * np.radians(atoms.get_dihedral(0, 1, 2, 3))))


def at_angle(degrees):
    """Return the chain at rest but for its torsion."""
    angle = np.arccos((1.0 + 1.45**2 - 1.9**2) / 2.9)
    turn = np.radians(degrees)
    first = [np.cos(angle), np.sin(angle), 0.0]
    last = [1.45 - np.cos(angle), np.sin(angle) * np.cos(turn), np.sin(angle) * np.sin(turn)]
    return Atoms("HOOH", [first, [0.0, 0.0, 0.0], [1.45, 0.0, 0.0], last])


class Chain(Calculator):
    """Energy (eV) and forces (eV/Angstrom) by central differences."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 (as ASE has it)

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        forces = np.zeros((4, 3))
        for place in np.ndindex(4, 3):
            for sign in (1.0, -1.0):
                moved = self.atoms.copy()
                moved.positions[place] += sign * 1e-5
                forces[place] -= sign * energy_eV(moved) / 2e-5
        self.results = {"energy": energy_eV(self.atoms), "forces": forces}
