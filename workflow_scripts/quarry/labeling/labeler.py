"""One label job: job input in, record file out; store, claims, ledger of failures and limits in between."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from quarry import __version__
from quarry.errors import QuarryError
from quarry.labeling.attempts import MACHINE_FAULT, Attempt, Attempts, counted
from quarry.labeling.audit.balance import balance_details
from quarry.labeling.claims import Claim, Claims
from quarry.labeling.engines.base import EngineResult
from quarry.labeling.ledger import LabelLedger
from quarry.labeling.limits import JobLimits
from quarry.labeling.record import LabelRecord, write_records
from quarry.labeling.store import LabelStore, StoreError
from quarry.labeling.worker import Limits, Outcome, Worker
from quarry.structures.files import JobInputEntry, read_job_input
from quarry.terminal import tell

LOOK_S = 1.0
"""Time between two looks at a label that another job is computing."""
FAIR_SHARE = 0.5
"""A label that had less than this share of its job's walltime did not run out of its own time."""
LEAST_STRAGGLER_S = 2.0
"""No label is put off earlier: the predictions of very short ones are noise."""
GROWTH_WORTH_WRITING = 1.1


class _ClaimLostError(Exception):
    """Another job has taken over this label: this one was silent for too long."""


@dataclass(frozen=True)
class LabelJob:
    """What a label job is given.

    origin: campaign_id, campaign, arm and iteration that pay. run: the main process it belongs to. memory_MB,
    walltime_min: of the job. retries: how often a label is tried again that ran out of memory or time.
    straggler_factor: wall time over predicted time at which a label is put off to the next batch.
    """

    method_id: str
    origin: dict[str, Any]
    run: str
    memory_MB: float
    walltime_min: float
    limits: JobLimits
    threads: int = 1
    tasks: int = 1
    retries: int = 0
    straggler_factor: float | None = None
    heartbeat_s: float = 20.0


@dataclass(frozen=True)
class Books:
    """Where a label job looks labels up, and writes down what it found.

    store: shared with other campaigns. ledger: of the campaign, for what the store does not have. attempts: of the iteration.
    earlier: stores that the campaign had before; jobs that a killed main process left may still work for them.
    is_current: whether the campaign has still this store. Asked when a claim is held: the jobs of another store look
    for claims in this one, so either they see it, or this job sees that it is to begin nothing any more.
    """

    store: LabelStore
    ledger: LabelLedger
    attempts: Attempts
    earlier: Sequence[LabelStore] = ()
    is_current: Callable[[], bool] = lambda: True


class Labeler:
    """Labels the structures of one job."""

    def __init__(self, job: LabelJob, worker: Worker, claims: Claims, books: Books) -> None:
        self.job = job
        self.worker = worker
        self.claims = claims
        self.store, self.ledger, self.attempts = books.store, books.ledger, books.attempts
        self.is_current = books.is_current
        self.earlier = [(before, Claims(before.folder, job.heartbeat_s)) for before in books.earlier]
        # Records of failures, by key, that the ledger has not taken yet.
        self._unwritten: dict[str, LabelRecord] = {}

    def label_job_input(self, job_input: str | Path, output: str | Path) -> None:
        """Label the structures of a job input; each record lands in the store or the ledger the moment it is finished.

        What is known already is not computed, and what another job computes is waited for. Chemistry never fails the
        job: it gives a record with a failure class. Raises QuarryError if a label is to be tried again with more memory
        or time, or after a fault of the machine; the others are finished then.
        """
        entries = read_job_input(job_input)
        records: dict[str, LabelRecord] = {}
        again: dict[str, str] = {}
        with _termination_as_exception():
            try:
                # First those that nobody works at: two jobs with the same structures share the work.
                for patient in (False, True):
                    for entry in entries:
                        if entry.key in records or entry.key in again:
                            continue
                        record = self._label(entry, patient, again)
                        if record is not None:
                            records[entry.key] = record
            finally:
                self.worker.close()
                self._write_failures()
        if again:
            shown = ", ".join(f"{key} ({why})" for key, why in list(again.items())[:3])
            more = f" and {len(again) - 3} more" if len(again) > 3 else ""
            raise QuarryError(f"to be tried again: {shown}{more}")
        try:
            write_records(output, [records[entry.key] for entry in entries])
        except OSError as error:
            raise QuarryError(
                f"{output} cannot be written ({error.strerror or error}); the labels are kept, the job is to be run again"
            ) from error

    def _known(self, entry: JobInputEntry) -> LabelRecord | None:
        structure_id = entry.structure.structure_id
        record = self.store.get(structure_id) or self.ledger.get(entry.key)
        found = None if record else next(filter(None, (before.look(structure_id) for before, _ in self.earlier)), None)
        return self._kept(entry.key, found) if found else record

    def _label(self, entry: JobInputEntry, patient: bool, again: dict[str, str]) -> LabelRecord | None:
        """Return the record of an entry; None if another job has it (and we are not patient) or it is tried again."""
        told = False
        while True:
            record = self._known(entry)
            if record is not None:
                return record
            structure_id = entry.structure.structure_id
            held = any(claims.is_held(structure_id) for _, claims in self.earlier)
            claim = None if held else self.claims.acquire(structure_id)
            if claim is None:
                if not patient:
                    return None
                if time.monotonic() > self.job.limits.end:
                    raise QuarryError(f"{entry.key}: another job is still computing it; start again later")
                if not told:
                    tell(f"{entry.key}: waiting for the job that computes it")
                    told = True
                time.sleep(min(LOOK_S, self.job.heartbeat_s))
                continue
            try:
                # The label may have been finished between the look and the claim.
                record = self._known(entry)
                if record is None and not self.is_current():
                    raise QuarryError(
                        f"{entry.key}: the campaign has another label store now; its other jobs compute it"
                    )
                return record or self._compute(entry, claim, again)
            except _ClaimLostError:
                continue
            finally:
                claim.release()

    def _compute(self, entry: JobInputEntry, claim: Claim, again: dict[str, str]) -> LabelRecord | None:
        job = self.job
        used = counted(self.attempts.of(entry.key), job.run)
        if len(used) > job.retries:
            # The last attempt took its job with it, so nobody was left to say so.
            last = used[-1]
            status = "engine_error" if last.verdict == "killed" else last.verdict
            message = f"its job was killed {len(used)} times; the last had {last.memory_MB:.0f} MB for {last.walltime_s:.0f} s"
            outcome = Outcome(EngineResult(status, message=message), 0.0, 0.0, last.peak_MB)
            return self._finished(entry, outcome, self.attempts.of(entry.key), claim)
        now = time.monotonic()
        if now > job.limits.end:
            again[entry.key] = "no time left to start it"
            return None
        walltime_s = 60 * job.walltime_min
        self.attempts.start(
            Attempt(
                entry.key,
                job.run,
                socket.gethostname(),
                job.memory_MB,
                walltime_s,
                job_elapsed_s=round(now - job.limits.started, 1),
            )
        )
        try:
            outcome = self.worker.label(entry.structure, self._limits(entry), _Watch(self, entry.key, claim))
        except _ClaimLostError:
            self.attempts.lose(entry.key)
            raise
        except BaseException:
            self.attempts.update(entry.key, end="cancelled")
            raise
        status = outcome.result.status
        if status not in ("out_of_memory", "out_of_time", MACHINE_FAULT) or outcome.straggler:
            # The label first: bookkeeping may have to wait for its disk.
            record = self._finished(entry, outcome, self.attempts.of(entry.key)[:-1], claim)
            self.attempts.finish(entry.key)
            return record
        end = "interrupted" if status == "out_of_time" and outcome.wall_s < FAIR_SHARE * walltime_s else status
        self.attempts.update(
            entry.key,
            end=end,
            elapsed_s=round(outcome.wall_s, 1),
            job_elapsed_s=round(time.monotonic() - job.limits.started, 1),
            peak_MB=round(outcome.peak_memory_MB, 1),
        )
        if status != MACHINE_FAULT and len(counted(self.attempts.of(entry.key), job.run)) > job.retries:
            # This attempt's cost is the record's own.
            return self._finished(entry, outcome, self.attempts.of(entry.key)[:-1], claim)
        tell(f"{entry.key}: {status}: {outcome.result.message}")
        again[entry.key] = f"{end}: {outcome.result.message}" if status == MACHINE_FAULT else end
        return None

    def _limits(self, entry: JobInputEntry) -> Limits:
        straggler_s = float("inf")
        if self.job.straggler_factor is not None and entry.predicted_s:
            straggler_s = max(self.job.straggler_factor * entry.predicted_s, LEAST_STRAGGLER_S)
        return Limits(self.job.limits.memory_MB, self.job.limits.end, straggler_s)

    def _finished(
        self, entry: JobInputEntry, outcome: Outcome, earlier: Sequence[Attempt], claim: Claim
    ) -> LabelRecord:
        """Publish the record of what became of an entry. earlier: attempts that gave no record."""
        record = self._record(entry, outcome, earlier)
        self._write_failures()
        if not record.ok:
            try:
                return self.ledger.put(entry.key, record)
            except OSError as error:
                tell(f"{entry.key}: {record.status} cannot be written down yet ({error.strerror or error})")
            self._unwritten[entry.key] = record
            return record
        told = False
        while True:
            try:
                return self._kept(entry.key, record)
            except (StoreError, OSError) as error:
                if time.monotonic() > self.job.limits.end:
                    raise QuarryError(f"{entry.key}: its label is lost, no folder takes it: {error}") from error
                if not told:
                    tell(f"{entry.key}: its label is kept in memory, no folder takes it: {error}")
                    told = True
            time.sleep(min(LOOK_S, self.job.heartbeat_s))
            claim.beat()

    def _kept(self, key: str, record: LabelRecord) -> LabelRecord:
        """Return the record that stands for a label that is paid for: in the store, or else in the campaign alone."""
        try:
            return self.store.put(record)
        except StoreError as error:
            kept = self.ledger.put(key, record)
            tell(f"{error}; the label is kept in the campaign alone")
            return kept

    def _write_failures(self) -> None:
        """Write into the ledger what it did not take before. A failure that is lost is computed again; no label is."""
        with suppress(OSError):
            for key, record in list(self._unwritten.items()):
                self.ledger.put(key, record)
                del self._unwritten[key]

    def _record(self, entry: JobInputEntry, outcome: Outcome, earlier: Sequence[Attempt]) -> LabelRecord:
        result = outcome.result
        cost = {
            "wall_s": round(outcome.wall_s, 3),
            "cpu_s": round(outcome.cpu_s, 3),
            "threads": self.job.threads,
            "tasks": self.job.tasks,
            "peak_memory_MB": round(outcome.peak_memory_MB, 1),
            "size": result.size or {"atoms": len(entry.structure)},
        }
        if earlier:
            cost["earlier_attempts"] = [[a.verdict, a.elapsed_s, a.memory_MB, a.walltime_s] for a in earlier]
        details = dict(result.details)
        if result.status in ("out_of_memory", "out_of_time"):
            details |= {"memory_MB": self.job.memory_MB, "walltime_s": 60 * self.job.walltime_min}
        if outcome.straggler:
            details["straggler"] = True
        if result.status == "ok":
            details |= balance_details(entry.structure, result.properties.get("forces"))
        return LabelRecord(
            structure_id=entry.structure.structure_id,
            method_id=self.job.method_id,
            method=self.store.method,
            status=result.status,
            message=result.message,
            properties=result.properties if result.status == "ok" else {},
            attempts=result.attempts,
            cost=cost,
            origin=self.job.origin,
            host=socket.gethostname(),
            versions={"quarry": __version__, **outcome.versions},
            # A label may take less than a second; how many ran at once is told by these.
            finished=datetime.now(UTC).isoformat(timespec="milliseconds"),
            details=details,
        )


class _Watch:
    """Signs of life while the engine works: the claim's heartbeat, and the attempt's file."""

    def __init__(self, labeler: Labeler, key: str, claim: Claim) -> None:
        self._labeler, self._key, self._claim = labeler, key, claim
        self._beat = self._written = time.monotonic()
        self._written_peak_MB = 0.0

    def __call__(self, elapsed_s: float, peak_MB: float) -> None:
        now, job = time.monotonic(), self._labeler.job
        if now - self._beat >= job.heartbeat_s:
            self._beat = now
            if not self._claim.beat():
                raise _ClaimLostError
        grown = peak_MB > max(GROWTH_WORTH_WRITING * self._written_peak_MB, 0.3 * job.memory_MB)
        if grown or now - self._written >= job.heartbeat_s:
            self._written, self._written_peak_MB = now, peak_MB
            self._labeler.attempts.update(
                self._key,
                elapsed_s=round(elapsed_s, 1),
                job_elapsed_s=round(now - job.limits.started, 1),
                peak_MB=round(peak_MB, 1),
            )


@contextmanager
def _termination_as_exception() -> Iterator[None]:
    """Turn SIGTERM (cancelled, time limit, shutdown) into SystemExit, so that the attempt's end is written down."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(f"Quarry: ended by {signal.Signals(number).name}")

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
