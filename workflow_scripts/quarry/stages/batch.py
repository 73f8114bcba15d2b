"""Writing a batch down: the table, one leaf file per job, and the labels that need no job."""

from __future__ import annotations

import csv
import os
from pathlib import Path

from quarry.campaign.batch_table import BatchRow, write_batch
from quarry.config.campaign import Configuration
from quarry.errors import QuarryError
from quarry.files import copy_file, write_text
from quarry.labeling.record import read_records
from quarry.labeling.store import LabelStore
from quarry.randomness import generator
from quarry.structures.files import read_pool, read_pool_ids, write_leaf


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
    write_batch(table, rows)
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
