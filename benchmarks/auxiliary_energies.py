"""What an auxiliary model of energies is good for: a network and a Gaussian process of the atoms' neighbourhoods, equal energies.

    python benchmarks/auxiliary_energies.py --data FOLDER --labels 100 225 450 --seeds 0 1 2
    python benchmarks/auxiliary_energies.py --campaign results/water --labels 100 225 450

Of ethanol (revised MD17, a file of the folder), or of the labels of a finished campaign of one arm. Each seed draws the training
set; all others are the test set. The network is trained as that of a campaign of dynamics is, on energies alone. For the process
the last column says how well its distance from a network of energies and forces ranks that network's errors, and how large the
errors of that network are.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from common import machine, print_table
from data_sets import ethanol_rmd17
from scipy.stats import spearmanr

from quarry.config.dynamics import TRAINING
from quarry.config.gmnn import Gmnn
from quarry.models.base import TrainingData
from quarry.models.baselines import CompositionBaseline
from quarry.models.gmnn.auxiliary import AuxiliaryProcess
from quarry.models.gmnn.model import GaussianMomentModel
from quarry.models.gmnn.neighbours import Neighbourhoods
from quarry.models.gmnn.training import Examples
from quarry.randomness import generator
from quarry.structures.labelled import LabelledSet

ENERGY, BOTH, MOST, CUTOFF_A = frozenset({"energy"}), ("energy", "forces"), 1000, 4.0


def labels_of(options: argparse.Namespace) -> TrainingData:
    """Return energies (eV) and forces (eV/Angstrom) of a campaign, or of ethanol."""
    if options.campaign is None:
        found = ethanol_rmd17(options.data)
        assert found.forces is not None
        return TrainingData(found.structures, {"energy": found.targets, "forces": found.forces})
    known = LabelledSet.read(options.campaign / options.arm / "dataset.h5")
    energies, forces = (np.asarray(known.properties[name]) for name in BOTH)
    return TrainingData(known.structures, {"energy": energies, "forces": forces.reshape(-1, 3)})


def trained(
    data: TrainingData, learnt: tuple[str, ...], seed: int, **settings: object
) -> tuple[GaussianMomentModel, float]:
    """Return a potential, trained by default as in a campaign of dynamics, and the CPU-seconds that took."""
    begin = time.process_time()
    chosen = Gmnn.model_validate({"kind": "gmnn", "device": "cpu", **TRAINING, **settings})
    model = GaussianMomentModel(chosen, learnt)
    model.fit(
        TrainingData(data.structures, {name: data.targets[name] for name in learnt}), None, generator(seed, "train")
    )
    return model, time.process_time() - begin


def rows_of(data: TrainingData, n: int, seed: int) -> list[list[str | int]]:
    """Return a row of the table for each model with n labels."""
    order = np.random.default_rng(seed).permutation(len(data))
    learn, test = data.subset(order[:n]), data.subset(order[n : n + MOST])

    def row(name: str, off: np.ndarray, seconds: float, rest: str = "") -> list[str | int]:
        off = 1e3 * np.abs(off)
        errors = [off.mean(), np.sqrt((off**2).mean()), np.quantile(off, 0.95)]
        return [n, seed, name, *(f"{value:.2f}" for value in errors), f"{seconds:.1f}", rest]

    network, seconds = trained(learn, ("energy",), seed)
    off = network.predict(test.structures, ENERGY).mean["energy"] - test.targets["energy"]
    rows = [row("network of energies", off, seconds)]
    begin = time.process_time()
    kept = learn.subset(np.arange(n - max(1, round(0.1 * n))))
    off = process_of(kept, test) - test.targets["energy"]
    seconds = time.process_time() - begin
    pair, _ = trained(learn, BOTH, seed, uncertainty="auxiliary", calibrate=False)
    _, alone_s = trained(learn, BOTH, seed)
    said = pair.predict(test.structures, ENERGY | {"std"})
    main = said.mean["energy"] - test.targets["energy"]
    rank = spearmanr(said.std["energy"], np.abs(main)).statistic
    rows.append(row("process of energies", off, seconds, f"rank {rank:.2f}"))
    return [*rows, row("network of energies and forces", main, alone_s)]


@torch.inference_mode()
def process_of(learn: TrainingData, test: TrainingData) -> np.ndarray:
    """Return what a process that learns energies alone says of those of the test set, eV."""
    elements, baseline = (
        np.unique(learn.structures.numbers),
        CompositionBaseline.fit(learn.structures, learn.targets["energy"]),
    )

    def examples(data: TrainingData) -> Examples:
        found = Neighbourhoods.of(data.structures, CUTOFF_A)
        numbers = np.searchsorted(elements, data.structures.numbers)
        return Examples(found, numbers, data.targets["energy"] - baseline.mean(data.structures), None, None)

    process = AuxiliaryProcess.fit(examples(learn), len(elements), CUTOFF_A, generator(0, "train"))
    others = examples(test)
    batch = others.neighbourhoods.batch(np.arange(len(test)), CUTOFF_A, torch.float64, torch.device("cpu"))
    said, _ = process.said(batch, torch.from_numpy(others.elements[batch.atoms]), frozenset({"energy"}))
    return np.asarray(said["energy"] + baseline.mean(test.structures))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the data sets")
    parser.add_argument("--campaign", type=Path, help="results of a finished campaign, in place of ethanol")
    parser.add_argument("--arm", default="main")
    parser.add_argument("--labels", type=int, nargs="+", default=[100, 225, 450])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    chosen_options = parser.parse_args()
    torch.set_num_threads(1)
    examples, table = labels_of(chosen_options), []
    for number in chosen_options.labels:
        for chosen_seed in chosen_options.seeds:
            table += rows_of(examples, number, chosen_seed)
            print(table[-3:], flush=True)
    columns = ["labels", "seed", "model", "MAE (meV)", "RMSE", "95 % below", "CPU-s", "uncertainty and error"]
    print_table("Energies of structures that were not learnt", columns, table)
    print(f"\n{machine()}")
