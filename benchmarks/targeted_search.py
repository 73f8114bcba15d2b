"""Task 2 of Ghosh et al. (arXiv:2408.11191): find the structures in range with as few labels as possible.

    python benchmarks/targeted_search.py --features qm9_mbtr.h5 --seeds 1 2 3

Prints the share found, the labels saved by both definitions beside their ceilings, TPR and FPR on the test set and on the
held-out pool (figure 6), and the errors on random and in-range test structures (figure 7).
"""

import argparse
import time

import numpy as np
from common import print_table
from pool_study import Plan, Pool, Runs, arguments, begin, end, labels_for, mean_and_std, read, run

from quarry.config.models import Gpr


def savings(rows: list[dict[str, float]], step: int, rate: float) -> tuple[float, float, float, float]:
    """Return the saving at a step and its ceiling, against equal finds and at random's yield.

    rate: share of wanted structures in the pool; random selection finds rate * n of n in expectation. Against equal finds:
    1 - n / (found / rate); the ceiling has every structure after the initial ones in range. At random's yield (the
    paper's): 1 - m / n with m the labels that found rate * n; the ceiling finds one with each label after the initial ones.
    """
    n, found = rows[step]["n"], rows[step]["found"]
    n0, found0 = rows[0]["n"], rows[0]["found"]
    needed = labels_for(rows, rate * n)
    assert needed is not None
    return (
        1 - n * rate / found,
        1 - n * rate / (found0 + n - n0),
        1 - needed / n,
        1 - (n0 + max(rate * n - found0, 0.0)) / n,
    )


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--strategies", nargs="+", default=["random", "property_search", "greedy_mean"])
    parser.add_argument(
        "--share", type=float, default=0.3, help="share of the structures that is wanted, the highest ones"
    )
    parser.add_argument("--upto", type=int, default=16000)
    parser.add_argument("--initial", type=int, default=1000)
    parser.add_argument("--noise-variance", type=float, default=None, help="eV^2; optimised where not given")
    parser.add_argument("--subset", type=int, default=1000, help="structures for the hyperparameters")
    options = parser.parse_args()
    began = time.perf_counter()
    features, values = read(options)
    minimum = float(np.quantile(values, 1 - options.share))
    pool = Pool(features, values, minimum=minimum)
    sizes = [options.initial * 2**k for k in range(20) if options.initial * 2**k <= options.upto]
    begin(
        options, f"# Targeted search: {len(values)} structures, label above {minimum:.3f} wanted ({options.share:.0%})"
    )
    model = Gpr(subset=options.subset, noise_variance=options.noise_variance, criterion="likelihood")
    all_runs = {}
    for strategy in options.strategies:
        all_runs[strategy] = [
            run(pool, Plan(strategy, model, sizes, seed, options.test_size, held_out=strategy != "random"))
            for seed in options.seeds
        ]
    totals = [reachable(pool, options, seed) for seed in options.seeds]
    report(all_runs, totals)
    end(began)


def reachable(pool: Pool, options: argparse.Namespace, seed: int) -> tuple[int, float]:
    """Return the wanted structures outside the test set, and their share there."""
    from quarry.randomness import generator

    rest = generator(seed, "split").permutation(len(pool.values))[options.test_size :]
    return int(pool.wanted[rest].sum()), float(pool.wanted[rest].mean())


def report(all_runs: Runs, totals: list[tuple[int, float]]) -> None:
    table = []
    for strategy, runs in all_runs.items():
        for step in range(len(runs[0])):
            share = [100 * rows[step]["found"] / total for rows, (total, _) in zip(runs, totals, strict=True)]
            cells = [strategy, runs[0][step]["n"], mean_and_std(share, 2)]
            if step and strategy != "random":
                kinds = list(
                    zip(*(savings(r, step, rate) for r, (_, rate) in zip(runs, totals, strict=True)), strict=True)
                )
                for value, ceiling in ((kinds[0], kinds[1]), (kinds[2], kinds[3])):
                    percent = [100 * v for v in value]
                    of_ceiling = [100 * v / c for v, c in zip(value, ceiling, strict=True)]
                    cells += [mean_and_std(percent, 2), f"{100 * np.mean(ceiling):.2f}", mean_and_std(of_ceiling, 2)]
            else:
                cells += [""] * 6
            table.append(cells)
    print_table(
        "Found (% of all wanted structures outside the test set) and labels saved (%, mean ± std over seeds)",
        [
            *("strategy", "labels", "found", "saved, equal finds", "ceiling", "% of ceiling"),
            *("saved, random's yield", "ceiling", "% of ceiling"),
        ],
        table,
    )
    names = ("mae", "mae_in_range", "tpr", "fpr", "pool_tpr", "pool_fpr")
    table = [
        [
            strategy,
            runs[0][step]["n"],
            *(mean_and_std([r[step][k] for r in runs]) if k in runs[0][step] else "" for k in names),
        ]
        for strategy, runs in all_runs.items()
        for step in range(len(runs[0]))
    ]
    print_table(
        "Errors (eV) on random and on in-range test structures; rates on the test set and on the held-out pool",
        ["strategy", "labels", "MAE", "MAE in range", "TPR", "FPR", "TPR held out", "FPR held out"],
        table,
    )


if __name__ == "__main__":
    main()
