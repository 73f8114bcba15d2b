"""QM9: does QS1 make a better potential of energies than random molecules do?

    python benchmarks/potential_energies.py --data FOLDER --rows rows.jsonl --seeds 1

V. Zaverkin, J. Kaestner, Mach. Learn.: Sci. Technol. 2, 035009 (2021), section 3.2, cut: energies U0 of the molecules of QM9 that
have one in the file, a cutoff of 3 Angstrom, 10 % more molecules in each iteration. Rows go to a file as they come.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.units import Hartree, kcal, mol
from common import machine, print_table
from potentials import chosen, force_errors, note, noted, sizes_upto, trained

from quarry.models.base import TrainingData
from quarry.randomness import generator
from quarry.structures import Structure, StructureSet

UNIT = kcal / mol


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


def study(data: TrainingData, options: argparse.Namespace, seed: int) -> None:
    """Write rows of one seed."""
    order = generator(seed, "split").permutation(len(data))
    test, validation = order[: options.test], order[options.test : options.test + options.validation]
    pool = order[options.test + options.validation :]
    sizes = sizes_upto(options.initial, options.upto, options.fraction)
    atoms = np.diff(data.structures.offsets)
    for strategy in options.strategies:
        train = pool[: sizes[0]]
        for step, size in enumerate(sizes):
            last = size == sizes[-1]
            if strategy == "random" and not last:
                train = pool[: sizes[step + 1]]
                continue
            began = time.process_time()
            steps = options.long_steps if last else options.steps
            settings = {"cutoff_A": 3.0, "learning_rate": options.learning_rate}
            model = trained(data.subset(train), data.subset(validation), steps, seed, **settings)
            row = {"seed": seed, "strategy": strategy, "n": size, "steps": steps, "last": last}
            row |= {"atoms": float(atoms[train].mean())}
            row |= force_errors(model, data.subset(test), UNIT)
            if not last:
                rest = np.setdiff1d(pool, train)
                n = sizes[step + 1] - size
                train = np.concatenate([train, chosen(strategy, model, data, rest, train, n, generator(seed, step))[0]])
            note(options.rows, {**row, "cpu_s": time.process_time() - began})


def show(rows: list[dict]) -> None:
    print(f"{machine()}, torch {torch.__version__}; seeds {sorted({row['seed'] for row in rows})}")
    table = []
    last = [row for row in rows if row["last"]]
    for strategy in dict.fromkeys(row["strategy"] for row in last):
        some = [row for row in last if row["strategy"] == strategy]

        def cell(name: str, some: list[dict] = some) -> str:
            values = [row[name] for row in some]
            return f"{statistics.mean(values):.2f}" + (f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else "")

        names = ("energy_mae", "energy_rmse", "energy_maxe", "atoms")
        table.append([some[0]["n"], strategy, len(some), *(cell(name) for name in names)])
    head = ["labels", "strategy", "seeds", "MAE", "RMSE", "MAXE", "atoms in a molecule"]
    print_table("Energies U0 of QM9 on a fixed test set, kcal/mol", head, table)
    print(f"\n{sum(row['cpu_s'] for row in rows):.0f} CPU-s for the rows")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", required=True, help="file that rows are appended to")
    parser.add_argument("--seeds", type=int, nargs="*", default=[1])
    parser.add_argument("--strategies", nargs="*", default=["random", "oed_energy"])
    parser.add_argument("--molecules", type=int, default=16771)
    parser.add_argument("--initial", type=int, default=500)
    parser.add_argument("--upto", type=int, default=1500)
    parser.add_argument("--fraction", type=float, default=0.1, help="labels of a batch, of those that are there")
    parser.add_argument("--test", type=int, default=2000)
    parser.add_argument("--validation", type=int, default=200)
    parser.add_argument("--steps", type=int, default=1000, help="of a training that only selects")
    parser.add_argument("--long-steps", type=int, default=4000, help="of a training that is measured")
    parser.add_argument("--learning-rate", type=float, default=0.01)
    options = parser.parse_args()
    torch.set_num_threads(1)
    examples = qm9(options.data, options.molecules)
    for number in options.seeds:
        study(examples, options, number)
    show(noted(options.rows))
