"""The pictures that only the overview has: what was selected, where the core-hours went, when labels ran, trajectories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from quarry.reporting.plots import COLOURS, STYLE, legend_above, plain_log_ticks, save_figure

MOST_SHOWN = 5000
"""Structures of the pool that a map shows; more make a file that no browser likes, and no other picture."""
SIZE = (6.4, 4.0)
"""Inches, of all these pictures: their letters have one size beside each other."""


def principal_map(
    pool: NDArray[np.floating], selected: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[float, float]]:
    """Return pool and selected structures on the first two principal components of the pool's features, and their shares.

    pool, selected: features, shapes (n, d) and (m, d). Returns shapes (n, 2) and (m, 2), and which share of the variance each
    component has. The sign of a component is that of its largest part, so that the picture does not depend on the library.
    """
    centre = pool.mean(axis=0)
    axes = np.zeros((2, pool.shape[1]))
    _, spread, directions = np.linalg.svd(pool - centre, full_matrices=False)
    count = min(2, len(directions))
    axes[:count] = directions[:count]
    axes *= np.where(axes[np.arange(2), np.abs(axes).argmax(axis=1)] < 0, -1.0, 1.0)[:, None]
    shares = np.zeros(2)
    shares[:count] = (spread**2 / max(float((spread**2).sum()), np.finfo(float).tiny))[:count]
    return (pool - centre) @ axes.T, (selected - centre) @ axes.T, (float(shares[0]), float(shares[1]))


def plot_selection(
    pool: NDArray[np.floating], selected: NDArray[np.floating], iterations: NDArray[np.int64], path: str | Path
) -> None:
    """Plot a map of the pool with the training structures, coloured by the iteration that chose them.

    pool, selected: features, shapes (n, d) and (m, d). iterations: shape (m,).
    """
    everywhere, chosen, shares = principal_map(pool, selected)
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=SIZE, constrained_layout=True)
        axis.scatter(everywhere[:, 0], everywhere[:, 1], s=4, color="0.82", linewidths=0, label="pool")
        order = np.argsort(-iterations, kind="stable")
        # Of one iteration alone matplotlib would draw a bar of tenths around it.
        ends = Normalize(0, max(1, int(iterations.max(initial=0))))
        x, y = chosen[order].T
        points = axis.scatter(x, y, s=14, c=iterations[order], cmap="viridis", norm=ends, linewidths=0)
        bar = figure.colorbar(points, ax=axis, label="iteration")
        bar.ax.yaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set_xlabel(f"first principal component ({100 * shares[0]:.0f} % of the variance)")
        axis.set_ylabel(f"second principal component ({100 * shares[1]:.0f} %)")
        save_figure(figure, path)


def _label_iterations(axis: Axes) -> None:
    axis.set_xlabel("iteration")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def _label_counts(axis: Axes, counted: str) -> None:
    """Name what is counted; there are no halves of it."""
    axis.set_ylabel(counted)
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))


def plot_errors(off: NDArray[np.floating], unit: str, path: str | Path) -> None:
    """Plot how the errors of predictions are distributed. off: prediction minus label, in ``unit``, shape (n,)."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=SIZE, constrained_layout=True)
        axis.hist(off, bins=int(np.clip(np.sqrt(len(off)) * 2, 8, 60)), color=COLOURS[0])
        rmse = float(np.sqrt(np.mean(off**2)))
        for end in (-rmse, rmse):
            axis.axvline(end, color=COLOURS[1], linestyle="--", linewidth=1.2)
        axis.axvline(0.0, color="0.3", linewidth=0.8)
        axis.set_xlabel(f"prediction - label{f' ({unit})' if unit else ''}")
        _label_counts(axis, "structures")
        save_figure(figure, path)


def plot_core_hours(hours: Mapping[str, Sequence[float]], path: str | Path) -> None:
    """Plot the core-hours of every iteration, one part on top of the other. hours: of each iteration, by what they were for."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=SIZE, constrained_layout=True)
        count = len(next(iter(hours.values())))
        below = np.zeros(count)
        for (name, values), colour in zip(hours.items(), COLOURS * len(hours), strict=False):
            axis.bar(np.arange(count), values, bottom=below, color=colour, label=name, width=0.8)
            below += np.asarray(values)
        _label_iterations(axis)
        axis.set_ylabel("core-hours")
        legend_above(figure, axis, 5)
        save_figure(figure, path)


@dataclass(frozen=True)
class Run:
    """A label job that ran. begin, end: hours since the first of them began. iteration: that paid for it."""

    begin: float
    end: float
    iteration: int


def running_at_once(runs: Sequence[Run], points: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return how many of some runs were running at each time, shape of ``points`` (hours)."""
    begins, ends = np.sort([run.begin for run in runs]), np.sort([run.end for run in runs])
    return np.searchsorted(begins, points, side="right") - np.searchsorted(ends, points, side="right")


def plot_time_line(runs: Sequence[Run], path: str | Path) -> None:
    """Plot how many labels were running at each time, one iteration on top of the other."""
    iterations = sorted({run.iteration for run in runs})
    last = max(run.end for run in runs)
    scale, unit = (60.0, "minutes") if last < 2 else (1.0, "hours")
    edges = np.unique([0.0, last, *(time for run in runs for time in (run.begin, run.end))])
    if len(edges) > MOST_SHOWN:
        edges = np.linspace(0.0, last, MOST_SHOWN)
    # Of many iterations the colours go round.
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=SIZE, constrained_layout=True)
        below = np.zeros(len(edges))
        for iteration in iterations:
            count = running_at_once([run for run in runs if run.iteration == iteration], edges)
            colour = COLOURS[iteration % len(COLOURS)]
            axis.fill_between(edges * scale, below, below + count, step="post", color=colour, linewidth=0)
            below = below + count
        middle = [np.mean([(run.begin + run.end) / 2 for run in runs if run.iteration == i]) for i in iterations]
        if len(iterations) <= 12:
            for iteration, place in zip(iterations, middle, strict=True):
                axis.annotate(str(iteration), (place * scale, 1.0), xycoords=("data", "axes fraction"), ha="center")
        axis.set_xlabel(f"{unit} since the first label began")
        _label_counts(axis, "labels running at once")
        axis.set_ylim(0, None)
        save_figure(figure, path)


FATES = {"uncertain": COLOURS[1], "unphysical": COLOURS[5], "complete": COLOURS[2]}
"""How trajectories end, and the colour of each."""


def plot_exploration(found: Sequence[tuple[int, Mapping[str, Any]]], path: str | Path) -> None:
    """Plot how the trajectories of each iteration ended. found: iteration, and ``Facts.exploration`` of it."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=SIZE, constrained_layout=True)
        numbers = np.array([iteration for iteration, _ in found])
        below = np.zeros(len(numbers))
        for fate, colour in FATES.items():
            counts = np.array([facts.get(fate, 0) for _, facts in found])
            axis.bar(numbers, counts, bottom=below, color=colour, label=fate, width=0.8)
            below += counts
        _label_iterations(axis)
        _label_counts(axis, "trajectories")
        legend_above(figure, axis, 3)
        save_figure(figure, path)


def plot_traces(
    traces: Mapping[int, NDArray[np.float64]], step_fs: float, threshold: float, unit: str, path: str | Path
) -> None:
    """Plot the largest uncertainty of running trajectories against the time, of some iterations.

    traces: by iteration, shape (n, 3): step (of ``step_fs``), largest uncertainty and median. threshold: where a trajectory ends,
    in ``unit``.
    """
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=SIZE, constrained_layout=True)
        for (iteration, trace), colour in zip(traces.items(), COLOURS * len(traces), strict=False):
            axis.plot(step_fs * trace[:, 0], trace[:, 2], color=colour, label=f"iteration {iteration}, median")
            axis.plot(step_fs * trace[:, 0], trace[:, 1], color=colour, linewidth=0.8, linestyle=":", label="largest")
        axis.axhline(threshold, color="0.3", linestyle="--", linewidth=1)
        axis.set_xlabel("time (fs)")
        axis.set_ylabel(f"uncertainty ({unit})" if unit else "uncertainty")
        if all((trace[:, 1:] > 0).all() for trace in traces.values()):
            axis.set_yscale("log")
            plain_log_ticks(axis)
        legend_above(figure, axis, 2)
        save_figure(figure, path)
