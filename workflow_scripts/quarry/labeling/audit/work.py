"""Do energies and forces agree? Differences in energy against the work of the forces between near neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from quarry.config.base import ENERGY_UNITS_EV
from quarry.config.units import LENGTH_UNITS_A
from quarry.labeling.audit.findings import ERROR, NOTE, Finding, rounded
from quarry.labeling.audit.pairs import Pairs, near_pairs
from quarry.structures.labelled import LabelledSet

CHECK = "energies_and_forces"
FEWEST_PAIRS = 6
RESAMPLES = 2000
SURE = 2e-3
"""Share of the resamples that is left out on either side of an interval."""
MARGIN = 1.3
"""Slopes of right labels may be off by this factor, because neighbours are not near enough; units differ by more."""
CLEAR = 1.7
"""An interval within this factor of 1 leaves no unit but the right one."""
NEAR = 0.3
"""Loops that close to this share of the work are of pairs that are near enough for the energies to follow."""
MISMATCH = 0.6
"""Share of the work by which no right energy of a pair that is near is off: it is as far as the loops are open."""
PICKS = 500
PLAIN = ("eV", "hartree", "kcal/mol", "kJ/mol")
"""Units that people confuse; those of others stand for themselves."""


@dataclass(frozen=True)
class Slope:
    """Energy difference over the work of the forces, 1 if both are right.

    value: of the pairs. low, high: it is between them; low is the lower end of the slope of energies on works, which errors of
    the works make too small, high the upper end of the inverse of the slope of works on energies, which they make too
    large. negative: of a wrong sign, and low and high are those of its size. related: whether there is a slope at all.
    mismatch: lower end of what differences lack to be the works. openness: upper end of what loops of three works lack to close
    (NaN: too few loops). Both as shares of a work. pairs: how many.
    """

    value: float
    low: float
    high: float
    negative: bool
    related: bool
    mismatch: float
    openness: float
    pairs: int


def fit_slope(pairs: Pairs, rng: np.random.Generator) -> Slope:
    """Return the slope by least absolute deviations, with an interval from resampled pairs.

    Each pair counts in units of its second order (``Pairs.curvature``), to which the error of its work is in proportion.
    A line through the origin of least absolute deviations has the weighted median of the ratios as slope.
    """
    size = pairs.curvature + float(np.quantile(pairs.curvature, 0.25)) + 1e-12
    x, y, loops = pairs.work / size, pairs.difference / size, np.abs(pairs.loop) / size
    draws = rng.multinomial(len(pairs), np.full(len(pairs), 1 / len(pairs)), RESAMPLES)
    forward = _weighted_medians(y, x, draws)
    backward = _weighted_medians(x, y, draws)
    slope = float(_weighted_medians(y, x, np.ones((1, len(pairs))))[0])
    inverse = float(_weighted_medians(x, y, np.ones((1, len(pairs))))[0])
    negative = slope < 0
    ends = np.sort(-forward if negative else forward), np.sort(-backward if negative else backward)
    low, small = float(np.quantile(ends[0], SURE)), float(np.quantile(ends[1], SURE))
    known = np.isfinite(loops)
    openness = float("nan")
    if known.sum() >= FEWEST_PAIRS:
        # A loop is the sum of three errors.
        ratios = _ratio_of_medians(loops[known] / np.sqrt(3), np.abs(x[known]), rng)
        openness = float(np.quantile(ratios, 0.99))
    related = low > 0 and small > 0
    value = float(np.sign(slope) * np.sqrt(slope / inverse)) if related else slope
    mismatch = float(np.quantile(_ratio_of_medians(np.abs(y - x), np.abs(x), rng), 0.01))
    return Slope(value, low, 1 / small if small > 0 else np.inf, negative, related, mismatch, openness, len(pairs))


def _weighted_medians(
    y: NDArray[np.float64], x: NDArray[np.float64], counts: NDArray[np.number]
) -> NDArray[np.float64]:
    """Return the medians of y / x, weighted by |x| and by how often each pair is drawn (rows of counts), shape (rows,)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(x == 0, 0.0, y / x)
    order = np.argsort(ratios, kind="stable")
    weights = np.cumsum(counts[:, order] * np.abs(x[order]), axis=1)
    middle = (weights < 0.5 * weights[:, -1:]).sum(axis=1)
    medians: NDArray[np.float64] = ratios[order][np.minimum(middle, len(ratios) - 1)]
    return medians


def _ratio_of_medians(
    above: NDArray[np.float64], below: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return the medians of ``above`` over those of ``below`` of pairs that are drawn again and again."""
    picks = rng.integers(len(above), size=(PICKS, len(above)))
    ratios: NDArray[np.float64] = np.median(above[picks], axis=1) / np.maximum(np.median(below[picks], axis=1), 1e-300)
    return ratios


def check_work(labels: LabelledSet, rng: np.random.Generator) -> list[Finding]:
    """Return the finding of near neighbours: energies and forces agree, contradict each other, or neither can be said.

    Absurd labels should not be among them. rng: draws pairs and resamples.
    """
    if not {"energy", "forces"} <= labels.properties.keys() or labels.structures.features is not None:
        return []
    pairs = near_pairs(labels, rng)
    if len(pairs) < FEWEST_PAIRS or not pairs.work.any():
        return [_note(float("nan"), f"{len(pairs)} near pairs are too few to compare energies with forces")]
    slope = fit_slope(pairs, rng)
    about = f"slope {slope.value:#.5g} from {slope.pairs} near pairs"
    if slope.related:
        interval = f"{about}, {100 * (1 - 2 * SURE):.3g} %: {slope.low:#.5g} to {slope.high:#.5g}"
        if slope.negative or slope.low > MARGIN or slope.high < 1 / MARGIN:
            why = explanation(slope)
            return [_error(slope.value, f"energies and forces contradict each other ({interval}; 1 is right): {why}")]
        if slope.low > 1 / CLEAR and slope.high < CLEAR:
            return [_note(slope.value, f"energies and forces agree ({interval})")]
    elif slope.openness < NEAR and slope.mismatch > MISMATCH:
        # The forces are those of a field that has an energy, but not these energies.
        why = "are they other structures' energies?"
        return [_error(slope.value, f"the energies do not follow the forces ({about}; 1 is right): {why}")]
    return [_note(slope.value, f"not enough near pairs to tell ({about})")]


def explanation(slope: Slope) -> str:
    """Return which sign and units would make the slope: one mistake before two, then the nearest."""
    fitting = [
        (message.count(" and "), abs(float(np.log(abs(slope.value) / value))), message)
        for message, value in hypotheses()
        if slope.low / 1.05 <= value <= slope.high * 1.05
    ]
    sign = "the forces have the wrong sign, as a gradient has" if slope.negative else ""
    if slope.negative and slope.low / MARGIN <= 1 <= slope.high * MARGIN:
        return sign
    units = " or ".join(message for *_, message in sorted(fitting)[:2]) or "no unit known here fits"
    return f"{sign}, and {units}" if sign else units


def hypotheses() -> list[tuple[str, float]]:
    """Return names of mistakes of units and the slopes that they give, of labels that are taken for eV and eV/Angstrom."""
    found = []
    for energy, force, length in product(PLAIN, PLAIN, LENGTH_UNITS_A):
        parts = [f"the energies are in {energy}"] if energy != "eV" else []
        parts += [f"the forces are in {force}/{length}"] if (force, length) != ("eV", "Angstrom") else []
        slope = ENERGY_UNITS_EV[force] / ENERGY_UNITS_EV[energy] / LENGTH_UNITS_A[length]
        if abs(np.log(slope)) > 1e-6:
            found.append((" and ".join(parts), slope))
    return found


def _note(value: float, words: str) -> Finding:
    return Finding("", CHECK, NOTE, rounded(value), 1.0, "1", words)


def _error(value: float, words: str) -> Finding:
    return Finding("", CHECK, ERROR, rounded(value), 1.0, "1", words)
