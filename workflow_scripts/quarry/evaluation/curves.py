"""Learning curves, and their smoothed values at any number of labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

REACH = 4.0
"""A smoothed value looks at sizes between a REACH-th of its own and REACH times it."""
NEAREST = 3
"""As many sizes are looked at in any case: where batches double, the reach alone would find two."""


@dataclass(frozen=True)
class Curve:
    """Quality of an arm against its training labels, one point for each iteration.

    labels: rising. quality: an error (falling is better; a power law of the labels, as learning curves are) or a number
    of finds (rising is better; a straight line), as ``finds`` says.
    """

    labels: tuple[int, ...]
    quality: tuple[float, ...]
    finds: bool = False


def smoothing_weights(labels: Sequence[int], at: ArrayLike, finds: bool = False) -> Array:
    """Return weights, shape (len(at), len(labels)), that make smoothed values of a curve: ``weights @ values``.

    Local linear regression (J. Fan, I. Gijbels, Local Polynomial Modelling and Its Applications, 1996, section 3.1) with
    the Epanechnikov kernel of log(labels / at), of values that are a straight line in log(labels), or in the labels for
    finds. The half width is log(REACH), and half as much again as the distance of the third nearest size where that is
    more. A straight line is kept exactly; at the ends the line is extended, not levelled.
    """
    sizes, at = np.asarray(labels, dtype=float), np.asarray(at, dtype=float)
    # An iteration whose labels all fail repeats a size: a line needs different ones.
    different, place_of = np.unique(sizes, return_inverse=True)
    if len(different) == 1:
        return np.full((len(at), len(sizes)), 1 / len(sizes))
    distances = np.abs(np.log(at)[:, None] - np.log(different)[None, :])
    nearest = min(NEAREST, len(different)) - 1
    width = np.maximum(math.log(REACH), 1.5 * np.partition(distances, nearest, axis=1)[:, nearest])
    distance = distances[:, place_of]
    kernel = np.clip(1 - (distance / width[:, None]) ** 2, 0, None)
    place = sizes[None, :] / at[:, None] - 1 if finds else np.log(sizes)[None, :] - np.log(at)[:, None]
    sums = [np.sum(kernel * place**power, axis=1, keepdims=True) for power in range(3)]
    determinant = sums[0] * sums[2] - sums[1] ** 2
    weights: Array = kernel * (sums[2] - sums[1] * place) / determinant
    return weights


def grid(first: int, last: int, sizes: Sequence[int], points: int = 200) -> Array:
    """Return numbers of labels between ``first`` and ``last`` at which savings are looked for; ``sizes`` are among them."""
    inner = [float(n) for n in sizes if first <= n <= last]
    return np.unique(np.concatenate([np.geomspace(first, last, points), inner, [first, last]]).round(9))
