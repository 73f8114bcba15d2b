"""The candidates of an iteration where a sampler or trajectories make them from the last model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quarry.config.pool import DynamicsPool, SamplerPool
from quarry.dynamics.files import (
    CANDIDATES,
    EXPLORATION,
    NEAR_DUPLICATES,
    NEW,
    Trajectories,
    account_of,
    words_of,
)
from quarry.labeling.engines.registry import make_engine
from quarry.randomness import generator
from quarry.sampling.samplers import sampled_structures
from quarry.stages.arm_models import ArmModels
from quarry.stages.filtering import Candidate, PoolFilter, counts_of
from quarry.stages.pool_checks import check_structures
from quarry.structures import Structure
from quarry.structures.copies import CopyFinder
from quarry.structures.files import read_job_input, write_pool
from quarry.structures.labelled import LabelledSet


@dataclass(frozen=True)
class LastIteration:
    """What candidates are made from: the files of the last model, of the data set, of the pool's reference geometry, and of
    trajectories.
    """

    model: str
    dataset: str
    reference: str
    trajectories: Sequence[str] = ()


def sample_candidates(models: ArmModels, iteration: int, last: LastIteration, output: str) -> str:
    """Make the candidates of an iteration, by the sampler or of what trajectories found; write those that pass the filters.

    Returns a line about them. Structures that are labelled, and copies of them, are no candidates. Raises QuarryError if a
    structure is one that engine or descriptor cannot take.
    """
    configuration, base = models.configuration, models.base or Path()
    pool = configuration.pool
    labelled = LabelledSet.read(last.dataset)
    attributes: dict[str, Any] = {}
    if isinstance(pool, DynamicsPool):
        parts = [Trajectories.read(path) for path in last.trajectories]
        found = [part.structures[k] for part in parts for k, fate in enumerate(part.fates) if fate in CANDIDATES]
        account = account_of(parts)
        if NEW not in account:
            found, account[NEAR_DUPLICATES] = without_near_duplicates(found, pool.explore.near_duplicates_A)
        attributes[EXPLORATION], words = json.dumps(account, sort_keys=True), words_of(account)
    else:
        assert isinstance(pool, SamplerPool)
        training = labelled.subset(labelled.indices("train"))
        rng = generator(models.settings.seed, models.arm, iteration, "sample")
        found = sampled_structures(pool, base, models.load(last.model), training, iteration, rng)
        words = f"{len(found)} structures sampled"
    reference = read_job_input(last.reference)[0].structure
    pool_filter = PoolFilter(configuration.pool_filters, reference)
    pool_filter.know(labelled.structures)
    pool_filter.add(Candidate("sample", number, structure) for number, structure in enumerate(found))
    if len(pool_filter):
        engine = make_engine(configuration.labeling, base)
        check_structures(configuration, base, engine, pool_filter.kept, known=reference)
    write_pool(output, pool_filter.kept, {"sampled": len(found), **attributes})
    rejected = f" ({counts_of(pool_filter.rejected)} rejected)" if pool_filter.rejected else ""
    return f"{words}; {len(pool_filter)} candidates{rejected}"


def without_near_duplicates(structures: Sequence[Structure], tolerance_A: float | None) -> tuple[list[Structure], int]:
    """Return the structures that are near none before them, in their order, and how many are left out.

    tolerance_A: how far an atom of a near one may be off after the best superposition, Angstrom (``CopyFinder``); None: all stay.
    Frames of one exploration alone are held against each other: one that the model is unsure of tells it something, however
    near to a label it is, and another one beside it the same again.
    """
    if tolerance_A is None or not structures:
        return list(structures), 0
    partners, _ = CopyFinder(tolerance_A).add(structures)
    stay = [structure for structure, partner in zip(structures, partners, strict=True) if partner < 0]
    return stay, len(structures) - len(stay)
