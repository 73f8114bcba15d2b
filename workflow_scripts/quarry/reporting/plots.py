"""Figures of the report."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from quarry.config.learning import Stop
from quarry.config.targets import Target
from quarry.evaluation.calibration import CURVE_LEVELS, coverage, rank_correlation
from quarry.files import atomic_path
from quarry.properties import PROPERTIES
from quarry.stopping.messages import interval_text, r2_interval_text, r2_text

COLOURS = ("#20639b", "#c8553d", "#3caea3", "#8e6c8a", "#b08b2e", "#5b5b5b")
STYLE: dict[Any, Any] = {
    "font.size": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.dpi": 110,
    "svg.hashsalt": "quarry",
    "svg.fonttype": "none",
}


def save_figure(figure: Any, path: str | Path) -> None:
    """Write a figure in the format that its name ends with, the same bytes for the same figure, and close it."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=Path(path).suffix[1:], metadata={"Date": None}, bbox_inches="tight")
    plt.close(figure)


def legend_above(figure: Any, axis: Any, columns: int) -> None:
    """Put the legend of an axis above the figure: inside it would lie on what is drawn."""
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=columns, frameon=False, fontsize=8)


def write_note(words: str, path: str) -> None:
    """Write a sentence as a figure, where there is nothing to draw."""
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(6.4, 1.0))
        figure.text(0.0, 0.5, words, va="center")
        save_figure(figure, path)


def unit_for(target: Target, largest: float) -> tuple[float, str]:
    """Return a factor and the unit that it leads to, for numbers up to ``largest`` in the target's unit.

    A value has none, and neither has the RMSE_geom of excitations, which mixes units.
    """
    if not target.unit:
        return 1.0, ""
    base = target.unit.replace("*", " ").replace("Angstrom", "Å")
    return (1e3, f"m{base}") if largest < 0.5 else (1.0, base)


def _in_brackets(unit: str) -> str:
    return f" ({unit})" if unit else ""


def plot_learning_curve(histories: dict[str, str], target: Target, stop: Stop, path: str) -> None:
    """Plot RMSE (with its 95 % interval) and rRMSE of every arm against the number of training labels.

    histories: ``history.csv`` by arm. stop: the stop rules, of which that by rRMSE is drawn.
    """
    tables = {arm: pd.read_csv(file) for arm, file in histories.items()}
    scale, unit = unit_for(target, max(float(t["rmse"].max()) for t in tables.values()))
    with plt.rc_context(STYLE):
        figure, (top, bottom) = plt.subplots(
            2, 1, figsize=(6.4, 5.6), sharex=True, height_ratios=(3, 2), constrained_layout=True
        )
        for (arm, table), colour in zip(tables.items(), COLOURS * len(tables), strict=False):
            x = table["n_train"]
            top.plot(x, scale * table["rmse"], "o-", color=colour, label=_arm_message(arm, table), markersize=4)
            draw_changes(bottom, table[table["iteration"] > 0], colour)
        draw_bands(top, tables, scale)
        metric = str(next(iter(tables.values()))["metric"].iloc[0]).replace("_", "-")
        if all((table["rmse"] > 0).all() for table in tables.values()):
            top.set_yscale("log")
            plain_log_ticks(top)
        top.set_ylabel(f"{metric} RMSE of the {target.words}{_in_brackets(unit)}")
        if len(tables) > 1 or top.get_legend_handles_labels()[1] != list(tables):
            legend_above(figure, top, 1)
        draw_limit(bottom, stop)
        if any((table["rrmse"][table["iteration"] > 0] > 0).any() for table in tables.values()):
            bottom.set_yscale("log")
            plain_log_ticks(bottom)
        bottom.set_ylabel("rRMSE")
        bottom.set_xlabel("training labels")
        figure.align_ylabels()
        save_figure(figure, path)


def draw_limit(axis: Axes, stop: Stop) -> None:
    """Draw the rRMSE at which a campaign stops, where it has such a rule, and say what must be below it."""
    if stop.rrmse is None:
        return
    axis.axhline(stop.rrmse, color="0.4", linestyle="--", linewidth=1)
    what = "upper end of the interval" if stop.rrmse_bound == "upper" else "rRMSE"
    often = "" if stop.patience == 1 else f", {stop.patience} times in a row"
    where = {"xy": (0.005, stop.rrmse), "xycoords": ("axes fraction", "data"), "fontsize": 8, "color": "0.3"}
    text = axis.annotate(f"stops with the {what} below {stop.rrmse:g}{often}", ha="left", va="top", **cast(Any, where))
    # A limit that lies far below all values must not press the axes together to make room for its words.
    text.set_in_layout(False)


def _arm_message(arm: str, table: pd.DataFrame) -> str:
    """Return the name of an arm and how good its last model is, beside the spread of the targets."""
    last = table.iloc[-1]
    words = [f"{last['rmse_over_std']:.2g} of the std"] if np.isfinite(last["rmse_over_std"]) else []
    if np.isfinite(last["r2"]):
        words.append(f"R² {r2_text(last['r2'])} ({r2_interval_text(last['r2_low'], last['r2_high'])})")
    return f"{arm}, last: {', '.join(words)}" if words else arm


def draw_bands(axis: Axes, tables: dict[str, pd.DataFrame], scale: float = 1.0) -> None:
    """Draw the intervals of the RMSE of every arm as a band; without an upper end an arrow goes up to the edge instead."""
    numbers = pd.concat(tables.values())[["rmse_low", "rmse", "rmse_high"]].to_numpy(dtype=float) * scale
    if not np.isfinite(numbers).any() or not np.nanmax(numbers) > 0:
        return
    # Lower ends near zero say little and would squeeze the curve: the axis follows the values and the upper ends.
    floor, edge = 0.5 * np.nanmin(numbers[:, 1]), 1.15 * np.nanmax(numbers)
    lowest = np.nanmin(np.where(numbers[:, 0] > floor, numbers[:, 0], np.inf), initial=np.nanmin(numbers[:, 1]))
    for table, colour in zip(tables.values(), COLOURS * len(tables), strict=False):
        # Where there is no interval nothing is drawn: lines to no number have the layout make room for them somewhere.
        table = table[table["rmse_low"].notna()]
        if table.empty:
            continue
        low, high = (scale * table[c].to_numpy(dtype=float) for c in ("rmse_low", "rmse_high"))
        x, open_end = table["n_train"].to_numpy(dtype=float), np.isnan(high)
        if not open_end.all():
            axis.fill_between(
                x, np.maximum(low, 0.87 * lowest), high, where=~open_end, color=colour, alpha=0.18, linewidth=0
            )
        ends = np.where(open_end, edge, high)
        axis.vlines(x, np.maximum(low, 0.87 * lowest), ends, color=colour, alpha=0.3, linewidth=1)
        if open_end.any():
            arrows = np.full(int(open_end.sum()), edge)
            axis.plot(x[open_end], arrows, "^", color=colour, alpha=0.6, markersize=5, clip_on=False, zorder=3)
    axis.set_ylim(0.87 * lowest, edge)


def draw_changes(axis: Axes, table: pd.DataFrame, colour: str) -> None:
    """Draw rRMSE with its interval; where that has no upper end, an arrow instead of the upper bar."""
    x = table["n_train"]
    low, value, high = (table[c].to_numpy(dtype=float) for c in ("rrmse_low", "rrmse", "rrmse_high"))
    spread: NDArray[np.float64] = np.array([value - np.clip(low, 1e-3, value), np.fmax(high, value) - value])
    axis.errorbar(x, value, yerr=spread, fmt="o-", color=colour, markersize=4, capsize=2, linewidth=1)
    above = np.isnan(high)
    axis.errorbar(
        x[above], value[above], yerr=9 * value[above], lolims=True, fmt="none", ecolor=colour, capsize=2, linewidth=1
    )


def plain_log_ticks(axis: Axes, which: Literal["x", "y"] = "y") -> None:
    """Give a logarithmic axis plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    one = axis.xaxis if which == "x" else axis.yaxis
    low, high = axis.get_xlim() if which == "x" else axis.get_ylim()
    subs = (1.0,) if high / low > 1e4 else (1.0, 2.0, 5.0) if high / low < 200 else (1.0, 3.0)
    # Less than a factor of 4 may lie between two of these.
    one.set_major_locator(LogLocator(subs=subs) if high / low > 4 else MaxNLocator(4))
    one.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    one.set_minor_formatter(NullFormatter())


def plot_parity(predictions: dict[str, Any], target: Target, metric: str, path: str) -> None:
    """Plot predictions against labels, errors against the model's standard deviation, and its calibration curve.

    predictions: label, mean, std and std_with_noise (target's unit) of the structures that the model was evaluated on.
    """
    count = len(predictions["label"])
    # Of states, shape (n, n_states), all together.
    label, mean = np.ravel(predictions["label"]), np.ravel(predictions["mean"])
    std, around = (None if (s := predictions.get(key)) is None else np.ravel(s) for key in ("std", "std_with_noise"))
    # Total energies are thousands of eV with meV of structure: what is told apart is the distance from the lowest label.
    shift = float(label.min()) if (target.total_energy or target.per_state) and count else 0.0
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
        left.set_xlabel(f"labelled {target.words}{relative}{_in_brackets(base)}")
        left.set_ylabel(f"predicted{_in_brackets(base)}")
        error = f"RMSE {scale * np.sqrt(np.mean(errors**2)):.3g} {unit}".rstrip()
        left.set_title(f"{metric.replace('_', '-')}: {count} structures, {error}", fontsize=10)
        if certain:
            _plot_uncertainty(right, scale * errors, scale * np.asarray(std), unit)
            _plot_calibration(axes[2], errors, np.asarray(std if around is None else around))
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
        plain_log_ticks(axis, "x")
        plain_log_ticks(axis)
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
    for message, where, side in (("too cautious", (0.04, 0.95), "left"), ("too sure", (0.96, 0.05), "right")):
        axis.annotate(message, where, xycoords="axes fraction", ha=side, va="center", fontsize=8, color="0.4")
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
    ("train_core_hours", "core-hours beside labels"),
)
WHERE_GIVEN: Sequence[tuple[str, str, str]] = (
    ("RMSE of the energies (eV)", "rmse_energies_eV", "{:.4f}"),
    ("RMSE of the strengths", "rmse_strengths", "{:.4f}"),
    ("labels with swapped states", "labels_swapped", "{:.0f}"),
    ("found in range", "in_range_found", "{:.0f}"),
    ("share of all", "in_range_share", "{:.1%}"),
    ("TPR", "tpr", "{:.3f}"),
    ("FPR", "fpr", "{:.3f}"),
    ("errors within 95 % interval", "coverage_95", "{:.0%}"),
    ("factor of std", "std_factor", "{:.2f}"),
    ("labels saved", "labels_saved", "{:.0f}"),
    ("at least", "labels_saved_low", "{:.0f}"),
    ("at most", "labels_saved_high", "{:.0f}"),
)
"""Headings of what only some campaigns have, the column of the history and the format."""


def write_iteration_table(histories: dict[str, str], target: Target, path: str) -> None:
    """Write the table of iterations of every arm as one HTML page."""
    parts = [TABLE_HEAD]
    for arm, file in histories.items():
        table = pd.read_csv(file)
        scale, unit = unit_for(target, float(table["rmse"].max()))
        shown = pd.DataFrame({heading: table[column] for column, heading in HEADINGS})
        for name in ("RMSE", "MAE"):
            shown[name] = [
                f"{scale * v:.3g} {_small(interval_text(a, b, '.3g', scale))}"
                for v, a, b in _with_ends(table, name.lower())
            ]
        _insert_beside_rmse(shown, table)
        shown["largest error"] = [f"{scale * v:.4g}" for v in table["maxe"]]
        shown["rRMSE"] = [
            "" if i == 0 else f"{v:.3f} {_small(interval_text(a, b, '.3f'))}"
            for i, (v, a, b) in zip(table["iteration"], _with_ends(table, "rrmse"), strict=True)
        ]
        shown = shown.rename(columns={c: f"{c}{_in_brackets(unit)}" for c in ("RMSE", "MAE", "largest error")})
        if table["maxe"].isna().all():
            shown = shown.drop(columns=[c for c in shown if str(c).startswith("largest error")])
        if table["rmse"].isna().all():
            shown = shown.drop(columns=[c for c in shown if str(c).startswith(("RMSE", "MAE", "rRMSE"))])
        for heading, column, style in (*_of_each(target.beside), *WHERE_GIVEN):
            if column in table and table[column].notna().any():
                shown[heading] = [style.format(value) if np.isfinite(value) else "" for value in table[column]]
        if target.per_state:
            shown = shown.rename(columns={c: f"{c}<sub>geom</sub>" for c in ("RMSE", "MAE")})
        reason = table["stop_reason"].fillna("").iloc[-1]
        parts.append(f"<h2>{arm}</h2>{shown.to_html(index=False, escape=False, border=0, float_format=_four_digits)}")
        parts.append(f"<p>Stopped: {html.escape(reason) or 'not yet'}.</p>")
        parts.append(_warnings_of_last(table))
    note = f"<p><small>{TABLE_NOTE}</small></p>" if any("RMSE" in part for part in parts) else ""
    parts.append(f"{note}</body></html>\n")
    with atomic_path(path) as temporary:
        temporary.write_text("".join(parts))


def _of_each(properties: Sequence[str]) -> list[tuple[str, str, str]]:
    """Return headings, columns and formats of what is learnt beside the main property."""
    found = []
    for name in properties:
        unit = PROPERTIES[name].unit.replace("Angstrom", "Å")
        found += [
            (f"RMSE of the {name}{_in_brackets(unit)}", f"{name}_rmse", "{:.4g}"),
            (f"RMSE / std of the {name}", f"{name}_rmse_over_std", "{:.3g}"),
            (f"errors of the {name} within 95 % interval", f"{name}_coverage_95", "{:.0%}"),
            (f"factor of std of the {name}", f"{name}_std_factor", "{:.2f}"),
        ]
    return found


def _warnings_of_last(table: pd.DataFrame) -> str:
    """Return what is doubtful about the last iteration as a list, empty if nothing is."""
    said = table["warnings"].iloc[-1]
    if pd.isna(said):
        return ""
    items = "".join(f"<li>{html.escape(message)}</li>" for message in str(said).split(" | "))
    return f"<p>Warnings of the last iteration:</p><ul>{items}</ul>"


TABLE_NOTE = (
    "In brackets: 95 % intervals; “upwards” where the errors seen set no upper bound. RMSE / std: of the targets of the "
    "same structures (total energies: about their best sum over elements), 1 is what always saying their mean would reach; "
    "R² = 1 - (RMSE / std)². Per atom: root mean square "
    "of error / number of atoms."
)


def _with_ends(table: pd.DataFrame, name: str) -> Iterator[tuple[float, float, float]]:
    """Return a column with the ends of its interval, row by row."""
    return zip(table[name], table[f"{name}_low"], table[f"{name}_high"], strict=True)


def _small(words: str) -> str:
    return f"<small>({words})</small>"


def _insert_beside_rmse(shown: pd.DataFrame, table: pd.DataFrame) -> None:
    """Put what says how large an RMSE is behind it, where the campaign has it."""
    columns = {}
    if table["rmse_over_std"].notna().any():
        rows = _with_ends(table, "rmse_over_std")
        columns["RMSE / std"] = [f"{v:.3g} {_small(interval_text(a, b, '.3g'))}" for v, a, b in rows]
    if table["r2"].notna().any():
        columns["R²"] = [f"{r2_text(v)} {_small(r2_interval_text(a, b))}" for v, a, b in _with_ends(table, "r2")]
    if table["rmse_per_atom"].notna().any():
        columns["RMSE per atom (meV/atom)"] = [f"{1e3 * v:.3g}" for v in table["rmse_per_atom"]]
    for name, cells in reversed(columns.items()):
        shown.insert(list(shown).index("RMSE") + 1, name, cells)


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
th.words, td.words {text-align: left; white-space: normal}
small {color: #666}
</style></head><body>"""
