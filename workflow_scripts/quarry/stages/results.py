"""The product of an arm: history, failures, data set and model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from quarry.csv_tables import write_dicts
from quarry.files import copy_file
from quarry.stages.errors import CALIBRATION_BESIDE
from quarry.stopping.facts import Cost, Facts
from quarry.structures.frames import write_extxyz
from quarry.structures.labelled import LabelledSet

HISTORY_COLUMNS = (
    "iteration",
    "phase",
    "n_train",
    "n_test",
    "n_labels",
    "pool_left",
    "metric",
    "unit",
    "mae",
    "mae_low",
    "mae_high",
    "rmse",
    "rmse_low",
    "rmse_high",
    "rmse_over_std",
    "rmse_over_std_low",
    "rmse_over_std_high",
    "r2",
    "r2_low",
    "r2_high",
    "rmse_per_atom",
    "mae_per_atom",
    "maxe",
    "rmse_energies_eV",
    "rmse_strengths",
    "forces_rmse",
    "forces_rmse_over_std",
    "labels_swapped",
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "majority",
    "error_over_majority_error",
    "confusion",
    "std_factor",
    "calibration",
    "rank_correlation",
    "rms_z",
    "coverage_68",
    "coverage_95",
    "in_range_found",
    "in_range_share",
    "tpr",
    "fpr",
    "pool_tpr",
    "pool_fpr",
    "rrmse",
    "rrmse_low",
    "rrmse_high",
    "labels_new",
    "labels_reused",
    "labels_failed",
    "label_core_hours",
    "train_core_hours",
    "core_hours_total",
    "labels_saved",
    "labels_saved_low",
    "labels_saved_high",
    "verdict",
    "labels_saved_mae",
    "labels_saved_low_mae",
    "labels_saved_high_mae",
    "verdict_mae",
    "labels_saved_maxe",
    "labels_saved_low_maxe",
    "labels_saved_high_maxe",
    "verdict_maxe",
    "labels_left_out",
    "labels_flagged",
    "warnings",
    "stop_reason",
)


CALIBRATED = ("std_factor", "calibration")
"""What is said of the factor of standard deviations."""


def columns_of(facts: Sequence[Facts]) -> tuple[str, ...]:
    """Return the columns of a campaign's history: those of all, and errors of what is learnt beside the main property."""
    beside = [f"{name}_{error}" for name in facts[-1].goal.beside for error in ("rmse", "mae", "rmse_over_std")]
    place = HISTORY_COLUMNS.index("forces_rmse_over_std") + 1
    more = [column for column in beside if column not in HISTORY_COLUMNS]
    calibrated = [f"{name}_{key}" for name in _with_std(facts) for key in (*CALIBRATED, *CALIBRATION_BESIDE)]
    return (*HISTORY_COLUMNS[:place], *more, *calibrated, *HISTORY_COLUMNS[place:])


def _with_std(facts: Sequence[Facts]) -> list[str]:
    """Return what is learnt beside the main property, with standard deviations in one of the iterations."""
    return [
        name
        for name in facts[-1].goal.beside
        if any(f"{name}_{CALIBRATION_BESIDE[0]}" in f.errors.get(f.metric, {}) for f in facts)
    ]


def history_rows(
    facts: Sequence[Facts], costs: Sequence[Cost], reason: str, savings: Sequence[Mapping[str, object]] = ()
) -> list[dict[str, str]]:
    """Return one row per iteration; errors are those of the stop metric, the stop reason stands in the last row.

    savings: for each iteration of arm main, columns of the labels saved (``quarry.evaluation.comparison``); what does not
    apply is left empty.
    """
    rows, total, columns = [], 0.0, columns_of(facts)
    for f, c, saved in zip(facts, costs, savings or [{}] * len(facts), strict=True):
        total += c.campaign_label_core_hours + c.train_core_hours
        values = {
            **vars(f),
            **vars(c),
            "unit": f.goal.unit,
            **f.errors.get(f.metric, {}),
            **_search_columns(f),
            **saved,
            **_calibration_columns(f),
            **{key: value for name in f.goal.beside for key, value in _calibration_columns(f, f"{name}_").items()},
            "warnings": " | ".join(f.warnings),
            "labels_left_out": f.n_left_out or "",
            "labels_flagged": f.flagged.get("labels", ""),
            "labels_swapped": f.states.get("swapped", ""),
            "core_hours_total": round(total, 6),
            "stop_reason": "",
        }
        rows.append({column: _text(values.get(column, "")) for column in columns})
    rows[-1]["stop_reason"] = reason
    return rows


def _text(value: object) -> str:
    """Return a value as it stands in the table; a confusion matrix as '5 1; 0 6', a row for each labelled class."""
    if isinstance(value, list):
        return "; ".join(" ".join(str(count) for count in row) for row in value)
    return "" if value is None else f"{value:.10g}" if isinstance(value, float) else str(value)


def _calibration_columns(facts: Facts, prefix: str = "") -> dict[str, object]:
    """Return the factor of the standard deviations (the mean of several), and in words what it rests on.

    prefix: of the columns, that of a property beside the main one.
    """
    found = {name: facts.hyperparameters.get(f"{prefix}{name}") for name in ("std_factor", "calibration_labels")}
    if found["calibration_labels"] is None:
        return {}
    factors, counts = (x if isinstance(x, list) else [x] for x in found.values())
    known = [factor for factor in factors if factor is not None]
    if len(known) < len(factors):
        return {f"{prefix}calibration": f"not calibrated: too few ({min(counts)} labels)"}
    return {
        f"{prefix}std_factor": sum(known) / len(known),
        f"{prefix}calibration": f"by {min(counts)} held-out labels",
    }


def _search_columns(facts: Facts) -> dict[str, object]:
    """Return the finds of a targeted search, and the rates of its classification (test set, unlabelled candidates)."""
    search = facts.search
    if not search:
        return {}
    columns: dict[str, object] = {"in_range_found": search["found"]}
    if search.get("in_range"):
        columns["in_range_share"] = search["found"] / search["in_range"]
    for part, prefix in (("test", ""), ("pool", "pool_")):
        columns |= {f"{prefix}{rate}": search.get(part, {}).get(rate) for rate in ("tpr", "fpr")}
    return columns


def write_history(
    path: str, facts: Sequence[Facts], costs: Sequence[Cost], reason: str, savings: Sequence[Mapping[str, object]] = ()
) -> None:
    """Write ``history.csv``."""
    write_dicts(path, columns_of(facts), history_rows(facts, costs, reason, savings))


def collect_results(
    facts_files: Sequence[str],
    reason: str,
    last: dict[str, str],
    output: dict[str, str],
    savings: str | None = None,
) -> None:
    """Write an arm's product.

    facts_files: ``facts.json`` of every iteration, with ``cost.json`` beside each. reason: why the arm stopped.
    last: paths of the last iteration's dataset, failures, outliers, audit and model. output: paths of history, failures,
    outliers, audit, dataset, extxyz and model. savings: ``savings.json``, for arm main beside control arms.
    """
    copy_file(last["failures"], output["failures"])
    copy_file(last["outliers"], output["outliers"])
    copy_file(last["audit"], output["audit"])
    copy_file(last["dataset"], output["dataset"])
    copy_file(last["model"], output["model"])
    write_extxyz(LabelledSet.read(last["dataset"]), output["extxyz"])
    facts = [Facts.read(path) for path in facts_files]
    costs = [Cost.read(Path(path).with_name("cost.json")) for path in facts_files]
    columns = json.loads(Path(savings).read_bytes())["columns"] if savings else []
    write_history(output["history"], facts, costs, reason, columns)
