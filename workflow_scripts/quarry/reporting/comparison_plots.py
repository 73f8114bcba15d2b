"""Figures of the campaign beside its control arms."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from quarry.evaluation.comparison import Comparison
from quarry.evaluation.savings import Curve, saving_words
from quarry.reporting.plots import COLOURS, STYLE, plain_log_ticks, save_figure, unit_for

RANDOM = "#7a7a7a"


def plot_savings(comparison: Comparison, target: str, path: str) -> None:
    """Plot quality against training labels of all arms, and the share of labels saved with its spread."""
    finds = comparison.controls[0].finds
    largest = max(q for curve in comparison.arms + comparison.controls for q in curve.quality)
    rate = "accuracy" in comparison.quality
    scale, unit = (1.0, "") if finds or rate else unit_for(target, largest)
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(8.6, 4.0), constrained_layout=True)
        _curves(left, comparison.controls, scale, RANDOM, "random")
        _curves(left, comparison.arms, scale, COLOURS[0], "main")
        name = comparison.quality.replace("accuracy", "share of wrong classes")
        left.set_ylabel(name + (f" ({unit})" if unit else ""))
        left.set_xlabel("training labels")
        if not finds and all(q > 0 for curve in comparison.arms + comparison.controls for q in curve.quality):
            left.set_yscale("log")
            plain_log_ticks(left)
        left.legend(frameon=False)
        found = [saving for saving in comparison.savings() if saving is not None]
        labels = [saving.labels for saving in found]
        shares = [100 * saving.share for saving in found]
        spread = [100 * (saving.share_std or 0.0) for saving in found]
        right.axhline(0, color="0.6", linewidth=1)
        right.errorbar(labels, shares, yerr=spread, fmt="o-", color=COLOURS[0], markersize=4, capsize=3)
        low, high = right.get_ylim()
        right.set_ylim(min(low, -10), max(high, 10))
        right.set_xlabel("training labels")
        right.set_ylabel("labels saved against random (%)")
        words = saving_words(comparison.savings()[-1], comparison.quality)
        figure.suptitle(words[0].upper() + words[1:], fontsize=9)
        save_figure(figure, path)


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
            markersize=4,
            label=name if alone or (not same and curve is curves[0]) else None,
        )
    if len(curves) > 1 and same:
        mean = scale * np.mean([curve.quality for curve in curves], axis=0)
        axis.plot(
            curves[0].labels, mean, "o-", color=colour, markersize=4, label=f"{name}, mean of {len(curves)} seeds"
        )
