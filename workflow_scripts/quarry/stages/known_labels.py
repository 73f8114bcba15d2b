"""Finished labels (labeling.engine replay) must be there for what a campaign will ask for: said before any job."""

from __future__ import annotations

from quarry.config.campaign import Configuration
from quarry.config.pool import WignerPool
from quarry.errors import QuarryError
from quarry.labeling.engines.base import KnowsLabels
from quarry.labeling.wanted import Wanted
from quarry.structures import StructureSet

SHOWN = 5
"""Ids of structures without a label that a message names."""


def check_known_labels(configuration: Configuration, engine: KnowsLabels, pool: StructureSet) -> list[str]:
    """Return notes about structures of the pool without a usable label, which will count as failed.

    Raises QuarryError if more of them than labeling.max_failed_fraction have none, so that the campaign would break off, and
    if labels of excited states are missing, too short, or there for a part of the pool alone. A pool that is larger than its
    labelled part is right where the pool's own order is followed and ends with the labels: the model predicts the rest.
    """
    if isinstance(configuration.pool, WignerPool):
        return []
    target = configuration.goal
    wanted = Wanted.of(target)
    lacking: dict[int, str] = {}
    absent: list[int] = []
    incomplete: set[int] = set()
    for number, structure in enumerate(pool):
        label = engine.label(structure, 1)
        problem = wanted.lacking(label.properties) if label.status == "ok" else label.message
        if problem:
            lacking[number] = problem
            absent += [number] if label.status == "invalid_structure" else []
            incomplete |= {number} if label.status == "ok" else set()
    in_order, end = _follows_the_pool(configuration), configuration.stop.max_labels
    count = absent[0] if absent else len(pool)
    asked = len(pool)
    if absent and in_order and end is not None and end <= count:
        asked, lacking = count, {number: problem for number, problem in lacking.items() if number < count}
    elif absent and (in_order or target.transitions):
        raise QuarryError(
            f"labeling: {engine.source} holds no label for structure {count + 1} of the pool's {len(pool)}; with "
            f"query.strategy: sequence (in every arm), test.size: 0 and stop.max_labels: {count} or less only the first "
            f"{count} are labelled, or leave the others out of the pool"
        )
    if not lacking:
        return []
    if target.transitions and incomplete >= set(range(asked)):
        raise QuarryError(f"labeling: {engine.source} holds {lacking[0]}; lower spectrum.n_states")
    return [_accounted(configuration, engine, pool, lacking, asked)]


def _accounted(
    configuration: Configuration,
    engine: KnowsLabels,
    pool: StructureSet,
    lacking: dict[int, str],
    count: int,
) -> str:
    """Return what to say of structures without a label among the first ``count``. Raises QuarryError if they are too many."""
    first = next(iter(lacking))
    ids = ", ".join(str(pool.ids[number]) for number in list(lacking)[:SHOWN]) + (
        " ..." if len(lacking) > SHOWN else ""
    )
    message = (
        f"labeling: {len(lacking)} of the pool's {count} structures have no label in {engine.source} (ids {ids}); the first "
        f"is structure {first + 1}: {lacking[first]}"
    )
    limit = configuration.labeling.max_failed_fraction
    if len(lacking) <= limit * count:
        return f"{message}; they will count as failed labels"
    raise QuarryError(
        f"{message}; {engine.contents()}; this is more than labeling.max_failed_fraction = {limit:g} allows: give the labels, or "
        "leave these structures out of the pool"
    )


def _follows_the_pool(configuration: Configuration) -> bool:
    """Return whether the first structures of the pool are labelled and no others."""
    strategies = {configuration.arm(name).query.strategy for name in configuration.arm_names}
    return strategies == {"sequence"} and configuration.query.takes_first and configuration.test.size == 0
