"""Merging finished labels into the data set, and accounting for the failed ones."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from quarry.campaign.batch_table import BatchRow, jobs_of, read_batch
from quarry.errors import QuarryError
from quarry.files import write_text
from quarry.labeling.record import LabelRecord, read_valid_records
from quarry.structures.files import read_pool
from quarry.structures.labelled import LabelledSet

FAILURE_COLUMNS = ("structure_id", "role", "iteration", "job", "status", "message", "tried", "wall_s", "core_hours")


def merge_labels(
    batch: str,
    labels: Sequence[str],
    structures: str,
    previous_dataset: str | None,
    previous_failures: str | None,
    iteration: int,
    method_id: str,
    max_failed_fraction: float,
    dataset: str,
    failures: str,
) -> str:
    """Add an iteration's labels to the data set; return a line about them.

    The inputs are compared with the batch table: Snakemake may lose inputs of a rule behind a checkpoint on resume
    (snakemake issue 3862), and a data set with silent gaps is worse than none. Raises QuarryError if they differ, if a
    record is of another method, or if more than ``max_failed_fraction`` of all labels have failed.
    """
    rows = read_batch(batch)
    records = _records(rows, labels, batch, method_id)
    good = [(row, records[row.structure_id]) for row in rows if records[row.structure_id].ok]
    failed = [(row, records[row.structure_id]) for row in rows if not records[row.structure_id].ok]
    pool = read_pool(structures)
    merged = LabelledSet.from_records(
        structures=[pool[int(i)] for i in pool.index_of([row.structure_id for row, _ in good])],
        roles=[row.role for row, _ in good],
        iterations=[iteration] * len(good),
        properties=[record.properties for _, record in good],
    )
    if previous_dataset is not None:
        merged = LabelledSet.read(previous_dataset).joined(merged)
    failure_rows = read_failures(previous_failures) if previous_failures else []
    failure_rows += [_failure(row, record, iteration) for row, record in failed]
    _check_failed_fraction(failure_rows, len(merged), max_failed_fraction)
    merged.write(dataset, {"method_id": method_id})
    write_text(failures, _csv(failure_rows))
    return f"{len(good)} labels merged, {len(failed)} failed; {len(merged)} in all"


def _records(rows: Sequence[BatchRow], labels: Sequence[str], batch: str, method_id: str) -> dict[str, LabelRecord]:
    given, wanted = {Path(path).stem: path for path in labels}, jobs_of(rows)
    if set(given) != set(wanted) or len(given) != len(labels):
        absent, extra = sorted(set(wanted) - set(given)), sorted(set(given) - set(wanted))
        raise QuarryError(
            f"{batch} names {len(wanted)} jobs, but {len(labels)} label files were given "
            f"({len(absent)} missing, {len(extra)} not in the batch); nothing was merged. Start again"
        )
    records = {record.structure_id: record for path in given.values() for record in read_valid_records(path)}
    for row in rows:
        record = records.get(row.structure_id)
        if record is None:
            raise QuarryError(f"{given[row.job]}: no record of structure {row.structure_id}, which {batch} puts there")
        if record.method_id != method_id:
            raise QuarryError(
                f"{given[row.job]}: label of method {record.method_id}, but the campaign's is {method_id}"
            )
    return records


def _failure(row: BatchRow, record: LabelRecord, iteration: int) -> dict[str, str]:
    tried = "; ".join(str(a.get("name", "")) for a in record.attempts)
    values = (row.structure_id, row.role, iteration, row.job, record.status, record.message, tried)
    cost = (record.cost["wall_s"], f"{record.core_hours:.6f}")
    return dict(zip(FAILURE_COLUMNS, map(str, (*values, *cost)), strict=True))


def _check_failed_fraction(failures: Sequence[dict[str, str]], n_good: int, limit: float) -> None:
    total = len(failures) + n_good
    if n_good and len(failures) <= limit * total + 1e-9:
        return
    table = ", ".join(f"{status} {count}" for status, count in Counter(f["status"] for f in failures).most_common())
    example = f"; the last says: {failures[-1]['message']}" if failures else ""
    excess = f", more than labeling.max_failed_fraction = {limit:g}" if n_good else ", nothing is left to learn from"
    raise QuarryError(f"{len(failures)} of {total} labels have failed ({table}){excess}{example}")


def _csv(rows: Sequence[dict[str, str]]) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, FAILURE_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def read_failures(path: str | Path) -> list[dict[str, str]]:
    """Read ``failures.csv``."""
    with open(path, newline="") as handle:
        return list(csv.DictReader(handle))
