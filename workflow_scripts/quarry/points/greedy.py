"""Greedy choice of the highest value where values only fall as more is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

FOCUS_SHARE = 32
"""One in so many points is looked at between two rounds over all of them."""

LEAST_FOCUS = 512
"""Points that are looked at in any case."""


class Falling(Protocol):
    """Values of points, each of which stays or falls with every further choice."""

    def settle(self) -> NDArray[np.floating]:
        """Take in all choices so far and return the values of all points, shape (n,)."""
        ...

    def focus(self, rows: NDArray[np.int64]) -> None:
        """From now on ``choose`` returns the values of these points, shape (m,); called after ``settle``."""
        ...

    def choose(self, index: int) -> NDArray[np.floating]:
        """Note a choice; return the values of the points in focus after it, shape (m,)."""
        ...


def choose_highest(values: Falling, size: int, n: int, first: Sequence[int] = ()) -> NDArray[np.int64]:
    """Choose the point of the highest value until ``n`` are chosen, shape (n,); the lower index wins a tie.

    size: number of points. first: points that are chosen already (``values`` have taken them in); they come first in what is
    returned.

    The choice is that of a plain greedy loop, but most of the work is done for many choices at a time: the highest
    values are kept up to date one by one, and the others, whose last known values are bounds, only when the highest of
    them may be next (M. Minoux, Accelerated greedy algorithms, 1978).
    """
    chosen = list(first)
    free = np.ones(size, dtype=bool)
    free[chosen] = False
    width = min(size, max(LEAST_FOCUS, size // FOCUS_SHARE))
    while len(chosen) < n:
        known = np.where(free, values.settle(), -np.inf)
        order = np.argsort(-known, kind="stable")
        rows = np.sort(order[:width])
        bound = known[order[width]] if width < size else -np.inf
        values.focus(rows)
        current = known[rows]
        settled = True
        while len(chosen) < n:
            best = int(np.argmax(current))
            # A tie with a bound is not decided here: the other one may have the lower index.
            if not settled and (current[best] <= bound or not free[rows[best]]):
                break
            settled = False
            free[rows[best]] = False
            chosen.append(int(rows[best]))
            current = np.where(free[rows], values.choose(int(rows[best])), -np.inf)
    return np.array(chosen, dtype=np.int64)
