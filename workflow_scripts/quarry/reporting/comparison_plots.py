"""Figures of the campaign beside its control arms."""

from __future__ import annotations

import textwrap

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from quarry.config.targets import Target
from quarry.evaluation.comparison import Comparison, Measure
from quarry.evaluation.curves import Curve
from quarry.evaluation.savings import Saving
from quarry.reporting.plots import COLOURS, STYLE, plain_log_ticks, save_figure, unit_for, write_note

RANDOM = "#7a7a7a"
COLOUR_OF: dict[str, str] = {"saved": "#1b7f3b", "wasted": "#b3361b", "none": RANDOM, "unknown": RANDOM}
WORDS_OF = {"saved": "saved", "wasted": "wasted", "none": "none beyond chance", "unknown": "no verdict"}


def plot_savings(comparison: Comparison, target: Target, path: str) -> None:
    """Plot a column for each measure: quality against training labels of all arms, and the labels saved with their interval.

    comparison: of arm main with its control arms; target: that of the campaign, for the unit; path: of the SVG file.
    """
    measures = comparison.measures
    if not measures:
        write_note("No error was measured: test.size is 0, and stop.metric: test.", path)
        return
    with plt.rc_context(STYLE):
        size = (max(4.6, 3.1 * len(measures)), 5.6)
        figure, axes = plt.subplots(2, len(measures), figsize=size, sharex=True, squeeze=False, constrained_layout=True)
        for number, measure in enumerate(measures):
            _qualities(axes[0, number], measure, target, number == 0)
            _savings(axes[1, number], measure, number == 0)
        lowest = min((axis.get_ylim()[0] for axis in axes[1]), default=0)
        highest = max((axis.get_ylim()[1] for axis in axes[1]), default=0)
        for axis in axes[1]:
            axis.set_ylim(max(lowest, -105), min(highest, 105))
        width = round(15.5 * size[0])
        lines = [
            line for message in comparison.words for line in textwrap.wrap(message[0].upper() + message[1:], width)
        ]
        figure.suptitle("\n".join(lines), fontsize=8, x=0.01, ha="left")
        save_figure(figure, path)


def _qualities(axis: Axes, measure: Measure, target: Target, first: bool) -> None:
    pairs = measure.splits
    everything = [*measure.arms, *measure.controls, *(curve for pair in pairs for curve in pair)]
    largest = max(q for curve in everything for q in curve.quality)
    number = measure.name in ("finds", "accuracy")
    scale, unit = (1.0, "") if number else unit_for(target, largest)
    _curves(axis, [*measure.controls, *(control for _, control in pairs)], scale, RANDOM, "random")
    _curves(axis, [*measure.arms, *(main for main, _ in pairs)], scale, COLOURS[0], "main")
    name = measure.quality.replace("accuracy", "share of wrong classes")
    axis.set_ylabel(name + (f" ({unit})" if unit else ""))
    if measure.name != "finds" and all(q > 0 for curve in everything for q in curve.quality):
        axis.set_yscale("log")
        plain_log_ticks(axis)
    if first:
        axis.legend(frameon=False)


def _savings(axis: Axes, measure: Measure, first: bool) -> None:
    found = [saving for saving in measure.savings if saving is not None]
    axis.axhline(0, color="0.4", linewidth=1)
    axis.set_xlabel("training labels")
    if first:
        axis.set_ylabel("labels saved against random\n(% of the training labels)")
    if not found:
        return
    labels = [saving.labels for saving in found]
    axis.plot(labels, [_percent(s.saved, s) for s in found], "o-", color=COLOURS[0], markersize=3.5)
    ends = [(_percent(s.low, s), _percent(s.high, s)) for s in found if s.low is not None and s.high is not None]
    if ends:
        low, high = zip(*ends, strict=True)
        # A band between two sizes; a single one has a bar.
        axis.fill_between(labels, low, high, color=COLOURS[0], alpha=0.2, linewidth=0, label="95 % interval")
        if len(ends) == 1:
            axis.vlines(labels, low, high, color=COLOURS[0])
    if first and ends:
        axis.legend(frameon=False, loc="lower left")
    verdict = found[-1].verdict
    axis.set_title(f"by {measure.words}: {WORDS_OF[verdict]}", color=COLOUR_OF[verdict], fontsize=9)


def _percent(labels: float, saving: Saving) -> float:
    return 100 * labels / saving.labels


def _curves(axis: Axes, curves: list[Curve], scale: float, colour: str, name: str) -> None:
    """Draw every curve thin and their mean, where they have the same sizes, thick."""
    same = all(curve.labels == curves[0].labels for curve in curves)
    for curve in curves:
        alone = len(curves) == 1
        axis.plot(
            curve.labels,
            scale * np.array(curve.quality),
            "o-" if alone else "-",
            color=colour,
            alpha=1.0 if alone else 0.35,
            linewidth=1.5 if alone else 1.0,
            markersize=3.5,
            label=name if alone or (not same and curve is curves[0]) else None,
        )
    if len(curves) > 1 and same:
        mean = scale * np.mean([curve.quality for curve in curves], axis=0)
        axis.plot(curves[0].labels, mean, "o-", color=colour, markersize=3.5, label=f"{name}, mean of {len(curves)}")
