"""The product of an arm: history, failures, data set and model."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from quarry.evaluation.comparison import Comparison
from quarry.evaluation.savings import Saving
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
    "rmse_energies_eV",
    "rmse_strengths",
    "forces_rmse",
    "labels_swapped",
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "confusion",
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
    "labels_saved_std",
    "labels_saved_share",
    "labels_saved_share_std",
    "stop_reason",
)


def history_rows(
    facts: Sequence[Facts], costs: Sequence[Cost], reason: str, savings: Sequence[Saving | None] = ()
) -> list[dict[str, str]]:
    """Return one row per iteration; errors are those of the stop metric, the stop reason stands in the last row.

    savings: labels saved against the control arms, for arm main; what does not apply is left empty.
    """
    rows, total = [], 0.0
    for f, c, saved in zip(facts, costs, savings or [None] * len(facts), strict=True):
        total += c.campaign_label_core_hours + c.train_core_hours
        values = {
            **vars(f),
            **vars(c),
            **f.errors.get(f.metric, {}),
            **_search_columns(f),
            **_saving_columns(saved),
            "labels_swapped": f.states.get("swapped", ""),
            "core_hours_total": round(total, 6),
            "stop_reason": "",
        }
        rows.append({column: _text(values.get(column, "")) for column in HISTORY_COLUMNS})
    rows[-1]["stop_reason"] = reason
    return rows


def _text(value: object) -> str:
    """Return a value as it stands in the table; a confusion matrix as '5 1; 0 6', a row for each labelled class."""
    if isinstance(value, list):
        return "; ".join(" ".join(str(count) for count in row) for row in value)
    return "" if value is None else f"{value:.10g}" if isinstance(value, float) else str(value)


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


def _saving_columns(saved: Saving | None) -> dict[str, object]:
    if saved is None:
        return {}
    return {
        "labels_saved": saved.saved,
        "labels_saved_std": saved.std,
        "labels_saved_share": saved.share,
        "labels_saved_share_std": saved.share_std,
    }


def write_history(
    path: str, facts: Sequence[Facts], costs: Sequence[Cost], reason: str, savings: Sequence[Saving | None] = ()
) -> None:
    """Write ``history.csv``."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, HISTORY_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history_rows(facts, costs, reason, savings))
    write_text(path, buffer.getvalue())


def collect_results(
    facts_files: Sequence[str],
    reason: str,
    last: dict[str, str],
    output: dict[str, str],
    repeats: Sequence[Sequence[str]] = (),
    controls: Sequence[Sequence[str]] = (),
) -> None:
    """Write an arm's product.

    facts_files: ``facts.json`` of every iteration, with ``cost.json`` beside each. reason: why the arm stopped.
    last: paths of the last iteration's dataset, failures, outliers and model. output: paths of history, failures,
    outliers, dataset, extxyz and model. repeats, controls: ``facts.json`` of each iteration of the arms that arm main is
    compared with.
    """
    copy_file(last["failures"], output["failures"])
    copy_file(last["outliers"], output["outliers"])
    copy_file(last["dataset"], output["dataset"])
    copy_file(last["model"], output["model"])
    LabelledSet.read(last["dataset"]).write_extxyz(output["extxyz"])
    facts = [Facts.read(path) for path in facts_files]
    costs = [Cost.read(Path(path).with_name("cost.json")) for path in facts_files]
    savings = compare(facts_files, repeats, controls).savings() if controls else []
    write_history(output["history"], facts, costs, reason, savings)


def by_arm(facts_files: Sequence[str]) -> list[list[str]]:
    """Return files of iterations (``<arm>/iter_000/...``) as a list for each arm, in their order."""
    arms: dict[str, list[str]] = {}
    for path in facts_files:
        arms.setdefault(Path(path).parents[1].name, []).append(path)
    return list(arms.values())


def compare(main: Sequence[str], repeats: Sequence[Sequence[str]], controls: Sequence[Sequence[str]]) -> Comparison:
    """Return arm main beside its control arms. Each argument: ``facts.json`` of every iteration (of each arm)."""
    arms = [[Facts.read(path) for path in files] for files in (main, *repeats)]
    return Comparison.of(arms, [[Facts.read(path) for path in files] for files in controls])
