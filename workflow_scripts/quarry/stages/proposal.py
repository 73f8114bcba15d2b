"""Scoring the candidates with the last model, and letting the strategy propose a batch."""

from __future__ import annotations

import csv
import io

import h5py
import numpy as np
from numpy.typing import NDArray

from quarry.campaign.failure_table import read_failures
from quarry.config.campaign import Configuration
from quarry.files import atomic_path, write_text
from quarry.query.base import PoolView
from quarry.query.batch import batch_size
from quarry.query.strategies import make_strategy
from quarry.randomness import generator
from quarry.stages.pool import pool_rows, read_features
from quarry.stopping.facts import Facts
from quarry.stopping.rules import labels_left
from quarry.structures.files import read_pool, read_pool_ids
from quarry.structures.labelled import LabelledSet


def candidate_rows(features: str, dataset: str, failures: str) -> NDArray[np.int64]:
    """Return the rows of the pool that are neither labelled nor failed, ascending."""
    taken_ids = np.concatenate(
        [LabelledSet.read(dataset).structures.ids, [f["structure_id"] for f in read_failures(failures)]]
    )
    with h5py.File(features, "r") as handle:
        size = handle["features"].shape[0]
    free = np.ones(size, dtype=bool)
    free[pool_rows(features, taken_ids)] = False
    return np.flatnonzero(free)


def score_pool(model: str, structures: str, features: str, dataset: str, failures: str, output: str) -> None:
    """Predict every candidate with the last model; write rows, means and standard deviations (target's unit)."""
    from quarry.models.registry import load_model

    rows = candidate_rows(features, dataset, failures)
    prediction = load_model(model).predict(read_pool(structures).subset(rows), read_features(features, rows))
    with atomic_path(output) as temporary, h5py.File(temporary, "w") as handle:
        handle.create_dataset("rows", data=rows)
        handle.create_dataset("mean", data=prediction.mean)
        if prediction.std is not None:
            handle.create_dataset("std", data=prediction.std)


def propose_batch(
    configuration: Configuration,
    arm: str,
    iteration: int,
    features: str,
    dataset: str,
    failures: str,
    facts: str,
    scores: str | None,
    output: str,
) -> None:
    """Let the arm's strategy choose the next structures; write their ids and scores in its order."""
    settings = configuration.arm(arm)
    if scores is None:
        rows = candidate_rows(features, dataset, failures)
        mean = std = None
    else:
        with h5py.File(scores, "r") as handle:
            rows, mean = handle["rows"][()], handle["mean"][()]
            std = handle["std"][()] if "std" in handle else None
    last = Facts.read(facts)
    size = min(batch_size(settings.query.batch, iteration, last.n_train), labels_left(last, configuration), len(rows))
    view = PoolView(features=read_features(features, rows), mean=mean, std=std)
    rng = generator(settings.seed, arm, iteration, "propose")
    chosen = make_strategy(settings.query.strategy).select(view, size, rng)
    ids = [str(i) for i in read_pool_ids(features)]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["structure_id", "score"])
    writer.writerows([ids[rows[c]], "" if std is None else repr(float(std[c]))] for c in chosen)
    write_text(output, buffer.getvalue())
