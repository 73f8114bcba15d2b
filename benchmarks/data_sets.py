"""The data sets that studies of models use: structures, features and labels, from files that are not part of the project.

A folder holds them under the names below (``--data``); docs/studies.md says where they come from.
"""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ase.units import Hartree, kcal, mol

from quarry.config.descriptors import InverseDistances, Mbtr
from quarry.descriptors.compute import compute_features
from quarry.models.base import TrainingData
from quarry.structures import Structure, StructureSet

WAVELENGTH_TIMES_ENERGY = 1239.841984
"""nm eV."""


def ethanol_1000_k(folder: Path) -> TrainingData:
    """Ethanol from dynamics at 1000 K, PBE-D3, 5,000 geometries."""
    data = np.load(folder / "ethanol_zaverkin_1000K.npz")
    unit = kcal / mol
    return _one_molecule(data["Z"], data["R"], data["E_kcal_mol"] * unit, data["F_kcal_mol_A"] * unit)


def ethanol_rmd17(folder: Path) -> TrainingData:
    """Ethanol from dynamics at 500 K (revised MD17), PBE, 2,000 geometries."""
    data = np.load(folder / "ethanol_rmd17_1000_1000.npz")
    both = [np.concatenate([data[f"{part}_{name}"] for part in ("train", "test")]) for name in ("R", "E_eV", "F_eV_A")]
    return _one_molecule(data["Z"], *both)


def ethanol_qm22(folder: Path) -> TrainingData:
    """Ethanol up to 32,600 cm-1 (QM-22), B3LYP; 5,000 of 11,011 geometries."""
    data = np.load(folder / "qm22_ethanol.npz")
    rows = np.random.default_rng(0).permutation(len(data["R"]))[:5000]
    forces = -data["G_hartree_bohr"][rows] * Hartree / 0.529177210903
    return _one_molecule(data["Z"], data["R"][rows], data["E_hartree"][rows] * Hartree, forces)


def qm9(folder: Path) -> TrainingData:
    """HOMO energies of 10,000 molecules of QM9, B3LYP."""
    data = np.load(folder / "qm9_random10k.npz")
    return _molecules(data["Z"], data["R"], data["offsets"], data["homo_hartree"].astype(float) * Hartree)


def bigqm7w(folder: Path) -> TrainingData:
    """Lowest excitation energies of 12,880 small molecules, TD-wB97XD; 6,000 of them."""
    data = np.load(folder / "bigqm7w_tddft_12880.npz")
    energies = WAVELENGTH_TIMES_ENERGY / data["wavelength_nm_first20"].max(axis=1)
    offsets = np.concatenate([[0], np.cumsum(data["n_atoms"])]).astype(np.int64)
    found = _molecules(data["Z"], data["R_uff"], offsets, energies.astype(float))
    return found.subset(np.sort(np.random.default_rng(0).permutation(len(found))[:6000]))


DATA_SETS: dict[str, Callable[[Path], TrainingData]] = {
    "ethanol, 1000 K": ethanol_1000_k,
    "ethanol, rMD17": ethanol_rmd17,
    "ethanol, QM-22": ethanol_qm22,
    "QM9 HOMO": qm9,
    "bigQM7w excitation": bigqm7w,
}


def _one_molecule(numbers, positions, energies, forces) -> TrainingData:
    structures = StructureSet.from_structures(Structure.create(numbers.tolist(), frame) for frame in positions)
    features = compute_features(structures, InverseDistances(kind="inverse_distances"), structures[0])
    return TrainingData(
        structures, features, np.asarray(energies, dtype=float), forces=forces.reshape(-1, 3).astype(float)
    )


def _molecules(numbers, positions, offsets, values) -> TrainingData:
    frames = itertools.pairwise(offsets)
    structures = StructureSet.from_structures(
        Structure.create(numbers[a:b].tolist(), positions[a:b]) for a, b in frames
    )
    section = Mbtr.model_validate(
        {"kind": "mbtr", "k2": {"grid": {"minimum": 0.0, "maximum": 1.1, "points": 100, "sigma": 0.02}}}
    )
    return TrainingData(
        structures, compute_features(structures, section, structures[0]), np.asarray(values, dtype=float)
    )
