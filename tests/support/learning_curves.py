"""Simulated campaigns whose true saving is known, and the verdict that earlier versions gave."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean, stdev

import numpy as np
from numpy.typing import NDArray

SIZES = np.arange(20, 401, 20)
"""Training labels of each iteration."""


def simulated(
    rng: np.random.Generator,
    campaigns: int,
    arms: int,
    saved: float = 0.0,
    noise: float = 0.05,
    along: float = 0.0,
    offset: float = 0.0,
) -> NDArray[np.float64]:
    """Return logarithms of errors of power laws n^-1/2, shape (campaigns, arms, sizes); the initial batch is shared.

    saved: the arms need (1 - saved) of the last size. noise: of each point, with the correlation ``along`` between
    neighbours. offset: luck that an arm keeps.
    """
    first, last = SIZES[0], SIZES[-1]
    effective = first + (SIZES - first) * (last - first) / ((1 - saved) * last - first)
    chance = rng.standard_normal((campaigns, arms, len(SIZES)))
    for t in range(1, len(SIZES)):
        chance[..., t] = along * chance[..., t - 1] + math.sqrt(1 - along**2) * chance[..., t]
    lasting = offset * rng.standard_normal((campaigns, arms, 1)) * (1 - first / SIZES)
    return -0.5 * np.log(effective) + lasting + noise * chance * (np.arange(len(SIZES)) > 0)


def by_spread_of_pairs(arms: Sequence[Sequence[float]], controls: Sequence[Sequence[float]]) -> str:
    """Return the verdict of earlier versions: the mean over pairs against their standard deviation (0 for a single pair).

    arms, controls: logarithms of errors; between best points the curve is a power law.
    """

    def labels_for(errors: Sequence[float], wanted: float) -> float:
        best: tuple[int, float] | None = None
        for n, q in zip(SIZES, errors, strict=True):
            if q <= wanted:
                return float(n) if best is None else best[0] * (n / best[0]) ** ((wanted - best[1]) / (q - best[1]))
            if best is None or q < best[1]:
                best = (n, q)
        return math.inf

    def saved(arm: Sequence[float], control: Sequence[float]) -> float:
        mine, its = min(arm), min(control)
        return SIZES[-1] - labels_for(arm, its) if mine < its else labels_for(control, mine) - SIZES[-1]

    values = [saved(arm, control) for arm in arms for control in controls]
    margin = stdev(values) if len(values) > 1 else 0.0
    return "saved" if mean(values) > margin else "wasted" if mean(values) < -margin else "none"
