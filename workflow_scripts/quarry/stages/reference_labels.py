"""Labels of structures that a use of the potential asks for: from the label store, or computed and put there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from quarry.config.campaign import Configuration
from quarry.errors import QuarryError
from quarry.labeling.labeler import Books
from quarry.labeling.limits import Allocation
from quarry.labeling.record import read_records
from quarry.stages.labeling import Sender, label_job_input
from quarry.structures import Structure
from quarry.structures.files import JobInputEntry, write_job_input
from quarry.uses.reference import with_ground_state


@dataclass(frozen=True)
class ReferenceLabels:
    """Labels by the campaign's engine, for ``quarry.uses.reference.Labels``.

    base: folder of the campaign file. books, sender, allocation: as of a label job.
    """

    configuration: Configuration
    base: str
    books: Books
    sender: Sender
    allocation: Allocation

    def __call__(self, structures: Sequence[Structure]) -> list[dict[str, Any]]:
        """Return the properties of each structure's label; each lands in the store when it is finished.

        Raises QuarryError if a label fails.
        """
        if not structures:
            return []
        with TemporaryDirectory() as folder:
            job_input, output = Path(folder) / "structures.extxyz", Path(folder) / "labels.json"
            write_job_input(job_input, [JobInputEntry(structure) for structure in structures])
            label_job_input(
                self.configuration,
                self.base,
                str(job_input),
                str(output),
                books=self.books,
                sender=self.sender,
                allocation=self.allocation,
            )
            records = read_records(output)
        failed = [record for record in records if not record.ok]
        if failed:
            raise QuarryError(
                f"{len(failed)} of {len(records)} reference labels failed: {failed[0].status}: {failed[0].message}; begin with "
                "another uses.structure, or set uses.reference to false"
            )
        return [with_ground_state(record.properties) for record in records]
