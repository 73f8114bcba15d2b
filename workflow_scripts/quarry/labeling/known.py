"""Labels that the user has already (``labeling.known``), as records of the campaign's method. They never enter the store."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Self

from quarry.config.engines.base import LabelingBase
from quarry.config.engines.known import KnownLabels
from quarry.config.engines.replay import ReplayLabeling
from quarry.errors import QuarryError
from quarry.files import sha256_of
from quarry.labeling.engines.replay import ReplayEngine
from quarry.labeling.record import LabelRecord
from quarry.labeling.store import LabelStore
from quarry.labeling.wanted import Wanted
from quarry.structures import Structure

GIVEN = "given"
"""Entry of a record's details: file and hash of what the label was read from."""


def known_labels(
    labeling: LabelingBase, base: Path, wanted: Wanted, store: LabelStore
) -> Callable[[Structure], LabelRecord | None]:
    """Return what looks up the label that the user has of a structure; it returns None where there is none.

    base: folder of the campaign file. wanted: what a label must have. store: of the campaign's method. Errors of the look-up
    as of ``KnownLabelSource.record``.
    """
    source = KnownLabelSource.of(labeling, base)
    return lambda structure: None if source is None else source.record(structure, wanted, store)


class KnownLabelSource:
    """Looks up labels in the user's file."""

    def __init__(self, settings: KnownLabels, base: Path) -> None:
        """base: folder of the campaign file."""
        self._engine = ReplayEngine(
            ReplayLabeling.model_validate({"engine": "replay", **settings.model_dump(exclude_unset=True)}), base
        )
        self._file, self._path = settings.file, base / settings.file

    @classmethod
    def of(cls, labeling: LabelingBase, base: Path) -> Self | None:
        """Return the source that section labeling names, None if it names none."""
        return None if labeling.known is None else cls(labeling.known, base)

    @cached_property
    def _given(self) -> dict[str, str]:
        return {"file": self._file, "sha256": sha256_of(self._path)}

    def check(self) -> None:
        """Raise QuarryError if the file or a column cannot be read."""
        try:
            self._engine.check([])
        except QuarryError as error:
            raise QuarryError(f"labeling.known: {error}") from error

    def record(self, structure: Structure, wanted: Wanted, store: LabelStore) -> LabelRecord | None:
        """Return the label of a structure as a record of the store's method, without cost; None if the file has none.

        A label that lacks what is wanted counts as none. Raises QuarryError for one that is given twice with different numbers.
        """
        found = self._engine.label(structure, 1)
        if found.status == "invalid_structure" or (found.status == "ok" and wanted.lacking(found.properties)):
            return None
        if found.status != "ok":
            raise QuarryError(f"labeling.known: {self._file}: structure {structure.structure_id}: {found.message}")
        return LabelRecord(
            structure_id=structure.structure_id,
            method_id=store.folder.name,
            method=store.method,
            status="ok",
            message="",
            properties=found.properties,
            attempts=[],
            cost={"wall_s": 0.0, "cpu_s": 0.0, "threads": 1, "peak_memory_MB": 0.0, "size": found.size},
            origin={"campaign_id": "", "campaign": "", "arm": "", "iteration": 0},
            host="",
            versions={},
            finished="",
            details={GIVEN: self._given},
        )
