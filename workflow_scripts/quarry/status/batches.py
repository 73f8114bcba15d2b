"""What becomes of the labels of a batch: which are done, which are being computed, by whom and since when."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quarry.campaign.batch_table import BatchRow, read_batch
from quarry.campaign.packed import members
from quarry.campaign.paths import PACKED, CampaignPaths
from quarry.files import read_file
from quarry.labeling.store import place_of
from quarry.processes import is_running
from quarry.status.facts import Batch, Job
from quarry.status.files import names_in, time_of

SILENT_AFTER_HEARTBEATS = 6
"""A claim on another host whose file was not touched for so many heartbeats is silent."""
HEARTBEAT_S = 20.0
"""Time (s) between two heartbeats of a claim that does not say it."""
OK = b'"status":"ok"'
"""What stands in the file of a label that has not failed (``quarry.labeling.record``), found without reading all numbers."""


@dataclass(frozen=True)
class Labelling:
    """A batch, and the jobs that label it."""

    batch: Batch
    jobs: list[Job]
    failures: list[dict[str, str]]
    """Failed labels, with structure_id, status and message, as rows of ``failures.csv``, which is written when all are done."""


def labelling(
    paths: CampaignPaths, arm: str, iteration: int, store: Path | None, submitted: dict[str, tuple[float, str]]
) -> Labelling | None:
    """Return what becomes of a batch; None where there is no batch table that can be read.

    store: folder of the campaign's method in the label store; None: not known. submitted: label jobs that Snakemake has handed
    out, by name: when (s since 1970), and their number in a batch system.
    """
    try:
        rows = read_batch(paths.batch(arm, iteration))
    except (OSError, ValueError):
        return None
    folder = Path(paths.iteration("", arm, iteration))
    finished = names_in(folder / "labels") | {
        name.rpartition("/")[2] for name in members(folder / PACKED) if name.startswith("labels/")
    }
    ledger, claims = names_in(paths.failed), _Claims(store)
    done = queued = 0
    jobs: list[Job] = []
    failures: list[dict[str, str]] = []
    for row in rows:
        in_ledger = f"{row.key}.json" in ledger
        if (
            f"{row.job}.json" in finished
            or in_ledger
            or (store is not None and place_of(store, row.structure_id).exists())
        ):
            done += 1
            failure = _failure(Path(paths.failed, f"{row.key}.json")) if in_ledger else {}
            failures += [{**failure, "structure_id": row.structure_id, "iteration": str(iteration)}] if failure else []
            continue
        job = claims.job(row, arm, iteration, submitted.get(row.job, (0.0, ""))[1])
        if job is None and row.job in submitted:
            when, number = submitted[row.job]
            job = Job(
                "label",
                arm,
                iteration,
                "queued",
                row.structure_id,
                batch_system_job=number,
                since=clock(when),
                elapsed_s=age(when),
            )
            queued += 1
        jobs += [job] if job is not None else []
    running = sum(job.state == "running" for job in jobs)
    batch = Batch(
        len(rows),
        done,
        len(failures),
        _reused(paths, arm, iteration),
        running,
        queued,
        len(rows) - done - running - queued,
    )
    return Labelling(batch, jobs, failures)


class _Claims:
    """The claims of a store's method (``quarry.labeling.claims``), looked at and not judged by any clock but this one's."""

    def __init__(self, store: Path | None) -> None:
        self._folder = None if store is None else store / "claims"
        self._names: dict[str, frozenset[str]] = {}

    def job(self, row: BatchRow, arm: str, iteration: int, number: str) -> Job | None:
        """Return who computes a label, None if nobody has claimed it. number: of its job in a batch system."""
        if self._folder is None:
            return None
        digits = row.structure_id[:2]
        if digits not in self._names:
            self._names[digits] = names_in(self._folder / digits)
        numbers = [name.split(".")[-2] for name in self._names[digits] if name.startswith(f"{row.structure_id}.")]
        highest = max((int(text) for text in numbers if text.isdigit()), default=None)
        if highest is None:
            return None
        path = self._folder / digits / f"{row.structure_id}.{highest}.json"
        try:
            content, state = read_file(path)
            owner: dict[str, Any] = json.loads(content)
            if owner.get("released"):
                return None
            heartbeat_s = float(owner.get("heartbeat_s", HEARTBEAT_S))
        except (OSError, ValueError, TypeError, AttributeError):
            return None
        alive = is_running(owner)
        silent = time.time() - state.st_mtime > SILENT_AFTER_HEARTBEATS * heartbeat_s
        life = {True: "running", False: "dead", None: "silent" if silent else "running"}[alive]
        began = _seconds(str(owner.get("started", "")))
        return Job(
            "label",
            arm,
            iteration,
            life,
            row.structure_id,
            str(owner.get("host", "")),
            owner["pid"] if isinstance(owner.get("pid"), int) else None,
            str(owner.get("slurm_job", number)),
            str(owner.get("started", "")),
            None if began is None else age(began),
        )


def clock(when_s: float) -> str:
    """Return a time (s since 1970) as local date and time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when_s))


def age(when_s: float) -> float:
    """Return how long ago a time (s since 1970) was, in s."""
    return round(max(0.0, time.time() - when_s), 1)


def _seconds(text: str) -> float | None:
    with suppress(ValueError, OverflowError):
        return time.mktime(time.strptime(text, "%Y-%m-%d %H:%M:%S"))
    return None


def _failure(path: Path) -> dict[str, str]:
    """Return status and message of a label of the ledger that has failed; nothing of one that has not."""
    try:
        content = read_file(path)[0]
        record = {} if OK in content else json.loads(content)[0]
        return {key: str(record.get(key, "")) for key in ("status", "message")} if record else {}
    except (OSError, ValueError, LookupError, AttributeError):
        return {}


def _reused(paths: CampaignPaths, arm: str, iteration: int) -> int:
    """Return how many labels of a batch were known when it was chosen."""
    path = paths.iteration("reused.csv", arm, iteration)
    try:
        return max(0, read_file(path)[0].count(b"\n") - 1) if time_of(path) else 0
    except (OSError, ValueError):
        return 0
