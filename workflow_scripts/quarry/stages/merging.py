"""Merging finished labels into the data set, and accounting for the failed ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from quarry.campaign.batch_table import BatchRow, jobs_of, read_batch
from quarry.campaign.failure_table import (
    FAILURE_COLUMNS,
    REMEDIES,
    open_failures,
    put_off,
    read_failures,
    table_by_class,
    write_failures,
)
from quarry.errors import QuarryError
from quarry.labeling.keys import key_before
from quarry.labeling.ledger import LabelLedger
from quarry.labeling.outliers import find_outliers, read_outliers, write_outliers
from quarry.labeling.record import LabelRecord, read_valid_records
from quarry.labeling.transition_orbitals import TransitionOrbitals
from quarry.labeling.wanted import Wanted
from quarry.stages.auditing import AuditSettings, audit_merged
from quarry.structures import StructureSet
from quarry.structures.files import read_pool, read_pool_sources
from quarry.structures.labelled import LabelledSet
from quarry.terminal import tell


@dataclass(frozen=True)
class Merged:
    """The files of the labels so far: data set, failures, values that stand out, audit."""

    dataset: str
    failures: str
    outliers: str
    audit: str


@dataclass(frozen=True)
class MergeRules:
    """What labels are held against.

    method_id: of the campaign. wanted: what a label must have; one that lacks it, which another campaign may have put into the
    store, counts as failed. max_failed_fraction: of all labels (those that were tried again, or are put off to the next batch,
    do not count). outlier_z: robust z beyond which a label is flagged; None: no label. audit: ``stages.auditing``.
    """

    method_id: str
    wanted: Wanted
    max_failed_fraction: float
    outlier_z: float | None
    audit: AuditSettings


def merge_labels(
    batch: str,
    structures: str,
    labels: Sequence[str],
    iteration: int,
    previous: Merged | None,
    output: Merged,
    rules: MergeRules,
    ledger: LabelLedger,
) -> str:
    """Add an iteration's labels to the data set; return a line about them.

    batch, structures: table and structures of the batch. labels: its label files. previous: of the iteration before, None in
    the first one. ledger: failed labels of the campaign; those that rows of this batch try again are accounted for from there.
    The inputs are compared with the batch table: Snakemake may lose inputs of a rule behind a checkpoint on resume
    (snakemake issue 3862), and a data set with silent gaps is worse than none. Labels with natural transition orbitals of their
    states have
    these tracked from the first training label on. All labels are audited; with labeling.audit: stop, errors are refused too.
    Raises QuarryError if labels and batch differ, if a record is of another method, or if too many labels have failed.
    """
    rows, wanted = read_batch(batch), rules.wanted
    records = {key: wanted.judged(record) for key, record in _records(rows, labels, batch, rules.method_id).items()}
    good = [(row, records[row.structure_id]) for row in rows if records[row.structure_id].ok]
    failed = [(row, records[row.structure_id]) for row in rows if not records[row.structure_id].ok]
    chosen = read_pool(structures)
    earlier = None if previous is None else LabelledSet.read(previous.dataset)
    reference, tracked = _tracked(good, chosen, earlier)
    places = chosen.index_of([row.structure_id for row, _ in good])
    new = LabelledSet.from_records(
        structures=[chosen[int(i)] for i in places],
        roles=[row.role for row, _ in good],
        iterations=[iteration] * len(good),
        properties=[{**record.properties, **states} for (_, record), states in zip(good, tracked, strict=True)],
        state_reference=reference,
        sources=read_pool_sources(structures, places),
    )
    merged = new if earlier is None else earlier.joined(new)
    merged = replace(merged, rejected=rules.audit.rejected & set(merged.structures.ids.tolist()))
    failure_rows = read_failures(previous.failures) if previous else []
    failure_rows = _with_retries_noted(failure_rows, rows, iteration, ledger)
    failure_rows += [_failure(row, record, iteration) for row, record in failed]
    _check_failed_fraction(failure_rows, iteration, len(merged), rules.max_failed_fraction)
    details = {row.structure_id: record.details for row, record in good}
    findings = audit_merged(merged, details, previous.audit if previous else None, rules.audit, output.audit)
    z = rules.outlier_z
    flagged = find_outliers(new, z, iteration, earlier) if z is not None and good else []
    write_outliers(output.outliers, [*(read_outliers(previous.outliers) if previous else []), *flagged])
    merged.write(output.dataset, {"method_id": rules.method_id})
    write_failures(output.failures, failure_rows)
    message = f"{len(good)} labels merged, {len(failed)} failed; {len(merged)} in all"
    names = ", ".join(sorted({outlier.structure_id for outlier in flagged})[:3])
    message += f"; {len(flagged)} values stand out, see outliers.csv ({names})" if flagged else ""
    doubts = sum(finding.bad for finding in findings)
    return message + (f"; {doubts} finding{'' if doubts == 1 else 's'} of the audit, see audit.csv" if doubts else "")


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
            raise QuarryError(
                f"{given[row.job]}: no record of structure {row.structure_id}, which {batch} puts there; "
                "remove it and start again"
            )
        if record.method_id != method_id:
            raise QuarryError(
                f"{given[row.job]}: label of method {record.method_id}, but the campaign's is {method_id}; "
                "remove it and start again"
            )
    return records


def _tracked(
    good: Sequence[tuple[BatchRow, LabelRecord]], batch: StructureSet, earlier: LabelledSet | None
) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """Return the geometry that states are tracked from, and state_order and state_overlap of each label (or neither).

    batch: its structures. earlier: the labels before, with the reference (``LabelledSet.state_reference``); the first training
    label with natural transition orbitals becomes it where there is none yet. It stays, whatever is labelled later.
    """
    reference = None if earlier is None else earlier.state_reference
    known = [(row, record.details["characters"]) for row, record in good if "characters" in record.details]
    if reference is None:
        training = (entry for entry in known if entry[0].role == "train")
        reference = next(({"structure_id": r.structure_id, "characters": c} for r, c in training), None)
    properties: dict[str, dict[str, Any]] = {row.structure_id: {} for row, _ in good}
    if reference is not None and known:
        # Here and not above: merging is a step of every campaign, and scipy.optimize takes a while to import.
        from quarry.spectra.states import KnownStates, track_states

        name = reference["structure_id"]
        home = batch if earlier is None or name in batch.ids else earlier.structures
        first = KnownStates(home[int(home.index_of([name])[0])], TransitionOrbitals.from_json(reference["characters"]))
        others = [
            KnownStates(batch[int(i)], TransitionOrbitals.from_json(data))
            for i, (_, data) in zip(batch.index_of([row.structure_id for row, _ in known]), known, strict=True)
        ]
        order, overlap = track_states(first, others)
        for (row, _), places, overlaps in zip(known, order, overlap, strict=True):
            if not np.isnan(places).any():
                properties[row.structure_id] = {"state_order": places, "state_overlap": overlaps}
    return reference, list(properties.values())


def _with_retries_noted(
    failures: list[dict[str, str]], rows: Sequence[BatchRow], iteration: int, ledger: LabelLedger
) -> list[dict[str, str]]:
    """Note in the failures which of them this batch tries again.

    A label that failed in this very batch and was tried again before the merge has no row yet: it gets one.
    """
    noted = [dict(failure) for failure in failures]
    known = {failure["key"]: failure for failure in noted}
    for row in rows:
        retry = row
        while retry.retry_of:
            before = _row_before(retry)
            if before.key not in known:
                record = ledger.get(before.key)
                if record is None:
                    break
                known[before.key] = _failure(before, record, iteration)
                noted.append(known[before.key])
            known[before.key]["retried"] = retry.key
            retry = before
    return noted


def _row_before(row: BatchRow) -> BatchRow:
    """Return the row of the label that a row tries again."""
    return BatchRow(row.structure_id, row.role, row.retry_of, retry_of=key_before(row.retry_of))


def _failure(row: BatchRow, record: LabelRecord, iteration: int) -> dict[str, str]:
    tried = "; ".join(str(a.get("name", "")) for a in record.attempts)
    values = (row.structure_id, row.key, row.role, iteration, row.job, record.status, record.message, tried)
    cost = (record.cost["wall_s"], f"{record.core_hours:.6f}", "yes" if record.details.get("straggler") else "", "")
    return dict(zip(FAILURE_COLUMNS, map(str, (*values, *cost)), strict=True))


def _check_failed_fraction(failures: Sequence[dict[str, str]], iteration: int, n_good: int, limit: float) -> None:
    waiting = {row["key"] for row in put_off(failures, iteration)}
    counted = [row for row in open_failures(failures) if row["key"] not in waiting]
    total = len(counted) + n_good
    if n_good and len(counted) <= limit * total + 1e-9:
        return
    classes = ", ".join(f"{status} {count}" for status, count in Counter(f["status"] for f in counted).most_common())
    for line in table_by_class(counted):
        tell(f"failed: {line}")
    excess = f", more than labeling.max_failed_fraction = {limit:g}" if n_good else ", nothing is left to learn from"
    example = f"; the last says: {counted[-1]['message']}" if counted else ""
    raise QuarryError(
        f"{len(counted)} of {total} labels have failed ({classes}){excess}{example}. {_advice(counted, n_good)}"
    )


def _advice(failures: Sequence[dict[str, str]], n_good: int) -> str:
    """Return what may be done against failures, and whether the method may be changed for it."""
    common = [status for status, _ in Counter(row["status"] for row in failures).most_common(2)]
    remedies = "; ".join(f"{status}: {REMEDIES[status]}" for status in common if status in REMEDIES)
    again = "then try them again with the target retry_failed"
    if n_good:
        return f"{remedies}; {again}. What changes the method's numbers needs a campaign of another name"
    return (
        f"{remedies}; {again}. As long as no label of the campaign has succeeded, every key may be changed as well: then just "
        "start it, and it begins anew"
    )
