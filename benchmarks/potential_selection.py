"""Ethanol: which strategy makes a better potential of the same number of labels?

    python benchmarks/potential_selection.py --data FOLDER --rows rows.jsonl --seeds 1

The protocol of V. Zaverkin, J. Kaestner, Mach. Learn.: Sci. Technol. 2, 035009 (2021), section 3.1, cut for a slow machine: from
100 structures, 10 % more in each iteration, a potential from random weights in each. Training is some hundred to thousand steps
in place of 5,000 epochs. Errors are on a fixed test set, and on all structures that were not selected. Rows go to a file as
they come, and the table is of all rows in it.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from ase.units import kcal, mol
from common import machine, print_table
from potentials import chosen, errors_of_structures, force_errors, note, noted, sizes_upto, trained

from quarry.models.base import TrainingData
from quarry.randomness import generator
from quarry.structures import Structure, StructureSet

UNIT = kcal / mol
MEASURES = ("forces_mae", "forces_rmse", "forces_maxe", "energy_rmse")


def ethanol(folder: Path) -> TrainingData:
    """Return the 5,000 structures, eV and Angstrom."""
    data = np.load(folder / "ethanol_zaverkin_1000K.npz")
    numbers = [int(z) for z in data["Z"]]
    structures = StructureSet.from_structures(Structure.create(numbers, frame) for frame in data["R"])
    forces = data["F_kcal_mol_A"].reshape(-1, 3).astype(float) * UNIT
    return TrainingData(structures, {"energy": data["E_kcal_mol"].astype(float) * UNIT, "forces": forces})


def study(data: TrainingData, options: argparse.Namespace, seed: int) -> None:
    """Write rows of one seed."""
    order = generator(seed, "split").permutation(len(data))
    test, validation = order[: options.test], order[options.test : options.test + options.validation]
    pool = order[options.test + options.validation :][: options.pool]
    sizes = sizes_upto(options.initial, options.upto, options.fraction)
    settings = {"learning_rate": options.learning_rate}
    held = data.subset(validation)

    def measured(strategy: str, train: np.ndarray, kind: str, steps: int) -> None:
        began = time.process_time()
        model = trained(data.subset(train), held, steps, seed, **settings)
        rest = np.setdiff1d(pool, train)
        row = {"seed": seed, "strategy": strategy, "n": len(train), "kind": kind, "steps": steps}
        row |= {f"test_{k}": v for k, v in force_errors(model, data.subset(test), UNIT).items()}
        row |= {f"rest_{k}": v for k, v in force_errors(model, data.subset(rest), UNIT).items()}
        note(options.rows, {**row, "cpu_s": time.process_time() - began})

    for strategy in options.strategies:
        train = pool[: sizes[0]]
        for step, size in enumerate(sizes):
            if size in options.long_at and (size > sizes[0] or strategy == options.strategies[0]):
                measured(strategy, train, "long", options.long_steps)
            if size == sizes[-1]:
                break
            began = time.process_time()
            rng, rest = generator(seed, strategy, step), np.setdiff1d(pool, train)
            if strategy == "random":
                train = pool[: sizes[step + 1]]
                continue
            model = trained(data.subset(train), held, options.steps, seed, **settings)
            row = {"seed": seed, "strategy": strategy, "n": size, "kind": "short", "steps": options.steps}
            row |= {f"test_{k}": v for k, v in force_errors(model, data.subset(test), UNIT).items()}
            picked, _ = chosen(strategy, model, data, rest, train, sizes[step + 1] - size, rng)
            train = np.concatenate([train, picked])
            note(options.rows, {**row, "cpu_s": time.process_time() - began})
        note(options.rows, {"seed": seed, "strategy": strategy, "kind": "train", "rows": train.tolist()})


def correlations(data: TrainingData, options: argparse.Namespace, seed: int) -> None:
    """Write how the criteria of one random training set go with errors, with each other, and with other trainings."""
    order = generator(seed, "split").permutation(len(data))
    validation = order[options.test : options.test + options.validation]
    pool = order[options.test + options.validation :][: options.pool]
    train, others = pool[: options.correlated_at], pool[options.correlated_at :][: options.correlated]
    known, rest = data.structures.subset(train), data.subset(others)

    def of(steps: int, initialisation: int, want: frozenset[str]) -> tuple[dict[str, np.ndarray], np.ndarray]:
        model = trained(
            data.subset(train), data.subset(validation), steps, initialisation, learning_rate=options.learning_rate
        )
        found = model.informativeness(rest.structures, known, want)
        # The numerator of equation 14, as the paper plots it.
        saturated = len(train) < 128
        values = {k: v.values if saturated and k == "energy" else v.values / (1 - v.values) for k, v in found.items()}
        return values, errors_of_structures(model, rest, UNIT)

    both = frozenset({"energy", "forces"})
    first, off = of(options.long_steps, seed, both)
    second, _ = of(options.long_steps, seed + 1000, frozenset({"energy"}))
    short, _ = of(options.steps, seed, frozenset({"energy"}))
    pairs = {
        "QS1, error": (first["energy"], off),
        "QS2, error": (first["forces"], off),
        "QS1, QS2": (first["energy"], first["forces"]),
        "QS1, another initialisation": (first["energy"], second["energy"]),
        "QS1, short training": (first["energy"], short["energy"]),
    }
    row = {name: float(np.corrcoef(*pair)[0, 1]) for name, pair in pairs.items()}
    note(options.rows, {"seed": seed, "kind": "correlation", "n": len(train), **row})


def show(rows: list[dict], options: argparse.Namespace) -> None:
    """Print the tables of all rows."""

    def cell(values: list[float]) -> str:
        spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
        return f"{statistics.mean(values):.3f}{spread}" if values else "-"

    print(f"{machine()}, torch {torch.__version__}; seeds {sorted({r['seed'] for r in rows})}")
    long = [row for row in rows if row["kind"] == "long"]
    for where in ("test", "rest"):
        table = []
        for n in sorted({row["n"] for row in long}):
            for strategy in dict.fromkeys(row["strategy"] for row in long):
                some = [row for row in long if row["n"] == n and row["strategy"] == strategy]
                if some:
                    table.append([n, strategy, len(some), *(cell([r[f"{where}_{m}"] for r in some]) for m in MEASURES)])
        place = "the fixed test set" if where == "test" else "all structures that were not selected"
        head = ["labels", "strategy", "seeds", "F MAE", "F RMSE", "F MAXE", "E RMSE"]
        print_table(f"Errors on {place}, kcal/mol (/Angstrom), {options.long_steps} steps", head, table)
    found = [row for row in rows if row["kind"] == "correlation"]
    names = [name for name in (found[0] if found else {}) if name not in ("seed", "kind", "n")]
    print_table(
        f"Pearson correlations at {found[0]['n'] if found else 0} labels",
        ["of", "value"],
        [[name, cell([row[name] for row in found])] for name in names],
    )
    used = sum(row.get("cpu_s", 0.0) for row in rows)
    print(f"\n{used:.0f} CPU-s for the rows")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", required=True, help="file that rows are appended to")
    parser.add_argument("--seeds", type=int, nargs="*", default=[1])
    parser.add_argument("--strategies", nargs="*", default=["random", "oed_energy", "lcmd", "oed_forces"])
    parser.add_argument("--initial", type=int, default=100)
    parser.add_argument("--upto", type=int, default=320)
    parser.add_argument("--fraction", type=float, default=0.1, help="labels of a batch, of those that are there")
    parser.add_argument("--pool", type=int, default=3000)
    parser.add_argument("--test", type=int, default=1000)
    parser.add_argument("--validation", type=int, default=100)
    parser.add_argument("--steps", type=int, default=600, help="of a training that only selects")
    parser.add_argument("--long-steps", type=int, default=2500, help="of a training that is measured")
    parser.add_argument("--long-at", type=int, nargs="*", default=[100, 198, 321])
    parser.add_argument("--learning-rate", type=float, default=0.03)
    parser.add_argument("--correlated-at", type=int, default=200, help="labels of the correlations; 0: none")
    parser.add_argument("--correlated", type=int, default=1000, help="structures of the correlations")
    chosen_options = parser.parse_args()
    torch.set_num_threads(1)
    examples = ethanol(chosen_options.data)
    for number in chosen_options.seeds:
        study(examples, chosen_options, number)
        if chosen_options.correlated_at:
            correlations(examples, chosen_options, number)
    show(noted(chosen_options.rows), chosen_options)
