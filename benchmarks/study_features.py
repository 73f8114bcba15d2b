"""Features and labels of a table of molecules in one HDF5 file, as the studies on finite pools take them.

    python benchmarks/study_features.py --data qm9.npz --label homo_hartree --unit hartree --points 100 --out qm9_mbtr.h5

data: npz with Z, R and offsets (a flat table of geometries) and the labels. Rows without a label are left out.
"""

import argparse
import time

import h5py
import numpy as np
from common import machine

from quarry.config.base import ENERGY_UNITS_EV
from quarry.config.descriptors import CoulombMatrix, Mbtr
from quarry.descriptors.compute import compute_features
from quarry.structures import Structure, StructureSet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--label", required=True, help="name of the labels in the table")
    parser.add_argument("--unit", default="eV", choices=sorted(ENERGY_UNITS_EV))
    parser.add_argument("--descriptor", default="mbtr", choices=["mbtr", "coulomb_matrix"])
    parser.add_argument("--points", type=int, default=200, help="grid points of each element pair of MBTR k2")
    parser.add_argument("--out", required=True)
    options = parser.parse_args()
    began = time.perf_counter()
    with np.load(options.data) as table:
        numbers, positions, offsets = table["Z"], table["R"], table["offsets"]
        labels = table[options.label].astype(np.float64) * ENERGY_UNITS_EV[options.unit]
    rows = np.flatnonzero(np.isfinite(labels))
    structures = StructureSet.from_structures(
        Structure.create(numbers[offsets[i] : offsets[i + 1]], positions[offsets[i] : offsets[i + 1]]) for i in rows
    )
    features = compute_features(structures, settings_of(options), None).astype(np.float32)
    with h5py.File(options.out, "w") as handle:
        handle.create_dataset("features", data=features)
        handle.create_dataset(options.label.rsplit("_", 1)[0] + "_eV", data=labels[rows])
    print(f"{options.out}: {features.shape[0]} x {features.shape[1]}, {time.perf_counter() - began:.0f} s; {machine()}")


def settings_of(options: argparse.Namespace) -> CoulombMatrix | Mbtr:
    if options.descriptor == "coulomb_matrix":
        return CoulombMatrix(kind="coulomb_matrix")
    grid = {"minimum": 0.0, "maximum": 1.1, "points": options.points, "sigma": 0.02}
    return Mbtr.model_validate({"kind": "mbtr", "k2": {"grid": grid}})


if __name__ == "__main__":
    main()
