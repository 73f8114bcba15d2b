"""Molecules that SCF procedures find hard, with small basis sets; names say geometry and spin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quarry.config.methods import PyscfMethod
from quarry.structures import Structure

SYMBOLS = {
    **{"H": 1, "Li": 3, "C": 6, "N": 7, "O": 8, "F": 9, "Na": 11, "Cl": 17, "Cr": 24, "Fe": 26, "Co": 27, "Ni": 28},
}


@dataclass(frozen=True)
class HardCase:
    """One molecule, its level of theory, and why it is hard."""

    name: str
    structure: Structure
    method: PyscfMethod
    kind: str


def _diatomic(first: str, second: str, distance: float, multiplicity: int) -> Structure:
    positions = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, distance]])
    return Structure.create([SYMBOLS[first], SYMBOLS[second]], positions, multiplicity=multiplicity)


def _polyatomic(atoms: str, multiplicity: int = 1) -> Structure:
    fields = [atom.split() for atom in atoms.split(";")]
    positions = np.array([[float(x) for x in atom[1:]] for atom in fields])
    return Structure.create([SYMBOLS[atom[0]] for atom in fields], positions, multiplicity=multiplicity)


TWISTED_ETHYLENE = "C 0 0 .67; C 0 0 -.67; H 0 .92 1.24; H 0 -.92 1.24; H .92 0 -1.24; H -.92 0 -1.24"


def _level(xc: str, basis: str) -> PyscfMethod:
    return PyscfMethod(xc=xc, basis=basis)


B3LYP, PBE = _level("b3lyp", "6-31g*"), _level("pbe", "6-31g*")
B3LYP_SMALL, PBE_SMALL = _level("b3lyp", "3-21g"), _level("pbe", "3-21g")
STRETCHED, METAL, DEGENERATE, RADICAL = "stretched bond", "transition metal", "near-degenerate", "radical"

HARD_CASES = [
    HardCase("OH 2.5, doublet", _diatomic("O", "H", 2.5, 2), B3LYP, RADICAL),
    HardCase("CN 2.6, doublet", _diatomic("C", "N", 2.6, 2), B3LYP, RADICAL),
    HardCase("HF 2.8, singlet", _diatomic("H", "F", 2.8, 1), PBE, STRETCHED),
    HardCase("F2 2.8, singlet", _diatomic("F", "F", 2.8, 1), B3LYP, STRETCHED),
    HardCase("O2 1.21, singlet", _diatomic("O", "O", 1.21, 1), PBE, DEGENERATE),
    HardCase("CrH 1.66, sextet", _diatomic("Cr", "H", 1.66, 6), B3LYP_SMALL, METAL),
    HardCase("FeH 1.57, quartet", _diatomic("Fe", "H", 1.57, 4), PBE_SMALL, METAL),
    HardCase("FeO 1.61, quintet", _diatomic("Fe", "O", 1.61, 5), B3LYP_SMALL, METAL),
    HardCase("NiO 1.63, triplet", _diatomic("Ni", "O", 1.63, 3), B3LYP_SMALL, METAL),
    HardCase("NiO 1.63, singlet", _diatomic("Ni", "O", 1.63, 1), B3LYP_SMALL, METAL),
    HardCase("CoO 1.63, quartet", _diatomic("Co", "O", 1.63, 4), PBE_SMALL, METAL),
    HardCase("LiF 6.0, singlet", _diatomic("Li", "F", 6.0, 1), B3LYP, STRETCHED),
    HardCase("NaCl 6.0, singlet", _diatomic("Na", "Cl", 6.0, 1), B3LYP, STRETCHED),
    HardCase("twisted ethylene, singlet", _polyatomic(TWISTED_ETHYLENE), PBE_SMALL, DEGENERATE),
    HardCase("Cr2 1.68, singlet", _diatomic("Cr", "Cr", 1.68, 1), B3LYP_SMALL, METAL),
]
