"""The structures of a batch: found by their ids in the files that may have them, and written beside the batch table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from quarry.errors import QuarryError
from quarry.structures.files import read_pool, read_pool_ids, read_pool_sources, write_pool
from quarry.structures.sources import Source
from quarry.structures.structure import StructureSet, rows_of


@dataclass(frozen=True)
class Chosen:
    """Structures of a batch, in its order. sources: where each comes from; None: not from a file."""

    structures: StructureSet
    sources: list[Source | None]

    def write(self, path: str | Path) -> None:
        """Write ``batch.h5``, a file as ``pool/structures.h5``; the same structures give the same bytes."""
        write_pool(path, self.structures, sources=self.sources)


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
            f"{files[0]}: structure {missing[0]} of the batch is not there; the candidates were made from other input; "
            "put that back, or use another name"
        )
    entries = [found[name] for name in ids]
    structures = StructureSet.from_structures(pool[row] for pool, row, _ in entries)
    return Chosen(structures, [source for _, _, source in entries])
