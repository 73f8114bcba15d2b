"""The folders of iterations (``<arm>/iter_000``): their names, and which there are. Whoever counts iterations does it here.

Standard library only (used at parse time).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from quarry.campaign.loop import padded

PREFIX = "iter_"
_INSIDE = re.compile(rf"((?:.*/)?{PREFIX}[0-9]+)/.+", re.DOTALL)


def folder_name(iteration: int | str) -> str:
    """Return the name of an iteration's folder; patterns of rules stay patterns."""
    return f"{PREFIX}{padded(iteration)}"


def number_of(folder: Path) -> int | None:
    """Return which iteration a folder is, by its name; None if it is none."""
    number = folder.name.removeprefix(PREFIX)
    return int(number) if folder.name.startswith(PREFIX) and number.isdigit() else None


def iteration_of(path: str | Path) -> Path | None:
    """Return the folder of the iteration in which a path lies, None if it lies in none."""
    found = _INSIDE.match(os.fspath(path))
    return Path(found[1]) if found else None


def iterations_with(arm: str | Path, file: str = "") -> list[int]:
    """Return the iterations of an arm's folder that have a file, ascending; one in the middle may be gone.

    file: its path in an iteration's folder; empty: the folder alone is asked for.
    """
    return sorted(
        number
        for folder in Path(arm).glob(f"{PREFIX}*")
        if (number := number_of(folder)) is not None and ((folder / file).exists() if file else folder.is_dir())
    )


def iteration_folders(root: str | Path) -> list[Path]:
    """Return the folders of all iterations of a campaign, arm by arm."""
    arms = sorted(folder for folder in Path(root).glob("*") if folder.is_dir())
    return [arm / folder_name(number) for arm in arms for number in iterations_with(arm)]


def count_with(path: Callable[[int], str]) -> int:
    """Return how many leading iterations have a file. path: of the file in an iteration."""
    count = 0
    while Path(path(count)).exists():
        count += 1
    return count
