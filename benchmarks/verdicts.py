"""How often does the saving against random selection get a false verdict, how often do its intervals cover, what do they find?

Simulated campaigns (`--simulated`) whose true saving is known, and real replays (`--data`): 20 random arms and 20 of
uncertainty_clusters from one initial batch, and 20 splits with initial batches and test sets of their own, of a Gaussian
process with fixed hyperparameters; designs of 1 + K, R + K arms or U splits are drawn from them.
"""

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import machine, print_table
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.spatial.distance import cdist

from quarry.config.query import Query
from quarry.evaluation.curves import grid, smoothing_weights
from quarry.evaluation.inversion import Differences, of_arms, of_pairs, on_axis, point, shared_test_variance
from quarry.query.base import PoolView
from quarry.query.strategies import chosen_by, make_strategy
from quarry.randomness import generator
from support.learning_curves import SIZES, by_spread_of_pairs, simulated

TRUE = (0.1, 0.25, 0.5)
DESIGNS = [(1, 2), (1, 3), (1, 5), (1, 10), (3, 3), (3, 10)]
SPLITS = (5, 10)
NOISES = {
    "5 %, each point": {"noise": 0.05},
    "5 %, correlation 0.9": {"noise": 0.05, "along": 0.9},
    "5 % for the whole arm, 2 % each point": {"noise": 0.02, "offset": 0.05},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulated", action="store_true")
    parser.add_argument("--campaigns", type=int, default=4000, help="simulated campaigns of each design")
    parser.add_argument("--data", type=Path, help="folder with qm22_ethanol.npz and qm9_random10k.npz")
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--arms", type=int, default=20)
    parser.add_argument("--draws", type=int, default=500, help="designs drawn from the arms of a data set")
    options = parser.parse_args()
    print(machine())
    began = time.perf_counter()
    if options.simulated:
        simulations(options.campaigns)
    for name in options.sets if options.data else []:
        replays(name, SETS[name](options.data), options)
    print(f"\n{time.perf_counter() - began:.0f} s, {time.process_time():.0f} CPU-s")


# Simulated campaigns


def campaigns_of(
    campaigns: int, arms: int, purpose: tuple[Any, ...], saved: float = 0.0, noise: float = 0.0, **chance: float
) -> np.ndarray:
    return simulated(generator(1, "verdicts", *purpose), campaigns, arms, saved, noise, **chance)


def simulations(campaigns: int) -> None:
    at = grid(SIZES[0], SIZES[-1], SIZES.tolist())
    weights, last = smoothing_weights(SIZES.tolist(), at).T, len(at) - 1
    for title, noise in NOISES.items():
        rows = []
        for repeats, number in [*DESIGNS, *((0, n) for n in SPLITS)]:
            cells = []
            for saved in (0.0, *TRUE):
                names = (title, repeats, number, str(saved))
                arms = campaigns_of(campaigns, repeats or number, (*names, "main"), saved, **noise)
                controls = campaigns_of(campaigns, number, (*names, "control"), **noise)
                exact = [campaigns_of(1, 1, names, share) @ weights for share in (saved, 0.0)]
                truth = point(exact[0][:, 0], exact[1][:, 0], at, last).estimate()[0]
                if not repeats:
                    shared = generator(1, "shared", *names).normal(0, 0.2, (campaigns, number, 1))
                    arms, controls = arms + shared, controls + shared
                found = (of_arms if repeats else of_pairs)(arms @ weights, controls @ weights, at, last)
                cells.append(account(found, truth))
            rows.append([design(repeats, number), *row_of(cells)])
        print_table(f"Noise {title} ({campaigns} campaigns of each)", HEAD, rows)
    rows = []
    for repeats, number in ((1, 1), (1, 3), (1, 10), (3, 3)):
        noise = NOISES["5 %, each point"]
        counts = {"main": repeats, "control": number}
        groups = [campaigns_of(1000, n, ("old", repeats, number, name), **noise) for name, n in counts.items()]
        rows.append(
            [
                design(repeats, number),
                percent(float(np.mean([by_spread_of_pairs(*c) != "none" for c in zip(*groups, strict=True)]))),
            ]
        )
    print_table(
        "False verdicts of mean ± spread over pairs of single points (earlier versions)", ["design", "false"], rows
    )


HEAD = ["design", "false verdicts", *(f"{what}, {100 * s:.0f} % saved" for s in TRUE for what in ("covered", "found"))]


def design(repeats: int, number: int) -> str:
    return f"{repeats} main, {number} random" if repeats else f"{number} splits"


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def account(found: Differences, truth: float) -> tuple[float, float, float]:
    """Return the shares of campaigns with a verdict, whose interval covers, and that say 'saved'."""
    low, high = found.interval()
    inside = (low <= truth + 1e-9) & (truth <= high + 1e-9)
    return float(np.mean((low > 0) | (high < 0))), float(np.mean(inside)), float(np.mean(low > 0))


def row_of(cells: Sequence[Sequence[float]]) -> list[str]:
    return [percent(cells[0][0]), *(percent(value) for cell in cells[1:] for value in cell[1:])]


# Real replays


@dataclass
class DataSet:
    """features, shape (n, d), targets, shape (n,), and the Gaussian process's noise as a share of the signal variance."""

    features: np.ndarray
    targets: np.ndarray
    noise: float


def ethanol(folder: Path) -> DataSet:
    """Energies (eV) of ethanol up to 32,600 cm-1; inverse distances."""
    data = np.load(folder / "qm22_ethanol.npz")
    rows = np.random.default_rng(0).permutation(len(data["R"]))[: POOL + HELD]
    first, second = np.triu_indices(9, 1)
    positions = data["R"][rows].astype(float)
    distances = np.linalg.norm(positions[:, first] - positions[:, second], axis=2)
    return DataSet(distances.mean(axis=0) / distances, data["E_hartree"][rows] * 27.211386, 1e-6)


def qm9(folder: Path) -> DataSet:
    """HOMO energies (eV) of QM9; sorted eigenvalues of the Coulomb matrix and numbers of each element."""
    data = np.load(folder / "qm9_random10k.npz")
    rows = np.random.default_rng(0).permutation(len(data["n_atoms"]))[: POOL + HELD]
    features = np.zeros((len(rows), 29 + 4))
    for place, row in enumerate(rows):
        part = slice(data["offsets"][row], data["offsets"][row + 1])
        numbers, positions = data["Z"][part].astype(float), data["R"][part].astype(float)
        distances = cdist(positions, positions)
        np.fill_diagonal(distances, 1.0)
        matrix = np.outer(numbers, numbers) / distances
        np.fill_diagonal(matrix, 0.5 * numbers**2.4)
        features[place, : len(numbers)] = np.sort(np.linalg.eigvalsh(matrix))[::-1]
        features[place, 29:] = [np.sum(numbers == z) for z in (1, 6, 7, 8)]
    return DataSet(features / features.std(axis=0).clip(1e-9), data["homo_hartree"][rows] * 27.211386, 0.05)


POOL, HELD, N_TEST = 1500, 2000, 500
SETS = {"ethanol, energies": ethanol, "QM9, HOMO": qm9}
STEPS = list(range(50, 401, 25))
MEASURES = ("RMSE", "MAE", "largest error")


class Replays:
    """Arms on one data set: candidates are the first POOL structures; errors are of the HELD others, of which a campaign's
    test set is a part."""

    def __init__(self, data: DataSet) -> None:
        self.data = data
        squares = cdist(data.features, data.features, "sqeuclidean")
        self.kernel = np.exp(-squares / (2 * 2 * np.median(squares[:500, :500])))
        query = {"strategy": "uncertainty_clusters", "initial": 1, "batch": {"schedule": "constant", "size": 1}}
        self.strategy = make_strategy(Query.model_validate(query))

    def errors(self, active: bool, initial: int, seed: int) -> np.ndarray:
        """Return the errors of an arm, shape (HELD, len(STEPS)). initial: seed of the initial batch; seed: the arm's own."""
        train = generator(initial, "initial").permutation(POOL)[: STEPS[0]]
        columns = []
        for step, size in enumerate(STEPS):
            matrix = self.kernel[np.ix_(train, train)] + self.data.noise * np.eye(size)
            factor = cho_factor(matrix, lower=True)
            centre = self.data.targets[train].mean()
            weights = cho_solve(factor, self.data.targets[train] - centre)
            columns.append(self.kernel[POOL:, train] @ weights + centre - self.data.targets[POOL:])
            if size == STEPS[-1]:
                break
            rng = generator(seed, "active" if active else "random", initial, step)
            candidates = np.setdiff1d(np.arange(POOL), train)
            wanted = STEPS[step + 1] - size
            if active:
                explained = solve_triangular(factor[0], self.kernel[np.ix_(train, candidates)], lower=True)
                std = np.sqrt(np.clip(1 - np.sum(explained**2, axis=0), 1e-12, None))
                view = PoolView(features=self.data.features[candidates], std=std)
                chosen = chosen_by(self.strategy, "uncertainty_clusters", view, wanted, rng)
            else:
                chosen = rng.choice(len(candidates), wanted, replace=False)
            train = np.concatenate([train, candidates[chosen]])
        return np.stack(columns, axis=1)


def logarithms(errors: np.ndarray, measure: str) -> np.ndarray:
    """Return the logarithm of a measure, shape (..., sizes), of errors of shape (..., n_test, sizes)."""
    size = np.abs(errors)
    found = {"RMSE": lambda: np.sqrt((size**2).mean(axis=-2)), "MAE": lambda: size.mean(axis=-2)}
    return np.log(found.get(measure, lambda: size.max(axis=-2))())


def influences(errors: np.ndarray, measure: str, weights: np.ndarray) -> list[np.ndarray]:
    power = 2 if measure == "RMSE" else 1
    raised = np.abs(errors) ** power
    return list(raised / (power * raised.mean(axis=-2, keepdims=True)) @ weights)


def replays(name: str, data: DataSet, options: argparse.Namespace) -> None:
    runs, count = Replays(data), options.arms
    seeds = range(100, 100 + count)
    random = np.array([runs.errors(False, 7, seed) for seed in seeds])
    active = np.array([runs.errors(True, 7, seed) for seed in seeds])
    splits = [
        np.array([runs.errors(kind, seed, seed + 1000 * k) for seed in seeds])
        for k, kind in enumerate((False, True, False))
    ]
    at = grid(STEPS[0], STEPS[-1], STEPS, points=40)
    weights, last = smoothing_weights(STEPS, at).T, len(at) - 1
    rows = []
    for measure in MEASURES:
        whole = [logarithms(e, measure) @ weights for e in (active, random)]
        truth = float(point(whole[0].mean(axis=0), whole[1].mean(axis=0), at, last).estimate())
        spread = [100 * w[:, last].std(ddof=1) for w in whole]
        # The largest of more structures is larger: it is judged by the test set of each draw.
        of = f"saved {truth:.0f} of {STEPS[-1]}" if measure in MEANS else "of each test set"
        label = f"{measure}: {of}; {spread[0]:.1f} and {spread[1]:.1f} %"
        cells = drawn(active, random, measure, at, weights, truth, options.draws)
        for (repeats, number), shares in zip(DESIGNS, cells, strict=True):
            rows.append([label, design(repeats, number), *map(percent, shares)])
            label = ""
        tests = [generator(s, "test set").permutation(HELD)[:N_TEST] for s in seeds]
        pairs = [np.array([logarithms(e[t], measure) @ weights for e, t in zip(g, tests, strict=True)]) for g in splits]
        truth = float(point(pairs[1].mean(axis=0), pairs[0].mean(axis=0), at, last).estimate())
        label = f"{measure}: saved {truth:.0f} over splits"
        for number in SPLITS:
            rows.append(
                [label, design(0, number), *map(percent, drawn_splits(pairs, number, at, truth, options.draws))]
            )
            label = ""
    print_table(
        f"{name}: {count} arms of each kind, {options.draws} draws of each design, test sets of {N_TEST}",
        [
            "measure: true saving; spread of active, random arms",
            "design",
            "false verdicts",
            "covered",
            "saved",
            "wasted",
        ],
        rows,
    )


def covers(found: Differences, differences: np.ndarray, truth: float) -> bool:
    """Whether a saving is inside the interval that has these differences; at an end of the axis: the interval reaches it."""
    d, margin = (np.interp(truth, found.saved, values) for values in (differences, found.margin))
    below, above = d + margin >= 0, d - margin <= 0
    return bool(below if truth <= found.saved[0] else above if truth >= found.saved[-1] else below and above)


MEANS = ("RMSE", "MAE")
"""Measures that estimate those of all structures."""


def drawn(
    active: np.ndarray,
    random: np.ndarray,
    measure: str,
    at: np.ndarray,
    weights: np.ndarray,
    truth: float,
    draws: int,
) -> np.ndarray:
    """Return for each design the shares of draws: false verdicts of random against random arms, coverage, saved, wasted.

    The arms of a draw are a part of all, its test structures a part of those held back: their means come nearer to those
    of all than to what is behind them, by 1 - share of the variance. For the coverage that is made good.
    """
    last, count = len(at) - 1, len(random)
    kept = []
    for draw in range(draws):
        rng = generator(3, "draw", measure, draw)
        test = rng.permutation(HELD)[:N_TEST]
        mine, its = (logarithms(e[:, test], measure) @ weights for e in (active, random))
        if measure in MEANS:
            of_active, of_random = (influences(e[:, test], measure, weights) for e in (active, random))
        all_arms = point(mine.mean(axis=0), its.mean(axis=0), at, last)
        true = truth if measure in MEANS else float(all_arms.estimate())
        by_design = []
        for repeats, number in DESIGNS:
            order, mains = rng.permutation(count), rng.permutation(count)[:repeats]
            controls, others = order[:number], order[number : number + repeats]
            ends = []
            for arms, chosen in ((its, others), (mine, mains)):
                found = of_arms(arms[chosen], its[controls], at, last)
                if measure in MEANS:
                    of_arm = of_random if arms is its else of_active
                    shared = shared_test_variance([of_arm[k] for k in chosen], [of_random[k] for k in controls])
                    found = found.with_shared(on_axis(shared, at, last), N_TEST - 1.0)
                ends.append([float(end) for end in found.interval()])
            zero = np.zeros_like(at)
            own = point(mine[mains].mean(axis=0) - mine.mean(axis=0), zero, at, last).mean
            other = point(zero, its[controls].mean(axis=0) - its.mean(axis=0), at, last).mean
            made_good = all_arms.mean / math.sqrt(1 - N_TEST / HELD)
            made_good = made_good + own / math.sqrt(1 - repeats / count) + other / math.sqrt(1 - number / count)
            inside = covers(found, made_good, true)
            (null_low, null_high), (low, high) = ends
            by_design.append((null_low > 0 or null_high < 0, inside, low > 0, high < 0))
        kept.append(by_design)
    return np.mean(kept, axis=0)


def drawn_splits(pairs: Sequence[np.ndarray], number: int, at: np.ndarray, truth: float, draws: int) -> np.ndarray:
    """The same for splits. Without a saving: two random arms of each split, in an order by chance."""
    last, count = len(at) - 1, len(pairs[0])
    random, active, other = pairs
    whole = point(active.mean(axis=0), random.mean(axis=0), at, last).mean
    kept = []
    for draw in range(draws):
        rng = generator(3, "splits", number, draw)
        chosen = rng.permutation(count)[:number]
        swap = rng.random(number)[:, None] < 0.5
        one, two = random[chosen], other[chosen]
        null = of_pairs(np.where(swap, one, two), np.where(swap, two, one), at, last).interval()
        found = of_pairs(active[chosen], random[chosen], at, last)
        low, high = found.interval()
        made_good = whole + (found.mean - whole) / math.sqrt(1 - number / count)
        inside = covers(found, made_good, truth)
        kept.append([bool(what) for what in (null[0] > 0 or null[1] < 0, inside, low > 0, high < 0)])
    return np.mean(kept, axis=0)


if __name__ == "__main__":
    main()
