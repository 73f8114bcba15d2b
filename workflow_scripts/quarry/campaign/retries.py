"""Failed labels that the user wants tried again: ``retries.json``, read at parse time (standard library only).

``snakemake retry_failed`` adds a request for each arm: the keys of its failed labels, and the iteration whose batch
takes them. Old records stay; a retry is a further row of a batch (``retry_of``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from quarry.campaign.batch_table import BatchRow
from quarry.errors import QuarryError
from quarry.files import write_json

TARGET = "retry_failed"


@dataclass(frozen=True)
class RetryRequest:
    """Labels to try again in the batch of an iteration.

    labels: (key of the failed label, structure id, role) each. only: the arm had stopped, so the batch holds nothing
    else.
    """

    arm: str
    iteration: int
    labels: tuple[tuple[str, str, str], ...]
    only: bool = False


def read_requests(path: str | Path) -> list[RetryRequest]:
    """Return all requests, oldest first; none if there is no file. Raises QuarryError if it is damaged."""
    try:
        items = json.loads(Path(path).read_bytes())
        return [RetryRequest(**{**item, "labels": tuple(map(tuple, item["labels"]))}) for item in items]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, KeyError) as error:
        raise QuarryError(
            f"{path} is damaged; put it back from a backup (without it the batches with retries cannot be told)"
        ) from error


def add_requests(path: str | Path, requests: Sequence[RetryRequest]) -> None:
    """Add requests to the file."""
    write_json(path, [asdict(request) for request in [*read_requests(path), *requests]])


def requests_for(requests: Iterable[RetryRequest], arm: str, iteration: int) -> list[RetryRequest]:
    """Return the requests for one batch."""
    return [request for request in requests if (request.arm, request.iteration) == (arm, iteration)]


def only_retries(requests: Iterable[RetryRequest], arm: str, iteration: int) -> bool:
    """Whether a batch holds nothing but retries, because the arm had stopped before."""
    return any(request.only for request in requests_for(requests, arm, iteration))


def with_retries(rows: Iterable[BatchRow], requests: Iterable[RetryRequest]) -> list[BatchRow]:
    """Return the rows of a batch with the retries that were asked for.

    A label that failed in this very batch is replaced by its retry; others are added at the end.
    """
    wanted = list(rows)
    for request in requests:
        for key, structure_id, role in request.labels:
            for index, row in enumerate(wanted):
                if row.key == key:
                    retry = replace(row, retry_of=key)
                    wanted[index] = replace(retry, job=retry.key)
                    break
            else:
                retry = BatchRow(structure_id, role, "", retry_of=key)
                wanted.append(replace(retry, job=retry.key))
    return wanted
