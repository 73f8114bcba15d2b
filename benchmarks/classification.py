"""Accuracy against labels for vote entropy, predictive entropy and random selection (lecture, equations 5 to 7).

    python benchmarks/classification.py --features qm9_mbtr.h5 --pool 10000 --seeds 1 2 3

Classes by thresholds on the label (default: its terciles); a committee of neural networks gives votes, Monte Carlo dropout
the mean probabilities.
"""

import time

import numpy as np
from common import print_table
from pool_study import Plan, Pool, arguments, begin, end, mean_and_std, read, run

from quarry.config.models import Mlp


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument(
        "--boundaries", type=float, nargs="+", default=None, help="between the classes, in the label's unit"
    )
    parser.add_argument("--upto", type=int, default=2000)
    parser.add_argument("--initial", type=int, default=250)
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=200)
    options = parser.parse_args()
    began = time.perf_counter()
    features, values = read(options)
    boundaries = options.boundaries or [float(q) for q in np.quantile(values, [1 / 3, 2 / 3])]
    names = tuple(f"class {k}" for k in range(len(boundaries) + 1))
    pool = Pool(features, np.digitize(values, boundaries).astype(float), classes=names)
    sizes = [options.initial * 2**k for k in range(20) if options.initial * 2**k <= options.upto]
    begin(options, f"# Classification: pool of {len(values)} structures, {len(names)} classes, boundaries {boundaries}")
    committee = Mlp(kind="mlp", uncertainty="committee", members=options.members, epochs=options.epochs)
    dropout = Mlp(kind="mlp", uncertainty="mc_dropout", dropout=0.2, passes=50, epochs=options.epochs)
    table = []
    for model, name, strategies in (
        (committee, f"committee of {options.members}", ("random", "vote_entropy", "predictive_entropy")),
        (dropout, "MC dropout", ("random", "predictive_entropy")),
    ):
        for strategy in strategies:
            runs = [
                run(pool, Plan(strategy, model, sizes, s, options.test_size, target="class")) for s in options.seeds
            ]
            accuracy = [mean_and_std([100 * rows[k]["accuracy"] for rows in runs], 2) for k in range(len(sizes))]
            table.append([name, strategy, *accuracy])
    print_table("Accuracy (%, mean ± std over seeds)", ["model", "strategy", *(str(s) for s in sizes)], table)
    end(began)


if __name__ == "__main__":
    main()
