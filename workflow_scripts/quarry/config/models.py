"""Models: what is trained on the labels."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from quarry.config.base import Section


class Gpr(Section):
    """Exact Gaussian process regression with an RBF kernel, hyperparameters by marginal likelihood."""

    kind: Literal["gpr"] = "gpr"
    restarts: int = Field(default=2, ge=0)
    """Restarts of the hyperparameter optimisation from random points, beside the start from the data's scales."""
    noise: float | None = Field(default=None, gt=0)
    """Fixed noise variance relative to the targets' variance; null: optimised."""


class Mlp(Section):
    """A feed-forward neural network on the descriptor."""

    kind: Literal["mlp"]


def gpr_by_default(value: Any) -> Any:
    """Return the section with its default kind where it names none."""
    return {"kind": "gpr", **value} if isinstance(value, dict) else value


Model = Annotated[Gpr | Mlp, Field(discriminator="kind"), BeforeValidator(gpr_by_default)]
