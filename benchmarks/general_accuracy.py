"""Task 1 of Ghosh et al. (arXiv:2408.11191): which strategy gives the most accurate model for its number of labels?

    python benchmarks/general_accuracy.py --features qm9_mbtr.h5 --pool 20000 --upto 4000 --seeds 1 2 3

The published setup: prior mean zero, length scale and signal variance starting from 700 and 20, noise 1e-10 eV^2 or the
optimal one. Prints MAE on a random test set, and the difference from random selection with its 95 % interval.
"""

import statistics
import time
from collections.abc import Sequence

from common import print_table
from pool_study import Plan, Pool, Runs, arguments, begin, end, mean_and_std, read, run
from scipy.special import stdtrit

from quarry.config.models import Gpr

STRATEGIES = [
    *("random", "uncertainty", "clusters", "uncertainty_clusters"),
    *("max_min", "lcmd", "k_means_plus_plus", "maxdet", "bait"),
]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--strategies", nargs="+", default=STRATEGIES)
    parser.add_argument("--noise-variances", type=float, nargs="+", default=[1e-10, 0.05], help="eV^2; 0: optimised")
    parser.add_argument("--upto", type=int, default=16000)
    parser.add_argument("--initial", type=int, default=1000)
    parser.add_argument("--subset", type=int, default=1000, help="structures for the hyperparameters")
    parser.add_argument("--length-scale", type=float, default=700.0)
    parser.add_argument("--signal-variance", type=float, default=20.0)
    options = parser.parse_args()
    began = time.perf_counter()
    pool = Pool(*read(options))
    sizes = [options.initial * 2**k for k in range(20) if options.initial * 2**k <= options.upto]
    begin(options, f"# General accuracy: pool of {len(pool.values)} structures, MAE in eV")
    for noise in options.noise_variances:
        model = Gpr(
            prior_mean="zero",
            length_scale=options.length_scale,
            signal_variance=options.signal_variance,
            noise_variance=noise or None,
            subset=options.subset,
            criterion="likelihood",
        )
        runs = {}
        for strategy in options.strategies:
            runs[strategy] = [
                run(pool, Plan(strategy, model, sizes, seed, options.test_size)) for seed in options.seeds
            ]
            print_table(f"Noise variance {noise or 'optimised'} (mean ± std over seeds)", *table_of(runs, sizes))
    end(began)


def table_of(runs: Runs, sizes: Sequence[int]) -> tuple[list[str], list[list[str]]]:
    rows = []
    for strategy, found in runs.items():
        mae = [mean_and_std([rows_[step]["mae"] for rows_ in found]) for step in range(len(sizes))]
        rows.append([strategy, *mae, difference(runs, strategy)])
    return ["strategy", *(str(size) for size in sizes), "last: difference from random (paired)"], rows


def difference(runs: Runs, strategy: str) -> str:
    """Return the mean difference of MAE from random selection at the last size, with its 95 % interval over seeds."""
    if strategy == "random" or "random" not in runs:
        return ""
    pairs = zip(runs[strategy], runs["random"], strict=True)
    values = [1000 * (mine[-1]["mae"] - its[-1]["mae"]) for mine, its in pairs]
    mean, n = statistics.mean(values), len(values)
    if n == 1:
        return f"{mean:+.1f} meV"
    half = float(stdtrit(n - 1, 0.975)) * statistics.stdev(values) / n**0.5
    return f"{mean:+.1f} ({mean - half:+.1f} to {mean + half:+.1f}) meV"


if __name__ == "__main__":
    main()
