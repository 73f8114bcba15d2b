"""Ethanol: which strategy makes a better potential of the same number of labels?

    python benchmarks/potential_selection.py --data FOLDER --rows rows.jsonl --seeds 1

The protocol of V. Zaverkin, J. Kaestner, Mach. Learn.: Sci. Technol. 2, 035009 (2021), section 3.1, cut for a slow machine: from
100 structures, 10 % more in each iteration, a potential from random weights in each. Steps are of 8 structures in place of 32 and
some thousand in place of 5,000 epochs: batches of 8 learn more in the same processor time. Errors are on a fixed test set, and on
all structures that were not selected. Rows go to a file as they come, and the table is of all rows in it.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.units import kcal, mol
from potentials import (
    add_options,
    committee_spread,
    errors_of_structures,
    note,
    noted,
    show_correlations,
    show_errors,
    split,
    study,
    trained,
)

from quarry.models.base import TrainingData
from quarry.structures import Structure, StructureSet

UNIT = kcal / mol
MEASURES = {"forces_mae": "F MAE", "forces_rmse": "F RMSE", "forces_maxe": "F MAXE", "energy_rmse": "E RMSE"}


def ethanol(folder: Path) -> TrainingData:
    """Return the 5,000 structures, eV and Angstrom."""
    data = np.load(folder / "ethanol_zaverkin_1000K.npz")
    numbers = [int(z) for z in data["Z"]]
    structures = StructureSet.from_structures(Structure.create(numbers, frame) for frame in data["R"])
    forces = data["F_kcal_mol_A"].reshape(-1, 3).astype(float) * UNIT
    return TrainingData(structures, {"energy": data["E_kcal_mol"].astype(float) * UNIT, "forces": forces})


def correlations(data: TrainingData, options: argparse.Namespace, seed: int, **settings: Any) -> None:
    """Write how the criteria of one random training set go with errors, with each other, and with other trainings."""
    began = time.process_time()
    _, validation, pool = split(len(data), options, seed)
    train, others = pool[: options.correlated_at], pool[options.correlated_at :][: options.correlated]
    known, rest, held = data.structures.subset(train), data.subset(others), data.subset(validation)

    def of(steps: int, initialisation: int, want: frozenset[str]) -> tuple[dict[str, np.ndarray], np.ndarray]:
        model = trained(data.subset(train), held, steps, initialisation, **settings)
        found = model.informativeness(rest.structures, known, want)
        # The numerator of equation 14, as the paper plots it.
        saturated = len(train) < 128
        values = {k: v.values if saturated and k == "energy" else v.values / (1 - v.values) for k, v in found.items()}
        return values, errors_of_structures(model, rest, UNIT)

    both = frozenset({"energy", "forces"})
    first, off = of(options.long_steps, seed, both)
    second, _ = of(options.long_steps, seed + 1000, frozenset({"energy"}))
    short, _ = of(options.steps, seed, frozenset({"energy"}))
    spread = committee_spread(data.subset(train), held, rest, options.committee_steps, seed + 2000, **settings)
    pairs = {
        "QS1, error": (first["energy"], off),
        "QS2, error": (first["forces"], off),
        "QS1, QS2": (first["energy"], first["forces"]),
        "QS1, another initialisation": (first["energy"], second["energy"]),
        "QS1, short training": (first["energy"], short["energy"]),
        "QS1, committee's deviation of forces": (first["energy"], spread["forces"]),
        "QS1, committee's deviation of energies": (first["energy"], spread["energy"]),
        "QS2, committee's deviation of forces": (first["forces"], spread["forces"]),
        "committee's deviation of forces, error": (spread["forces"], off),
    }
    found = {name: float(np.corrcoef(*pair)[0, 1]) for name, pair in pairs.items()}
    row = {"seed": seed, "kind": "correlation", "n": len(train), **found, "cpu_s": time.process_time() - began}
    note(options.rows, row)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    add_options(
        parser,
        strategies=["random", "oed_energy", "oed_forces", "lcmd:gradient"],
        initial=100,
        upto=390,
        pool=3000,
        test=1000,
        validation=40,
        steps=500,
        long_steps=5000,
        long_at=[100, 198, 291, 390],
        learning_rate=0.03,
        correlated_at=200,
        committee_steps=1000,
    )
    chosen_options = parser.parse_args()
    torch.set_num_threads(1)
    examples = ethanol(chosen_options.data)
    learning = {"learning_rate": chosen_options.learning_rate, "batch_size": chosen_options.batch_size}
    for number in chosen_options.seeds:
        study(examples, chosen_options, number, UNIT, **learning)
        if chosen_options.correlated_at:
            correlations(examples, chosen_options, number, **learning)
    everything = noted(chosen_options.rows)
    show_errors(everything, MEASURES, chosen_options.long_steps)
    show_correlations(everything)
