"""Distances of many points to chosen ones, kept up to date as more are chosen."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from quarry.errors import QuarryError

BLOCK_ELEMENTS = 8_000_000
"""Numbers per work array beside the float32 copy of the features."""

CENTRES_AT_A_TIME = 1024
"""Centres that one matrix product takes in."""

ROUNDING = 16 * float(np.finfo(np.float32).eps)
"""Squared distances below this share of the two squared norms are float32's rounding and count as zero."""


def blocks(array: NDArray[np.floating], width: int | None = None) -> Iterator[slice]:
    """Yield slices of rows with at most ``BLOCK_ELEMENTS`` numbers each; width: numbers per row, by default its own."""
    size = max(1, BLOCK_ELEMENTS // max(1, width or array.shape[1]))
    return (slice(start, start + size) for start in range(0, len(array), size))


def centred(features: NDArray[np.floating], mean: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the features, shape (n, d), minus ``mean``, shape (d,), in float32.

    Centred first: features with a large common part (Coulomb matrices) would lose their differences in float32.
    """
    points = np.empty(features.shape, dtype=np.float32)
    for rows in blocks(features):
        points[rows] = features[rows] - mean
    return points


def same_length(candidates: NDArray[np.floating], labelled: NDArray[np.floating]) -> None:
    """Raise QuarryError if the features of candidates and training structures have not the same length."""
    if candidates.shape[1] != labelled.shape[1]:
        raise QuarryError(
            f"pool: candidates have {candidates.shape[1]} features, training structures {labelled.shape[1]}; "
            "they must come from the same descriptor or model"
        )


class Closest:
    """The squared distance of each point to the closest centre added so far, and which centre that is.

    Work in float32: one matrix product per block of points and centres, one matrix-vector product for a single centre.
    points: centred, shape (n, d); squared: shape (n,), infinite before the first centre; owner: shape (n,), centres
    counted in the order in which they were added, the earlier one where two are equally close.
    """

    def __init__(self, features: NDArray[np.floating], centres: NDArray[np.floating] | None = None) -> None:
        """features: shape (n, d), at least one. centres: those to begin with, e.g. labelled points, shape (m, d)."""
        mean = features.mean(axis=0, dtype=np.float64)
        self.points = centred(features, mean)
        self.norms = np.einsum("ij,ij->i", self.points, self.points)
        self.squared = np.full(len(features), np.inf, dtype=np.float32)
        self.owner = np.zeros(len(features), dtype=np.int64)
        self.n_centres = 0
        if centres is not None and len(centres):
            same_length(features, centres)
            self.add(centred(centres, mean))

    def add(self, centres: NDArray[np.float32]) -> None:
        """Take in further centres (centred as ``points``), shape (m, d)."""
        norms = np.einsum("ij,ij->i", centres, centres)
        for start in range(0, len(centres), CENTRES_AT_A_TIME):
            some = slice(start, start + CENTRES_AT_A_TIME)
            for rows in blocks(self.points, CENTRES_AT_A_TIME):
                found = between(self.points[rows], self.norms[rows], centres[some], norms[some])
                closest = found.argmin(axis=1)
                self._take(rows, found[np.arange(len(found)), closest], self.n_centres + closest)
            self.n_centres += len(centres[some])

    def add_point(self, index: int) -> None:
        """Take in one of the points as a further centre."""
        one = slice(index, index + 1)
        found = between(self.points, self.norms, self.points[one], self.norms[one])[:, 0]
        self._take(slice(None), found, np.array(self.n_centres))
        self.n_centres += 1

    def _take(self, rows: slice, found: NDArray[np.float32], centres: NDArray[np.int64]) -> None:
        nearer = found < self.squared[rows]
        self.squared[rows] = np.where(nearer, found, self.squared[rows])
        self.owner[rows] = np.where(nearer, centres, self.owner[rows])


def between(
    points: NDArray[np.float32],
    point_norms: NDArray[np.float32],
    centres: NDArray[np.float32],
    centre_norms: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Return the squared distances, shape (n, m), of points to centres, from their squared norms."""
    found = points @ centres.T if len(centres) > 1 else (points @ centres[0])[:, None]
    found *= -2
    found += point_norms[:, None]
    found += centre_norms
    found[found <= ROUNDING * (point_norms[:, None] + centre_norms)] = 0
    return found
