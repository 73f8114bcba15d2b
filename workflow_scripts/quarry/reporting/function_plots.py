"""A model of one variable, as the lecture's figure 4 shows it."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from quarry.config.targets import Target
from quarry.reporting.plots import COLOURS, STYLE, save_figure


@dataclass
class Snapshot:
    """The predictions of a model of one variable for the whole pool.

    iteration: whose model it is. x, mean, std: of the candidates, by rising x, shape (n,) (std: None without
    uncertainties). train_x, train_y: its training labels, shape (n_train,). chosen: x of those that the next batch adds, shape
    (n_chosen,). mean, std and train_y are in the target's unit.
    """

    iteration: int
    x: NDArray[np.float64]
    mean: NDArray[np.float64]
    std: NDArray[np.float64] | None
    train_x: NDArray[np.float64]
    train_y: NDArray[np.float64]
    chosen: NDArray[np.float64]


def plot_function(snapshots: list[Snapshot], feature: str, target: Target, path: str) -> None:
    """Plot mean and two standard deviations of each snapshot with its training points and the points chosen next.

    feature: name of the variable. path: of the figure.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1, len(snapshots), figsize=(4.2 * len(snapshots), 3.6), sharey=True, squeeze=False, constrained_layout=True
        )
        for axis, snapshot in zip(axes[0], snapshots, strict=True):
            _plot(axis, snapshot)
            axis.set_xlabel(feature)
        axes[0][0].set_ylabel(target.name)
        axes[0][0].legend(frameon=False, fontsize=8)
        save_figure(figure, path)


def _plot(axis: Axes, snapshot: Snapshot) -> None:
    s = snapshot
    if s.std is not None:
        axis.fill_between(s.x, s.mean - 2 * s.std, s.mean + 2 * s.std, color=COLOURS[0], alpha=0.18, linewidth=0)
    axis.plot(s.x, s.mean, color=COLOURS[0], linewidth=1.5, label="mean ± 2 std" if s.std is not None else "mean")
    axis.plot(s.train_x, s.train_y, "o", color="0.2", markersize=4, label="labelled")
    for number, x in enumerate(s.chosen):
        axis.axvline(x, color=COLOURS[1], linestyle="--", linewidth=1, label="chosen next" if number == 0 else None)
    axis.set_title(f"iteration {s.iteration}: {len(s.train_x)} labels", fontsize=10)
