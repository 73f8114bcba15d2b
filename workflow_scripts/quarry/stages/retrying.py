"""The rows of a batch with its retries, and what their jobs must know of the attempts before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from quarry.campaign.batch_table import BatchRow
from quarry.campaign.failure_table import put_off, read_failures
from quarry.campaign.retries import RetryRequest, requests_for, with_retries
from quarry.labeling.attempts import Attempt, Attempts
from quarry.labeling.ledger import LabelLedger


def add_retries(
    rows: Iterable[BatchRow],
    arm: str,
    iteration: int,
    failures: str | None,
    requests: Sequence[RetryRequest],
) -> list[BatchRow]:
    """Return the rows of a batch with the stragglers of the previous one and the retries that the user asked for.

    failures: ``failures.csv`` of the previous iteration, None in iteration 0. requests: of the whole campaign.
    """
    requests = requests_for(requests, arm, iteration)
    stragglers = put_off(read_failures(failures), iteration - 1) if failures else []
    labels = tuple((row["key"], row["structure_id"], row["role"]) for row in stragglers)
    asked = {label[0] for request in requests for label in request.labels}
    by_themselves = RetryRequest(arm, iteration, tuple(label for label in labels if label[0] not in asked))
    return with_retries(rows, [by_themselves, *requests])


def hand_down_attempts(rows: Iterable[BatchRow], ledger: LabelLedger, folder: Path) -> None:
    """Write down for the jobs of retries what was not enough before, so that they ask for more.

    folder: ``attempts`` of the iteration. What was handed down once is not again.
    """
    attempts = Attempts(folder)
    for row in rows:
        record = ledger.get(row.retry_of) if row.retry_of else None
        if record is None or record.status not in ("out_of_memory", "out_of_time") or attempts.path(row.key).exists():
            continue
        attempts.start(
            Attempt(
                key=row.retry_of,
                run="",
                host=record.host,
                memory_MB=record.details["memory_MB"],
                walltime_s=record.cost["wall_s"] if record.details.get("straggler") else record.details["walltime_s"],
                end=record.status,
            ),
            key=row.key,
        )
