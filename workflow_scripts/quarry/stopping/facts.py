"""The facts of an iteration, as ``facts.json`` holds them (standard library only: read at parse time)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from quarry.config.targets import Target, target_named
from quarry.errors import reason_of
from quarry.files import digest_of, read_file, write_json

FACTS_FORMAT = 1

FEWEST_ERRORS = 4
"""Errors that an interval needs: of fewer, most resamples hold one error alone."""


@dataclass(frozen=True)
class Facts:
    """What an iteration found; never a verdict, so that a changed stop rule works on a finished campaign.

    pool_size: structures from which the batch was chosen. pool_left: those that are neither labelled nor failed; None where
    a sampler makes new ones for every iteration.
    Errors are in the target's unit (eV, or e*Angstrom for the dipole). errors: per metric (test, validation,
    cross_validation) a dictionary with rmse, rmse_low, rmse_high, mae, mae_low, mae_high, maxe and n; rmse_over_std (RMSE /
    standard deviation of the targets of the same structures, of total energies about their best sum over elements),
    rmse_over_std_at_most (``spread_ratio_at_most``) and
    r2 = 1 - rmse_over_std^2, ratio and R^2 with _low and _high; of
    energies rmse_per_atom and mae_per_atom (eV/atom, of error / number of atoms), of each property that is
    learnt beside the main one, such as forces, forces_rmse, forces_mae (over all its numbers, in its unit) and
    forces_rmse_over_std, and with standard deviations of it forces_rank_correlation, forces_rms_z, forces_coverage_68 and
    forces_coverage_95 (``quarry.evaluation.calibration``; without numbers that symmetry makes zero); for target
    class with accuracy, accuracy_low, accuracy_high, majority (accuracy of always naming the most frequent class of the
    labels), error_over_majority_error (ratio of the wrong shares), confusion (rows: label, columns: prediction) and n; for
    target excitations rmse and mae are geometric means over all states and quantities
    (``quarry.models.metrics.excitation_metrics``), and there is no r2. _low and _high: ends of 95 % intervals
    (``quarry.evaluation.intervals``): None for an upper end beyond 100 times the value (the errors seen set no upper bound),
    both None with fewer than ``FEWEST_ERRORS``; with constant targets ratios and r2 are None.
    rrmse: |RMSE(N) - RMSE(N - step)| / RMSE(N) of the stop metric, for target class the same of 1 - accuracy, 1.0 in
    iteration 0; rrmse_low, rrmse_high: its 95 % interval, rrmse_high None without an upper bound.
    search: of a targeted search, found (training structures in range), test (true and false positives, tpr, fpr ...);
    where all labels are known, in_range (in the pool without the test set) and pool (rates on unlabelled candidates).
    states: of target excitations, how many labels have their states in another order than the equilibrium
    (``quarry.spectra.states.swap_account``); empty if labels hold no natural transition orbitals.
    warnings: what is doubtful about labels, model and errors, a sentence each. n_left_out: labels of n_labels that are not used.
    flagged: labels with absurd values of what is learnt (``stages.auditing.audit_account``), empty if there are none: labels,
    train and evaluated (how many in all, among the training labels, and among those that the stop metric measures),
    error_share (of the squared error, carried by the latter) and ids (of some).
    exploration: what trajectories have found (``stages.exploring``), with pool.source: dynamics: threshold (in unit), number of
    trajectories by fate, steps that they took, and near-duplicates that were left out.
    """

    arm: str
    iteration: int
    phase: str
    n_train: int
    n_test: int
    n_labels: int
    n_failed: int
    pool_size: int
    pool_left: int | None
    target: str
    metric: str
    errors: dict[str, dict[str, Any]]
    rrmse: float
    rrmse_low: float
    rrmse_high: float | None
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    search: dict[str, Any] = field(default_factory=dict)
    states: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    n_left_out: int = 0
    flagged: dict[str, Any] = field(default_factory=dict)
    exploration: dict[str, Any] = field(default_factory=dict)
    format: int = FACTS_FORMAT

    @property
    def goal(self) -> Target:
        """What was learnt."""
        return target_named(self.target)

    @property
    def rmse(self) -> float | None:
        """RMSE of the stop metric, or None if it was not computed."""
        return self.errors.get(self.metric, {}).get("rmse")

    @property
    def accuracy(self) -> float | None:
        """Share of right classes by the stop metric, or None if it was not computed."""
        return self.errors.get(self.metric, {}).get("accuracy")

    def write(self, path: str | Path) -> None:
        """Write ``facts.json`` with a checksum; the same facts give the same bytes."""
        body = asdict(self)
        write_json(path, {**body, "checksum": digest_of(body)})

    @staticmethod
    def read(path: str | Path) -> Facts:
        """Read ``facts.json``. Raises ValueError if it is damaged, FileNotFoundError if it is absent."""
        try:
            data = json.loads(read_file(path)[0])
            checksum = data.pop("checksum")
            if checksum != digest_of(data):
                raise ValueError("the checksum does not match the content")
            return Facts(**data)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}: damaged facts: {reason_of(error)}") from error


def ratio_at_most(errors: Mapping[str, Any]) -> float | None:
    """Return the upper end of RMSE / std, a finite one where its interval is open; None: not known.

    errors: of one metric, as ``Facts.errors`` holds them.
    """
    high = errors.get("rmse_over_std_high")
    return errors.get("rmse_over_std_at_most") if high is None else high


@dataclass(frozen=True)
class Cost:
    """What an iteration cost, as ``cost.json`` holds it; varies from run to run and is no rule's input.

    labels_new: paid by this arm in this iteration. labels_reused: taken from the store. Core-hours are wall time x
    threads. label_core_hours: of the labels this arm paid; campaign_label_core_hours: of the labels it uses that any
    arm of this campaign paid; train_core_hours: training, evaluation, scoring, proposal, trajectories, and in iteration 0
    of the first arm the pool (normal modes with their calculations, features), which is pool_core_hours of it (0 in costs of
    earlier versions).
    """

    labels_new: int
    labels_reused: int
    labels_failed: int
    label_core_hours: float
    campaign_label_core_hours: float
    train_core_hours: float
    label_cpu_s: float
    pool_core_hours: float = 0.0

    @property
    def model_core_hours(self) -> float:
        """What another iteration takes beside its labels: all but the pool."""
        return self.train_core_hours - self.pool_core_hours

    def write(self, path: str | Path) -> None:
        """Write ``cost.json``; units as above."""
        write_json(path, asdict(self))

    @staticmethod
    def read(path: str | Path) -> Cost:
        """Read ``cost.json``. Raises ValueError if it is damaged, FileNotFoundError if it is absent."""
        try:
            data = json.loads(read_file(path)[0])
            if any(isinstance(value, bool) or not isinstance(value, int | float) for value in data.values()):
                raise TypeError("not all of it is numbers")
            return Cost(**data)
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}: damaged cost: {reason_of(error)}") from error
