"""Do predicted standard deviations say how large errors are?

Errors are differences from labels. Where the model takes part of these for noise of the label, the standard deviation must
contain that noise (lecture, section 2.1.2: "it can be added to this variance to obtain the total predictive uncertainty").
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

LEVELS = (0.5, 0.68, 0.9, 0.95)
"""Central intervals whose coverage the history gives."""
CURVE_LEVELS = np.linspace(0.02, 0.98, 49)
"""Central intervals of the calibration curve."""


def coverage(
    errors: NDArray[np.float64], std: NDArray[np.float64], levels: NDArray[np.float64] | tuple[float, ...]
) -> NDArray[np.float64]:
    """Return the share of errors inside the central Gaussian interval of each level (0 to 1), shape (n_levels,).

    V. Kuleshov, N. Fenner, S. Ermon, ICML 2018, section 3. errors, std: shape (n,). An error of zero is inside any
    interval, one of a prediction that claims a std of zero is not inside any otherwise.
    """
    half = ndtri(0.5 + 0.5 * np.asarray(levels))
    return np.mean(np.abs(errors)[None, :] <= half[:, None] * std[None, :], axis=1)


def rank_correlation(errors: NDArray[np.float64], std: NDArray[np.float64]) -> float | None:
    """Return Spearman's correlation of |error| with the std, shape (n,) each; None where either does not vary."""
    a, b = _ranks(np.abs(errors)), _ranks(std)
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ranks, equal values sharing their mean. scipy.stats has them, but every job would pay its import (1 s)."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def calibration(errors: NDArray[np.float64], std: NDArray[np.float64]) -> dict[str, float | None]:
    """Return how errors and standard deviations, both of shape (n,) in one unit, fit together.

    rank_correlation: Spearman's, of |error| and std. rms_z: root mean square of error / std, 1 if calibrated, above 1
    if the model is too sure (None if a std is zero). coverage_50 ...: share of errors in the central interval of that
    many percent. miscalibration_area: mean distance of coverage and level over the levels 0.02 to 0.98.
    """
    positive = bool(np.all(std > 0))
    named = {
        f"coverage_{round(100 * level)}": float(share)
        for level, share in zip(LEVELS, coverage(errors, std, LEVELS), strict=True)
    }
    return {
        "rank_correlation": rank_correlation(errors, std),
        "rms_z": float(np.sqrt(np.mean((errors / std) ** 2))) if positive else None,
        **named,
        "miscalibration_area": float(np.mean(np.abs(coverage(errors, std, CURVE_LEVELS) - CURVE_LEVELS))),
    }
