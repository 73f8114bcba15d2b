"""What is intact on disk: which iterations are finished for good, and repairing before a restart.

Snakemake takes a file that exists for a file that is right, and its time for when it was made. After a crash of the machine,
a full disk, a copy or a careless hand that is not so; here every file is compared with the receipt of the job that wrote it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from quarry.campaign.batch_table import jobs_of, read_batch
from quarry.campaign.iterations import iteration_folders, iterations_with
from quarry.campaign.label_files import fault_of, holds, record_of, rows_of
from quarry.campaign.loop import LABELS, LATER, UNREAD, ArmPlan, Place, files_in, outputs_of, stages_of
from quarry.campaign.own_files import OwnFiles
from quarry.campaign.packed import Folder, inputs_and_labels, is_damaged, pack, unpack
from quarry.campaign.paths import PACKED, CampaignPaths
from quarry.campaign.reading import can_be_read, frames_of
from quarry.campaign.receipts import Account, accounted, accounts, damaged_receipts, missing_and_damaged
from quarry.campaign.retries import only_retries, read_requests
from quarry.campaign.times import Product, bring_from_future, put_in_order
from quarry.config.campaign import PROBES_ARM
from quarry.errors import QuarryError
from quarry.labeling.record import write_records
from quarry.labeling.store import place_of
from quarry.stopping.facts import Cost, Facts

PAST_NS = 10**9
"""Time (1970) of a file that is to be made again."""
MANY = 5
"""So many iterations are packed without a word."""
NO_INPUTS = frozenset({"logs", "receipts", "attempts", "failed", "set_aside"})
"""Folders whose files no rule reads, so that their times mean nothing."""


class Recovery:
    """The state of a campaign's files.

    plans: what an iteration of each arm has to do, the first arm first (``quarry.campaign.loop.ArmPlan``).
    """

    def __init__(self, paths: CampaignPaths, plans: Mapping[str, ArmPlan]) -> None:
        self.paths = paths
        self.plans = plans
        self.arms = list(plans)
        self.own = OwnFiles(paths.root)

    def count_intact(self, arm: str) -> int:
        """Return the number of leading iterations of an arm that are intact. The last one is compared by hash."""
        count = 0
        while Path(self.paths.facts(arm, count)).exists() and self.is_intact(arm, count):
            count += 1
        while count and not self.is_intact(arm, count - 1, thorough=True):
            count -= 1
        return count

    def is_intact(self, arm: str, iteration: int, thorough: bool = False) -> bool:
        """Whether an iteration is finished and every file of it is there, as its receipts say."""
        try:
            Facts.read(self.paths.facts(arm, iteration))
            Cost.read(self.paths.cost(arm, iteration))
            if not self._labels_are_there(arm, iteration):
                return False
        except (OSError, ValueError):
            return False
        files = self._files(arm, iteration)
        # No earlier version had samplers: there the structures of a batch are in no pool.
        later = frozenset() if self.plans[arm].sampled else LATER
        files = [file for file in files if file.exists() or file.name not in later]
        if not all(file.exists() for file in files):
            return False
        receipts = self._receipts(arm, iteration)
        missing, damaged = missing_and_damaged(receipts, thorough)
        if missing or damaged or damaged_receipts(receipts):
            return False
        known = accounted(receipts)
        return all(can_be_read(file) for file in files if file not in known)

    def repair(self, say: Callable[[str], None], store: Path | None = None) -> None:
        """Move damaged files aside so that they are made again; never remove or overwrite a label.

        Only what a restart builds on is looked at: pool and features, products, and the iterations that are not intact.
        say: receives one line per repaired file. store: the folder of the campaign's method, which labels are compared with.
        """
        pool, root = Path(self.paths.pool), Path(self.paths.root)
        products = {root / arm: Place.ARM for arm in self.arms} | {
            root: Place.CAMPAIGN,
            root / "figures": Place.FIGURES,
        }
        intact = {arm: self.count_intact(arm) for arm in self.arms}
        for arm, first in intact.items():
            for iteration in (t for t in iterations_with(self.paths.arm(arm)) if t >= first):
                self._unpack(arm, iteration, say)
        self._repair_future(intact, say)
        for folder in (pool, *products):
            self._move_damaged_aside(folder / "receipts", say)
        self._move_unaccounted_aside(pool, Place.POOL, can_be_read, say)
        for folder, place in products.items():
            # Made again in seconds, and for a user to rely on: what nobody vouches for is not kept.
            self._move_unaccounted_aside(folder, place, lambda path: False, say)
        unfinished = []
        for arm, first in intact.items():
            for iteration in (t for t in iterations_with(self.paths.arm(arm)) if t >= first):
                self._repair_iteration(arm, iteration, say, store)
                self._complete_batch(arm, iteration)
                self._leave_leading_files(arm, iteration, reopen=iteration > first)
                unfinished.append(self._receipts(arm, iteration))
        for path in sorted(Path(self.paths.verification).glob("*/seed_*/*.json")):
            if not can_be_read(path):
                self._say_aside(path, "cannot be read", say)
        if not intact[self.arms[0]]:
            self._unpack(PROBES_ARM, 0, say)
        probes = Path(self.paths.iteration("", PROBES_ARM, 0))
        if probes.exists() and not (probes / PACKED).exists():
            self._repair_iteration(PROBES_ARM, 0, say, store)
            unfinished.append(self._receipts(PROBES_ARM, 0))
        self._repair_times([pool / "receipts", *unfinished], [folder / "receipts" for folder in products])

    def packed(self) -> Iterator[tuple[str, float]]:
        """Yield what a look at the campaign is to take as there, with the time (s) that it would have.

        That is what is packed of job inputs and labels, and files beside a batch table that an earlier version did not make.
        """
        for arm in self.arms:
            for iteration in iterations_with(self.paths.arm(arm)):
                folder = Path(self.paths.iteration("", arm, iteration))
                yield from inputs_and_labels(folder)
                table = Path(self.paths.batch(arm, iteration))
                if table.exists():
                    absent = [folder / name for name in sorted(LATER) if not (folder / name).exists()]
                    yield from ((str(path), table.stat().st_mtime) for path in absent)

    def pack(self, say: Callable[[str], None]) -> None:
        """Pack what no rule asks for any more of the iterations that are left out of the graph, and the forecast's probes.

        say: receives a line where that cannot be done, which is no reason to end a run.
        """
        intact = {arm: self.count_intact(arm) for arm in self.arms}
        done = [(arm, t) for arm in self.arms for t in range(intact[arm])]
        first = [place for place in done if not Path(self.paths.iteration(PACKED, *place)).exists()]
        if len(first) > MANY:
            say(f"{self.paths.root}: packing {len(first)} finished iterations, once; thousands of labels take minutes")
        pack_iterations(self.paths, [*done, *([(PROBES_ARM, 0)] if intact[self.arms[0]] else [])], say)

    def tell_damaged(self, say: Callable[[str], None]) -> None:
        """Say what a start would do (``restore``) about damaged archives; nothing is written. say: receives a line for each."""
        for archive in self._damaged_archives():
            say(
                f"{archive} is damaged: the label jobs of its iteration are listed, but a start first puts the labels in place "
                "that the store has"
            )

    def _damaged_archives(self) -> Iterator[Path]:
        archives = (
            Path(self.paths.iteration(PACKED, arm, t))
            for arm in self.arms
            for t in iterations_with(self.paths.arm(arm))
        )
        yield from filter(is_damaged, archives)

    def restore(self, store: Path, say: Callable[[str], None]) -> None:
        """Put labels in place whose archive is damaged, where the store or the ledger of failed ones has them.

        store: the folder of the campaign's method. The iteration need not be made again then.
        """
        for archive in self._damaged_archives():
            aside = self.own.move_aside(archive)
            found, wanted = self._restore_labels(archive.parent, store)
            say(
                f"{archive} is damaged: moved aside to {aside.name}, {found} of {wanted} label files are put in place from "
                "the store; logs and attempts are lost"
            )

    def _restore_labels(self, iteration: Path, store: Path) -> tuple[int, int]:
        """Return how many label files are there then, and how many there should be."""
        table, found = iteration / "batch.csv", 0
        by_job = rows_of(table)
        for job, rows in by_job.items():
            label = iteration / "labels" / f"{job}.json"
            records = [
                record_of(
                    row.structure_id, [place_of(store, row.structure_id), Path(self.paths.failed, f"{row.key}.json")]
                )
                for row in rows
            ]
            if not label.exists() and None not in records:
                write_records(label, [record for record in records if record is not None])
                self.own.set_time(label, table.stat().st_mtime_ns)
            found += label.exists()
        return found, len(by_job)

    def _unpack(self, arm: str, iteration: int, say: Callable[[str], None]) -> None:
        folder = Path(self.paths.iteration("", arm, iteration))
        lost = unpack(folder, self.own)
        if lost:
            say(
                f"{folder / PACKED} is damaged ({lost[0]}): moved aside; its labels are taken from the store or computed again"
            )

    def _repair_future(self, intact: Mapping[str, int], say: Callable[[str], None]) -> None:
        """Bring times from the future. whole: iterations of each arm; of their labels, which may be many, no rule asks."""
        sealed = {
            Path(self.paths.iteration(name, arm, t))
            for arm in intact
            for t in range(intact[arm])
            for name in ("labels", "batch")
        }
        count = bring_from_future(self.own, self.own.walk(lambda folder: folder.name in NO_INPUTS or folder in sealed))
        if count:
            say(f"{self.paths.root}: {count} files have times in the future; they are given the time of this start")

    def _repair_times(self, made: list[Path], collected: list[Path]) -> None:
        """Let times say what the receipts say. made: folders of receipts in the order of work. collected: those of products."""
        products = []
        for receipts in made:
            products += [Product.of(account) for account in accounts(receipts)]
            products += self._labels_of(receipts.parent)
        facts = [file for folder in iteration_folders(self.paths.root) if (file := folder / "facts.json").exists()]
        for account in (account for receipts in collected for account in accounts(receipts)):
            if _is_outdated(account, facts):
                for path in account.outputs:
                    if path.exists():
                        self.own.set_time(path, PAST_NS)
            else:
                products.append(Product.of(account))
        put_in_order(self.own, products)

    def _labels_of(self, folder: Path) -> list[Product]:
        """Return the labels of an iteration, each made of its job's input."""
        by_job = rows_of(folder / "batch.csv")

        def product(job: str, ids: list[str]) -> Product:
            label = folder / "labels" / f"{job}.json"
            return Product([label], [folder / "batch" / f"{job}.extxyz"], lambda: holds(label, ids))

        return [product(job, [row.structure_id for row in rows]) for job, rows in by_job.items()]

    def _repair_iteration(self, arm: str, iteration: int, say: Callable[[str], None], store: Path | None) -> None:
        receipts = self._receipts(arm, iteration)
        self._move_damaged_aside(receipts, say)
        known = accounted(receipts)
        for file in self._files(arm, iteration):
            if file not in known and file.exists() and not can_be_read(file):
                self._say_aside(file, "has no receipt and cannot be read", say)
        rows = rows_of(self.paths.batch(arm, iteration))
        for label in sorted(Path(self.paths.iteration("labels", arm, iteration)).glob("*.json")):
            ids = [row.structure_id for row in rows.get(label.stem, [])]
            fault = fault_of(label, ids, store)
            if fault:
                aside = self.own.move_aside(label).name
                say(f"{fault}: moved aside to {aside}, it will be taken from the store or computed again")
        self._repair_batch(arm, iteration, say)

    def _complete_batch(self, arm: str, iteration: int) -> None:
        """Write the structures of a batch whose table an earlier version wrote, so that nothing made of it is made again."""
        table = Path(self.paths.batch(arm, iteration))
        structures = Path(self.paths.outputs("select_batch", arm, iteration)["structures"])
        if structures.exists() or not table.exists() or not Path(self.paths.structures).exists():
            return
        # Here and not above: the main process needs HDF5 for nothing else.
        from quarry.structures.chosen import find_structures

        try:
            find_structures([row.structure_id for row in read_batch(table)], [self.paths.structures]).write(structures)
        except (QuarryError, KeyError):
            # Not the pool of this batch, or a damaged one: the batch is written again.
            return
        self.own.set_time(structures, table.stat().st_mtime_ns)

    def _leave_leading_files(self, arm: str, iteration: int, reopen: bool) -> None:
        """Leave of an iteration only the files before the first missing one; labels always stay.

        Snakemake skips a checkpoint whose output exists behind a job that must run, without asking the input functions
        again, and the jobs that wait for it run with placeholders for input (measured; snakemake issue 3862). So what is
        on disk must be what an interrupted run leaves. reopen: an earlier iteration is made again, so the gates of this
        one (batch.csv, facts.json) must open again too; what lies between them is found unchanged and kept.
        """
        plan, complete = self._plan(arm, iteration), 0
        stages = stages_of(plan)
        files = self.paths.stages(arm, iteration, plan)
        known = accounted(self._receipts(arm, iteration))
        for stage, made in zip(stages, files, strict=True):
            # What no rule reads need not be there where an earlier version, which did not make it, has made the others.
            needed = [file for file in made if Path(file).name not in UNREAD or Path(file) in known]
            there = self._labels_are_there(arm, iteration) if stage is LABELS else all(map(os.path.exists, needed))
            if not there:
                break
            complete += 1
        doomed = [file for made in files[complete:] for file in made] + files[-1]
        if complete < len(stages) and stages[complete].part:
            # Each is made by a job of its own, so that an interrupted run leaves some of them; they took long.
            doomed = doomed[len(files[complete]) :]
        if reopen:
            doomed.append(self.paths.batch(arm, iteration))
        for file in doomed:
            self.own.remove(file)

    def _labels_are_there(self, arm: str, iteration: int) -> bool:
        try:
            jobs = jobs_of(read_batch(self.paths.batch(arm, iteration)))
            # One listing instead of a look at each file: there may be thousands on a network file system.
            there = set(Folder(self.paths.iteration("labels", arm, iteration)).names())
        except (OSError, ValueError):
            return False
        return all(f"{job}.json" in there for job in jobs)

    def _plan(self, arm: str, iteration: int) -> ArmPlan:
        proposed = iteration > 0 and not only_retries(read_requests(self.paths.retries), arm, iteration)
        # The probes of a forecast, of no arm, have nothing but a batch.
        return replace(self.plans.get(arm, ArmPlan()), proposed=proposed)

    def _files(self, arm: str, iteration: int) -> list[Path]:
        """Return the files of an iteration's rules (labels left out)."""
        stages = self.paths.stages(arm, iteration, self._plan(arm, iteration))
        return [Path(file) for files in stages for file in files]

    def _receipts(self, arm: str, iteration: int) -> Path:
        return Path(self.paths.iteration("receipts", arm, iteration))

    def _move_damaged_aside(self, receipts: Path, say: Callable[[str], None]) -> None:
        for receipt in damaged_receipts(receipts):
            # Nothing vouches for its files any more: they may have been damaged with it.
            for name in outputs_of(receipt.stem):
                path = receipts.parent / name
                if path.exists():
                    self._say_aside(path, "has a damaged receipt", say)
            self.own.remove(receipt)
        for path in missing_and_damaged(receipts, thorough=True)[1]:
            self._say_aside(path, "is not what was written there", say)

    def _move_unaccounted_aside(
        self, folder: Path, place: Place, is_intact: Callable[[Path], bool], say: Callable[[str], None]
    ) -> None:
        """Move the files of a folder's rules aside that no receipt vouches for and that are not whole."""
        known = accounted(folder / "receipts")
        for path in sorted(folder / name for name in files_in(place)):
            if path not in known and path.exists() and not is_intact(path):
                self._say_aside(path, "has no receipt", say)

    def _say_aside(self, path: Path, why: str, say: Callable[[str], None]) -> None:
        say(f"{path} {why}: moved aside to {self.own.move_aside(path).name}, it will be made again")

    def _repair_batch(self, arm: str, iteration: int, say: Callable[[str], None]) -> None:
        """A batch table whose job inputs are damaged is drawn again (the same batch); finished labels stay."""
        table = Path(self.paths.batch(arm, iteration))
        if not table.exists():
            return
        try:
            jobs = jobs_of(read_batch(table))
        except ValueError as error:
            say(f"{error}: moved aside to {self.own.move_aside(table).name}, it will be made again")
            return
        for job in jobs:
            job_input = Path(self.paths.job_input(job, arm, iteration))
            if not Path(self.paths.label(job, arm, iteration)).exists() and not _job_input_is_intact(job_input):
                say(f"{job_input} is missing or damaged: {table} will be made again")
                self.own.remove(table)
                return


def pack_iterations(paths: CampaignPaths, iterations: Iterable[tuple[str, int]], say: Callable[[str], None]) -> None:
    """Pack iterations, given by arm and number, of which nothing in the graph asks for a label any more.

    say: receives a line where that cannot be done.
    """
    own = OwnFiles(paths.root)
    for arm, iteration in iterations:
        folder = Path(paths.iteration("", arm, iteration))
        try:
            pack(folder, own)
        except (OSError, QuarryError) as error:
            say(f"{folder} is not packed ({getattr(error, 'strerror', None) or error}); its files stay as they are")
            return


def _is_outdated(account: Account, facts: list[Path]) -> bool:
    """Whether a product was made of other files than are there now, or before the last iteration. facts: all on disk."""
    arms = {path.parent.parent for path in account.inputs if path.name == "facts.json"}
    if any(path.parent.parent in arms and path not in account.inputs for path in facts):
        return True
    return all(path.exists() for path in account.inputs) and not account.is_true


def _job_input_is_intact(job_input: Path) -> bool:
    """Whether a job input has as many structures and lines as it says (cheap: 10,000 of them may wait)."""
    try:
        announced = int(job_input.read_text().split("\n", 2)[1].partition(" structures=")[2].split()[0])
        return frames_of(job_input) == announced
    except (OSError, ValueError, IndexError):
        return False
