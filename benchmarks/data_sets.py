"""The data sets that studies of models use: structures, features and labels, from files that are not part of the project.

A folder holds them under the names below (``--data``); docs/studies.md says where they come from.
"""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ase.units import Hartree, kcal, mol

from quarry.config.descriptors import InverseDistances, Mbtr
from quarry.descriptors.compute import compute_features
from quarry.models.regression import RegressionData
from quarry.structures import Structure, StructureSet
from quarry.structures.labelled import LabelledSet

WAVELENGTH_TIMES_ENERGY = 1239.841984
"""nm eV."""


def ethanol_1000_k(folder: Path) -> RegressionData:
    """Ethanol from dynamics at 1000 K, PBE-D3, 5,000 geometries."""
    data = np.load(folder / "ethanol_zaverkin_1000K.npz")
    unit = kcal / mol
    return _one_molecule(data["Z"], data["R"], data["E_kcal_mol"] * unit, data["F_kcal_mol_A"] * unit)


def ethanol_rmd17(folder: Path) -> RegressionData:
    """Ethanol from dynamics at 500 K (revised MD17), PBE, 2,000 geometries."""
    data = np.load(folder / "ethanol_rmd17_1000_1000.npz")
    both = [np.concatenate([data[f"{part}_{name}"] for part in ("train", "test")]) for name in ("R", "E_eV", "F_eV_A")]
    return _one_molecule(data["Z"], *both)


def ethanol_qm22(folder: Path) -> RegressionData:
    """Ethanol up to 32,600 cm-1 (QM-22), B3LYP; 5,000 of 11,011 geometries."""
    data = np.load(folder / "qm22_ethanol.npz")
    rows = np.random.default_rng(0).permutation(len(data["R"]))[:5000]
    forces = -data["G_hartree_bohr"][rows] * Hartree / 0.529177210903
    return _one_molecule(data["Z"], data["R"][rows], data["E_hartree"][rows] * Hartree, forces)


def qm9(folder: Path) -> RegressionData:
    """HOMO energies of 10,000 molecules of QM9, B3LYP."""
    data = np.load(folder / "qm9_random10k.npz")
    return _molecules(data["Z"], data["R"], data["offsets"], data["homo_hartree"].astype(float) * Hartree)


def bigqm7w(folder: Path) -> RegressionData:
    """Lowest excitation energies of 12,880 small molecules, TD-wB97XD; 6,000 of them."""
    data = np.load(folder / "bigqm7w_tddft_12880.npz")
    energies = WAVELENGTH_TIMES_ENERGY / data["wavelength_nm_first20"].max(axis=1)
    offsets = np.concatenate([[0], np.cumsum(data["n_atoms"])]).astype(np.int64)
    found = _molecules(data["Z"], data["R_uff"], offsets, energies.astype(float))
    return found.subset(np.sort(np.random.default_rng(0).permutation(len(found))[:6000]))


DATA_SETS: dict[str, Callable[[Path], RegressionData]] = {
    "ethanol, 1000 K": ethanol_1000_k,
    "ethanol, rMD17": ethanol_rmd17,
    "ethanol, QM-22": ethanol_qm22,
    "QM9 HOMO": qm9,
    "bigQM7w excitation": bigqm7w,
}


def audited_sets(folder: Path) -> dict[str, Callable[[], LabelledSet]]:
    """Return every set of a folder that has energies, as labels for an audit: all of them, with forces where there are any."""
    made: dict[str, tuple[str, Callable[..., LabelledSet]]] = {
        "ethanol, 1000 K": (
            "ethanol_zaverkin_1000K.npz",
            lambda d: _labels(d["Z"], d["R"], d["E_kcal_mol"] * kcal / mol, d["F_kcal_mol_A"] * kcal / mol),
        ),
        "ethanol, rMD17": (
            "ethanol_rmd17_1000_1000.npz",
            lambda d: _labels(
                d["Z"],
                *(
                    np.concatenate([d[f"{part}_{name}"] for part in ("train", "test")])
                    for name in ("R", "E_eV", "F_eV_A")
                ),
            ),
        ),
        "ethanol, QM-22": (
            "qm22_ethanol.npz",
            lambda d: _labels(
                d["Z"], d["R"], d["E_hartree"] * Hartree, -d["G_hartree_bohr"] * Hartree / 0.529177210903
            ),
        ),
        "H2, FCI": ("h2_fci_451.npz", lambda d: _labels([1, 1], d["R_A"], d["E_fci_hartree"] * Hartree)),
        "H2, UHF": ("h2_fci_451.npz", lambda d: _labels([1, 1], d["R_A"], d["E_uhf_hartree"] * Hartree)),
        "QM9 U0": ("qm9_homo_b3lyp_128744.npz", _qm9_energies),
        "QM9 HOMO": ("qm9_random10k.npz", lambda d: _many(d, {"homo": d["homo_hartree"].astype(float) * Hartree})),
        "bigQM7w excitations": (
            "bigqm7w_tddft_12880.npz",
            lambda d: _many(
                {"Z": d["Z"], "R": d["R_uff"], "offsets": np.concatenate([[0], np.cumsum(d["n_atoms"])])},
                {
                    "excitation_energies": np.sort(
                        WAVELENGTH_TIMES_ENERGY / d["wavelength_nm_first20"].astype(float), axis=1
                    )
                },
            ),
        ),
    }

    def reader(file: str, make: Callable[..., LabelledSet]) -> Callable[[], LabelledSet]:
        return lambda: make(np.load(folder / file))

    return {name: reader(*entry) for name, entry in made.items() if (folder / entry[0]).exists()}


def _labels(numbers: Any, positions: Any, energies: Any, forces: Any = None) -> LabelledSet:
    if np.ndim(positions) == 1:
        positions = np.array([[[0.0, 0.0, 0.0], [0.0, 0.0, r]] for r in positions])
    structures = StructureSet.from_structures(Structure.create([*map(int, numbers)], frame) for frame in positions)
    properties = {"energy": np.asarray(energies, dtype=float)}
    if forces is not None:
        properties["forces"] = np.asarray(forces, dtype=float).reshape(-1, 3)
    return LabelledSet(
        structures, np.full(len(structures), "train"), np.zeros(len(structures), dtype=np.int64), properties
    )


def _many(table: Any, properties: dict[str, np.ndarray]) -> LabelledSet:
    frames = itertools.pairwise(table["offsets"].tolist())
    numbers, positions = table["Z"], table["R"]
    structures = StructureSet.from_structures(
        Structure.create(numbers[a:b].tolist(), positions[a:b]) for a, b in frames
    )
    return LabelledSet(
        structures, np.full(len(structures), "train"), np.zeros(len(structures), dtype=np.int64), properties
    )


def _qm9_energies(data: Any) -> LabelledSet:
    rows = np.flatnonzero(np.isfinite(data["u0_hartree"]))
    offsets = data["offsets"].astype(np.int64)
    numbers, positions = data["Z"], data["R"]
    structures = StructureSet.from_structures(
        Structure.create(numbers[offsets[k] : offsets[k + 1]].tolist(), positions[offsets[k] : offsets[k + 1]])
        for k in rows
    )
    energies = data["u0_hartree"][rows] * Hartree
    return LabelledSet(
        structures, np.full(len(rows), "train"), np.zeros(len(rows), dtype=np.int64), {"energy": energies}
    )


def _one_molecule(numbers: Any, positions: Any, energies: Any, forces: Any) -> RegressionData:
    structures = StructureSet.from_structures(Structure.create(numbers.tolist(), frame) for frame in positions)
    features = compute_features(structures, InverseDistances(kind="inverse_distances"), structures[0])
    return RegressionData(
        structures, features, np.asarray(energies, dtype=float), forces=forces.reshape(-1, 3).astype(float)
    )


def _molecules(numbers: Any, positions: Any, offsets: Any, values: Any) -> RegressionData:
    frames = itertools.pairwise(offsets)
    structures = StructureSet.from_structures(
        Structure.create(numbers[a:b].tolist(), positions[a:b]) for a, b in frames
    )
    section = Mbtr.model_validate(
        {"kind": "mbtr", "k2": {"grid": {"minimum": 0.0, "maximum": 1.1, "points": 100, "sigma": 0.02}}}
    )
    return RegressionData(
        structures, compute_features(structures, section, structures[0]), np.asarray(values, dtype=float)
    )
