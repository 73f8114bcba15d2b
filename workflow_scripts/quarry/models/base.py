"""What a model is: it learns from labelled structures and predicts a mean and a standard deviation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from quarry.structures import StructureSet


@dataclass
class TrainingData:
    """Labelled structures. features: shape (n, d). targets: shape (n,), in the target's unit (eV, e*Angstrom)."""

    structures: StructureSet
    features: NDArray[np.float64]
    targets: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.targets)

    def subset(self, indices: Sequence[int] | NDArray[np.int64]) -> TrainingData:
        """Return the entries at ``indices``, in that order."""
        where = np.asarray(indices, dtype=np.int64)
        return TrainingData(self.structures.subset(where), self.features[where], self.targets[where])


@dataclass
class Prediction:
    """What a model says of n structures.

    mean, std: shape (n,), in the target's unit; std is None for a model without uncertainties. For target class: mean is
    the most probable class, probabilities those of each class (mean over members or passes, equation 6 of the lecture),
    votes the share of members that choose it, both of shape (n, n_classes).
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64] | None
    probabilities: NDArray[np.float64] | None = None
    votes: NDArray[np.float64] | None = None


class Model(Protocol):
    """A model of one target."""

    kind: str

    @classmethod
    def from_settings(cls, settings: Any, target: str) -> Model:
        """Make an untrained model of ``target`` (energy, homo ...); settings: its section of the configuration."""
        ...

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """Return what training chose, by name, as JSON-able data."""
        ...

    def fit(self, data: TrainingData, validation: TrainingData | None, rng: np.random.Generator) -> None:
        """Train; the same data and generator state give the same model. validation: for models that stop early."""
        ...

    def predict(self, structures: StructureSet, features: NDArray[np.float64]) -> Prediction:
        """Predict the target of structures with their features, shape (n, d)."""
        ...

    def save(self, path: str | Path) -> None:
        """Write the trained model, whole or not at all; the same model gives the same bytes."""
        ...

    @classmethod
    def load(cls, path: str | Path) -> Model:
        """Read what ``save`` wrote."""
        ...
