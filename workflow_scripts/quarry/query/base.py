"""What a query strategy sees and what it gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass
class PoolView:
    """The candidates, as a strategy sees them.

    features: shape (n, d). mean, std: predictions and their standard deviations in the target's unit, shape (n,), or
    None where no model gave them.
    """

    features: NDArray[np.floating]
    mean: NDArray[np.float64] | None = None
    std: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.features)


class Strategy(Protocol):
    """A rule that chooses candidates."""

    def select(self, pool: PoolView, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return ``n`` distinct indices into the pool, the most wanted first; all of them if the pool has fewer.

        Raises QuarryError if the strategy needs something that the pool does not have.
        """
        ...
