"""The factor that makes standard deviations as large as errors are: from errors of labels that a model had not seen."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

LEVEL = 0.95
"""Share of held-out errors that are to lie within the central interval of this probability."""

FEWEST = 50
"""With fewer held-out errors nothing is scaled: their 95 % quantile is that of the two or three largest of them."""

WIDEST = 3.0
"""Small enough to keep predictions in the range of the labels, large enough to seldom bind for a committee of three."""

MOST = 1000
"""Enough held-out errors: the factor is then known to 2 %. Further ones would cost time."""


@dataclass(frozen=True)
class Calibration:
    """factor: of all standard deviations of a model, 1 if it was not calibrated. count: held-out errors behind it."""

    factor: float = 1.0
    count: int = 0

    @property
    def done(self) -> bool:
        """Whether the factor was found from enough errors."""
        return self.count >= FEWEST

    @staticmethod
    def of(errors: NDArray[np.float64], std: NDArray[np.float64]) -> Calibration:
        """Return the factor from held-out errors and the standard deviations predicted for them, shape (n,).

        Split conformal prediction (J. Lei et al., J. Am. Stat. Assoc. 113, 1094 (2018), section 2.2) with |error| / std as
        the score: the ceil(0.95 (n + 1))-th smallest score takes the place of the normal quantile 1.96. A std of zero
        says nothing and is left out. Not calibrated with fewer than ``FEWEST`` of them, or where most errors are zero.
        The interval of the median std is made no wider than ``WIDEST`` times the largest error: labels that contradict others,
        each predicted with certainty by its twin, would blow up all the others.
        """
        positive = (std > 0) & np.isfinite(errors)
        scores = np.sort(np.abs(errors[positive]) / std[positive])
        if len(scores) < FEWEST:
            return Calibration(1.0, len(scores))
        rank = min(len(scores), math.ceil(LEVEL * (len(scores) + 1)))
        widest = WIDEST * np.max(np.abs(errors[positive])) / np.median(std[positive])
        factor = float(min(scores[rank - 1], widest) / ndtri(0.5 + 0.5 * LEVEL))
        return Calibration(factor, len(scores)) if factor > 0 else Calibration(1.0, 0)

    def account(self) -> dict[str, float | int | None]:
        """Return what the hyperparameters of a model say of it: std_factor (None: not calibrated), calibration_labels."""
        return {"std_factor": self.factor if self.done else None, "calibration_labels": self.count}


def held_blocks(n: int, groups: NDArray[np.int64] | None = None, most: int = MOST) -> list[NDArray[np.int64]]:
    """Return which rows are left out together; the error of the first of each block is looked at.

    One block for each row, of copies of one structure (equal numbers of groups, shape (n,)) one for all; of more than
    ``most`` blocks so many evenly.
    """
    rows = np.arange(n)
    blocks = list(rows[:, None])
    if groups is not None:
        _, inverse = np.unique(groups, return_inverse=True)
        order = np.argsort(inverse, kind="stable")
        blocks = np.split(order, np.flatnonzero(np.diff(inverse[order])) + 1)
    if len(blocks) <= most:
        return blocks
    return [blocks[k] for k in np.linspace(0, len(blocks) - 1, most).astype(np.int64)]
