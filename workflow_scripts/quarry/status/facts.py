"""The status of a campaign as plain data: what ``quarry status --json`` prints and every picture shows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

STATUS_FORMAT = 1


@dataclass(frozen=True)
class MainProcess:
    """The process of ``snakemake`` that runs a campaign, by its lease.

    state: here (it runs on this machine), elsewhere (on another host or in another container, and its heartbeat is
    fresh), silent (elsewhere, its heartbeat is old: dead, or cut off from the disk), dead (it was killed, or the machine
    went down), none (nobody has the lease). heartbeat_age_s: time (s) since its last heartbeat, by this machine's clock.
    """

    state: str
    host: str = ""
    pid: int | None = None
    started: str = ""
    heartbeat_age_s: float | None = None

    @property
    def is_alive(self) -> bool:
        """Whether somebody runs the campaign, as far as it can be seen."""
        return self.state in ("here", "elsewhere")


@dataclass(frozen=True)
class Job:
    """A job that runs, or waits in a queue.

    what: label, or the rule. structure_id: of a label. host, pid: where it runs; empty where that is not known.
    batch_system_job: its number there, if it was submitted. since: when it began (or was submitted), local time.
    state: running, queued (handed to the batch system, not begun), silent (no sign of life), dead (its process is gone).
    """

    what: str
    arm: str
    iteration: int | None
    state: str
    structure_id: str = ""
    host: str = ""
    pid: int | None = None
    batch_system_job: str = ""
    since: str = ""
    elapsed_s: float | None = None


@dataclass(frozen=True)
class Batch:
    """The labels of an iteration. done: have a record, reused of them were known before; failed: of done. running, queued:
    see ``Job``. waiting: the rest.
    """

    labels: int
    done: int = 0
    failed: int = 0
    reused: int = 0
    running: int = 0
    queued: int = 0
    waiting: int = 0


@dataclass(frozen=True)
class IterationStatus:
    """A finished iteration: n_train and n_labels are counts, errors are in the arm's error_unit. accuracy: of classes.

    label_core_hours: of the labels that the budget counts. model_core_hours: of training, scoring,
    trajectories. pool_core_hours: of what makes the pool (normal modes, features), in the first iteration.
    """

    iteration: int
    n_train: int
    n_labels: int
    n_failed: int
    rmse: float | None
    rmse_low: float | None
    rmse_high: float | None
    accuracy: float | None
    rrmse: float
    rrmse_low: float | None
    rrmse_high: float | None
    label_core_hours: float
    model_core_hours: float
    pool_core_hours: float = 0.0


@dataclass(frozen=True)
class ArmStatus:
    """An arm. step: what its unfinished iteration does, in words, empty if there is none. core_hours: those that the budget
    counts. stop_reason: why it ended, empty if it has not. labels: of its data set and of the batch that is being labelled.
    """

    arm: str
    iterations: list[IterationStatus]
    error_name: str = "RMSE"
    error_unit: str = ""
    labels: int = 0
    core_hours: float = 0.0
    iteration_now: int | None = None
    step: str = ""
    batch: Batch | None = None
    stop_reason: str = ""


@dataclass(frozen=True)
class Failure:
    """Failed labels of a class: how many, and the last of them."""

    failure_class: str
    count: int
    last_arm: str
    last_iteration: int
    last_structure_id: str
    last_message: str


@dataclass(frozen=True)
class ExpectedEnd:
    """When labels will be done, local time. batch: of the batches that are being labelled. budget: of all that the budget
    allows, unless an error-based rule stops before. seconds_per_label: wall time, by the cost model where it has planned the
    batch, else the mean of the labels so far. labels_at_once: how many are labelled at a time.
    """

    batch: str | None
    budget: str | None
    seconds_per_label: float
    labels_at_once: int


@dataclass(frozen=True)
class CampaignStatus:
    """A campaign.

    state: running, running_elsewhere, silent, broken_off, finished, stopped (not finished, and nobody runs it).
    labels: distinct ones that arm main uses; allowed by the budget, None: no such budget, or not known (an earlier version ran
    it). core_hours: likewise, of arm main with what it shares. labels_new, labels_reused: of all arms, paid and taken from
    the store. log: Snakemake's own log of the last run, with everything that the terminal does not show.
    """

    campaign: str
    folder: str
    read_at: str
    state: str
    main_process: MainProcess
    arms: list[ArmStatus]
    jobs: list[Job]
    failures: list[Failure]
    labels: int
    max_labels: int | None
    core_hours: float
    max_core_hours: float | None
    labels_new: int
    labels_reused: int
    expected_end: ExpectedEnd | None
    targets: list[str]
    quarry: str
    started: str
    log: str | None
    notes: list[str] = field(default_factory=list)
    format: int = STATUS_FORMAT

    @property
    def share_reused(self) -> float | None:
        """Share of the labels that were taken from the store; None before there are any."""
        labels = self.labels_new + self.labels_reused
        return self.labels_reused / labels if labels else None

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        from dataclasses import asdict

        return {**asdict(self), "share_reused": self.share_reused}
