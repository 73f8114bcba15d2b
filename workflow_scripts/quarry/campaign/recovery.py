"""What is whole on disk: which iterations are finished for good, and mending before a restart.

Snakemake takes a file that exists for a file that is right. After a crash of the machine, a full disk or a careless
hand that is not so; here every file is compared with the receipt of the job that wrote it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from quarry.campaign.batch_table import jobs_of, read_batch
from quarry.campaign.paths import CampaignPaths, outputs_of
from quarry.campaign.receipts import damaged_receipts, missing_and_damaged
from quarry.campaign.retries import only_retries, read_requests
from quarry.files import move_aside
from quarry.labeling.record import read_records
from quarry.stopping.facts import Cost, Facts


class Recovery:
    """The state of a campaign's files.

    scored: arms whose strategy looks at scores of the pool. members: by arm, how many members its committee has.
    """

    def __init__(
        self, paths: CampaignPaths, arms: list[str], scored: set[str], members: Mapping[str, int] | None = None
    ) -> None:
        self.paths = paths
        self.arms = arms
        self.scored = scored
        self.members = members or {}

    def count_whole(self, arm: str) -> int:
        """Return the number of leading iterations of an arm that are whole. The last one is compared by hash."""
        count = 0
        while Path(self.paths.facts(arm, count)).exists() and self.is_whole(arm, count):
            count += 1
        while count and not self.is_whole(arm, count - 1, thorough=True):
            count -= 1
        return count

    def is_whole(self, arm: str, iteration: int, thorough: bool = False) -> bool:
        """Whether an iteration is finished and every file of it is there, as its receipts say."""
        try:
            Facts.read(self.paths.facts(arm, iteration))
            Cost.read(self.paths.cost(arm, iteration))
            if not self._labels_are_there(arm, iteration):
                return False
        except (OSError, ValueError):
            return False
        if not all(Path(f).exists() for stage in self._stages(arm, iteration) for f in stage):
            return False
        receipts = self._receipts(arm, iteration)
        missing, damaged = missing_and_damaged(receipts, thorough)
        return not missing and not damaged and not damaged_receipts(receipts)

    def mend(self, say: Callable[[str], None]) -> None:
        """Move damaged files aside so that they are made again; never remove or overwrite a label.

        Only what a restart builds on is looked at: pool and features, products, and the iterations that are not whole.
        say: receives one line per mended file.
        """
        root = Path(self.paths.root)
        folders = [Path(self.paths.pool), root, root / "figures", *(root / arm for arm in self.arms)]
        for folder in folders:
            _move_damaged_aside(folder / "receipts", say)
        for arm in self.arms:
            first = self.count_whole(arm)
            for iteration in self._iterations(arm):
                if iteration >= first:
                    self._mend_iteration(arm, iteration, say)
                    self._leave_leading_files(arm, iteration, reopen=iteration > first)

    def _mend_iteration(self, arm: str, iteration: int, say: Callable[[str], None]) -> None:
        _move_damaged_aside(self._receipts(arm, iteration), say)
        for label in sorted(Path(self.paths.iteration("labels", arm, iteration)).glob("*.json")):
            try:
                read_records(label)
            except ValueError as error:
                say(
                    f"{error}: moved aside to {move_aside(label).name}, it will be taken from the store or computed again"
                )
        _mend_batch(self.paths, arm, iteration, say)

    def _leave_leading_files(self, arm: str, iteration: int, reopen: bool) -> None:
        """Leave of an iteration only the files before the first missing one; labels always stay.

        Snakemake skips a checkpoint whose output exists behind a job that must run, without asking the input functions
        again, and the jobs that wait for it run with placeholders for input (measured; snakemake issue 3862). So what is
        on disk must be what an interrupted run leaves. reopen: an earlier iteration is made again, so the gates of this
        one (batch.csv, facts.json) must open again too; what lies between them is found unchanged and kept.
        """
        stages = self._stages(arm, iteration)
        complete = 0
        for stage in stages:
            if not all(Path(f).exists() for f in stage) or (not stage and not self._labels_are_there(arm, iteration)):
                break
            complete += 1
        doomed = [f for stage in stages[complete:] for f in stage] + stages[-1]
        if complete < len(stages) and self._are_members(stages[complete], arm, iteration):
            # Each is made by a job of its own, so that an interrupted run leaves some of them; they took long.
            doomed = doomed[len(stages[complete]) :]
        if reopen:
            doomed.append(self.paths.batch(arm, iteration))
        for file in doomed:
            Path(file).unlink(missing_ok=True)

    def _iterations(self, arm: str) -> list[int]:
        """Return the iterations that have a folder; one in the middle may be gone."""
        folders = Path(self.paths.arm(arm)).glob("iter_*")
        return sorted(int(f.name[5:]) for f in folders if f.name[5:].isdigit() and f.is_dir())

    def _labels_are_there(self, arm: str, iteration: int) -> bool:
        try:
            jobs = jobs_of(read_batch(self.paths.batch(arm, iteration)))
            # One listing instead of a look at each file: there may be thousands on a network file system.
            there = {entry.name for entry in os.scandir(self.paths.iteration("labels", arm, iteration))}
        except (OSError, ValueError):
            return False
        return all(f"{job}.json" in there for job in jobs)

    def _stages(self, arm: str, iteration: int) -> list[list[str]]:
        proposed = iteration > 0 and not only_retries(read_requests(self.paths.retries), arm, iteration)
        return self.paths.stages(arm, iteration, arm in self.scored, proposed, self.members.get(arm, 0))

    def _are_members(self, stage: list[str], arm: str, iteration: int) -> bool:
        return stage == [self.paths.member(number, arm, iteration) for number in range(self.members.get(arm, 0))] != []

    def _receipts(self, arm: str, iteration: int) -> Path:
        return Path(self.paths.iteration("receipts", arm, iteration))


def _move_damaged_aside(receipts: Path, say: Callable[[str], None]) -> None:
    for receipt in damaged_receipts(receipts):
        # Nothing vouches for its files any more: they may have been damaged with it.
        for name in outputs_of(receipt.stem):
            path = receipts.parent / name
            if path.exists():
                say(f"{path}: its receipt is damaged: moved aside to {move_aside(path).name}, it will be made again")
        receipt.unlink()
    for path in missing_and_damaged(receipts, thorough=True)[1]:
        say(f"{path} is not what was written there: moved aside to {move_aside(path).name}, it will be made again")


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
    """Whether a leaf file has as many structures and lines as it says (cheap: 10,000 of them may wait)."""
    try:
        lines = leaf.read_text().split("\n")
        start, count = 0, 0
        announced = int(lines[1].partition(" structures=")[2].split()[0])
        while start + 2 < len(lines):
            start += int(lines[start]) + 2
            count += 1
    except (OSError, ValueError, IndexError):
        return False
    return count == announced and start + 1 == len(lines) and lines[-1] == ""
