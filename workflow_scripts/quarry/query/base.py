"""What a query strategy sees and what it gives."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from quarry.config.query import FROM_MODEL
from quarry.errors import QuarryError

BLOCK_ELEMENTS = 8_000_000
"""Numbers that a look at the features for NaN takes at a time."""


@dataclass
class PoolView:
    """The candidates, as a strategy sees them; None is what no model gave or the campaign does not have.

    features: shape (n, d), d = 0 where the strategy does not look at them. mean, std: predictions and their standard
    deviations in the target's unit, shape (n,).
    probabilities, votes: of each class, shape (n, n_classes) (``quarry.models.base.Prediction``).
    labelled: features of the training structures, shape (n_labelled, d). targets: their labels, shape (n_labelled,).
    embedding, labelled_embedding: the model's feature map (last layer, gradient, kernel) of candidates and training
    structures, shapes (n, p) and (n_labelled, p). informativeness_energy, informativeness_forces: how much labels of these would
    tell the model, without unit, shape (n,), and with labelled_ those of training structures, (n_labelled,).
    minimum, maximum: the range that a targeted search wants, in the target's unit (-inf, inf: open).
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
    informativeness_energy: NDArray[np.float64] | None = None
    informativeness_forces: NDArray[np.float64] | None = None
    labelled_informativeness_energy: NDArray[np.float64] | None = None
    labelled_informativeness_forces: NDArray[np.float64] | None = None
    minimum: float | None = None
    maximum: float | None = None

    def __len__(self) -> int:
        return len(self.features)

    def subset(self, rows: NDArray[np.int64]) -> PoolView:
        """Return the view of some candidates, rows of shape (m,); what is of the training structures stays."""
        own = FROM_MODEL
        cut = {name: values[rows] for name in own if (values := getattr(self, name)) is not None}
        return replace(self, features=self.features[rows], **cut)

    def given(self, field: str, strategy: str) -> NDArray[np.floating]:
        """Return a field, shape as above. Raises QuarryError, naming the strategy, where it is None or not finite."""
        values: NDArray[np.floating] | None = getattr(self, field)
        if values is None:
            raise QuarryError(f"query.strategy: {strategy} needs {MEANINGS[field]}; choose another strategy or model")
        rows = max(1, BLOCK_ELEMENTS // max(1, values[:1].size))
        for start in range(0, len(values), rows):
            finite = np.isfinite(values[start : start + rows])
            if not finite.all():
                bad = start + int(np.argmin(finite.reshape(len(finite), -1).all(axis=1)))
                of = "training structure" if "labelled" in field else "candidate"
                raise QuarryError(
                    f"query.strategy: {strategy} cannot go on: {MEANINGS[field]} is not finite for {of} number {bad}; "
                    "check descriptor and model"
                )
        return values

    def wanted_range(self, strategy: str) -> tuple[float, float]:
        """Return both ends of the wanted range (target's unit). Raises QuarryError, naming the strategy, if there is none."""
        if self.minimum is None or self.maximum is None:
            raise QuarryError(
                f"query.strategy: {strategy} needs the wanted range; set search.minimum or search.maximum"
            )
        return self.minimum, self.maximum


MEANINGS = {
    "features": "the descriptor",
    "mean": "the model's prediction",
    "std": "the standard deviation of the model's prediction",
    "probabilities": "the model's class probabilities",
    "votes": "the votes of a committee",
    "labelled": "the descriptor of the training structures",
    "targets": "the label",
    "embedding": "the model's embedding",
    "labelled_embedding": "the model's embedding of the training structures",
    "informativeness_energy": "what an energy would tell the model",
    "informativeness_forces": "what forces would tell the model",
    "labelled_informativeness_energy": "what an energy of the training structures would tell the model",
    "labelled_informativeness_forces": "what forces of the training structures would tell the model",
}
"""Fields of a PoolView in words; also what a user-defined strategy may name in ``needs``."""


class Strategy(Protocol):
    """A rule that chooses candidates."""

    def select(self, pool: PoolView, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return ``n`` distinct indices into the pool, shape (n,), the most wanted first; all of them if it has fewer.

        Raises QuarryError if the strategy needs something that the pool does not have.
        """
        ...


@runtime_checkable
class Ranks(Protocol):
    """A strategy that ranks candidates by one number each."""

    def score(self, pool: PoolView) -> NDArray[np.float64]:
        """Return what each candidate is ranked by, shape (n,), the most wanted highest."""
        ...


@runtime_checkable
class RanksLabelled(Ranks, Protocol):
    """A strategy that can rank the training structures by the same number, and so say how informative a candidate is."""

    def score_labelled(self, pool: PoolView) -> NDArray[np.float64]:
        """Return what each training structure would be ranked by, shape (n_labelled,)."""
        ...
