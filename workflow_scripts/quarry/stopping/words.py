"""Numbers of facts in words, for the terminal and the report (standard library only)."""

from __future__ import annotations

import math


def interval_words(low: float | None, high: float | None, style: str, scale: float = 1.0) -> str:
    """Return an interval in words, e.g. ``0.010 to 0.030``; None and NaN are ends that do not exist.

    Without an upper end (the errors seen set no upper bound) it is ``0.010 upwards``, without a lower one, as R^2 of such
    errors has, ``up to 0.030``. style: format of the numbers. scale: what they are multiplied by.
    """
    return _joined(*("" if end is None or math.isnan(end) else f"{scale * end:{style}}" for end in (low, high)))


def r2_text(value: float) -> str:
    """Return R^2 with two digits of what it lacks to 1: 0.99 and 0.9999 are different models."""
    lacks = 1 - value
    return f"{value:.{min(8, max(2, 1 - math.floor(math.log10(lacks))))}f}" if 0 < lacks < 1 else f"{value:.3g}"


def r2_words(low: float | None, high: float | None) -> str:
    """Return the interval of R^2 in words, each end with its own digits."""
    return _joined(*("" if end is None or math.isnan(end) else r2_text(end) for end in (low, high)))


def _joined(low: str, high: str) -> str:
    if low and high:
        return f"{low} to {high}"
    return f"{low} upwards" if low else f"up to {high}" if high else "no interval"
