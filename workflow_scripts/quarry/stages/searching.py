"""The account of a targeted search: what was found, and how well the model distinguishes wanted structures from others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from quarry.config.campaign import Configuration
from quarry.errors import QuarryError
from quarry.evaluation.search import classification_rates, in_range
from quarry.hdf5_files import new_hdf5
from quarry.labeling.engines.registry import make_engine
from quarry.models.base import Model, TrainingData, main_values
from quarry.stages.arm_models import ArmModels
from quarry.stages.errors import Evaluated
from quarry.stages.pool import pool_rows
from quarry.stages.targets import target_arrays
from quarry.structures.files import read_pool
from quarry.structures.labelled import LabelledSet
from quarry.structures.structure import ID_LENGTH


def collect_pool_labels(configuration: Configuration, base: Path, structures: str, output: str) -> str:
    """Write the target of every candidate of a replay campaign, NaN where its table has none; return a line about it.

    They measure the campaign (what is there to be found?) and are never seen by a model or a strategy.
    """
    pool = read_pool(structures)
    engine = make_engine(configuration.labeling, base, configuration.resources.label)
    answers = [engine.label(structure, 1) for structure in pool]
    labelled = LabelledSet.from_records(
        list(pool), ["pool"] * len(pool), [0] * len(pool), [a.properties for a in answers]
    )
    target = configuration.goal
    missing = [name for name in target.labels if name not in labelled.properties]
    if missing:
        raise QuarryError(
            f"target: the table of labeling.file has no {missing[0]} for any structure of the pool; name another column or target"
        )
    values = target_arrays(labelled, configuration)[target.main[0]]
    with new_hdf5(output) as handle:
        handle.create_dataset("ids", data=pool.ids.astype(f"S{ID_LENGTH}"))
        handle.create_dataset("values", data=values)
    return f"labels of {int(np.isfinite(values).sum())} of {len(pool)} candidates, to measure the search by"


def search_account(configuration: Configuration, train: TrainingData, test: Evaluated | None) -> dict[str, Any]:
    """Return how many training structures are in range, and TPR and FPR on the test set."""
    ends = configuration.search_range()
    assert ends is not None
    account: dict[str, Any] = {"found": int(in_range(main_values(configuration.goal, train.targets), *ends).sum())}
    if test is not None:
        account["test"] = classification_rates(test.labels, test.mean, *ends)
    return account


def pool_account(models: ArmModels, model: Model, labelled: LabelledSet, truth: str) -> dict[str, Any]:
    """Return what is in range in the whole pool, and TPR and FPR on the candidates that have no label yet.

    in_range: of the pool without the test set, which no strategy can find. Candidates whose table has no label are left
    out. truth: what ``collect_pool_labels`` wrote.
    """
    ends, target = models.configuration.search_range(), models.target
    assert ends is not None
    with h5py.File(truth, "r") as handle:
        values = handle["values"][()]
    reachable = np.isfinite(values)
    reachable[pool_rows(models.pool, labelled.structures.ids[labelled.indices("test")])] = False
    total = int(in_range(values[reachable], *ends).sum())
    reachable[pool_rows(models.pool, labelled.structures.ids)] = False
    rows = np.flatnonzero(reachable)
    if not len(rows):
        return {"in_range": total}
    known = models.data(labelled, "train").structures
    prediction = models.ask(model, known, read_pool(models.pool).subset(rows), frozenset(target.main))
    mean = main_values(target, prediction.mean)
    return {"in_range": total, "pool": classification_rates(values[rows], mean, *ends)}
