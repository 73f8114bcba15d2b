"""What is doubtful about an iteration: gathered from labels, model, errors and candidates."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quarry.config.campaign import Configuration
from quarry.evaluation.tails import heavy_tail_warning
from quarry.evaluation.warnings import (
    constant_targets,
    contradictory_duplicates,
    low_excitations,
    no_better_than_the_mean,
)
from quarry.models.base import Model, TrainingData, main_values
from quarry.stages.arm_models import ArmModels
from quarry.stages.errors import Evaluated
from quarry.structures import StructureSet
from quarry.structures.compositions import unfamiliar, unfamiliar_message
from quarry.structures.files import read_pool
from quarry.structures.labelled import LabelledSet


def warnings_of(
    models: ArmModels,
    model: Model,
    train: TrainingData,
    results: Mapping[str, Evaluated],
    summary: Mapping[str, Mapping[str, Any]],
    labelled: LabelledSet,
) -> list[str]:
    """Return a sentence for each doubt.

    results, summary: labels, predictions and errors of each metric. labelled: all labels.
    """
    target, configuration = models.target, models.configuration
    found: list[str | None] = [*model.warnings]
    if not target.classes:
        values = main_values(target, train.targets)
        found.append(constant_targets(values))
        if models.descriptor is not None:
            features = models.descriptor.of(train.structures)
            found.append(contradictory_duplicates(values, features=features))
        if train.groups is not None:
            found.append(contradictory_duplicates(values, copies=train.groups))
    for metric, evaluated in results.items():
        found.append(no_better_than_the_mean(metric, summary[metric]))
        if not target.classes:
            found.append(heavy_tail_warning(evaluated.errors, evaluated.structures.ids.tolist(), metric))
    if "excitation_energies" in labelled.properties:
        found.append(low_excitations(labelled.properties["excitation_energies"], labelled.structures.ids))
    if Path(models.pool).exists():
        found += _unfamiliar(configuration, train.structures, results, read_pool(models.pool))
    return list(dict.fromkeys(sentence for sentence in found if sentence))


def unfamiliar_candidates(
    configuration: Configuration, known: StructureSet, candidates: StructureSet
) -> NDArray[np.bool_]:
    """Return which candidates no model of the known structures can judge, shape (n,); none in a pool without atoms."""
    if not len(candidates.numbers):
        return np.zeros(len(candidates), dtype=bool)
    return unfamiliar(known, candidates, configuration.goal.total_energy)


def _unfamiliar(
    configuration: Configuration,
    known: StructureSet,
    results: Mapping[str, Evaluated],
    pool: StructureSet,
) -> list[str]:
    lines = []
    strange = unfamiliar_candidates(configuration, known, pool)
    if strange.any():
        rule = f" (query.unfamiliar: {configuration.query.unfamiliar})" if configuration.query.needs_scores else ""
        lines.append(
            f"{int(strange.sum())} of {len(pool)} structures of the pool have "
            f"{unfamiliar_message(known, pool.subset(np.flatnonzero(strange)))}: their predictions mean nothing{rule}"
        )
    if "test" in results:
        tested = results["test"].structures
        count = int(unfamiliar_candidates(configuration, known, tested).sum())
        if count:
            lines.append(
                f"{count} of {len(tested)} test structures are of that kind: their errors are not those of a model"
            )
    return lines
