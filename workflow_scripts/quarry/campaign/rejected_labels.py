"""Labels that the user rejects, by id: read, checked, and from which iteration on it holds (standard library only).

What is rejected may change between two runs. It holds from the last batch of each arm on, which is merged again if it was
merged already; earlier iterations are history. The file of what held when is what makes an iteration again as it was.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from quarry.campaign.iterations import iterations_with
from quarry.campaign.own_files import OwnFiles
from quarry.campaign.paths import CampaignPaths
from quarry.errors import QuarryError
from quarry.files import write_json

ID = re.compile(r"s?([0-9a-f]{20})")
"""A structure's id, also as dataset.extxyz writes it."""


def read_rejected(path: str | Path) -> list[str]:
    """Return the ids that a file names, in their order: the first word of each line, so that lines of audit.csv will do.

    Lines that are empty, begin with # or are the head of a table do not count. Raises QuarryError for what is no id.
    """
    try:
        lines = Path(path).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise QuarryError(
            f"labeling.leave_out: {path} cannot be read ({' '.join(str(error).split())}); correct the path or its permissions"
        ) from error
    ids = []
    for number, line in enumerate(lines, 1):
        word = re.split(r"[,;\s]", line.strip(), maxsplit=1)[0]
        if not word or word.startswith("#") or word == "structure_id":
            continue
        match = ID.fullmatch(word)
        if match is None:
            raise QuarryError(
                f"labeling.leave_out: line {number} of {path}: '{word:.40}' is no structure id (20 digits of 0-9a-f, as in "
                "audit.csv, outliers.csv or dataset.extxyz); correct it"
            )
        ids.append(match[1])
    return list(dict.fromkeys(ids))


def check_ids(rejected: Sequence[str], pool: Iterable[str]) -> None:
    """Raise QuarryError if an id is none of the pool's."""
    known = set(pool)
    unknown = [name for name in rejected if name not in known]
    if unknown:
        raise QuarryError(
            f"labeling.leave_out: {len(unknown)} of {len(rejected)} ids are not in the pool (the first: {unknown[0]}); "
            "correct them, or take them out of the file"
        )


def rejected_at(schedule: str | Path, arm: str, iteration: int) -> frozenset[str]:
    """Return the ids that are rejected when an iteration of an arm is merged."""
    held = [entry["ids"] for entry in _read(schedule) if entry["from"].get(arm, 0) <= iteration]
    return frozenset(held[-1] if held else ())


def hold_from_now(rejected: Sequence[str], paths: CampaignPaths, arms: Sequence[str], write: bool = True) -> str:
    """Let what the user rejects hold from the last batch of each arm on; return a line if that is a change, else nothing.

    A last batch that is merged already will be merged again: its data set is removed. write: False returns the line alone.
    """
    schedule, wanted = _read(paths.rejected), sorted(rejected)
    before = schedule[-1]["ids"] if schedule else []
    if wanted == before:
        return ""
    last = {arm: _last_batch(paths, arm) for arm in arms}
    merged = [Path(paths.iteration("dataset.h5", arm, iteration)) for arm, iteration in last.items()]
    again = any(path.exists() for path in merged)
    if write:
        own = OwnFiles(paths.root)
        for path in merged:
            own.remove(path)
        write_json(paths.rejected, [*schedule, {"ids": wanted, "from": last}])
    more = "; the last iteration is merged and trained again" if again else ""
    return f"labeling.leave_out: {len(wanted)} labels are rejected, {len(before)} before{more}"


def _last_batch(paths: CampaignPaths, arm: str) -> int:
    """Return the last iteration of an arm that has a batch, 0 if there is none."""
    return max(iterations_with(paths.arm(arm), "batch.csv"), default=0)


def _read(schedule: str | Path) -> list[dict[str, Any]]:
    try:
        entries: list[dict[str, Any]] = json.loads(Path(schedule).read_bytes())
        return entries
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise QuarryError(f"{schedule} is damaged; put it back from a backup, or remove it") from error
