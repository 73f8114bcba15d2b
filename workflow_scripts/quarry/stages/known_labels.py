"""Finished labels (labeling.engine replay) must be there for what a campaign will ask for: said before any job."""

from __future__ import annotations

from quarry.config.campaign import Configuration
from quarry.config.pool import WignerPool
from quarry.config.spectrum import TARGET
from quarry.errors import QuarryError
from quarry.labeling.engines.answers import PER_STATE
from quarry.labeling.engines.base import too_few_states
from quarry.labeling.engines.replay import ReplayEngine
from quarry.structures import StructureSet


def check_known_labels(configuration: Configuration, engine: ReplayEngine, pool: StructureSet) -> None:
    """Raise QuarryError if labels of excited states are missing, too short, or there for a part of the pool alone.

    A pool that is larger than its labelled part is right where the pool's own order is followed and ends with the labels:
    the model predicts the rest. Other targets may have holes, which are accounted for as failed labels.
    """
    if configuration.target == TARGET:
        given = engine.labeling.columns or engine.labeling.text
        missing = [name for name in PER_STATE if name not in given]
        if missing:
            key = "columns" if engine.labeling.columns else "text"
            raise QuarryError(f"labeling.{key}: target excitations needs {' and '.join(missing)}; name where they are")
    in_order = _follows_the_pool(configuration)
    if isinstance(configuration.pool, WignerPool) or not (in_order or configuration.target == TARGET):
        return
    count = next((number for number, structure in enumerate(pool) if not engine.holds(structure)), len(pool))
    end = configuration.stop.max_labels
    if count < len(pool) and not (in_order and end is not None and end <= count):
        raise QuarryError(
            f"labeling: {engine.source} holds no label for structure {count + 1} of the pool's {len(pool)}; with "
            f"query.strategy: sequence (in every arm), test.size: 0 and stop.max_labels: {count} or less only the first "
            f"{count} are labelled, or leave the others out of the pool"
        )
    if configuration.target == TARGET and count:
        label = engine.label(pool[0], 1)
        problem = too_few_states(label.properties, configuration.n_states) if label.status == "ok" else ""
        if problem:
            raise QuarryError(f"labeling: {engine.source} holds {problem}; lower spectrum.n_states")


def _follows_the_pool(configuration: Configuration) -> bool:
    """Return whether the first structures of the pool are labelled and no others."""
    strategies = {configuration.arm(name).query.strategy for name in configuration.arm_names}
    return strategies == {"sequence"} and configuration.query.takes_first and configuration.test.size == 0
