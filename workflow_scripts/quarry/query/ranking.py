"""Candidates by their scores, where rounding must not decide."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SIGNIFICANT_BITS = 33
"""Scores that agree to so many bits (about 1e-10 of their value) are equal: what is equal by its mathematics, as the standard
deviations of all candidates far from the labels, differs in the last bits by processor, library and number of threads."""


def without_rounding(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return scores, shape (n,), rounded to ``SIGNIFICANT_BITS``; infinities stay."""
    mantissas, exponents = np.frexp(np.asarray(scores, dtype=np.float64))
    return np.ldexp(np.rint(np.ldexp(mantissas, SIGNIFICANT_BITS)), exponents - SIGNIFICANT_BITS)


def highest_first(scores: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return the indices of candidates by falling score, shape (n,); the lower index wins a tie. scores: shape (n,)."""
    return np.argsort(-without_rounding(scores), kind="stable").astype(np.int64)
