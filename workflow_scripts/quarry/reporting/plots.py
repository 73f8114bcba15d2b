"""Figures of the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from quarry.evaluation.calibration import CURVE_LEVELS, coverage, rank_correlation
from quarry.files import atomic_path

COLOURS = ("#20639b", "#c8553d", "#3caea3", "#8e6c8a", "#b08b2e", "#5b5b5b")
STYLE: dict[Any, Any] = {
    "font.size": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.dpi": 110,
    "svg.hashsalt": "quarry",
    "svg.fonttype": "none",
}
LABEL = {
    "energy": "energy",
    "energy_forces": "energy",
    "homo": "HOMO energy",
    "lumo": "LUMO energy",
    "gap": "HOMO-LUMO gap",
    "dipole": "dipole moment",
    "value": "value",
}


def save_figure(figure: Any, path: str | Path) -> None:
    """Write a figure in the format that its name ends with, the same bytes for the same figure, and close it."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=Path(path).suffix[1:], metadata={"Date": None}, bbox_inches="tight")
    plt.close(figure)


def write_note(words: str, path: str) -> None:
    """Write words where a figure has nothing to show."""
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(6.4, 1.0))
        figure.text(0.0, 0.5, words, va="center")
        save_figure(figure, path)


def unit_for(target: str, largest: float) -> tuple[float, str]:
    """Return a factor and the unit that it leads to, for numbers up to ``largest`` in the target's own unit.

    A value has none, and neither has the RMSE_geom of excitations, which mixes units.
    """
    if target in ("value", "excitations"):
        return 1.0, ""
    base = "e Å" if target == "dipole" else "eV"
    return (1e3, f"m{base}") if largest < 0.5 else (1.0, base)


def _in_brackets(unit: str) -> str:
    return f" ({unit})" if unit else ""


def plot_learning_curve(histories: dict[str, str], target: str, limit: float | None, path: str) -> None:
    """Plot RMSE (with its 95 % interval) and rRMSE of every arm against the number of training labels.

    histories: ``history.csv`` by arm. limit: the rRMSE at which the campaign stops, or None.
    """
    tables = {arm: pd.read_csv(file) for arm, file in histories.items()}
    scale, unit = unit_for(target, max(float(t["rmse"].max()) for t in tables.values()))
    with plt.rc_context(STYLE):
        figure, (top, bottom) = plt.subplots(
            2, 1, figsize=(6.4, 5.6), sharex=True, height_ratios=(3, 2), constrained_layout=True
        )
        for (arm, table), colour in zip(tables.items(), COLOURS * len(tables), strict=False):
            x = table["n_train"]
            top.fill_between(
                x, scale * table["rmse_low"], scale * table["rmse_high"], color=colour, alpha=0.18, linewidth=0
            )
            top.plot(x, scale * table["rmse"], "o-", color=colour, label=arm, markersize=4)
            later = table["iteration"] > 0
            low, value, high = (table.loc[later, c] for c in ("rrmse_low", "rrmse", "rrmse_high"))
            bottom.errorbar(
                x[later],
                value,
                yerr=[value - np.clip(low, 1e-3, value), np.maximum(high, value) - value],
                fmt="o-",
                color=colour,
                markersize=4,
                capsize=2,
                linewidth=1,
            )
        metric = str(next(iter(tables.values()))["metric"].iloc[0]).replace("_", "-")
        if all((table["rmse_low"] > 0).all() for table in tables.values()):
            top.set_yscale("log")
            plain_log_ticks(top)
        top.set_ylabel(f"{metric} RMSE of the {LABEL[target]}{_in_brackets(unit)}")
        if len(tables) > 1:
            top.legend(frameon=False)
        if limit is not None:
            bottom.axhline(limit, color="0.4", linestyle="--", linewidth=1)
            where = {"xy": (0.005, limit), "xycoords": ("axes fraction", "data"), "fontsize": 8, "color": "0.3"}
            bottom.annotate(f"stop below {limit:g}", ha="left", va="top", **cast(Any, where))
        if any((table["rrmse"][table["iteration"] > 0] > 0).any() for table in tables.values()):
            bottom.set_yscale("log")
            plain_log_ticks(bottom)
        bottom.set_ylabel("rRMSE")
        bottom.set_xlabel("training labels")
        figure.align_ylabels()
        save_figure(figure, path)


def plain_log_ticks(axis: Axes) -> None:
    """Give a logarithmic axis plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_ylim()
    subs = (1.0,) if high / low > 1e4 else (1.0, 2.0, 5.0) if high / low < 200 else (1.0, 3.0)
    axis.yaxis.set_major_locator(LogLocator(subs=subs))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())


def plot_parity(predictions: dict[str, Any], target: str, metric: str, path: str) -> None:
    """Plot predictions against labels, errors against the model's standard deviation, and its calibration curve.

    predictions: label, mean, std and std_with_noise (target's unit) of the structures that the model was evaluated on.
    """
    label, mean = np.asarray(predictions["label"]), np.asarray(predictions["mean"])
    std = predictions.get("std")
    # Total energies are thousands of eV with meV of structure: what is told apart is the distance from the lowest label.
    shift = float(label.min()) if target == "energy" and len(label) else 0.0
    errors = mean - label
    scale, unit = unit_for(target, float(np.abs(errors).max(initial=0.0)))
    relative = " above the lowest label" if shift else ""
    with plt.rc_context(STYLE):
        certain = std is not None and bool(np.isfinite(std).any())
        columns = 3 if certain else 2
        figure, axes = plt.subplots(1, columns, figsize=(4.2 * columns, 4.0), constrained_layout=True)
        left, right = axes[0], axes[1]
        left.axline((label.mean() - shift, label.mean() - shift), slope=1, color="0.6", linewidth=1, zorder=0)
        left.plot(label - shift, mean - shift, "o", color=COLOURS[0], markersize=4, alpha=0.75)
        base = unit_for(target, 10.0)[1]
        left.set_xlabel(f"labelled {LABEL[target]}{relative}{_in_brackets(base)}")
        left.set_ylabel(f"predicted{_in_brackets(base)}")
        error = f"RMSE {scale * np.sqrt(np.mean(errors**2)):.3g} {unit}".rstrip()
        left.set_title(f"{metric.replace('_', '-')}: {len(label)} structures, {error}", fontsize=10)
        if certain:
            _plot_uncertainty(right, scale * errors, scale * np.asarray(std), unit)
            _plot_calibration(axes[2], errors, np.asarray(predictions.get("std_with_noise", std)))
        else:
            right.hist(scale * errors, bins=20, color=COLOURS[0])
            right.set_xlabel(f"error{_in_brackets(unit)}")
            right.set_ylabel("structures")
        save_figure(figure, path)


def _plot_uncertainty(axis: Axes, errors: NDArray[np.float64], std: NDArray[np.float64], unit: str) -> None:
    """Absolute errors against the model's own standard deviation."""
    error = np.abs(errors)
    axis.plot(std, error, "o", color=COLOURS[0], markersize=4, alpha=0.75)
    ends = np.array([np.nanmin(std), np.nanmax(std)])
    for factor, style in ((1, "-"), (2, "--")):
        axis.plot(ends, factor * ends, style, color="0.6", linewidth=1, zorder=0, label=f"{factor} std")
    if (std > 0).all() and (error > 0).all():
        axis.set_xscale("log")
        axis.set_yscale("log")
    axis.legend(frameon=False, fontsize=8)
    correlation = rank_correlation(errors, std)
    if correlation is not None:
        axis.set_title(f"rank correlation {correlation:.2f}", fontsize=10)
    axis.set_xlabel(f"predicted standard deviation{_in_brackets(unit)}")
    axis.set_ylabel(f"absolute error{_in_brackets(unit)}")


def _plot_calibration(axis: Axes, errors: NDArray[np.float64], std: NDArray[np.float64]) -> None:
    """Share of errors inside the central interval of each level (calibration curve)."""
    axis.plot([0, 100], [0, 100], color="0.6", linewidth=1, zorder=0)
    axis.plot(100 * CURVE_LEVELS, 100 * coverage(errors, std, CURVE_LEVELS), "-", color=COLOURS[0])
    for words, where, side in (("too cautious", (0.04, 0.95), "left"), ("too sure", (0.96, 0.05), "right")):
        axis.annotate(words, where, xycoords="axes fraction", ha=side, va="center", fontsize=8, color="0.4")
    axis.set_xlabel("interval that the model predicts (%)")
    axis.set_ylabel("errors inside it (%)")
    axis.set_title("calibration", fontsize=10)


HEADINGS: Sequence[tuple[str, str]] = (
    ("iteration", "iteration"),
    ("n_train", "training labels"),
    ("n_test", "test labels"),
    ("labels_new", "new labels"),
    ("labels_reused", "reused"),
    ("labels_failed", "failed"),
    ("rmse", "RMSE"),
    ("mae", "MAE"),
    ("maxe", "largest error"),
    ("rrmse", "rRMSE"),
    ("label_core_hours", "label core-hours"),
    ("train_core_hours", "model core-hours"),
)
WHERE_GIVEN: Sequence[tuple[str, str, str]] = (
    ("RMSE of the energies (eV)", "rmse_energies_eV", "{:.4f}"),
    ("RMSE of the strengths", "rmse_strengths", "{:.4f}"),
    ("RMSE of the forces (eV/Å)", "forces_rmse", "{:.4f}"),
    ("labels with swapped states", "labels_swapped", "{:.0f}"),
    ("found in range", "in_range_found", "{:.0f}"),
    ("share of all", "in_range_share", "{:.1%}"),
    ("TPR", "tpr", "{:.3f}"),
    ("FPR", "fpr", "{:.3f}"),
    ("errors within 95 % interval", "coverage_95", "{:.0%}"),
    ("labels saved", "labels_saved", "{:.0f}"),
    ("saved", "labels_saved_share", "{:.0%}"),
)
"""Headings of what only some campaigns have, the column of the history and the format."""


def write_iteration_table(histories: dict[str, str], target: str, path: str) -> None:
    """Write the table of iterations of every arm as one HTML page."""
    parts = [TABLE_HEAD]
    for arm, file in histories.items():
        table = pd.read_csv(file)
        scale, unit = unit_for(target, float(table["rmse"].max()))
        shown = pd.DataFrame({heading: table[column] for column, heading in HEADINGS})
        for name, low, high in (("RMSE", "rmse_low", "rmse_high"), ("MAE", "mae_low", "mae_high")):
            shown[name] = [
                f"{scale * v:.3g} <small>({scale * a:.3g} to {scale * b:.3g})</small>"
                for v, a, b in zip(table[name.lower()], table[low], table[high], strict=True)
            ]
        shown["largest error"] = [f"{scale * v:.4g}" for v in table["maxe"]]
        shown["rRMSE"] = [
            "" if i == 0 else f"{v:.3f} <small>({a:.3f} to {b:.3f})</small>"
            for i, v, a, b in zip(
                table["iteration"], table["rrmse"], table["rrmse_low"], table["rrmse_high"], strict=True
            )
        ]
        shown = shown.rename(columns={c: f"{c}{_in_brackets(unit)}" for c in ("RMSE", "MAE", "largest error")})
        if table["maxe"].isna().all():
            shown = shown.drop(columns=[c for c in shown if str(c).startswith("largest error")])
        if table["rmse"].isna().all():
            shown = shown.drop(columns=[c for c in shown if str(c).startswith(("RMSE", "MAE", "rRMSE"))])
        for heading, column, style in WHERE_GIVEN:
            if table[column].notna().any():
                shown[heading] = [style.format(value) if np.isfinite(value) else "" for value in table[column]]
        if target == "excitations":
            shown = shown.rename(columns={c: f"{c}<sub>geom</sub>" for c in ("RMSE", "MAE")})
        reason = table["stop_reason"].fillna("").iloc[-1]
        parts.append(f"<h2>{arm}</h2>{shown.to_html(index=False, escape=False, border=0, float_format=_four_digits)}")
        parts.append(f"<p>Stopped: {reason or 'not yet'}.</p>")
    parts.append("<p><small>In brackets: 95 % bootstrap intervals.</small></p></body></html>\n")
    with atomic_path(path) as temporary:
        temporary.write_text("".join(parts))


def _four_digits(value: float) -> str:
    return f"{value:.4f}"


TABLE_HEAD = """<!DOCTYPE html><html><head><meta charset="utf-8"><style>
body {font-family: sans-serif; font-size: 14px; margin: 1em}
table {border-collapse: collapse}
th, td {padding: 4px 8px; text-align: right}
td {white-space: nowrap}
th {vertical-align: bottom}
th {border-bottom: 2px solid #20639b; font-weight: 600}
tr:nth-child(even) td {background: #f2f5f8}
small {color: #666}
</style></head><body>"""
