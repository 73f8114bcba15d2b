"""What a label will cost: time and memory against size, fitted to finished labels, with the uncertainty of the fit.

Time. The logarithm of the core-seconds is a straight line in the logarithm of the size plus normal scatter. The line's
slope (the exponent of the power law) has a weak normal prior, so that labels of one size alone still give an answer for
another one, with an honest, large uncertainty. Predictions are the Bayesian predictive distribution of linear
regression with unknown scatter: Student t (Gelman et al., Bayesian Data Analysis, 3rd edition, chapter 14). Single wild
points (a busy node) lose weight by Huber's proposal 2 (Huber and Ronchetti, Robust Statistics, 2nd edition,
section 7.7). Beyond the largest label of the fit the line is not simply drawn on: what grows slowly (start of the
program, one-electron integrals, grids) rules small sizes, so that the exponent rises with size. There it is at least the
prior's, with an uncertainty of its own.

Memory. A floor (interpreter and libraries) plus a term that grows with the square of the size, as matrices do.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, stdtrit

from quarry.randomness import generator

MIN_LABELS = 5
"""Fewer finished labels are no model."""
EXPONENT, EXPONENT_SD = 2.5, 1.5
"""Prior of the exponent: density functional theory lies between 1 and 4 in practice."""
EXPONENT_BOUNDS = (0.0, 7.0)
"""No label gets cheaper with size; none of the usual methods is steeper than CCSD(T)."""
EXTRAPOLATION_SD = 1.0
"""Uncertainty of the exponent beyond the largest label of the fit, whatever the labels say."""
SMALLEST_SCATTER = 0.03
"""Relative scatter that is taken for granted: no machine is more even than that."""
HUBER_K = 2.0
"""Residuals beyond this many standard deviations lose weight."""
BASE_MEMORY_MB = 150.0
"""Memory that does not grow with size, where all labels have one size and cannot tell."""


@dataclass(frozen=True)
class LabelCost:
    """What one finished label cost. wall_s: wall time. cores: threads x tasks. basis_functions: None where unknown."""

    wall_s: float
    cores: int
    memory_MB: float
    atoms: int
    basis_functions: int | None = None


def label_cost(status: str, cost: Mapping[str, Any], atoms: int | None = None) -> LabelCost | None:
    """Return what a label cost by its record's status and cost, or None if it failed or does not say what is needed.

    atoms: of the structure, for records that do not hold its size.
    """
    try:
        size = cost.get("size") or {}
        n_atoms, functions = int(size.get("atoms") or atoms or 0), size.get("basis_functions")
        wall_s, memory_MB = float(cost["wall_s"]), float(cost.get("peak_memory_MB", 0.0))
        cores = int(cost["threads"]) * int(cost.get("tasks", 1))
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    if status != "ok" or wall_s <= 0 or n_atoms < 1 or cores < 1 or not math.isfinite(wall_s + memory_MB):
        return None
    return LabelCost(wall_s, cores, memory_MB, n_atoms, int(functions) if functions else None)


@dataclass(frozen=True)
class PowerLaw:
    """log(core-seconds) = level + exponent (log(size) - center) + scatter x standard normal.

    level_sd, exponent_sd: uncertainty of the two for the scatter as it is. freedom: degrees of freedom of the scatter.
    largest: log of the largest size of the fit.
    """

    center: float
    largest: float
    level: float
    level_sd: float
    exponent: float
    exponent_sd: float
    scatter: float
    freedom: float

    @staticmethod
    def fit(sizes: ArrayLike, core_s: ArrayLike) -> PowerLaw:
        """Fit to sizes and core-seconds, shape (n,), both greater than 0."""
        x, y = np.log(np.asarray(sizes, dtype=float)), np.log(np.asarray(core_s, dtype=float))
        n, floor = len(x), SMALLEST_SCATTER
        weights, exponent = np.ones(n), EXPONENT
        scatter = max(floor, float(np.std(y - exponent * x)))
        for _ in range(100):
            center = np.average(x, weights=weights)
            level = np.average(y, weights=weights)
            precision = np.sum(weights * (x - center) ** 2) / scatter**2
            exponent_sd = (precision + EXPONENT_SD**-2) ** -0.5
            slope = np.sum(weights * (x - center) * (y - level)) / scatter**2 + EXPONENT / EXPONENT_SD**2
            exponent = float(np.clip(slope * exponent_sd**2, *EXPONENT_BOUNDS))
            # The prior takes part of the slope's degree of freedom.
            freedom = n - 1 - precision * exponent_sd**2
            residuals = y - level - exponent * (x - center)
            clipped = np.clip(residuals, -HUBER_K * scatter, HUBER_K * scatter)
            new = max(floor, float(np.sqrt(np.sum(clipped**2) / (freedom * _CLIPPED_VARIANCE))))
            weights = np.minimum(1.0, HUBER_K * new / np.maximum(np.abs(residuals), 1e-300))
            done, scatter = abs(new - scatter) < 1e-10 * scatter, new
            if done:
                break
        level_sd = scatter / np.sum(weights) ** 0.5
        numbers = (center, x.max(), level, level_sd, exponent, exponent_sd, scatter, freedom)
        return PowerLaw(*(float(number) for number in numbers))

    def offsets(self, sizes: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return log(size) from the center of the fit, and beyond its largest label (0 below), each as ``sizes``."""
        x = np.log(np.asarray(sizes, dtype=float))
        return x - self.center, np.maximum(x - self.largest, 0.0)

    @property
    def rise(self) -> tuple[float, float]:
        """By how much the exponent is larger beyond the largest label of the fit, and its standard deviation."""
        return max(0.0, EXPONENT - self.exponent), max(0.0, EXTRAPOLATION_SD**2 - self.exponent_sd**2) ** 0.5

    def log_quantile(self, sizes: ArrayLike, quantile: float) -> NDArray[np.float64]:
        """Return a quantile of log(core-seconds) of one new label of each size, shape of ``sizes``.

        It never falls with size: what is known of a smaller label bounds a larger one from below, and the other way
        round. That matters far outside the sizes of the fit, where the exponent's uncertainty is all.
        """
        factor = float(stdtrit(self.freedom, quantile))
        offset, beyond = self.offsets(sizes)
        rise, rise_sd = self.rise
        variance = self.scatter**2 + self.level_sd**2
        steepest = abs(factor) * self.exponent_sd
        if steepest > self.exponent:
            turn = -(variance**0.5) * self.exponent / (self.exponent_sd * (steepest**2 - self.exponent**2) ** 0.5)
            offset = np.maximum(offset, turn) if factor > 0 else np.minimum(offset, -turn)
        # For low quantiles the rise is left certain: an uncertain one could let them fall.
        rise_sd = rise_sd if factor > 0 else 0.0
        spread = np.sqrt(variance + (self.exponent_sd * offset) ** 2 + (rise_sd * beyond) ** 2)
        return np.asarray(self.level + self.exponent * offset + rise * beyond + factor * spread)

    def draw(self, sizes: ArrayLike, n: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Draw ``n`` laws from what is known; return the mean of log(core-seconds) at sizes, shape (n, n_sizes), and
        the scatter, shape (n, 1).
        """
        rng = generator(seed, "cost", "parameters")
        factor = np.sqrt(self.freedom / rng.chisquare(self.freedom, (n, 1)))
        level = self.level + self.level_sd * factor * rng.standard_normal((n, 1))
        exponent = self.exponent + self.exponent_sd * factor * rng.standard_normal((n, 1))
        rise, rise_sd = self.rise
        rises = np.maximum(rise + rise_sd * rng.standard_normal((n, 1)), -exponent)
        offset, beyond = self.offsets(sizes)
        return level + np.clip(exponent, *EXPONENT_BOUNDS) * offset + rises * beyond, self.scatter * factor


def _clipped_variance(k: float) -> float:
    """Return the variance of a standard normal number clipped to [-k, k]."""
    density = np.exp(-(k**2) / 2) / np.sqrt(2 * np.pi)
    return float(2 * ndtr(k) - 1 - 2 * k * density + 2 * k**2 * ndtr(-k))


_CLIPPED_VARIANCE = _clipped_variance(HUBER_K)


@dataclass(frozen=True)
class MemoryLaw:
    """memory = (floor_MB + growth_MB (size / largest)^2) x scatter, as a factor with a normal logarithm."""

    floor_MB: float
    growth_MB: float
    largest: float
    scatter: float
    freedom: float

    @staticmethod
    def fit(sizes: ArrayLike, memory_MB: ArrayLike) -> MemoryLaw:
        """Fit to sizes and peak memories (MB), shape (n,), sizes greater than 0."""
        x, y = np.asarray(sizes, dtype=float), np.maximum(np.asarray(memory_MB, dtype=float), 1.0)
        largest = float(x.max())
        squares = (x / largest) ** 2
        if x.min() > 0.8 * largest:
            # The labels cannot tell what grows: all but the base is taken to.
            floor = min(BASE_MEMORY_MB, float(y.min()))
            growth = max(0.0, float(np.median((y - floor) / squares)))
        else:
            floor, growth = _floor_and_growth(squares, y)
        residuals = np.log(y / np.maximum(floor + growth * squares, 1.0))
        freedom = max(1.0, len(y) - 2.0)
        scatter = max(SMALLEST_SCATTER, float(np.sqrt(np.sum(residuals**2) / freedom)))
        return MemoryLaw(float(floor), float(growth), largest, scatter, freedom)

    def quantile(self, sizes: ArrayLike, quantile: float) -> NDArray[np.float64]:
        """Return a quantile of the peak memory (MB) of a new label of each size, shape of ``sizes``."""
        mean = self.floor_MB + self.growth_MB * (np.asarray(sizes, dtype=float) / self.largest) ** 2
        return np.asarray(mean * np.exp(float(stdtrit(self.freedom, quantile)) * self.scatter))


def _floor_and_growth(squares: NDArray[np.float64], memory: NDArray[np.float64]) -> tuple[float, float]:
    """Return the least-squares solution of floor + growth x squares = memory with both >= 0, by relative errors."""
    # Relative, so that small labels count as much as large ones.
    columns = np.column_stack([1 / memory, squares / memory])
    floor, growth = np.linalg.lstsq(columns, np.ones(len(memory)))[0]
    if floor < 0 or growth < 0:
        alone = columns.sum(axis=0) / np.sum(columns**2, axis=0)
        floor, growth = (alone[0], 0.0) if growth < 0 else (0.0, alone[1])
    return float(floor), float(growth)


DRAWS = 2000
"""Draws for the distribution of a sum of labels."""
SINGLY = 500
"""Up to this many labels of a sum are drawn one by one; beyond it the sum of their scatter is normal."""


class CostModel:
    """Wall time and memory of labels on a given number of cores.

    measure: what size means here, basis_functions or atoms. same_cores: whether all labels of the fit ran on as many
    cores as are asked for; otherwise their core-seconds are taken over as they are, as if the program scaled perfectly.
    """

    def __init__(self, time: PowerLaw, memory: MemoryLaw, measure: str, cores: int, n: int, same_cores: bool) -> None:
        self.time = time
        self.memory = memory
        self.measure = measure
        self.cores = cores
        self.n = n
        self.same_cores = same_cores
        self._totals: dict[tuple[float, ...], NDArray[np.float64]] = {}

    @staticmethod
    def fit(costs: Iterable[LabelCost], cores: int) -> CostModel | None:
        """Fit to finished labels; None if there are fewer than ``MIN_LABELS``.

        cores: threads x tasks of the labels to come. Labels that ran on as many are used alone if there are enough.
        Size is the number of basis functions where all labels have it, else the number of atoms.
        """
        items = list(costs)
        alike = [c for c in items if c.cores == cores]
        same_cores = len(alike) >= MIN_LABELS
        used = alike if same_cores else items
        if len(used) < MIN_LABELS:
            return None
        measure = "basis_functions" if all(c.basis_functions for c in used) else "atoms"
        sizes = np.array([float(getattr(c, measure)) for c in used])
        time = PowerLaw.fit(sizes, [c.wall_s * c.cores for c in used])
        memory = MemoryLaw.fit(sizes, [c.memory_MB for c in used])
        return CostModel(time, memory, measure, cores, len(used), same_cores)

    def wall_s(self, sizes: ArrayLike, quantile: float = 0.5) -> NDArray[np.float64]:
        """Return a quantile of the wall time (s) of one label of each size, shape of ``sizes``."""
        return np.exp(self.time.log_quantile(sizes, quantile)) / self.cores

    def memory_MB(self, sizes: ArrayLike, quantile: float = 0.5) -> NDArray[np.float64]:
        """Return a quantile of the peak memory (MB) of one label of each size, shape of ``sizes``."""
        return self.memory.quantile(sizes, quantile)

    def draw_walls(self, sizes: ArrayLike, draws: int, seed: int = 0) -> NDArray[np.float64]:
        """Return wall times (s) of labels, shape (draws, n): each row with parameters of its own, as they may be."""
        mean, scatter = self.time.draw(sizes, draws, seed)
        noise = generator(seed, "cost", "scatter").standard_normal(mean.shape)
        return np.asarray(np.exp(mean + scatter * noise) / self.cores)

    def draw_totals(self, sizes: ArrayLike, draws: int = DRAWS, seed: int = 0) -> NDArray[np.float64]:
        """Return total wall times (s) of labels one after another, shape (draws,).

        What is unknown of the parameters is common to all labels; their scatter is not. So the 90 % of a sum is not the
        sum of the labels' 90 %.
        """
        values = np.asarray(sizes, dtype=float)
        if len(values) <= SINGLY:
            return np.asarray(self.draw_walls(values, draws, seed).sum(axis=1))
        distinct, counts = np.unique(values, return_counts=True)
        mean, scatter = self.time.draw(distinct, draws, seed)
        means = np.exp(mean + scatter**2 / 2)
        sd = np.sqrt(np.expm1(scatter[:, 0] ** 2) * (means**2 @ counts))
        noise = generator(seed, "cost", "scatter").standard_normal(draws)
        return np.asarray(np.maximum(means @ counts + sd * noise, 0.0) / self.cores)

    def total_wall_s(self, sizes: Sequence[float], quantile: float) -> float:
        """Return a quantile of the total wall time (s) of labels one after another."""
        if len(sizes) == 1:
            return float(self.wall_s(sizes, quantile)[0])
        # Many jobs hold labels of the same sizes.
        key = tuple(sorted(sizes))
        if key not in self._totals:
            self._totals[key] = self.draw_totals(np.array(key))
        return float(np.quantile(self._totals[key], quantile))
