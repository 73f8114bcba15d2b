"""The product of an arm: history, failures, data set and model."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from quarry.files import copy_file, write_text
from quarry.stopping.facts import Cost, Facts
from quarry.structures.labelled import LabelledSet

HISTORY_COLUMNS = (
    "iteration",
    "phase",
    "n_train",
    "n_test",
    "n_labels",
    "pool_left",
    "metric",
    "mae",
    "mae_low",
    "mae_high",
    "rmse",
    "rmse_low",
    "rmse_high",
    "maxe",
    "rrmse",
    "rrmse_low",
    "rrmse_high",
    "labels_new",
    "labels_reused",
    "labels_failed",
    "label_core_hours",
    "train_core_hours",
    "core_hours_total",
    "stop_reason",
)


def history_rows(facts: Sequence[Facts], costs: Sequence[Cost], reason: str) -> list[dict[str, str]]:
    """Return one row per iteration; errors are those of the stop metric, the stop reason stands in the last row."""
    rows, total = [], 0.0
    for f, c in zip(facts, costs, strict=True):
        total += c.campaign_label_core_hours + c.train_core_hours
        values = {
            **vars(f),
            **vars(c),
            **f.errors.get(f.metric, {}),
            "core_hours_total": round(total, 6),
            "stop_reason": "",
        }
        rows.append({column: _text(values.get(column, "")) for column in HISTORY_COLUMNS})
    rows[-1]["stop_reason"] = reason
    return rows


def _text(value: object) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def write_history(path: str, facts: Sequence[Facts], costs: Sequence[Cost], reason: str) -> None:
    """Write ``history.csv``."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, HISTORY_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history_rows(facts, costs, reason))
    write_text(path, buffer.getvalue())


def collect_results(
    facts_files: Sequence[str],
    reason: str,
    last: dict[str, str],
    output: dict[str, str],
) -> None:
    """Write an arm's product.

    facts_files: ``facts.json`` of every iteration, with ``cost.json`` beside each. reason: why the arm stopped.
    last: paths of the last iteration's dataset, failures, outliers and model. output: paths of history, failures,
    outliers, dataset, extxyz and model.
    """
    copy_file(last["failures"], output["failures"])
    copy_file(last["outliers"], output["outliers"])
    copy_file(last["dataset"], output["dataset"])
    copy_file(last["model"], output["model"])
    LabelledSet.read(last["dataset"]).write_extxyz(output["extxyz"])
    facts = [Facts.read(path) for path in facts_files]
    costs = [Cost.read(Path(path).with_name("cost.json")) for path in facts_files]
    write_history(output["history"], facts, costs, reason)
