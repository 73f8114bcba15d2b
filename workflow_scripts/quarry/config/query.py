"""Query strategy and batches."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from quarry.config.base import Section


class ConstantBatch(Section):
    """The same number of structures in every iteration."""

    schedule: Literal["constant"]
    size: int = Field(gt=0)
    """Structures per iteration."""


class DoublingBatch(Section):
    """size, 2 size, 4 size ... structures in iteration 1, 2, 3 ..."""

    schedule: Literal["doubling"]
    size: int = Field(gt=0)
    """Structures in iteration 1."""


class FractionBatch(Section):
    """A fraction of the training set so far, at least one structure."""

    schedule: Literal["fraction"]
    fraction: float = Field(gt=0)
    """New structures as a fraction of the training set."""


Batch = Annotated[ConstantBatch | DoublingBatch | FractionBatch, Field(discriminator="schedule")]


class Query(Section):
    """Which structures are labelled next."""

    strategy: Literal["random", "uncertainty", "clusters", "uncertainty_clusters"]
    """random (A), uncertainty (B), clusters (C) or uncertainty_clusters (D)."""
    initial: int = Field(gt=0)
    """Structures of iteration 0, drawn at random with the campaign's seed."""
    batch: Batch
    """Number of structures of the later iterations."""

    @property
    def needs_scores(self) -> bool:
        """Whether the strategy looks at the model's predictions for the pool."""
        return self.strategy in ("uncertainty", "uncertainty_clusters")
