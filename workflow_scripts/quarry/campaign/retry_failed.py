"""``snakemake retry_failed``: put the failed labels of every arm into its next batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from quarry.campaign.batch_table import read_batch
from quarry.campaign.failure_table import open_failures, put_off, read_failures
from quarry.campaign.iterations import count_with
from quarry.campaign.own_files import OwnFiles
from quarry.campaign.paths import CampaignPaths
from quarry.campaign.reading import can_be_read
from quarry.campaign.retries import RetryRequest, add_requests, read_requests
from quarry.errors import QuarryError
from quarry.labeling.ledger import LabelLedger

HasStopped = Callable[[str, int], bool]
"""Whether an arm stops at an iteration."""


def retry_failed(
    paths: CampaignPaths, arms: Sequence[str], has_stopped: HasStopped, say: Callable[[str], None], write: bool = True
) -> bool:
    """Ask for a retry of every failed label that is not waiting for one, and return whether any was asked for.

    A batch that is not merged yet (too many failures stop a campaign there) is opened again and takes them itself;
    otherwise the next one does, also when the arm had stopped. say: receives one line per arm. write: False only
    says what would be tried.
    """
    waiting = {label[0] for request in read_requests(paths.retries) for label in request.labels}
    requests = []
    for arm in arms:
        request = _request(paths, arm, has_stopped, waiting)
        if request is None:
            say(f"arm {arm}: no failed labels to try again")
            continue
        batch = f"iteration {request.iteration}" + (", which holds nothing else" if request.only else "")
        say(f"arm {arm}: {len(request.labels)} failed labels go into the batch of {batch}")
        requests.append(request)
    if not write or not requests:
        return False
    add_requests(paths.retries, requests)
    for request in requests:
        # An open batch is written again with the retries in it; what it has labelled stays.
        OwnFiles(paths.root).remove(paths.batch(request.arm, request.iteration))
    return True


def _request(paths: CampaignPaths, arm: str, has_stopped: HasStopped, waiting: set[str]) -> RetryRequest | None:
    merged = count_with(lambda t: paths.iteration("failures.csv", arm, t))
    labels: list[tuple[str, str, str]] = []
    if merged:
        rows = _failures(paths.iteration("failures.csv", arm, merged - 1))
        # Stragglers of the last batch come back by themselves, unless the arm has stopped.
        stopped = has_stopped(arm, merged - 1)
        by_themselves = set() if stopped else {row["key"] for row in put_off(rows, merged - 1)}
        labels += [
            (row["key"], row["structure_id"], row["role"])
            for row in open_failures(rows)
            if row["key"] not in by_themselves
        ]
    only = bool(merged) and stopped
    batch = Path(paths.batch(arm, merged))
    if batch.exists():
        failed = LabelLedger(paths.failed).failures()
        labels += [(row.key, row.structure_id, row.role) for row in read_batch(batch) if row.key in failed]
    labels = [label for label in labels if label[0] not in waiting]
    return RetryRequest(arm, merged, tuple(labels), only) if labels else None


def _failures(path: str) -> list[dict[str, str]]:
    rows = read_failures(path) if can_be_read(path) else None
    if rows is None or any(not {"key", "retried"} <= row.keys() for row in rows):
        raise QuarryError(f"{path} is damaged; a real run moves it aside and makes it again")
    return rows
