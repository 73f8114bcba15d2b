"""How often do the intervals of errors cover? Simulated errors whose true values are known.

``python benchmarks/error_intervals.py [replicates]`` prints a table for RMSE and MAE (beside the percentile bootstrap, which
Quarry used before), one for the other intervals, and one of false alarms of the warning about heavy tails.
"""

import math
import sys
from collections.abc import Callable, Sequence

import common
import numpy as np
from numpy.typing import NDArray

from quarry.evaluation.intervals import (
    Ends,
    change_interval,
    error_interval,
    share_change_interval,
    share_interval,
    spread_ratio_interval,
)
from quarry.evaluation.tails import heavy_tail_warning
from quarry.randomness import generator

SEED = 1
SIZES = (5, 10, 20, 40, 60, 100, 300)
Errors = NDArray[np.float64]


def student_mean(degrees: int) -> float:
    """Return the mean of |t| of Student's t."""
    return (
        2
        * math.sqrt(degrees)
        * math.gamma((degrees + 1) / 2)
        / (math.sqrt(math.pi) * math.gamma(degrees / 2) * (degrees - 1))
    )


DISTRIBUTIONS: dict[str, tuple[Callable[..., Errors], float, float]] = {
    "normal": (lambda rng, size: rng.normal(size=size), 1.0, math.sqrt(2 / math.pi)),
    "Laplace": (lambda rng, size: rng.laplace(size=size), math.sqrt(2), 1.0),
    "Student t, 5": (lambda rng, size: rng.standard_t(5, size=size), math.sqrt(5 / 3), student_mean(5)),
    "Student t, 3": (lambda rng, size: rng.standard_t(3, size=size), math.sqrt(3), student_mean(3)),
}
"""Draws of errors, and their true RMSE and MAE."""


def percentile(errors: Errors, power: int, rng: np.random.Generator) -> Ends:
    """Return the percentile bootstrap interval."""
    drawn = np.abs(errors[rng.integers(len(errors), size=(1000, len(errors)))]) ** power
    low, high = np.quantile(drawn.mean(axis=1) ** (1 / power), [0.025, 0.975])
    return float(low), float(high)


def account(intervals: Sequence[Ends], truth: float) -> tuple[float, float, float, float]:
    """Return percentages: intervals that cover the truth, that lie above it, that lie below it, and without an upper end."""
    low = np.array([-np.inf if a is None else a for a, _ in intervals])
    high = np.array([np.inf if b is None else b for _, b in intervals])
    hits = ((low <= truth) & (truth <= high), low > truth, high < truth, np.isinf(high))
    covered, above, below, opened = (100 * float(np.mean(hit)) for hit in hits)
    return covered, above, below, opened


def error_rows(replicates: int) -> list[list[object]]:
    """Coverage for RMSE and MAE."""
    rows: list[list[object]] = []
    for name, (draw, rmse, mae) in DISTRIBUTIONS.items():
        for size in SIZES:
            rng = generator(SEED, "error intervals", name, size)
            errors = [draw(rng, size) for _ in range(replicates)]
            old = account([percentile(e, 2, rng) for e in errors], rmse)
            root = account([error_interval(e, 2, rng) for e in errors], rmse)
            plain = account([error_interval(e, 1, rng) for e in errors], mae)
            rows.append([name, size, *(f"{x:.1f}" for x in (old[0], *root, plain[0], plain[3]))])
    return rows


def other_cases(size: int) -> dict[str, tuple[Callable[[np.random.Generator], Ends], float]]:
    """Other intervals of ``size`` structures, and what they are to cover."""

    def ratio(draw: str) -> Callable[[np.random.Generator], Ends]:
        return lambda rng: spread_ratio_interval(
            0.1 * DISTRIBUTIONS[draw][0](rng, size), 7 + rng.gamma(4.0, 0.5, size=size), rng
        )

    def change(draw: str, paired: bool) -> Callable[[np.random.Generator], Ends]:
        def interval(rng: np.random.Generator) -> Ends:
            before, own = DISTRIBUTIONS[draw][0](rng, size), DISTRIBUTIONS[draw][0](rng, size)
            now = (0.8 * before + 0.6 * own) / 1.2 if paired else own / 1.2
            return change_interval(before, now, paired, rng)

        return interval

    def shares(rng: np.random.Generator) -> Ends:
        hard = rng.random(size) < 0.3
        before, now = ((hard & (rng.random(size) < share)).astype(float) for share in (0.8, 0.6))
        return share_change_interval(before, now, True)

    scales = np.array([1.0, 2.0, 0.1, 5.0, 1.0, 0.3])
    return {
        "RMSE / std of skewed targets, normal": (ratio("normal"), 0.1),
        "RMSE / std of skewed targets, Laplace": (ratio("Laplace"), 0.1 * math.sqrt(2)),
        "RMSE_geom of 6, Laplace": (
            lambda rng: error_interval(scales * rng.laplace(size=(size, 6)), 2, rng),
            math.sqrt(2) * float(np.prod(scales)) ** (1 / 6),
        ),
        "rRMSE 0.2, same structures, normal": (change("normal", True), 0.2),
        "rRMSE 0.2, same structures, Student t, 5": (change("Student t, 5", True), 0.2),
        "rRMSE 0.2, other structures, Laplace": (change("Laplace", False), 0.2),
        "accuracy 0.9": (lambda rng: share_interval(int(rng.binomial(size, 0.9)), size), 0.9),
        "relative change 1/3 of the error rate": (shares, 1 / 3),
    }


def other_rows(replicates: int) -> list[list[object]]:
    """Coverage of the other intervals."""
    rows: list[list[object]] = []
    for size in (10, 40, 100):
        for name, (interval, truth) in other_cases(size).items():
            rng = generator(SEED, "other intervals", name, size)
            found = account([interval(rng) for _ in range(replicates)], truth)
            rows.append([name, size, *(f"{x:.1f}" for x in found)])
    return rows


def alarm_rows(replicates: int) -> list[list[object]]:
    """How often the warning about heavy tails speaks, in percent."""
    rows: list[list[object]] = []
    for size in (10, 20, 30, 60, 200):
        row: list[object] = [size]
        for name, (draw, _, _) in DISTRIBUTIONS.items():
            rng = generator(SEED, "tails", name, size)
            said = [
                heavy_tail_warning(draw(rng, size), list(map(str, range(size)))) is not None for _ in range(replicates)
            ]
            row.append(f"{100 * float(np.mean(said)):.1f}")
        rows.append(row)
    return rows


def main() -> None:
    """Print the tables."""
    replicates = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    print(f"{common.machine()}; seed {SEED}, {replicates} replicates, 1000 resamples, 95 % intervals")
    common.print_table(
        "Intervals of RMSE and MAE: % that cover, (RMSE) lie above the true value, below it, have no upper end",
        ["errors", "n", "percentile (RMSE)", "RMSE", "above", "below", "open", "MAE", "open (MAE)"],
        error_rows(replicates),
    )
    common.print_table(
        "Other intervals: % that cover, lie above the true value, below it, have no upper end",
        ["interval", "n", "cover", "above", "below", "open"],
        other_rows(replicates),
    )
    common.print_table(
        "Warning about heavy tails: how often it speaks (%)", ["n", *DISTRIBUTIONS], alarm_rows(replicates)
    )


if __name__ == "__main__":
    main()
