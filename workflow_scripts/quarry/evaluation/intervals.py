"""Intervals of errors, of their ratio to the spread of the targets, of shares, and of changes between iterations.

Every interval of errors here is a studentised bootstrap (bootstrap-t) of the logarithm: B. Efron, R. J. Tibshirani, An
Introduction to the Bootstrap (1993), section 12.5, with standard errors from influence functions (chapter 21). The
standard error of the errors themselves divides each influence by 1 - (share of the mean that the error carries), as HC3
does with leverages (J. G. MacKinnon, H. White, J. Econom. 29, 305 (1985)): without it, and with percentiles, intervals of
an RMSE are too short where errors have tails. ``benchmarks/error_intervals.py`` measures how often they cover.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from quarry.stopping.facts import FEWEST_ERRORS

RESAMPLES = 1000
WIDEST = 100.0
"""Beyond this factor of the value an interval is open: its upper end is None, its lower end 0."""
BLOCK = 2_000_000

Ends = tuple[float | None, float | None]
"""Lower and upper end: (None, None) where there is no interval, an upper end of None where there is no upper bound."""


@dataclass(frozen=True)
class Terms:
    """What a logarithm of a statistic is made of: sum over k of exponents[k] log(mean of values[:, k]).

    values: shape (n, k), not negative and no column all zero. exponents: shape (k,).
    """

    values: NDArray[np.float64]
    exponents: NDArray[np.float64]

    @staticmethod
    def of(errors: NDArray[np.float64], power: int, sign: float = 1.0) -> Terms:
        """Return the terms of (mean |error|^power)^(sign / power), and of its geometric mean over columns that vary.

        errors: shape (n,) or (n, n_quantities). power: 2 for an RMSE, 1 for an MAE. A quantity without any error is left
        out, as in ``quarry.models.metrics.geometric``.
        """
        values = np.abs(errors.reshape(len(errors), -1)) ** power
        values = values[:, values.any(axis=0)]
        columns = values.shape[1]
        return Terms(values, np.full(columns, sign / (power * max(1, columns))))

    def beside(self, other: Terms) -> Terms:
        """Return the terms of the product of two statistics of the same n structures in the same order."""
        return Terms(np.hstack([self.values, other.values]), np.concatenate([self.exponents, other.exponents]))

    @property
    def log(self) -> float:
        """The logarithm of the statistic."""
        return float(self.exponents @ np.log(self.values.mean(axis=0)))

    def variance(self) -> float:
        """Return the variance of ``log``; large without bound where one structure carries a mean alone."""
        shares = self.values / self.values.sum(axis=0)
        influence = (self.exponents * (len(shares) * shares - 1) / np.maximum(1 - shares, 1e-12)).sum(axis=1)
        return float(np.sum(influence**2)) / len(shares) ** 2

    def resampled(self, rng: np.random.Generator, samples: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return ``log`` and its variance by influence functions of each resample, both of shape (samples,)."""
        size, rows = len(self.values), max(1, BLOCK // len(self.values))
        logs, variances = np.empty(samples), np.empty(samples)
        for start in range(0, samples, rows):
            block = slice(start, min(start + rows, samples))
            count = block.stop - start
            drawn = rng.integers(size, size=(count, size)) + size * np.arange(count)[:, None]
            weights = np.bincount(drawn.ravel(), minlength=count * size).reshape(count, size) / size
            means = weights @ self.values
            # A mean of zero (all errors drawn are exactly 0) leaves no logarithm: -inf, of no variance.
            with np.errstate(divide="ignore", invalid="ignore"):
                logs[block] = np.log(means) @ self.exponents
                influence = (self.exponents / means) @ self.values.T - self.exponents.sum()
                variances[block] = (weights * influence**2).sum(axis=1) / size
        return logs, variances


def log_interval(
    parts: Sequence[Terms], rng: np.random.Generator, samples: int = RESAMPLES, level: float = 0.95
) -> tuple[float, float]:
    """Return the bootstrap-t interval of the sum of logarithms of independent sets of structures; ends may be infinite.

    The ends are order statistics on the outer side, so that few samples make it wider, never shorter.
    """
    value, variance = sum(part.log for part in parts), sum(part.variance() for part in parts)
    if variance == 0.0:
        return value, value
    drawn = [part.resampled(rng, samples) for part in parts]
    moved = sum(logs for logs, _ in drawn) - value
    error = np.sqrt(sum(variances for _, variances in drawn))
    # Resamples of one error alone, or of equal ones, have no standard error: they are as far out as can be.
    varies = error > 1e-9 * np.sqrt(variance)
    with np.errstate(divide="ignore", invalid="ignore"):
        students = np.where(varies, moved / error, np.where(np.abs(moved) < 1e-12, 0.0, np.inf * np.sign(moved)))
    students = np.sort(np.where(np.isnan(students), -np.inf, students))
    outside = max(1, int((1 - level) / 2 * samples + 1e-9))
    low, high = students[-outside], students[outside - 1]
    # An end on the wrong side of the value would be an accident of resampling.
    return value - max(low, 0.0) * variance**0.5, value - min(high, 0.0) * variance**0.5


def error_interval(errors: NDArray[np.float64], power: int, rng: np.random.Generator, level: float = 0.95) -> Ends:
    """Return the interval of RMSE (power 2) or MAE (power 1), for errors of shape (n, n_quantities) of the geometric mean.

    (None, None) with fewer than 4 errors. It covers what this model would reach on very many structures drawn alike, not
    what another training run would: for normal and Laplace errors 93 to 97 % of the time from n = 10, 92 to 97 % from
    n = 4. With heavier tails the RMSE is above the upper end more often, because the errors that decide are not among
    those seen (Student's t of 3 degrees: 13 %); see ``quarry.evaluation.tails``. Errors of cross-validation depend on each
    other through their models a little, which no interval here knows.
    """
    if len(errors) < FEWEST_ERRORS:
        return None, None
    terms = Terms.of(errors, power)
    if not terms.values.size:
        return 0.0, 0.0
    return _ends([terms], rng, level)


def spread_ratio(errors: NDArray[np.float64], targets: NDArray[np.float64]) -> float | None:
    """Return RMSE / standard deviation of the targets (ddof 0) over the same structures; None for constant targets.

    errors, targets: shape (n,), or (n, n_quantities), of which it is the geometric mean over quantities with both an
    error and a spread. 1 is what always saying the targets' mean would reach.
    """
    terms = _ratio(errors, targets)
    if terms is None:
        return None
    return float(np.exp(terms.log)) if terms.values.size else 0.0


def spread_ratio_interval(
    errors: NDArray[np.float64], targets: NDArray[np.float64], rng: np.random.Generator, level: float = 0.95
) -> Ends:
    """Return the interval of ``spread_ratio``; errors and targets, shaped as there, of a structure are drawn together."""
    terms = _ratio(errors, targets)
    if terms is None or len(errors) < FEWEST_ERRORS:
        return None, None
    return _ends([terms], rng, level) if terms.values.size else (0.0, 0.0)


def spread_ratio_at_most(errors: NDArray[np.float64], targets: NDArray[np.float64]) -> float | None:
    """Return ``spread_ratio`` and two of its standard errors, None where there is no ratio or are fewer than 4 errors.

    No interval: where one structure carries the squared error, that of the ratio has no upper end, because as large an
    error may be among the structures not seen. But to be no better than the mean of the targets, such a structure would
    have to be far beyond all seen. This end is finite, and decides that question where the interval does not.
    """
    terms = _ratio(errors, targets)
    if terms is None or len(errors) < FEWEST_ERRORS:
        return None
    if not terms.values.size:
        return 0.0
    shares = terms.values / terms.values.mean(axis=0)
    influence = ((shares - 1) * terms.exponents).sum(axis=1)
    return float(np.exp(terms.log) * (1 + 2 * np.sqrt(np.mean(influence**2) / len(errors))))


def _ratio(errors: NDArray[np.float64], targets: NDArray[np.float64]) -> Terms | None:
    """Return the terms of RMSE / standard deviation: None for constant targets, empty without any error."""
    errors, targets = errors.reshape(len(errors), -1), targets.reshape(len(targets), -1)
    # Compared with the first, not with the mean, which rounding puts beside equal targets.
    varying = (targets != targets[:1]).any(axis=0)
    if not varying.any():
        return None
    used = varying & (errors != 0).any(axis=0)
    spread = targets[:, used] - targets[:, used].mean(axis=0)
    return Terms.of(errors[:, used], 2).beside(Terms.of(spread, 2, -1.0))


def share_interval(count: int, size: int, level: float = 0.95) -> Ends:
    """Return the interval of a share, count of size (E. B. Wilson, J. Am. Stat. Assoc. 22, 209 (1927)).

    Coverage jumps with the share; on average over shares it is the level, at any size.
    """
    if size == 0:
        return None, None
    z = float(ndtri((1 + level) / 2))
    share, middle = count / size, (count + z**2 / 2) / (size + z**2)
    half = z / (size + z**2) * (count * (1 - share) + z**2 / 4) ** 0.5
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


def change_interval(
    previous: NDArray[np.float64],
    current: NDArray[np.float64],
    paired: bool,
    rng: np.random.Generator,
    level: float = 0.95,
) -> Ends:
    """Return the interval of |RMSE before - RMSE now| / RMSE now (``quarry.models.metrics.rrmse``).

    It is that of the ratio of the two RMSEs (geometric means over the quantities of errors of shape (n, n_quantities)),
    mapped; where it holds a ratio of 1, the lower end is 0. With 95 %, the change is above the upper end at most 2.5 to
    5 % of the time. previous, current: errors, shape (n,) or (n, n_quantities). paired: they are of the same structures in the
    same order (a fixed test set).
    """
    before, now = Terms.of(previous, 2), Terms.of(current, 2, -1.0)
    _check_pairs(previous, current, paired)
    if not (before.values.size and now.values.size):
        unchanged = before.values.size == now.values.size
        return (0.0, 0.0) if unchanged else (1.0, 1.0)
    if min(len(previous), len(current)) < FEWEST_ERRORS:
        return 0.0, None
    return _change_ends(*log_interval([before.beside(now)] if paired else [before, now], rng, level=level))


def share_change_interval(
    previous: NDArray[np.float64], current: NDArray[np.float64], paired: bool, level: float = 0.95
) -> Ends:
    """Return the interval of |share before - share now| / share now of wrong classes (errors 1 wrong, 0 right).

    The logarithm of the ratio of two shares, half a wrong one added to each: of independent sets J. J. Gart, J. Nam,
    Biometrics 44, 323 (1988); of pairs the delta method, with one more structure that only one of the two has wrong, so that
    equal predictions of few structures do not prove a plateau. It covers 97 to 100 %: more than it says, never less.
    """
    _check_pairs(previous, current, paired)
    before, now = float(previous.sum()), float(current.sum())
    value = np.log((before + 0.5) / (len(previous) + 0.5)) - np.log((now + 0.5) / (len(current) + 0.5))
    if paired:
        variance = (np.sum(previous != current) + 1) / ((before + 0.5) * (now + 0.5))
    else:
        variance = sum(1 / (k + 0.5) - 1 / (n + 0.5) for k, n in ((before, len(previous)), (now, len(current))))
    half = float(ndtri((1 + level) / 2)) * max(0.0, variance) ** 0.5
    low, high = _change_ends(value - half, value + half)
    # Without a wrong class now the change is 1 (or 0) by definition, which the half wrong ones do not know.
    change = abs(before / len(previous) - now / len(current)) / (now / len(current)) if now else float(before > 0)
    return min(low or 0.0, change), None if high is None else max(high, change)


def _check_pairs(previous: NDArray[np.float64], current: NDArray[np.float64], paired: bool) -> None:
    if paired and len(previous) != len(current):
        raise ValueError(f"paired errors must be of the same structures: got {len(previous)} and {len(current)}")


def _change_ends(low: float, high: float) -> Ends:
    """Return the ends of |ratio - 1| from those of log(ratio)."""
    ends = [abs(float(np.expm1(min(end, 700.0)))) for end in (low, high)]
    return 0.0 if low <= 0 <= high else min(ends), max(ends) if max(ends) < WIDEST else None


def _ends(parts: Sequence[Terms], rng: np.random.Generator, level: float) -> Ends:
    low, high = log_interval(parts, rng, level=level)
    value = sum(part.log for part in parts)
    return (
        float(np.exp(low)) if low > value - np.log(WIDEST) else 0.0,
        float(np.exp(high)) if high < value + np.log(WIDEST) else None,
    )
