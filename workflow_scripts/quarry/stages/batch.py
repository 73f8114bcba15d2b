"""Scoring candidates, proposing a batch, and writing it down with one leaf file per job."""

from __future__ import annotations

import csv
import io
import os
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from quarry.campaign.batch_table import BatchRow, write_batch
from quarry.config.campaign import Configuration
from quarry.errors import QuarryError
from quarry.files import atomic_path, copy_file, write_text
from quarry.labeling.record import read_records
from quarry.labeling.store import LabelStore
from quarry.query.base import PoolView
from quarry.query.batch import batch_size
from quarry.query.strategies import make_strategy
from quarry.randomness import generator
from quarry.stages.merging import read_failures
from quarry.stages.pool import pool_rows, read_features
from quarry.stopping.facts import Facts
from quarry.stopping.rules import labels_left
from quarry.structures.files import read_pool, read_pool_ids, write_leaf
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
    ids = _ids(features)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["structure_id", "score"])
    writer.writerows([ids[rows[c]], "" if std is None else repr(float(std[c]))] for c in chosen)
    write_text(output, buffer.getvalue())


def _ids(features: str) -> list[str]:
    return [str(i) for i in read_pool_ids(features)]


def draw_initial(configuration: Configuration, structures: str) -> list[BatchRow]:
    """Draw the fixed test set and then the initial batch with the campaign's seed: the same for every arm."""
    ids = read_pool_ids(structures)
    wanted = configuration.test.size + configuration.query.initial
    if wanted > len(ids):
        raise QuarryError(
            f"query.initial + test.size = {wanted} is more than the pool's {len(ids)} structures without duplicates"
        )
    drawn = generator(configuration.seed, "initial").permutation(len(ids))[:wanted]
    roles = ["test"] * configuration.test.size + ["train"] * configuration.query.initial
    return [BatchRow(str(ids[i]), role, str(ids[i])) for i, role in zip(drawn, roles, strict=True)]


def read_proposal(proposal: str) -> list[BatchRow]:
    """Return the rows that a proposal asks for."""
    with open(proposal, newline="") as handle:
        return [BatchRow(r["structure_id"], "train", r["structure_id"], r["score"]) for r in csv.DictReader(handle)]


def select_batch(
    rows: list[BatchRow], structures: str, store: LabelStore, table: str, folder: str, labels: str, reused: str
) -> str:
    """Write the batch table, the job inputs, and the labels that need no job; return a line about them.

    A label that is finished already (in ``labels``, or in the store) is put in place newer than its input, so that
    Snakemake submits no job for it. That also holds when this batch is written again after a crash.
    """
    pool = read_pool(structures)
    positions = pool.index_of([row.structure_id for row in rows])
    Path(folder).mkdir(parents=True, exist_ok=True)
    Path(labels).mkdir(parents=True, exist_ok=True)
    found = []
    for row, index in zip(rows, positions, strict=True):
        write_leaf(Path(folder) / f"{row.job}.extxyz", [pool[int(index)]])
        if _put_in_place(row, store, Path(labels) / f"{row.job}.json"):
            found.append(row)
    write_batch(table, [replace(row) for row in rows])
    write_text(reused, "structure_id\n" + "".join(f"{row.structure_id}\n" for row in found))
    return f"{len(rows)} structures, {len(found)} of them labelled already"


def _put_in_place(row: BatchRow, store: LabelStore, label: Path) -> bool:
    """Make a finished label newer than its job's input; return whether there is one."""
    try:
        if [r.structure_id for r in read_records(label)] == [row.structure_id]:
            os.utime(label)
            return True
    except (OSError, ValueError):
        pass
    if store.get(row.structure_id) is None:
        return False
    copy_file(store.path(row.structure_id), label)
    return True
