"""The factor that makes standard deviations as large as errors are: from errors of labels that a model had not seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

LEVEL = 0.95
"""Share of held-out errors that are to lie within the central interval of this probability."""

FEWEST = 50
"""With fewer held-out errors nothing is scaled: their 95 % quantile is that of the two or three largest of them."""

FEW_LEVEL, FEW = 0.68, 20
"""Level that models may ask for with fewer errors, and from how many on: the factor is then known to some 20 %."""

WIDEST = 3.0
"""Small enough to keep predictions in the range of the labels, large enough to seldom bind for a committee of three."""

MOST = 1000
"""Enough held-out errors: the factor is then known to 2 %. Further ones would cost time."""


@dataclass(frozen=True)
class Calibration:
    """factor: of all standard deviations of a model, 1 if it was not calibrated. count: held-out errors behind it, of forces the
    structures that they are of. fewest: such that calibrate.
    """

    factor: float = 1.0
    count: int = 0
    fewest: int = FEWEST

    @property
    def done(self) -> bool:
        """Whether the factor was found from enough errors."""
        return self.count >= self.fewest

    @staticmethod
    def of(
        errors: NDArray[np.float64],
        std: NDArray[np.float64],
        structures: int | None = None,
        fewest: int = FEWEST,
    ) -> Calibration:
        """Return the factor from held-out errors and the standard deviations predicted for them, both shape (n,).

        Split conformal prediction (J. Lei et al., J. Am. Stat. Assoc. 113, 1094 (2018), section 2.2) with |error| / std as
        the score: the ceil(0.95 (n + 1))-th smallest score takes the place of the normal quantile 1.96. A std of zero
        says nothing and is left out. Not calibrated with fewer than ``fewest`` of them, or where most errors are zero; with fewer
        than ``FEWEST`` the level is 0.68 and not 0.95.
        The interval of the median std is made no wider than ``WIDEST`` times the largest error: labels that contradict others,
        each predicted with certainty by its twin, would blow up all the others.

        structures: how many independent ones the errors are of, where several are of each (components of forces); all errors
        are pooled then (R. Dunn, L. Wasserman, A. Ramdas, J. Am. Stat. Assoc. 118, 2491 (2023)), and the rank is that of the
        quantile 0.95 (structures + 1) / structures of them.
        """
        positive = (std > 0) & np.isfinite(errors)
        scores = np.sort(np.abs(errors[positive]) / std[positive])
        count = len(scores) if structures is None else min(structures, len(scores))
        if count < fewest:
            return Calibration(1.0, count, fewest)
        level = LEVEL if count >= FEWEST else FEW_LEVEL
        rank = min(len(scores), math.ceil(level * (len(scores) + len(scores) / count)))
        widest = WIDEST * np.max(np.abs(errors[positive])) / np.median(std[positive])
        factor = float(min(scores[rank - 1], widest) / ndtri(0.5 + 0.5 * level))
        return Calibration(factor, count, fewest) if factor > 0 else Calibration(1.0, 0, fewest)

    def account(self) -> dict[str, float | int | None]:
        """Return what the hyperparameters of a model say of it: std_factor (None: not calibrated), calibration_labels."""
        return {"std_factor": self.factor if self.done else None, "calibration_labels": self.count}


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Labels that a model had not seen, by property, and what each of its members or read-outs says of them.

    labels: flat, shape (n,), NaN where there is none. outputs: shape (m, n). structures: independent ones that they are of.
    """

    labels: dict[str, NDArray[np.float64]]
    outputs: dict[str, NDArray[np.float64]]
    structures: int

    @staticmethod
    def joined(parts: Sequence[HeldOut]) -> HeldOut:
        """Return the labels of several parts, one after another."""
        names = list(parts[0].labels)
        labels = {name: np.concatenate([part.labels[name] for part in parts]) for name in names}
        outputs = {name: np.concatenate([part.outputs[name] for part in parts], axis=1) for name in names}
        return HeldOut(labels, outputs, sum(part.structures for part in parts))

    def mirrored(self) -> HeldOut:
        """Return the same of a main and an auxiliary model (``mirrored``)."""
        return HeldOut(self.labels, {name: mirrored(values) for name, values in self.outputs.items()}, self.structures)

    def calibrations(self) -> dict[str, Calibration]:
        """Return how the standard deviations of each property, over the members, are to be scaled."""
        return {
            name: Calibration.of(
                self.outputs[name].mean(axis=0) - labels, self.outputs[name].std(axis=0), self.structures, FEW
            )
            for name, labels in self.labels.items()
        }


def mirrored(outputs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return outputs of a main and an auxiliary model as those of two members with the main one's mean and their distance as std.

    outputs: shape (2, ...), as what is returned.
    """
    main, auxiliary = outputs
    return np.stack([2.0 * main - auxiliary, auxiliary])


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
