"""Descriptors: what a model sees of a structure."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from quarry.config.base import Section


class InverseDistances(Section):
    """r_eq / r of every atom pair, for geometries of one molecule."""

    kind: Literal["inverse_distances"]
    reference: str | None = None
    """Equilibrium geometry; null: the optimised one (wigner) or the pool's first structure (file)."""


class CoulombMatrix(Section):
    """The sorted Coulomb matrix, for pools of different molecules."""

    kind: Literal["coulomb_matrix"]


Descriptor = Annotated[InverseDistances | CoulombMatrix, Field(discriminator="kind")]
