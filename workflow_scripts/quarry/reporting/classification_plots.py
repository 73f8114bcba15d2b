"""Figures of the report for target class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from quarry.files import atomic_path
from quarry.models.metrics import confusion_matrix
from quarry.reporting.plots import COLOURS, HEADINGS, STYLE, TABLE_HEAD, save_figure
from quarry.stopping.messages import interval_text


def plot_accuracy(histories: dict[str, str], path: str) -> None:
    """Plot the accuracy of every arm, with its 95 % interval, against the number of training labels.

    histories: ``history.csv`` by arm.
    """
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(6.4, 4.0), constrained_layout=True)
        for (arm, file), colour in zip(histories.items(), COLOURS * len(histories), strict=False):
            table = pd.read_csv(file)
            x = table["n_train"]
            axis.fill_between(x, table["accuracy_low"], table["accuracy_high"], color=colour, alpha=0.18, linewidth=0)
            axis.plot(x, table["accuracy"], "o-", color=colour, label=arm, markersize=4)
            if table["majority"].notna().any():
                axis.plot(x, table["majority"], ":", color=colour, linewidth=1, label="the most frequent class alone")
        metric = str(table["metric"].iloc[0]).replace("_", "-")
        axis.set_ylabel(f"{metric} accuracy")
        axis.set_xlabel("training labels")
        # The arms share the test set mostly, so one line for the most frequent class stands for all in the legend.
        shown = dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
        if len(shown) > 1:
            axis.legend(shown.values(), shown.keys(), frameon=False, fontsize=8)
        save_figure(figure, path)


def plot_confusion(predictions: dict[str, Any], names: Sequence[str], metric: str, path: str) -> None:
    """Plot how many structures of each class were predicted to be of each class.

    predictions: label and mean (numbers of classes) of the structures that the model was evaluated on. names: of all
    classes.
    """
    labels, predicted = np.asarray(predictions["label"]), np.asarray(predictions["mean"])
    counts = confusion_matrix(labels, predicted, len(names))
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    with plt.rc_context(STYLE):
        size = 3.0 + 0.6 * len(names)
        figure, axis = plt.subplots(figsize=(size + 0.6, size), constrained_layout=True)
        axis.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axis.text(column, row, f"{count}", ha="center", va="center", color=colour)
        axis.set_xticks(range(len(names)), names, rotation=30, ha="right")
        axis.set_yticks(range(len(names)), names)
        axis.spines[:].set_visible(False)
        axis.set_xlabel("predicted class")
        axis.set_ylabel("labelled class")
        accuracy = np.trace(counts) / max(1, counts.sum())
        title = f"{metric.replace('_', '-')}: {counts.sum()} structures, accuracy {accuracy:.3f}"
        axis.set_title(title, fontsize=10)
        save_figure(figure, path)


ERRORS_OF_NUMBERS = ("rmse", "mae", "maxe", "rrmse")


def write_class_table(histories: dict[str, str], path: str) -> None:
    """Write the table of iterations of every arm as one HTML page. histories: ``history.csv`` by arm."""
    parts = [TABLE_HEAD]
    for arm, file in histories.items():
        table = pd.read_csv(file)
        shown = pd.DataFrame({head: table[column] for column, head in HEADINGS if column not in ERRORS_OF_NUMBERS})
        columns = ("accuracy", "accuracy_low", "accuracy_high")
        accuracy = [
            f"{value:.3f} <small>({interval_text(low, high, '.3f')})</small>"
            for value, low, high in zip(*(table[column] for column in columns), strict=True)
        ]
        shown.insert(6, "accuracy", accuracy)
        shown.insert(7, "most frequent class alone", [_three_digits(value) for value in table["majority"]])
        shown.insert(8, "errors / its errors", [_three_digits(value) for value in table["error_over_majority_error"]])
        shown.insert(9, "confusion", table["confusion"])
        reason = table["stop_reason"].fillna("").iloc[-1]
        parts.append(
            f"<h2>{arm}</h2>{shown.to_html(index=False, escape=False, border=0, float_format='{:.4f}'.format)}"
        )
        parts.append(f"<p>Stopped: {reason or 'not yet'}.</p>")
    parts.append(
        "<p><small>In brackets: 95 % intervals. Most frequent class alone: accuracy of always naming it. Confusion: for "
        "each labelled class in turn, how many were predicted to be of each class.</small></p></body></html>\n"
    )
    with atomic_path(path) as temporary:
        temporary.write_text("".join(parts))


def _three_digits(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else ""
