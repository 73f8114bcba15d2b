"""What Snakemake knows of finished jobs: records that are damaged, and the files and records of packed iterations.

Shims for Snakemake 9.27: its ``FilePersistence._io_read`` takes a record that is cut off for none, but ends with a traceback
at every start for one that is no text at all. Only the times and names of inputs are asked for in these records, and without
one of them a file is taken by its time, so a damaged record counts as none. A record that is not there is looked for in the
archive of its output's iteration (``quarry.campaign.packed``), so that report and summary show what they did before. Where the
whole campaign is shown, and nothing run, Snakemake takes packed files for there: it makes no job whose input it does not find.
Nor does it compare the inputs that a finished iteration has with those of its rules now: receipts say that it is intact. What
it removes for its next run (``PersistenceBase.drop_iocache``) stays where the disk is read-only, or somebody else's.
"""

from __future__ import annotations

import json
import os
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RECORDS = Path(".snakemake", "metadata")


def record_path(output: str) -> Path:
    """Return where Snakemake keeps the record of an output (``FilePersistence._record_path``), named as its rule names it."""
    try:
        longest = os.pathconf(RECORDS, "PC_NAME_MAX") or 255
    except OSError:
        longest = 255
    text = urlsafe_b64encode(output.encode()).decode()
    parts = [text[i : i + longest - 1] for i in range(0, len(text), longest - 1)]
    return RECORDS.joinpath(*("@" + part for part in parts[:-1]), parts[-1])


def read_records_with(packed: Callable[[str], bytes | None]) -> None:
    """Let Snakemake take any damaged record for none, and absent ones from where they are packed.

    packed: returns the record of an output, None if it has none.
    """
    from snakemake.persistence.file import FilePersistence

    original = FilePersistence._io_read
    if getattr(original, "is_quarrys", False):
        return

    def read(self: Any, subject: Any, id: Any) -> Any:
        try:
            record = original(self, subject, id)
            if record == {} and subject == self._metadata_path:
                record = json.loads(packed(str(id)) or b"{}")
        except (ValueError, IsADirectoryError):
            return {}
        if not isinstance(record, dict):
            return {}
        if "input" in record and any(look.is_finished(str(id)) for look in _looks.values()):
            del record["input"]
        return record

    read.is_quarrys = True  # type: ignore[attr-defined]
    FilePersistence._io_read = read


@dataclass(frozen=True)
class Look:
    """What a look at a campaign shows of what is on disk.

    packed: returns the paths and times (s) of files that are packed. is_finished: whether an output is of an iteration that is
    finished for good; an earlier version may have made it of fewer files than its rule names now.
    """

    packed: Callable[[], Iterable[tuple[str, float]]]
    is_finished: Callable[[str], bool]


_looks: dict[str, Look] = {}


def show_as_there(campaign: str, look: Look) -> None:
    """Let Snakemake take packed files for there and finished iterations for up to date, as long as it only shows campaigns.

    campaign: folder of its results; a workflow may hold several.
    """
    from snakemake.io import IOCache, Mtime, _IOFile
    from snakemake.persistence import PersistenceBase

    _looks[campaign] = look
    original, is_protected, drop = IOCache.__init__, _IOFile.protected, PersistenceBase.drop_iocache
    if getattr(original, "is_quarrys", False):
        return

    def begin(self: Any, *arguments: Any, **settings: Any) -> None:
        original(self, *arguments, **settings)
        for path, time_s in (found for look in _looks.values() for found in look.packed()):
            self.exists_local[path] = True
            self.mtime[path] = Mtime(local=time_s)

    async def protected(self: Any) -> bool:
        # What is only shown as there cannot be written to either, and nobody has protected it.
        return os.path.lexists(self.file) and await is_protected(self)

    def drop_iocache(self: Any) -> None:
        with suppress(OSError):
            drop(self)

    begin.is_quarrys = True  # type: ignore[attr-defined]
    IOCache.__init__ = begin
    _IOFile.protected = protected
    PersistenceBase.drop_iocache = drop_iocache


def show_unwritable() -> None:
    """Let Snakemake show jobs whose outputs it could not write, as on a read-only disk, where it runs none of them."""
    from snakemake.jobs import Job

    async def check_nothing(self: Any) -> None:
        return

    Job.check_protected_output = check_nothing
