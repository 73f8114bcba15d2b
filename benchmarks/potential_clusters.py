"""Growing clusters of water: do QS1 and QS2 rank force errors, and which sizes do strategies take?

    python benchmarks/potential_clusters.py --rows rows.jsonl --molecules 1 2 4 8 16 --each 40

In place of the clusters of V. Zaverkin, J. Kaestner, Mach. Learn.: Sci. Technol. 2, 035009 (2021), section 3.3: spheres of water
with random places and turns, labelled by GFN2-xTB (tblite). A potential learns some of the three smallest classes, and all
classes are ranked. Rows go to a file as they come.
"""

import argparse
import time

import numpy as np
import torch
from ase import Atoms
from common import machine, print_table
from potentials import chosen, errors_of_structures, force_errors, note, noted, trained
from scipy.spatial.transform import Rotation

from quarry.models.base import TrainingData
from quarry.randomness import generator
from quarry.structures import Structure, StructureSet

WATER = np.array([[0.0, 0.0, 0.0], [0.757, 0.586, 0.0], [-0.757, 0.586, 0.0]])
SPACING_A = 3.0


def cluster(n: int, rng: np.random.Generator) -> np.ndarray:
    """Return positions (Angstrom) of n molecules: the innermost points of a shaken cubic grid, turned and bent at random."""
    side = np.arange(-4, 5)
    grid = SPACING_A * np.array([(i, j, k) for i in side for j in side for k in side], dtype=float)
    grid = grid[np.argsort((grid**2).sum(axis=1) + rng.uniform(0, 2, len(grid)))][:n]
    grid += rng.uniform(-0.25, 0.25, grid.shape)
    turned = np.stack([rotation.apply(WATER) for rotation in Rotation.random(n, random_state=int(rng.integers(2**31)))])
    return (grid[:, None] + turned + rng.normal(0.0, 0.04, turned.shape)).reshape(-1, 3)


def labelled(sizes: list[int], each: int, seed: int) -> tuple[TrainingData, np.ndarray]:
    """Return clusters with energies and forces, and the number of molecules of each."""
    from tblite.ase import TBLite

    rng, frames, energies, forces = generator(seed, "clusters"), [], [], []
    counts = np.repeat(sizes, each)
    for n in counts:
        atoms = Atoms("OHH" * int(n), cluster(int(n), rng), calculator=TBLite(method="GFN2-xTB", verbosity=0))
        energies.append(atoms.get_potential_energy())
        forces.append(atoms.get_forces())
        frames.append(Structure.create(atoms.numbers.tolist(), atoms.positions))
    data = TrainingData(
        StructureSet.from_structures(frames), {"energy": np.array(energies), "forces": np.concatenate(forces)}
    )
    return data, counts


def study(options: argparse.Namespace, seed: int) -> None:
    """Write rows of one seed."""
    began = time.process_time()
    data, counts = labelled(options.molecules, options.each, seed)
    labels_s = time.process_time() - began
    small = counts <= sorted(options.molecules)[2]
    order = generator(seed, "split").permutation(np.flatnonzero(small))
    train, held = order[: options.train], order[options.train : options.train + options.validation]
    rest = np.setdiff1d(np.arange(len(data)), np.concatenate([train, held]))
    settings = {"learning_rate": options.learning_rate, "batch_size": 8}
    model = trained(data.subset(train), data.subset(held), options.steps, seed, **settings)
    off = errors_of_structures(model, data.subset(rest), 1e-3)
    row = {"seed": seed, "train": len(train), "labels_s": labels_s, **force_errors(model, data.subset(rest), 1e-3)}
    taken = {}
    for strategy in options.strategies:
        picked, scores = chosen(strategy, model, data, rest, train, options.batch, generator(seed, strategy))
        taken[strategy] = [int((counts[picked] == n).sum()) for n in options.molecules]
        if scores is not None:
            row[f"{strategy} all"] = float(np.corrcoef(scores, off)[0, 1])
            for n in options.molecules:
                of = counts[rest] == n
                row[f"{strategy} {n}"] = float(np.corrcoef(scores[of], off[of])[0, 1])
    error = [float(off[counts[rest] == n].mean()) for n in options.molecules]
    left = [int((counts[rest] == n).sum()) for n in options.molecules]
    note(options.rows, {**row, "taken": taken, "error": error, "left": left, "cpu_s": time.process_time() - began})


def show(rows: list[dict], options: argparse.Namespace) -> None:
    print(f"{machine()}, torch {torch.__version__}; seeds {sorted({row['seed'] for row in rows})}")

    def mean(values: list[float]) -> str:
        return f"{np.mean(values):.2f}"

    table: list[list[object]] = []
    for place, n in enumerate(options.molecules):
        cells = [mean([row["left"][place] for row in rows]), mean([row["error"][place] for row in rows])]
        cells += [mean([row[f"{name} {n}"] for row in rows]) for name in ("oed_energy", "oed_forces")]
        cells += [mean([row["taken"][name][place] for row in rows]) for name in options.strategies]
        table.append([n, 3 * n, *cells])
    everything = [mean([row[f"{name} all"] for row in rows]) for name in ("oed_energy", "oed_forces")]
    table.append(
        ["all", "", "", mean([row["forces_mae"] for row in rows]), *everything, *[""] * len(options.strategies)]
    )
    print_table(
        f"Clusters of water, {options.train} of the smallest three learnt, {options.steps} steps; batches of {options.batch}",
        ["molecules", "atoms", "candidates", "force MAE meV/Angstrom", "r(QS1, error)", "r(QS2, error)"]
        + [f"taken by {name}" for name in options.strategies],
        table,
    )
    print(
        f"\n{sum(row['cpu_s'] for row in rows):.0f} CPU-s, {sum(row['labels_s'] for row in rows):.0f} of them for labels"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", required=True, help="file that rows are appended to")
    parser.add_argument("--seeds", type=int, nargs="*", default=[1])
    parser.add_argument("--molecules", type=int, nargs="*", default=[1, 3, 6, 12, 24])
    parser.add_argument("--each", type=int, default=60, help="clusters of each size")
    parser.add_argument("--train", type=int, default=100)
    parser.add_argument("--validation", type=int, default=20)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--strategies", nargs="*", default=["random", "oed_energy", "oed_forces", "lcmd"])
    parser.add_argument("--learning-rate", type=float, default=0.01)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for number in options.seeds:
        study(options, number)
    show(noted(options.rows), options)
