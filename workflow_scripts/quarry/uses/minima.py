"""Relaxation of a structure, and the lengths of its bonds."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.filters import FrechetCellFilter
from ase.neighborlist import natural_cutoffs, neighbor_list
from ase.optimize import BFGS
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from quarry.config.uses import Optimise
from quarry.errors import QuarryError

BOND_FACTOR = 1.2
"""Atoms closer than this factor times the sum of their covalent radii are bonded."""


@dataclass(frozen=True, eq=False)
class Minimum:
    """A relaxed structure. energy_eV: its energy. largest_force_eV_A: of an atom. steps: of the relaxation."""

    atoms: Atoms
    energy_eV: float
    largest_force_eV_A: float
    steps: int

    def to_json(self) -> dict[str, Any]:
        """Return it as numbers with their units in the names."""
        found = {
            "energy_eV": self.energy_eV,
            "largest_force_eV_A": self.largest_force_eV_A,
            "steps": self.steps,
            **geometry_json(self.atoms),
            "bonds_A": bonds_A(self.atoms),
        }
        if self.atoms.pbc.any():
            found["cell_lengths_A"] = self.atoms.cell.lengths().tolist()
            found["cell_angles_deg"] = self.atoms.cell.angles().tolist()
        return found


def geometry_json(atoms: Atoms) -> dict[str, Any]:
    """Return elements, positions (Angstrom), charge and multiplicity, and cell and periodicity where there is one."""
    found: dict[str, Any] = {
        "numbers": atoms.numbers.tolist(),
        "positions_A": atoms.positions.tolist(),
        "charge": int(atoms.info["charge"]),
        "multiplicity": int(atoms.info["multiplicity"]),
    }
    if atoms.pbc.any():
        found |= {"cell_A": atoms.cell.array.tolist(), "pbc": atoms.pbc.tolist()}
    return found


def atoms_of(found: dict[str, Any]) -> Atoms:
    """Return the atoms that ``geometry_json`` describes."""
    info = {"charge": found["charge"], "multiplicity": found["multiplicity"]}
    return Atoms(
        found["numbers"], found["positions_A"], cell=found.get("cell_A"), pbc=found.get("pbc", False), info=info
    )


def relax(atoms: Atoms, settings: Optimise) -> Minimum:
    """Return the minimum that BFGS finds. atoms: with a calculator; they are not changed.

    Raises QuarryError if the relaxation needs more than ``settings.max_steps``.
    """
    moved = atoms.copy()
    moved.calc = atoms.calc
    moving: Any = FrechetCellFilter(moved) if settings.cell else moved
    search = BFGS(moving, logfile=None)
    if not search.run(fmax=settings.force_limit_eV_A, steps=settings.max_steps):
        largest = np.linalg.norm(moved.get_forces(), axis=1).max()
        raise QuarryError(
            f"uses.optimise: no minimum after {settings.max_steps} steps (largest force {largest:.3g} eV/Angstrom); raise "
            "max_steps or force_limit_eV_A, or begin with another uses.structure"
        )
    largest = float(np.linalg.norm(moved.get_forces(), axis=1).max())
    return Minimum(moved, float(moved.get_potential_energy()), largest, int(search.get_number_of_steps()))


def bonds_A(atoms: Atoms) -> dict[str, float]:
    """Return the length (Angstrom) of the bond of each pair of bonded atoms (C0-C1: elements and numbers from 0); of several
    images of a periodic structure the shortest.
    """
    first, second, lengths = neighbor_list("ijd", atoms, natural_cutoffs(atoms, mult=BOND_FACTOR))
    symbols = atoms.get_chemical_symbols()
    found: dict[str, float] = {}
    for i, j, length in sorted(zip(first.tolist(), second.tolist(), lengths.tolist(), strict=True)):
        if i <= j:
            found.setdefault(f"{symbols[i]}{i}-{symbols[j]}{j}", length)
    return found


def deviation_A(positions: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """Return the root mean square distance (Angstrom) of the atoms of two molecules that are laid upon each other.

    positions, others: shape (n_atoms, 3), in the same order.
    """
    one, other = positions - positions.mean(axis=0), others - others.mean(axis=0)
    if len(one) < 2:
        return 0.0
    with warnings.catch_warnings():
        # About its axis a straight molecule may be turned at will: nothing to tell the user.
        warnings.filterwarnings("ignore", "Optimal rotation is not uniquely", UserWarning)
        rotation, _ = Rotation.align_vectors(one, other)
    return float(np.sqrt(np.mean(np.sum((one - rotation.apply(other)) ** 2, axis=1))))
