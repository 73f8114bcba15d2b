"""The candidates of an iteration: the pool, or what a sampler made for it. And where chosen structures are found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quarry.campaign.failure_table import read_failures
from quarry.campaign.paths import CampaignPaths
from quarry.errors import QuarryError
from quarry.structures import StructureSet
from quarry.structures.files import read_copies, read_pool, read_pool_ids, read_pool_sources
from quarry.structures.labelled import LabelledSet
from quarry.structures.sources import Source
from quarry.structures.structure import rows_of


def candidate_rows(structures: str, dataset: str, failures: str) -> NDArray[np.int64]:
    """Return the rows of candidates that are neither labelled nor failed, nor copies of the test set, ascending.

    structures: the file of the candidates. dataset, failures: of the last iteration.
    """
    labelled, failed = LabelledSet.read(dataset), read_failures(failures)
    ids = read_pool_ids(structures)
    taken = np.concatenate([labelled.structures.ids, [f["structure_id"] for f in failed]])
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


@dataclass(frozen=True)
class Chosen:
    """Structures of a batch. sources: where each comes from; None: not from a file."""

    structures: StructureSet
    sources: list[Source | None]


def find_structures(ids: Sequence[str], files: Sequence[str]) -> Chosen:
    """Return structures by their ids, in the order of ``ids``, each from the first file that has it.

    files: of structures, those that are absent are passed over. Raises QuarryError if a structure is in none of them.
    """
    found: dict[str, tuple[StructureSet, int, Source | None]] = {}
    for file in files:
        wanted = [name for name in dict.fromkeys(ids) if name not in found]
        if not wanted:
            break
        if not Path(file).exists():
            continue
        there = np.intersect1d(np.array(wanted, dtype=np.str_), read_pool_ids(file))
        if not len(there):
            continue
        pool = read_pool(file)
        rows = rows_of(pool.ids, there)
        for name, row, source in zip(there.tolist(), rows.tolist(), read_pool_sources(file, rows), strict=True):
            found[name] = (pool, row, source)
    missing = [name for name in ids if name not in found]
    if missing:
        raise QuarryError(
            f"{files[0]}: structure {missing[0]} of the batch is not there; the candidates were made from other input"
        )
    entries = [found[name] for name in ids]
    structures = StructureSet.from_structures(pool[row] for pool, row, _ in entries)
    return Chosen(structures, [source for _, _, source in entries])


def earlier_batches(paths: CampaignPaths, arm: str, iteration: int) -> list[str]:
    """Return the files of the batches before an iteration, the latest first, and that of the pool: where retries are found."""
    return [*(paths.iteration("batch.h5", arm, t) for t in range(iteration - 1, -1, -1)), paths.structures]
