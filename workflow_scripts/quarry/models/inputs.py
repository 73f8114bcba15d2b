"""What a network sees of features: those that vary, standardised."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NEGLIGIBLE_VARIATION = 1e-10
"""A feature whose standard deviation is below this, relative to its largest value, is constant but for rounding."""

CLIP = 10.0
"""Standardised features are kept within plus and minus this. A feature that hardly varies among few training structures
(the tail of a Gaussian in a descriptor) may otherwise be a million standard deviations away in the pool."""


@dataclass(frozen=True)
class Inputs:
    """How features become inputs. columns: those that vary, shape (d_in,). mean, std: of these. length: of features."""

    columns: NDArray[np.int64]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    length: int

    @staticmethod
    def of(features: NDArray[np.floating]) -> Inputs:
        """Return the standardisation of training features, shape (n, d); constant columns are left out."""
        std = features.std(axis=0, dtype=np.float64)
        largest = np.abs(features).max(axis=0)
        columns = np.flatnonzero(std > NEGLIGIBLE_VARIATION * largest)
        mean = features.mean(axis=0, dtype=np.float64)
        return Inputs(columns, mean[columns], std[columns], features.shape[1])

    def __call__(self, features: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return the inputs, shape (n, d_in)."""
        scaled = (features[:, self.columns] - self.mean) / self.std
        return np.clip(scaled, -CLIP, CLIP).astype(np.float32)

    def by_features(self, by_inputs: NDArray[np.float64], features: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return derivatives by the features, shape (n, d), from those by the inputs, shape (n, d_in).

        They are zero beyond ``CLIP``, where an input does not change.
        """
        scaled = (features[:, self.columns] - self.mean) / self.std
        result = np.zeros(features.shape)
        result[:, self.columns] = np.where(np.abs(scaled) < CLIP, by_inputs, 0.0) / self.std
        return result
