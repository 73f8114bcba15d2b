"""Equation of state and elastic constants of copper: the potential of config/campaigns/copper_strain.yaml beside its labels' EMT.

    snakemake --configfile config/campaigns/copper_strain.yaml
    python benchmarks/copper_elastic.py results/copper_strain/model

Lattice constant and bulk modulus come from energies within 4 % of the lattice constant (third order Birch-Murnaghan), the elastic
constants from stresses of cells strained by +-0.5 % about the lattice constant of each.
"""

import argparse

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.eos import EquationOfState
from ase.units import GPa
from common import machine, print_table

from quarry.calculator import QuarryCalculator

STRAIN = 0.005


def both(atoms: Atoms, calculator: Calculator) -> tuple[float, np.ndarray]:
    """Return energy (eV) and stress (eV/Angstrom^3, shape (3, 3))."""
    atoms = atoms.copy()
    atoms.calc = calculator
    return atoms.get_potential_energy(), atoms.get_stress(voigt=False)


def copper(lattice_constant_A: float) -> Atoms:
    return bulk("Cu", "fcc", a=lattice_constant_A, cubic=True)


def constants(calculator: Calculator) -> list[float]:
    """Return lattice constant (Angstrom), bulk modulus, C11, C12 and C44 (GPa)."""
    cells = [copper(a) for a in np.linspace(3.45, 3.74, 15)]
    volumes, energies = [c.get_volume() for c in cells], [both(c, calculator)[0] for c in cells]
    volume, _, modulus = EquationOfState(volumes, energies, eos="birchmurnaghan").fit()
    constant = volume ** (1 / 3)

    def slope(strain: np.ndarray) -> np.ndarray:
        """Return how the stress changes with a strain."""
        stresses = []
        for sign in (1, -1):
            atoms = copper(constant)
            atoms.set_cell(atoms.cell @ (np.eye(3) + sign * STRAIN * strain), scale_atoms=True)
            stresses.append(both(atoms, calculator)[1])
        return (stresses[0] - stresses[1]) / (2 * STRAIN)

    along, sheared = np.zeros((3, 3)), np.zeros((3, 3))
    along[0, 0], sheared[1, 2], sheared[2, 1] = 1.0, 0.5, 0.5
    first = slope(along)
    return [constant, modulus / GPa, first[0, 0] / GPa, first[1, 1] / GPa, slope(sheared)[1, 2] / GPa]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="folder of a model that knows copper's cells")
    path = parser.parse_args().model
    print(machine())
    rows = {"EMT": constants(EMT()), "gmnn": constants(QuarryCalculator(path))}
    rows["difference %"] = [100 * (b / a - 1) for a, b in zip(rows["EMT"], rows["gmnn"], strict=True)]
    head = ["", "a (Angstrom)", "bulk modulus (GPa)", "C11", "C12", "C44"]
    print_table("Copper", head, [[name, *(f"{v:.3f}" for v in values)] for name, values in rows.items()])
