"""What labels must be for a use: asked before any job, where some jobs are labels, and by the jobs themselves."""

from __future__ import annotations

from quarry.errors import QuarryError
from quarry.structures import StructureSet

NOT_NEUTRAL = (
    "infrared: dipoles are learnt of neutral molecules alone, and the labelled ones have charges or cells; take frequencies, or "
    "another use"
)


def check_neutral_molecules(structures: StructureSet) -> None:
    """Raise QuarryError for charged structures, whose dipole has no origin of its own, and cells."""
    if structures.charges.any() or structures.pbc.any():
        raise QuarryError(NOT_NEUTRAL)
