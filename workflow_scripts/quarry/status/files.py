"""Reading files that somebody else may be writing, or that a crash has left: what cannot be read is not there."""

from __future__ import annotations

import json
import os
from base64 import urlsafe_b64decode
from contextlib import suppress
from pathlib import Path
from typing import Any

from quarry.files import read_file


def object_in(path: str | Path) -> dict[str, Any]:
    """Return the object that a JSON file holds; an empty one if it is absent, damaged or no file."""
    with suppress(OSError, ValueError):
        found = json.loads(read_file(path)[0])
        return found if isinstance(found, dict) else {}
    return {}


def names_in(folder: str | Path) -> frozenset[str]:
    """Return the names of a folder's entries; none if there is no folder."""
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries)
    except OSError:
        return frozenset()


def time_of(path: str | Path) -> float | None:
    """Return when a file was last written or touched (s since 1970), None if there is none."""
    try:
        return Path(path).stat().st_mtime
    except OSError:
        return None


def submitted(working_directory: Path) -> list[tuple[str, float, str]]:
    """Return the outputs of jobs that Snakemake has handed out and not seen finished: path, when (s since 1970), and the job's
    number in a batch system (empty: none).

    They are Snakemake's marks of incomplete files; those of a main process that was killed stay.
    """
    folder = working_directory / ".snakemake" / "incomplete"
    found = []
    for place, _, names in os.walk(folder):
        head = "".join(part.removeprefix("@") for part in Path(place).relative_to(folder).parts)
        for name in names:
            path = Path(place, name)
            with suppress(ValueError):
                output = urlsafe_b64decode(head + name).decode()
                when = time_of(path)
                if when is not None:
                    found.append((output, when, str(object_in(path).get("external_jobid") or "")))
    return found
