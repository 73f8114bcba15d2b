"""The files of an iteration's batch, and merging them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from quarry.campaign.batch_table import BatchRow, write_batch
from quarry.errors import QuarryError
from quarry.labeling.ledger import LabelLedger
from quarry.labeling.record import LabelRecord, write_records
from quarry.labeling.wanted import Wanted
from quarry.stages.auditing import AuditSettings
from quarry.stages.merging import Merged, MergeRules, merge_labels
from quarry.structures import Structure, StructureSet
from quarry.structures.files import write_pool
from quarry.structures.labelled import LabelledSet
from quarry.structures.sources import Source

ANY_LABEL = Wanted()
METHOD_ID = "0123456789abcdef"
POOL = [Structure.create([1, 1], np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.5 + 0.01 * i]])) for i in range(40)]


SLOPE = 1.2345678
"""eV/Angstrom."""


def energy(structure: Structure) -> float:
    return -30.0 + SLOPE * float(structure.positions[1, 2])


def record(structure: Structure, status: str = "ok", method_id: str = METHOD_ID) -> LabelRecord:
    ok = status == "ok"
    return LabelRecord(
        structure_id=structure.structure_id,
        method_id=method_id,
        method={},
        status=status,
        message="" if ok else f"{status}, said the engine",
        properties={"energy": energy(structure), "forces": [[0.0, 0.0, SLOPE], [0.0, 0.0, -SLOPE]]} if ok else {},
        attempts=[{"name": "diis"}] if ok else [{"name": "diis"}, {"name": "newton"}],
        cost={"wall_s": 90.0, "cpu_s": 170.0, "threads": 2, "peak_memory_MB": 1.0},
        origin={},
        host="here",
        versions={},
        finished="now",
    )


class Iteration:
    """The files of one iteration's batch."""

    def __init__(self, folder: Path, number: int = 0) -> None:
        self.folder = folder / f"iter_{number:03d}"
        self.number = number
        self.previous: Iteration | None = None
        self.labels: list[str] = []
        self.sources: list[Source | None] = []
        (self.folder / "labels").mkdir(parents=True)

    def fill(self, numbers: Sequence[int], failed: dict[int, str] | None = None, tests: Sequence[int] = ()) -> None:
        """Write a batch of pool structures and their records."""
        rows = []
        for n in numbers:
            structure_id = POOL[n].structure_id
            rows.append(BatchRow(structure_id, "test" if n in tests else "train", structure_id))
            path = self.folder / "labels" / f"{structure_id}.json"
            write_records(path, [record(POOL[n], (failed or {}).get(n, "ok"))])
            self.labels.append(str(path))
        write_batch(self.folder / "batch.csv", rows)
        sources = [self.sources[n] for n in numbers] if self.sources else ()
        write_pool(self.folder / "batch.h5", StructureSet.from_structures([POOL[n] for n in numbers]), sources=sources)

    def next(self) -> Iteration:
        following = Iteration(self.folder.parent, self.number + 1)
        following.previous, following.sources = self, self.sources
        return following

    def merge(
        self,
        limit: float = 0.2,
        wanted: Wanted = ANY_LABEL,
        settings: AuditSettings | None = None,
        outlier_z: float | None = 6.0,
    ) -> str:
        return merge_labels(
            batch=str(self.folder / "batch.csv"),
            structures=str(self.folder / "batch.h5"),
            labels=self.labels,
            iteration=self.number,
            previous=self.previous.merged if self.previous else None,
            output=self.merged,
            rules=MergeRules(METHOD_ID, wanted, limit, outlier_z, settings or AuditSettings()),
            ledger=LabelLedger(self.folder / "failed"),
        )

    @property
    def merged(self) -> Merged:
        return Merged(*(str(self.folder / n) for n in ("dataset.h5", "failures.csv", "outliers.csv", "audit.csv")))

    def refused(self, limit: float = 0.2) -> str:
        """Merge, expect a refusal in one line that leaves no file, and return it."""
        with pytest.raises(QuarryError) as caught:
            self.merge(limit)
        assert "\n" not in str(caught.value)
        assert not (self.folder / "dataset.h5").exists() and not (self.folder / "failures.csv").exists()
        return str(caught.value)

    @property
    def dataset(self) -> LabelledSet:
        return LabelledSet.read(self.folder / "dataset.h5")
