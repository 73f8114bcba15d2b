"""The candidates of an iteration: the pool, or what a sampler made for it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quarry.campaign.failure_table import read_failures
from quarry.campaign.paths import CampaignPaths
from quarry.errors import QuarryError
from quarry.structures.files import read_copies, read_pool_ids
from quarry.structures.labelled import LabelledSet


def candidate_rows(structures: str, dataset: str, failures: str, sampled: bool = False) -> NDArray[np.int64]:
    """Return the rows of candidates that are neither labelled nor failed, nor copies of the test set, ascending.

    structures: the file of the candidates. dataset, failures: of the last iteration. sampled: whether the candidates are made
    anew for every iteration. Raises QuarryError if a structure is labelled that is not in a pool which is made once.
    """
    labelled, failed = LabelledSet.read(dataset), read_failures(failures)
    ids = read_pool_ids(structures)
    taken = np.concatenate([labelled.structures.ids, [f["structure_id"] for f in failed]])
    absent = np.zeros(0) if sampled else np.setdiff1d(taken, ids)
    if len(absent):
        raise QuarryError(
            f"{structures}: labelled structure {absent[0]} is not in the pool; the pool was made from other input; "
            "put that back, or use another name"
        )
    free = ~np.isin(ids, taken)
    groups = read_copies(structures)
    if groups is not None:
        # A failed label of the test set may come back: see retry_failed.
        test_ids = [
            *labelled.structures.ids[labelled.roles == "test"],
            *(f["structure_id"] for f in failed if f["role"] == "test"),
        ]
        free &= ~np.isin(groups, groups[np.isin(ids, test_ids)])
    return np.flatnonzero(free)


def earlier_batches(paths: CampaignPaths, arm: str, iteration: int) -> list[str]:
    """Return the files of the batches before an iteration, the latest first, and that of the pool: where retries are found."""
    return [*(paths.iteration("batch.h5", arm, t) for t in range(iteration - 1, -1, -1)), paths.structures]
