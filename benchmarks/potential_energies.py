"""QM9: does QS1 make a better potential of energies than random molecules do?

    python benchmarks/potential_energies.py --data FOLDER --rows rows.jsonl --seeds 1

V. Zaverkin, J. Kaestner, Mach. Learn.: Sci. Technol. 2, 035009 (2021), section 3.2, cut: energies U0 of the molecules of QM9 that
have one in the file, a cutoff of 3 Angstrom, batches that grow with the training set. Rows go to a file as they come.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.units import Hartree, kcal, mol
from common import print_table
from potentials import (
    add_options,
    committee_spread,
    note,
    noted,
    show_correlations,
    show_errors,
    sizes_upto,
    split,
    study,
    trained,
)

from quarry.models.base import TrainingData
from quarry.structures import Structure, StructureSet

UNIT = kcal / mol
MEASURES = {"energy_mae": "MAE", "energy_rmse": "RMSE", "energy_maxe": "MAXE"}


def qm9(folder: Path, most: int) -> TrainingData:
    """Return at most so many molecules, in random order, with their U0, eV."""
    data = np.load(folder / "qm9_homo_b3lyp_128744.npz")
    energies = data["u0_hartree"].astype(float) * Hartree
    rows = np.random.default_rng(0).permutation(np.flatnonzero(np.isfinite(energies)))[:most]
    return TrainingData(molecules(data, rows), {"energy": energies[rows]})


def molecules(data: Any, rows: np.ndarray) -> StructureSet:
    """Return molecules of the file, whether they have an energy or not."""
    numbers, positions, offsets = data["Z"], data["R"], data["offsets"].astype(np.int64)
    places = [slice(offsets[k], offsets[k + 1]) for k in rows]
    return StructureSet.from_structures(Structure.create(numbers[p].tolist(), positions[p]) for p in places)


def correlations(data: TrainingData, options: argparse.Namespace, seed: int, **settings: Any) -> None:
    """Write how QS1 of a random training set goes with the energy's error, and with a committee's deviation."""
    began = time.process_time()
    _, validation, pool = split(len(data), options, seed)
    train, others = data.subset(pool[: options.correlated_at]), data.subset(pool[options.correlated_at :])
    others, held = others.subset(np.arange(min(len(others), options.correlated))), data.subset(validation)
    model = trained(train, held, options.long_steps, seed, **settings)
    off = np.abs(model.predict(others.structures, frozenset({"energy"})).mean["energy"] - others.targets["energy"])
    change = model.informativeness(others.structures, train.structures, frozenset({"energy"}))["energy"].values
    spread = committee_spread(train, held, others, options.committee_steps, seed + 2000, **settings)["energy"]
    # The paper takes the square root, to compare with a standard deviation.
    pairs = {
        "root of QS1, error": (np.sqrt(change), off),
        "committee's deviation, error": (spread, off),
        "root of QS1, committee's deviation": (np.sqrt(change), spread),
    }
    found = {name: float(np.corrcoef(*pair)[0, 1]) for name, pair in pairs.items()}
    row = {"seed": seed, "kind": "correlation", "n": len(train), **found, "cpu_s": time.process_time() - began}
    note(options.rows, row)


def show_sizes(rows: list[dict[str, Any]], data: TrainingData, options: argparse.Namespace) -> None:
    """Print the mean number of atoms of the molecules that each iteration selected (figure 7)."""
    atoms, sizes = np.diff(data.structures.offsets), sizes_upto(options.initial, options.upto, options.fraction)
    sets: dict[str, list[np.ndarray]] = {strategy: [] for strategy in options.strategies}
    for row in rows:
        if row["kind"] == "train":
            sets[row["strategy"]].append(atoms[row["rows"]])
    table = []
    for low, high in zip([0, *sizes], sizes, strict=False):
        means = [f"{np.mean([one[low:high].mean() for one in some]):.1f}" if some else "" for some in sets.values()]
        table.append([high, *means])
    print_table(f"Mean number of atoms of what is selected; of all: {atoms.mean():.1f}", ["labels", *sets], table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    add_options(
        parser,
        strategies=["random", "oed_energy"],
        initial=500,
        upto=2000,
        test=2000,
        validation=100,
        steps=1000,
        long_steps=5000,
        long_at=[500, 1079, 2119],
        learning_rate=0.01,
        correlated_at=1000,
        committee_steps=1000,
    )
    parser.add_argument("--molecules", type=int, default=16771)
    chosen_options = parser.parse_args()
    torch.set_num_threads(1)
    examples = qm9(chosen_options.data, chosen_options.molecules)
    learning = {"learning_rate": chosen_options.learning_rate, "batch_size": chosen_options.batch_size, "cutoff_A": 3.0}
    for number in chosen_options.seeds:
        study(examples, chosen_options, number, UNIT, **learning)
        if chosen_options.correlated_at:
            correlations(examples, chosen_options, number, **learning)
    everything = noted(chosen_options.rows)
    show_errors(everything, MEASURES, chosen_options.long_steps)
    show_sizes(everything, examples, chosen_options)
    show_correlations(everything)
