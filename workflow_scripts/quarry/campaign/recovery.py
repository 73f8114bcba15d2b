"""What is whole on disk: which iterations are finished for good, and mending before a restart.

Snakemake takes a file that exists for a file that is right. After a crash of the machine, a full disk or a careless
hand that is not so; here every file is compared with the receipt of the job that wrote it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from quarry.campaign.batch_table import jobs_of, read_batch
from quarry.campaign.paths import CampaignPaths
from quarry.campaign.receipts import missing_and_damaged
from quarry.files import move_aside
from quarry.labeling.record import read_records
from quarry.stopping.facts import Cost, Facts


def is_whole(paths: CampaignPaths, arm: str, iteration: int, thorough: bool = False) -> bool:
    """Whether an iteration is finished and every file of it is there, as its receipts say."""
    try:
        Facts.read(paths.facts(arm, iteration))
        Cost.read(paths.cost(arm, iteration))
        jobs = jobs_of(read_batch(paths.batch(arm, iteration)))
        labels = sum(e.name.endswith(".json") and e.name[0] != "." for e in os.scandir(paths.iteration("labels", arm, iteration)))
    except (OSError, ValueError):
        return False
    missing, damaged = missing_and_damaged(Path(paths.iteration("receipts", arm, iteration)), thorough)
    return labels >= len(jobs) and not missing and not damaged


def count_whole(paths: CampaignPaths, arm: str) -> int:
    """Return the number of leading iterations of an arm that are whole. The last one's files are compared by hash."""
    count = 0
    while Path(paths.facts(arm, count)).exists() and is_whole(paths, arm, count):
        count += 1
    if count and not is_whole(paths, arm, count - 1, thorough=True):
        count -= 1
    return count


def mend(paths: CampaignPaths, arms: list[str], say: Callable[[str], None]) -> None:
    """Move damaged files aside so that they are made again; never remove or overwrite a label.

    Only what a restart builds on is looked at: pool and features, and the iterations that are not whole. say: receives
    one line per mended file.
    """
    _mend_folder(Path(paths.pool) / "receipts", say)
    for arm in arms:
        iteration = count_whole(paths, arm)
        while Path(paths.iteration("", arm, iteration)).is_dir():
            _mend_iteration(paths, arm, iteration, say)
            iteration += 1


def _mend_folder(receipts: Path, say: Callable[[str], None]) -> None:
    for path in missing_and_damaged(receipts, thorough=True)[1]:
        say(f"{path} is not what was written there: moved aside to {move_aside(path).name}, it will be made again")


def _mend_iteration(paths: CampaignPaths, arm: str, iteration: int, say: Callable[[str], None]) -> None:
    _mend_folder(Path(paths.iteration("receipts", arm, iteration)), say)
    for label in sorted(Path(paths.iteration("labels", arm, iteration)).glob("*.json")):
        try:
            read_records(label)
        except ValueError as error:
            say(f"{error}: moved aside to {move_aside(label).name}, it will be taken from the store or computed again")
    for path, read in ((paths.facts(arm, iteration), Facts.read), (paths.cost(arm, iteration), Cost.read)):
        try:
            read(path)
        except FileNotFoundError:
            pass
        except ValueError as error:
            say(f"{error}: moved aside to {move_aside(path).name}, it will be made again")
    _mend_batch(paths, arm, iteration, say)


def _mend_batch(paths: CampaignPaths, arm: str, iteration: int, say: Callable[[str], None]) -> None:
    """A batch table whose job inputs are damaged is drawn again (the same batch); finished labels stay."""
    table = Path(paths.batch(arm, iteration))
    if not table.exists():
        return
    try:
        jobs = jobs_of(read_batch(table))
    except ValueError as error:
        say(f"{error}: moved aside to {move_aside(table).name}, it will be made again")
        return
    for job in jobs:
        leaf = Path(paths.leaf(job, arm, iteration))
        if not Path(paths.label(job, arm, iteration)).exists() and not _leaf_is_whole(leaf):
            say(f"{leaf} is missing or damaged: {table} will be made again")
            table.unlink()
            return


def _leaf_is_whole(leaf: Path) -> bool:
    """Whether a leaf file has as many lines as it says (cheap: 10,000 of them may wait)."""
    try:
        lines = leaf.read_text().split("\n")
        atoms = int(lines[0])
    except (OSError, ValueError, IndexError):
        return False
    return len(lines) >= atoms + 3 and lines[-1] == ""
