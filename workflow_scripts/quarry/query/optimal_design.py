"""Optimal experimental design: the structures whose labels would lower the model's output variance most.

V. Zaverkin, J. Kaestner, Mach. Learn.: Sci. Technol. 2, 035009 (2021), sections 2.3.1 to 2.3.3: QS1, QS2 and QS3. The model says
by how much (``quarry.models.optimal_design``).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from quarry.config.query import INFORMATIVENESS
from quarry.query.base import PoolView
from quarry.query.ranking import highest_first

BETA = 1.0
"""Weight of the forces in QS3 where ``query.beta`` does not say: both criteria are without unit."""


class ExpectedChange:
    """The largest expected change of the output variance, of one criterion or a weighted sum of several (equation 22)."""

    def __init__(self, name: str, weights: Mapping[str, float]) -> None:
        """name: ``query.strategy``, for messages. weights: of the criteria energy (QS1) and forces (QS2)."""
        self._name = name
        self._weights = dict(weights)

    def score(self, pool: PoolView) -> NDArray[np.float64]:
        """Return the expected change by each candidate, without unit, shape (n,)."""
        return self._sum(pool, INFORMATIVENESS)

    def score_labelled(self, pool: PoolView) -> NDArray[np.float64]:
        """Return the same of the training structures, shape (n_labelled,)."""
        return self._sum(pool, f"labelled_{INFORMATIVENESS}")

    def select(self, pool: PoolView, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return ``n`` candidates by falling expected change; the lower index wins a tie."""
        return highest_first(self.score(pool))[:n]

    def _sum(self, pool: PoolView, prefix: str) -> NDArray[np.float64]:
        parts = [weight * pool.given(prefix + name, self._name) for name, weight in self._weights.items()]
        return np.sum(parts, axis=0, dtype=np.float64)
