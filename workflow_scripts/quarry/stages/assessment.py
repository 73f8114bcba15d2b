"""The facts and the cost of an iteration."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from quarry.campaign.failure_table import open_failures, read_failures
from quarry.campaign.iterations import folder_name
from quarry.campaign.loop import RULES
from quarry.campaign.receipts import read_receipts
from quarry.config.campaign import Configuration
from quarry.config.dynamics import CROSS_VALIDATION
from quarry.config.pool import DynamicsPool
from quarry.labeling.ledger import LabelLedger
from quarry.labeling.record import LabelRecord, read_valid_records
from quarry.labeling.wanted import Wanted
from quarry.stopping.facts import Cost, Facts
from quarry.stopping.messages import beside_rmse, interval_text
from quarry.stopping.rules import held_back

DECISION_RULES = ("select_batch", "merge_labels", "assess_iteration")
"""Rules of the main process itself: bookkeeping, no model cost."""


def assess_iteration(
    configuration: Configuration,
    arm: str,
    iteration: int,
    metrics: str,
    failures: str,
    pool_size: int,
    output: str,
    exploration: dict[str, Any] | None = None,
) -> Facts:
    """Write the facts of an iteration; the same labels and model give the same bytes.

    pool_size: number of structures from which its batch was chosen. exploration: what was written beside sampled candidates.
    output: beside the iterations before.
    """
    explored, phase = dict(exploration or {}), phase_of(configuration, iteration, exploration, output)
    explored.pop("phase", None)
    found: dict[str, Any] = json.loads(Path(metrics).read_bytes())
    failed = len(open_failures(read_failures(failures)))
    facts = Facts(
        arm=arm,
        iteration=iteration,
        phase=phase,
        n_failed=failed,
        pool_size=pool_size,
        pool_left=None if configuration.pool.is_sampled else pool_size - found["n_labels"] - failed,
        target=configuration.goal.name,
        metric=configuration.stop.metric,
        exploration=explored,
        **found,
    )
    facts.write(output)
    return facts


def phase_of(
    configuration: Configuration, iteration: int, exploration: dict[str, Any] | None, output: str | Path
) -> str:
    """Return the phase of an iteration, initial or query.

    exploration: what was written beside its candidates; None where it has none of its own. One that holds nothing but labels
    that are tried again belongs to the phase before it: initial data that grow go on growing. output: a file of the iteration,
    beside those before.
    """
    if exploration is not None:
        return str(exploration["phase"])
    pool = configuration.pool
    if iteration == 0 or not isinstance(pool, DynamicsPool) or pool.grows_by is None:
        return "query" if iteration else "initial"
    facts = RULES["assess_iteration"].outputs["facts"]
    return Facts.read(Path(output).parents[1] / folder_name(iteration - 1) / facts).phase


def cross_validates(
    configuration: Configuration, arm: str, iteration: int, exploration: dict[str, Any] | None, output: str | Path
) -> bool:
    """Return whether the initial data of an arm grow by the error of cross-validation, and an iteration is one of these.

    exploration, output: as of ``phase_of``.
    """
    pool = configuration.pool
    growth = pool.grows_by if isinstance(pool, DynamicsPool) else None
    if growth is None or phase_of(configuration, iteration, exploration, output) != "initial":
        return False
    return growth.metric(configuration.arm(arm).model.traits.trains_in_seconds) == CROSS_VALIDATION


class Payer(NamedTuple):
    """Who pays for labels: an iteration of an arm of a campaign."""

    campaign_id: str
    arm: str
    iteration: int


def account_cost(
    payer: Payer,
    labels: Sequence[str],
    receipts: Sequence[str | Path],
    ledger: LabelLedger,
    wanted: Wanted,
    output: str,
    pool: Sequence[str | Path] = (),
) -> Cost:
    """Write what an iteration cost.

    ledger: of the campaign; what this iteration paid for labels that were tried again counts too.
    receipts: folders with the receipts of the iteration's jobs. wanted: what a label must have; one that lacks it counts as
    failed. pool: folders with the receipts of the pool's jobs, in iteration 0 of the first arm.
    """
    records = [wanted.judged(record) for path in labels for record in read_valid_records(path)]
    known = {(r.structure_id, r.finished, r.status) for r in records}
    again = [r for r in ledger.failures().values() if (r.structure_id, r.finished, r.status) not in known]
    of_campaign = [r for r in records + _paid_by(again, payer) if r.origin.get("campaign_id") == payer.campaign_id]
    own = [r for r in of_campaign if (r.origin["arm"], r.origin["iteration"]) == (payer.arm, payer.iteration)]
    cost = Cost(
        labels_new=sum(r.ok for r in own),
        labels_reused=sum(r.ok for r in records) - sum(r.ok for r in own),
        labels_failed=sum(not r.ok for r in records),
        label_core_hours=_core_hours(own),
        campaign_label_core_hours=_core_hours(of_campaign),
        train_core_hours=_core_hours_of_jobs([*receipts, *pool]),
        label_cpu_s=round(sum(r.cost["cpu_s"] for r in own), 3),
        pool_core_hours=_core_hours_of_jobs(pool),
    )
    cost.write(output)
    return cost


def _paid_by(records: Sequence[LabelRecord], payer: Payer) -> list[LabelRecord]:
    return [r for r in records if (r.origin.get("campaign_id"), r.origin["arm"], r.origin["iteration"]) == payer]


def _core_hours_of_jobs(folders: Sequence[str | Path]) -> float:
    jobs = [r for folder in folders for r in read_receipts(Path(folder)) if r["rule"] not in DECISION_RULES]
    return round(sum(j["cost"]["wall_s"] * j["cost"]["threads"] for j in jobs) / 3600, 6)


def _core_hours(records: Sequence[LabelRecord]) -> float:
    return round(sum(r.core_hours for r in records), 6)


def progress_line(facts: Facts, cost: Cost) -> str:
    """Return the line that the terminal shows for an iteration."""
    errors = facts.errors.get(facts.metric)
    head = f"{facts.arm} iteration {facts.iteration}: {facts.n_train} training labels"
    if errors is None:
        return f"{head} ({cost.labels_new} new, {cost.labels_reused} reused)"
    change = (
        "rRMSE 1.0"
        if facts.iteration == 0
        else f"rRMSE {facts.rrmse:.3f} ({interval_text(facts.rrmse_low, facts.rrmse_high, '.3f')})"
    )
    failed = f", {facts.n_failed} failed" if facts.n_failed else ""
    if facts.accuracy is not None:
        interval = interval_text(errors["accuracy_low"], errors["accuracy_high"], ".3f")
        majority = errors.get("majority")
        beside = "" if majority is None else f"; the most frequent class alone: {majority:.3f}"
        change = change.replace("rRMSE", "relative change of the error rate")
        return f"{head}{failed}; {facts.metric} accuracy {facts.accuracy:.3f} (95 %: {interval}{beside}); {change}"
    if facts.goal.transitions:
        return f"{head}{failed}; {_ml_nea_text(facts)}"
    unit = facts.goal.unit
    scale, unit = (1e3, f" m{unit}") if unit and errors["rmse"] < 0.1 else (1.0, f" {unit}" if unit else "")
    value, interval = scale * errors["rmse"], interval_text(errors["rmse_low"], errors["rmse_high"], ".3g", scale)
    beside = _beside_text(errors)
    return f"{head}{failed}; {facts.metric} RMSE {value:.4g}{unit} (95 %: {interval}{beside}); {change}"


def warning_lines(facts: Facts, configuration: Configuration, before: Facts | None = None) -> list[str]:
    """Return the lines that the terminal shows about what is doubtful in an iteration, and why it does not stop there.

    before: facts of the iteration before; what it said too, numbers aside, is counted and not said again.
    """
    known = set() if before is None else {_without_numbers(message) for message in before.warnings}
    said = [message for message in facts.warnings if _without_numbers(message) not in known]
    held = held_back(facts, configuration)
    lines = [f"warning: {message}" for message in [*said, *([held] if held else [])]]
    if again := len(facts.warnings) - len(said):
        lines.append(f"{again} {'warning' if again == 1 else 'warnings'} as before (column warnings of history.csv)")
    return [f"{facts.arm} iteration {facts.iteration}: {line}" for line in lines]


def facts_before(facts: Facts, path: str | Path) -> Facts | None:
    """Return the facts of the iteration before, None if there is none. path: of ``facts``."""
    before = Path(path).parents[1] / folder_name(facts.iteration - 1) / Path(path).name
    return Facts.read(before) if facts.iteration and before.exists() else None


def _without_numbers(message: str) -> str:
    return re.sub(r"[-+]?\d[\d.,]*(?:e[-+]?\d+)?", "", message)


def _beside_text(errors: dict[str, Any]) -> str:
    """Return what else says how large an error is: its share of the targets' spread, R^2 and the error per atom."""
    share, r2, per_atom = beside_rmse(errors)
    message = f"; {share} of the std" if share else ""
    message += f", R2 {r2}" if r2 else ""
    return message + (f"; {per_atom}" if per_atom else "")


def _ml_nea_text(facts: Facts) -> str:
    """Return the line of ML-NEA as its authors' program prints it (iterations counted from 1), with our intervals."""
    errors = facts.errors[facts.metric]
    interval = interval_text(errors["rmse_low"], errors["rmse_high"], ".3g")
    change = interval_text(facts.rrmse_low, facts.rrmse_high, ".3f")
    relative = "1.0" if facts.iteration == 0 else f"{facts.rrmse:.6g} (95 %: {change})"
    share, _, _ = beside_rmse(errors)
    beside = f"; {share} of the std" if share else ""
    swapped = facts.states.get("swapped")
    of = f"; {swapped} of {facts.states['labels']} labels with swapped states" if swapped is not None else ""
    return (
        f"ML-NEA iteration {facts.iteration + 1}: train_number = {facts.n_train}; RMSE_geom = {errors['rmse']:.6g} "
        f"(95 %: {interval}{beside}); rRMSE = {relative}{of}"
    )
