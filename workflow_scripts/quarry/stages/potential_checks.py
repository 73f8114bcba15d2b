"""Whether a pool has what an interatomic potential learns from: neighbours, and cells where stresses are learnt."""

from __future__ import annotations

from quarry.config.campaign import Configuration
from quarry.config.pool import SamplerPool
from quarry.errors import QuarryError
from quarry.structures import StructureSet
from quarry.structures.filters import nearest_A


def check_potentials(configuration: Configuration, structures: StructureSet) -> None:
    """Raise QuarryError, one line, for a cutoff within which no structure has two atoms, and stresses of no cells.

    structures: of the pool, or the start geometry of one that is made. A sampler may make others.
    """
    if structures.features is not None or isinstance(configuration.pool, SamplerPool):
        return
    if "stress" in configuration.goal.learnt and not structures.pbc.all(axis=1).any():
        raise QuarryError(
            f"target: {configuration.goal.name} needs stresses, but no structure of the pool is periodic in three directions; "
            "remove stress from it"
        )
    for name in configuration.arm_names:
        model = configuration.arm(name).model
        cutoff_A = getattr(model, "cutoff_A", None)
        if cutoff_A is not None and not any(nearest_A(structure, cutoff_A)[1][0] >= 0 for structure in structures):
            prefix = "" if name == configuration.arm_names[0] else f"arms.{name}."
            raise QuarryError(
                f"{prefix}model.cutoff_A: in none of the {len(structures)} structures of the pool are two atoms nearer than "
                f"{cutoff_A:g} Angstrom, so that {model.kind} would see no neighbours; raise it"
            )
