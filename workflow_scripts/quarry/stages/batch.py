"""Writing a batch down: the table, one job input per job, and the labels that need no job."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from quarry.campaign.batch_table import BatchRow, write_batch
from quarry.campaign.planned import write_planned
from quarry.config.campaign import MAIN_ARM, Configuration
from quarry.csv_tables import read_dicts
from quarry.errors import QuarryError
from quarry.files import copy_file, write_text
from quarry.labeling.ledger import LabelLedger
from quarry.labeling.record import LabelRecord, read_records, write_records
from quarry.labeling.store import LabelStore
from quarry.randomness import generator
from quarry.stages.planning import JobPlan, Planner
from quarry.structures import Structure
from quarry.structures.chosen import find_structures
from quarry.structures.files import read_copies, read_pool_ids, write_job_input


def batch_rows(
    configuration: Configuration, arm: str, iteration: int, structures: str, proposal: str | None
) -> list[BatchRow]:
    """Return the rows that an iteration asks for: drawn at first, later as proposed (none without a proposal)."""
    if iteration == 0:
        return draw_initial(configuration, structures, arm)
    return read_proposal(proposal) if proposal else []


def draw_initial(configuration: Configuration, structures: str, arm: str = MAIN_ARM) -> list[BatchRow]:
    """Draw the fixed test set and then the initial batch with the seed for it: that of the campaign, the same for every arm.

    Arms of ``control.splits`` have other seeds for it.
    The equilibrium geometry of a spectrum's pool comes first in the initial batch. Copies of test structures are not drawn.
    Raises QuarryError if too few structures are left.
    """
    ids = read_pool_ids(structures)
    query, n_test = configuration.query, configuration.test.size
    wanted = n_test + query.initial
    if wanted > len(ids):
        raise QuarryError(
            f"query.initial + test.size = {wanted} is more than the pool's {len(ids)} structures without duplicates; "
            "make the pool larger or the others smaller"
        )
    drawn = generator(configuration.arm(arm).draw, "initial").permutation(len(ids)).tolist()
    first = [0] if configuration.has_equilibrium else []
    others = [row for row in drawn if row not in first]
    groups = read_copies(structures)
    if groups is None:
        test, rest = others[:n_test], others[n_test:]
    else:
        allowed = [row for row in others if groups[row] not in groups[first]]
        test = allowed[:n_test]
        taken = set(groups[test].tolist())
        left = set(test)
        rest = [row for row in others if row not in left and int(groups[row]) not in taken]
        if len(test) < n_test or len(first) + len(rest) < query.initial:
            raise QuarryError(
                f"query.initial + test.size = {wanted} is more than the pool's {len(ids)} structures without copies of the "
                "test set; make the pool larger or the others smaller, or set filters.copies: leave_out"
            )
    if query.takes_first:
        rest.sort()
    train = (first + rest)[: query.initial]
    return [BatchRow(str(ids[i]), "test", str(ids[i])) for i in test] + [
        BatchRow(str(ids[i]), "train", str(ids[i])) for i in train
    ]


def read_proposal(proposal: str) -> list[BatchRow]:
    """Return the rows that a proposal asks for."""
    return [BatchRow(r["structure_id"], "train", r["structure_id"], r["score"]) for r in read_dicts(proposal)]


@dataclass(frozen=True)
class BatchFiles:
    """Where a batch is written down.

    table: of its rows. structures: with their sources, in the order of the rows. planned: what its jobs are predicted to
    take. reused: ids of labels that are known. job_inputs: folder of the jobs' inputs.
    """

    table: str
    structures: str
    planned: str
    reused: str
    job_inputs: str

    @property
    def labels(self) -> Path:
        """The folder of the label files."""
        return Path(self.table).with_name("labels")


def select_batch(
    rows: Sequence[BatchRow],
    candidates: Sequence[str],
    store: LabelStore,
    failed: LabelLedger,
    planner: Planner,
    files: BatchFiles,
    given: Callable[[Structure], LabelRecord | None] = lambda structure: None,
) -> str:
    """Write the batch: table, structures, plan and inputs of its jobs, labels that need no job; return a line about them.

    candidates: files of structures in which those of the rows are looked for. failed: the campaign's ledger. A label that is
    finished already (in ``files.labels``, in the store, or failed) is put in place newer than its input, so that Snakemake
    submits no job for it. That also holds when this batch is written again after a crash. given: returns the label that the
    user has of a structure (``labeling.known``), None if there is none; it is kept in the ledger.
    """
    found = find_structures([row.structure_id for row in rows], candidates)
    chosen, labels = list(found.structures), files.labels
    Path(files.job_inputs).mkdir(parents=True, exist_ok=True)
    labels.mkdir(parents=True, exist_ok=True)
    finished = _finished_files(labels, store.folder.name)
    known, stored = _known_records(rows, chosen, finished, store, failed, given)
    plans = planner.plan(rows, chosen, known)
    _write_job_inputs(plans, Path(files.job_inputs))
    for plan in plans:
        label = labels / f"{plan.planned.job}.json"
        ids = [row.structure_id for row in plan.rows]
        if [record.structure_id for record in finished.get(plan.planned.job, [])] == ids:
            os.utime(label)
        elif len(ids) == 1 and plan.rows[0].key in stored:
            copy_file(store.path(ids[0]), label)
        elif all(row.key in known for row in plan.rows):
            write_records(label, [known[row.key] for row in plan.rows])
    job_of = {row.key: row for plan in plans for row in plan.rows}
    found.write(files.structures)
    write_batch(files.table, [job_of[row.key] for row in rows])
    write_planned(files.planned, [plan.planned for plan in plans])
    write_text(files.reused, "structure_id\n" + "".join(f"{row.structure_id}\n" for row in rows if row.key in known))
    jobs = f" in {len(plans)} job{'s' * (len(plans) > 1)}" if len(plans) < len(rows) else ""
    return f"{len(rows)} structures{jobs}, {len(known)} of them labelled already"


def _finished_files(labels: Path, method_id: str) -> dict[str, list[LabelRecord]]:
    """Return the records of the intact label files that an earlier writing of this batch left, by job."""
    found = {}
    for path in sorted(labels.glob("*.json")):
        with contextlib.suppress(OSError, ValueError):
            records = read_records(path)
            if all(record.method_id == method_id for record in records):
                found[path.stem] = records
    return found


def _known_records(
    rows: Sequence[BatchRow],
    structures: Sequence[Structure],
    finished: Mapping[str, list[LabelRecord]],
    store: LabelStore,
    failed: LabelLedger,
    given: Callable[[Structure], LabelRecord | None],
) -> tuple[dict[str, LabelRecord], set[str]]:
    """Return the records that are there already, by key, and which of them were taken from the store.

    structures: of the rows. given: as in ``select_batch``; a label of the user's is better than the account of a failure (of a
    probe of the forecast), and is kept in the ledger.
    """
    # A failed record may be that of an earlier try: only the file of a job that is the label's own tells.
    here = {record.structure_id: record for records in finished.values() for record in records if record.ok}
    known, stored = {}, set()
    for row, structure in zip(rows, structures, strict=True):
        own = finished.get(row.key, [])
        record = own[0] if [r.structure_id for r in own] == [row.structure_id] else here.get(row.structure_id)
        if record is None:
            record = store.get(row.structure_id)
            if record is not None:
                stored.add(row.key)
        if record is None or not record.ok:
            label = given(structure)
            if label is not None:
                failed.put(row.key, label)
            record = label or record or failed.get(row.key)
        if record is not None:
            known[row.key] = record
    return known, stored


def _write_job_inputs(plans: Sequence[JobPlan], folder: Path) -> None:
    """Write the inputs of jobs, a longer job's never smaller than a shorter one's.

    Snakemake's greedy scheduler starts jobs with larger input first (job_reward in snakemake/scheduling/greedy.py), and
    a rule's priority cannot differ between its jobs. So the size of the input carries the order; blanks make up for what
    the number of atoms does not give. Within 1 % the order does not matter.
    """
    largest, least, length = 0, 0, 0.0
    for plan in sorted(plans, key=lambda plan: plan.length):
        if plan.length > 1.01 * length:
            least, length = largest + 1, plan.length
        path = folder / f"{plan.planned.job}.extxyz"
        write_job_input(path, plan.entries, least)
        largest = max(largest, path.stat().st_size)
