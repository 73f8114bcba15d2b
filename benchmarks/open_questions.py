"""Questions that Ghosh et al. (arXiv:2408.11191) leave open, on a small pool such as 10,000 molecules of QM9.

    python benchmarks/open_questions.py --features qm9_mbtr.h5 --pool 10000 --questions network overlap
    python benchmarks/open_questions.py --features qm9_coulomb.h5 --pool 10000 --questions descriptor

network: the same strategies with a neural network instead of the Gaussian process. descriptor: what the features file holds;
run it on files of several descriptors. overlap: labels saved by a targeted search against the share of the pool that is
wanted, in the tail or in the centre of the distribution; one plot.
"""

import argparse
import time

import numpy as np
from common import print_table
from general_accuracy import table_of
from pool_study import Plan, Pool, arguments, begin, end, labels_for, mean_and_std, read, run

from quarry.config.models import Gpr, Mlp

SHARES = [0.05, 0.1, 0.2, 0.3, 0.45, 0.6]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--questions", nargs="+", choices=["network", "descriptor", "overlap"], default=["overlap"])
    parser.add_argument("--upto", type=int, default=2000)
    parser.add_argument("--initial", type=int, default=250)
    parser.add_argument(
        "--strategies", nargs="+", default=["random", "uncertainty", "uncertainty_clusters", "lcmd", "bait"]
    )
    parser.add_argument("--plot", default="", help="where the plot of overlap goes (svg or png)")
    options = parser.parse_args()
    began = time.perf_counter()
    features, values = read(options)
    sizes = [options.initial * 2**k for k in range(20) if options.initial * 2**k <= options.upto]
    begin(options, f"# Open questions: pool of {len(values)} structures with {features.shape[1]} features, eV")
    gpr = Gpr(subset=500, noise_variance=0.03, criterion="likelihood")
    if "network" in options.questions:
        network = Mlp(kind="mlp", uncertainty="committee", members=4, epochs=200)
        compare(Pool(features, values), options, sizes, network, "Committee of 4 neural networks: MAE")
    if "descriptor" in options.questions:
        compare(
            Pool(features, values),
            options,
            sizes,
            gpr,
            f"Gaussian process on {options.feature_set} of {options.features}: MAE",
        )
    if "overlap" in options.questions:
        overlap(features, values, options, sizes, gpr)
    end(began)


Curves = dict[tuple[str, str], list[tuple[float, float]]]
"""Mean and standard deviation of the saving of each share, by strategy and place."""


def compare(pool: Pool, options: argparse.Namespace, sizes: list[int], model: Gpr | Mlp, title: str) -> None:
    runs = {}
    for strategy in options.strategies:
        runs[strategy] = [run(pool, Plan(strategy, model, sizes, seed, options.test_size)) for seed in options.seeds]
    print_table(f"{title} (mean ± std over seeds)", *table_of(runs, sizes))


def overlap(
    features: np.ndarray, values: np.ndarray, options: argparse.Namespace, sizes: list[int], model: Gpr | Mlp
) -> None:
    """Print and plot the saving of greedy_mean and property_search at the last size for each wanted share."""
    table: list[list[str]] = []
    curves: Curves = {}
    for place in ("tail", "centre"):
        for share in SHARES:
            pool = Pool(features, values, *ends(values, share, place))
            cells = [place, f"{share:.0%}"]
            for strategy in ("greedy_mean", "property_search"):
                saved, of_ceiling = [], []
                for seed in options.seeds:
                    rows = run(pool, Plan(strategy, model, sizes, seed, options.test_size, evaluate_last=False))
                    value, ceiling = saving(rows, share)
                    saved.append(100 * value)
                    of_ceiling.append(100 * value / ceiling)
                curves.setdefault((strategy, place), []).append(
                    (float(np.mean(saved)), float(np.std(saved, ddof=len(saved) > 1)))
                )
                cells += [mean_and_std(saved, 1), mean_and_std(of_ceiling, 1)]
            table.append(cells)
    print_table(
        f"Labels saved at random's yield of {sizes[-1]} labels (%, mean ± std over seeds)",
        ["wanted", "share", "greedy_mean", "% of ceiling", "property_search", "% of ceiling"],
        table,
    )
    if options.plot:
        draw(curves, options.plot)


def ends(values: np.ndarray, share: float, place: str) -> tuple[float, float]:
    """Return the range of the highest structures, or of those around the median."""
    if place == "tail":
        return float(np.quantile(values, 1 - share)), np.inf
    low, high = np.quantile(values, [0.5 - share / 2, 0.5 + share / 2])
    return float(low), float(high)


def saving(rows: list[dict[str, float]], rate: float) -> tuple[float, float]:
    """Return what is saved at the yield that random selection has with all labels, and the ceiling of that."""
    n, n0, found0 = rows[-1]["n"], rows[0]["n"], rows[0]["found"]
    needed = labels_for(rows, rate * n)
    ceiling = 1 - (n0 + max(rate * n - found0, 0.0)) / n
    # Worse than random: random selection needs fewer labels for what was found.
    return (1 - needed / n if needed is not None else -(1 - rows[-1]["found"] / rate / n)), ceiling


def draw(curves: Curves, path: str) -> None:
    import matplotlib.pyplot as plt

    from quarry.reporting.plots import COLOURS, STYLE

    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(6.0, 4.2), constrained_layout=True)
        for (strategy, place), points in curves.items():
            colour = COLOURS[0] if strategy == "greedy_mean" else COLOURS[1]
            mean, spread = np.array(points).T
            line = "o-" if place == "tail" else "s--"
            label = f"{strategy}, {place}"
            axis.errorbar([100 * s for s in SHARES], mean, yerr=spread, fmt=line, color=colour, capsize=3, label=label)
        axis.axhline(0, color="0.6", linewidth=1)
        axis.set_xlabel("share of the pool that is wanted (%)")
        axis.set_ylabel("labels saved against random (%)")
        axis.legend(frameon=False)
        figure.savefig(path, metadata={"Date": None} if path.endswith("svg") else None)


if __name__ == "__main__":
    main()
