"""Growing clusters of water: which sizes do QS1 and QS2 take, what do they gain, do they rank force errors?

    python benchmarks/potential_clusters.py --rows rows.jsonl --labels FOLDER --molecules 2 7 12 30 60 --each 90 110 60 40 26

In place of the clusters of V. Zaverkin, J. Kaestner, Mach. Learn.: Sci. Technol. 2, 035009 (2021), section 3.3: spheres of water
with random places and turns in five classes of size, labelled by GFN2-xTB (tblite). The first training set has clusters of the
three smallest classes alone; candidates are of all. Each iteration trains a potential from random weights, measures it on a fixed
test set, and selects. Rows go to a file as they come.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.units import kcal, mol
from common import machine, print_table
from potentials import cell, chosen, errors_of_structures, force_errors, note, noted, sizes_upto, trained
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from quarry.models.base import TrainingData
from quarry.randomness import generator
from quarry.structures import Structure, StructureSet

UNIT = kcal / mol
CRITERIA = {"oed_energy": "energy", "oed_forces": "forces"}
MEASURES = ("forces_rmse", "forces_maxe", "energy_rmse", "energy_maxe")
WATER = np.array([[0.0, 0.0, 0.0], [0.757, 0.586, 0.0], [-0.757, 0.586, 0.0]])
SPACING_A = 3.0
CONTACT_A = 1.6
TRIES = 50


def cluster(n: int, rng: np.random.Generator) -> np.ndarray:
    """Return positions (Angstrom) of n molecules: the innermost points of a shaken cubic grid, turned and bent at random.

    A molecule is turned again while an atom of it is nearer than CONTACT_A to one of another.
    """
    side = np.arange(-4, 5)
    grid = SPACING_A * np.array([(i, j, k) for i in side for j in side for k in side], dtype=float)
    grid = grid[np.argsort((grid**2).sum(axis=1) + rng.uniform(0, 2, len(grid)))][:n]
    grid += rng.uniform(-0.25, 0.25, grid.shape)
    placed = np.zeros((0, 3))
    for place in grid:
        for _ in range(TRIES):
            turned = Rotation.random(random_state=int(rng.integers(2**31))).apply(WATER)
            molecule = place + turned + rng.normal(0.0, 0.04, turned.shape)
            if not len(placed) or cdist(molecule, placed).min() > CONTACT_A:
                break
        placed = np.concatenate([placed, molecule])
    return placed


def labelled(counts: np.ndarray, seed: int, folder: Path) -> TrainingData:
    """Return clusters of so many molecules with energies and forces; what the folder has is not computed again."""
    from tblite.ase import TBLite

    rng, frames, energies, forces = generator(seed, "clusters"), [], [], []
    folder.mkdir(parents=True, exist_ok=True)
    for number, n in enumerate(counts):
        positions = cluster(int(n), rng)
        path = folder / f"{seed}_{number:05d}_{n}.npz"
        if not path.exists():
            atoms = Atoms("OHH" * int(n), positions, calculator=TBLite(method="GFN2-xTB", verbosity=0))
            np.savez(path, energy=atoms.get_potential_energy(), forces=atoms.get_forces())
        label = np.load(path)
        energies.append(float(label["energy"]))
        forces.append(label["forces"])
        frames.append(Structure.create([8, 1, 1] * int(n), positions))
    return TrainingData(
        StructureSet.from_structures(frames), {"energy": np.array(energies), "forces": np.concatenate(forces)}
    )


def study(options: argparse.Namespace, seed: int) -> None:
    """Write rows of one seed."""
    counts = np.repeat(options.molecules, options.each)
    data = labelled(counts, seed, options.labels)
    order = generator(seed, "split").permutation(len(data))
    test = np.concatenate([order[counts[order] == n][: options.test] for n in options.molecules])
    left = order[~np.isin(order, test)]
    small = left[counts[left] <= sorted(options.molecules)[2]]
    first, held = small[: options.initial], small[options.initial : options.initial + options.validation]
    pool = left[~np.isin(left, held)]
    sizes = sizes_upto(options.initial, options.upto, options.fraction)
    settings = {name: getattr(options, name) for name in ("learning_rate", "batch_size", "hidden")}

    def fitted(train: np.ndarray) -> Any:
        return trained(data.subset(train), data.subset(held), options.steps, seed, **settings)

    start = fitted(first)
    for strategy in options.strategies:
        train = first
        for size, after in zip(sizes, [*sizes[1:], 0], strict=True):
            began, rest = time.process_time(), np.setdiff1d(pool, train)
            # All strategies begin with the same potential.
            model = start if size == sizes[0] else fitted(train)
            row: dict[str, Any] = {"seed": seed, "strategy": strategy, "n": size}
            row |= force_errors(model, data.subset(test), UNIT)
            off = errors_of_structures(model, data.subset(test), UNIT)
            row["error"] = {int(n): float(off[counts[test] == n].mean()) for n in options.molecules}
            if size == sizes[0] and strategy == options.strategies[0]:
                row["correlation"] = correlations(model, data, counts, rest, train)
            if after:
                picked, _ = chosen(strategy, model, data, rest, train, after - size, generator(seed, strategy, size))
                row["taken"] = {int(n): int((counts[picked] == n).sum()) for n in options.molecules}
                row["left"] = {int(n): int((counts[rest] == n).sum()) for n in options.molecules}
                if strategy in CRITERIA:
                    row["informativeness"] = informativeness(model, data, picked, train, CRITERIA[strategy])
                train = np.concatenate([train, picked])
            note(options.rows, {**row, "cpu_s": time.process_time() - began})


def informativeness(
    model: Any, data: TrainingData, picked: np.ndarray, train: np.ndarray, criterion: str
) -> dict[str, float]:
    """Return which share of what was selected is above both thresholds, and by how much on the average (figure 10)."""
    found = model.informativeness(data.structures.subset(picked), data.structures.subset(train), frozenset({criterion}))
    values, thresholds = found[criterion].values, found[criterion].known
    return {
        "above mean": float((values > thresholds.mean()).mean()),
        "above median": float((values > np.median(thresholds)).mean()),
        "over mean": float(values.mean() / thresholds.mean()),
        "over median": float(np.median(values) / np.median(thresholds)),
    }


def correlations(
    model: Any, data: TrainingData, counts: np.ndarray, rest: np.ndarray, train: np.ndarray
) -> dict[str, dict[str, float]]:
    """Return how QS1 and QS2 of the candidates go with their force errors: of all, and of each class."""
    off = errors_of_structures(model, data.subset(rest), UNIT)
    both = frozenset(CRITERIA.values())
    found = model.informativeness(data.structures.subset(rest), data.structures.subset(train), both)
    result = {}
    for name, criterion in CRITERIA.items():
        values = found[criterion].values
        classes = {"all": np.ones(len(rest), dtype=bool)} | {str(n): counts[rest] == n for n in np.unique(counts[rest])}
        result[name] = {key: float(np.corrcoef(values[of], off[of])[0, 1]) for key, of in classes.items()}
    return result


def show(rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    print(f"{machine()}, torch {torch.__version__}; seeds {sorted({row['seed'] for row in rows})}")
    classes = [str(n) for n in options.molecules]
    strategies = list(dict.fromkeys(row["strategy"] for row in rows))
    last = max(row["n"] for row in rows)
    table: list[list[object]] = []
    for n in sorted({row["n"] for row in rows}):
        for strategy in strategies:
            some = [row for row in rows if (row["n"], row["strategy"]) == (n, strategy)]
            if some:
                errors = [cell([row[name] for row in some], 2) for name in MEASURES]
                table.append([n, strategy, *errors, *(cell([row["error"][c] for row in some], 2) for c in classes)])
    head = ["labels", "strategy", "F RMSE", "F MAXE", "E RMSE", "E MAXE", *(f"F MAE of {c}" for c in classes)]
    print_table(f"Errors on the fixed test set, kcal/mol (/Angstrom), {options.steps} steps", head, table)
    table = []
    for strategy in strategies:
        for n in sorted({row["n"] for row in rows if row["n"] < last}):
            some = [row for row in rows if (row["n"], row["strategy"]) == (n, strategy) and "taken" in row]
            if some:
                taken = [f"{np.mean([row['taken'][c] for row in some]):.1f}" for c in classes]
                found = [row["informativeness"] for row in some if "informativeness" in row]
                informed = [f"{np.mean([one[key] for one in found]):.2f}" for key in (found[0] if found else {})]
                table.append([strategy, n, *taken, *(informed or [""] * 4)])
    head = ["strategy", "labels", *(f"taken of {c}" for c in classes)]
    head += ["share above mean", "above median", "mean over mean", "median over median"]
    print_table("What is selected, by number of molecules, and its informativeness", head, table)
    found = [row["correlation"] for row in rows if "correlation" in row]
    sets = list(found[0]["oed_energy"])
    names = [[name, *(cell([one[name][key] for one in found], 2) for key in sets)] for name in CRITERIA]
    print_table("Pearson correlations with the force error, first potential", ["", *sets], names)
    print(f"\n{sum(row['cpu_s'] for row in rows):.0f} CPU-s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", required=True, help="file that rows are appended to")
    parser.add_argument("--labels", type=Path, required=True, help="folder for labels")
    parser.add_argument("--seeds", type=int, nargs="*", default=[1])
    parser.add_argument("--molecules", type=int, nargs="*", default=[2, 7, 12, 30, 60, 126])
    parser.add_argument("--each", type=int, nargs="*", default=[90, 110, 60, 40, 26, 3], help="clusters of each size")
    parser.add_argument("--initial", type=int, default=140)
    parser.add_argument("--upto", type=int, default=227)
    parser.add_argument("--fraction", type=float, default=0.1, help="labels of a batch, of those that are there")
    parser.add_argument("--validation", type=int, default=20)
    parser.add_argument(
        "--test", type=int, default=8, help="clusters of each size to measure errors, all of a size of fewer"
    )
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=4, help="clusters of a step")
    parser.add_argument(
        "--hidden", type=int, nargs="*", default=[128, 32], help="few in the last: QS1 wants more labels"
    )
    parser.add_argument("--strategies", nargs="*", default=["random", "oed_energy", "oed_forces"])
    parser.add_argument("--learning-rate", type=float, default=0.01)
    chosen_options = parser.parse_args()
    torch.set_num_threads(1)
    for number in chosen_options.seeds:
        study(chosen_options, number)
    show(noted(chosen_options.rows), chosen_options)
