"""What a query strategy sees and what it gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass
class PoolView:
    """The candidates, as a strategy sees them; None is what no model gave or the campaign does not have.

    features: shape (n, d). mean, std: predictions and their standard deviations in the target's unit, shape (n,).
    probabilities, votes: of each class, shape (n, n_classes) (``quarry.models.base.Prediction``).
    labelled: features of the training structures, shape (n_labelled, d). targets: their labels, shape (n_labelled,).
    embedding, labelled_embedding: the model's feature map (last layer, gradient, kernel) of candidates and training
    structures, shapes (n, p) and (n_labelled, p). minimum, maximum: the range that a targeted search wants, in the
    target's unit (-inf, inf: open).
    """

    features: NDArray[np.floating]
    mean: NDArray[np.float64] | None = None
    std: NDArray[np.float64] | None = None
    probabilities: NDArray[np.float64] | None = None
    votes: NDArray[np.float64] | None = None
    labelled: NDArray[np.floating] | None = None
    targets: NDArray[np.float64] | None = None
    embedding: NDArray[np.floating] | None = None
    labelled_embedding: NDArray[np.floating] | None = None
    minimum: float | None = None
    maximum: float | None = None

    def __len__(self) -> int:
        return len(self.features)


class Strategy(Protocol):
    """A rule that chooses candidates."""

    def select(self, pool: PoolView, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return ``n`` distinct indices into the pool, the most wanted first; all of them if the pool has fewer.

        Raises QuarryError if the strategy needs something that the pool does not have.
        """
        ...
