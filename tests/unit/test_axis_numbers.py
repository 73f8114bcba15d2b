"""Numbers at the axes of pictures: whole, plain, and enough of them."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from quarry.reporting import overview_plots, uses_plots
from quarry.reporting.plots import plain_log_ticks


@pytest.mark.parametrize("which", ["x", "y"])
@pytest.mark.parametrize("ends", [(0.41, 0.76), (0.15, 4.0), (1e-5, 3.0), (21.0, 23.0)])
def test_logarithmic_axes_have_plain_numbers(which, ends):
    figure, axis = plt.subplots()
    axis.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
    plain_log_ticks(axis, which)
    figure.canvas.draw()
    one = axis.xaxis if which == "x" else axis.yaxis
    ticks = [(tick, label) for tick, label in zip(one.get_ticklocs(), one.get_ticklabels(), strict=True)]
    inside = [label.get_text() for tick, label in ticks if ends[0] <= tick <= ends[1]]
    assert len(inside) >= 2
    assert [float(text) for text in inside] == sorted(map(float, inside))
    assert not any(label.get_text() for label in one.get_ticklabels(minor=True))
    plt.close(figure)


def drawn_axis(monkeypatch, module, draw):
    """Return the first axis of a picture before it is saved."""
    axes = []

    def save(figure, path):
        figure.canvas.draw()
        axes.extend(figure.axes)

    monkeypatch.setattr(module, "save_figure", save)
    draw()
    return axes


def test_bond_lengths_are_whole(monkeypatch):
    lengths = {"N0-H1": 1.01262, "N0-H2": 1.01294}
    result = {"model": {"bonds_A": lengths}, "reference": None, "difference": None}
    axis = drawn_axis(monkeypatch, uses_plots, lambda: uses_plots.plot_minima(result, "bonds.svg"))[0]
    assert axis.xaxis.get_offset_text().get_text() == ""
    assert all(1.0 < float(label.get_text()) < 1.03 for label in axis.get_xticklabels() if label.get_text())
    plt.close("all")


def test_the_bar_of_one_iteration_alone_has_whole_numbers(monkeypatch):
    points = np.random.default_rng(0).normal(size=(6, 3))
    only = np.zeros(6, dtype=np.int64)
    axes = drawn_axis(
        monkeypatch, overview_plots, lambda: overview_plots.plot_selection(points, points, only, "map.svg")
    )
    assert {label.get_text() for label in axes[1].get_yticklabels()} <= {"0", "1"}
    plt.close("all")


@pytest.mark.parametrize("most", [1, 2, 20, 30])
def test_there_are_no_halves_of_labels_trajectories_and_structures(monkeypatch, most):
    runs = [overview_plots.Run(0.01 * k, 0.1 + 0.01 * k, 0) for k in range(most)]
    ends = [(1, {"uncertain": most, "unphysical": 0, "complete": 0})]
    for draw in (
        lambda: overview_plots.plot_time_line(runs, "x.svg"),
        lambda: overview_plots.plot_exploration(ends, "x.svg"),
        lambda: overview_plots.plot_errors(np.linspace(0.0, 1.0, most), "eV", "x.svg"),
    ):
        axis = drawn_axis(monkeypatch, overview_plots, draw)[0]
        assert all(float(tick).is_integer() for tick in axis.get_yticks())
        plt.close("all")
