"""Errors in words, in the table and in the learning curve, with and without upper ends."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from quarry.config.learning import Stop
from quarry.config.targets import TARGETS
from quarry.reporting.plots import draw_bands, draw_changes, plot_learning_curve, write_iteration_table
from quarry.stages.results import write_history
from quarry.stopping.facts import Cost
from quarry.stopping.messages import interval_text, r2_interval_text, r2_text
from support.stages import make_facts

COST = Cost(3, 2, 0, 0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.01, 0.03, "0.010 to 0.030"),
        (0.01, None, "0.010 upwards"),
        (0.01, float("nan"), "0.010 upwards"),
        (None, 0.03, "up to 0.030"),
        (None, None, "no interval"),
    ],
)
def test_intervals(low, high, words):
    assert interval_text(low, high, ".3f") == words


def test_r2_has_two_digits_of_what_it_lacks():
    values = [-1.5, 0.0, 0.4567, 0.912345, 0.99871234, 0.999999991, 1.0]
    assert [r2_text(v) for v in values] == ["-1.5", "0", "0.46", "0.912", "0.9987", "0.99999999", "1"]
    assert r2_interval_text(0.912345, 0.99871234) == "0.912 to 0.9987"
    assert r2_interval_text(None, 0.99) == "up to 0.990"


def history(folder, high):
    error = {
        "rmse": 0.02, "rmse_low": 0.01, "rmse_high": high, "mae": 0.01, "mae_low": 0.005, "mae_high": 0.02, "maxe": 0.1,
        "rmse_over_std": 0.125, "rmse_over_std_low": 0.1, "rmse_over_std_high": None if high is None else 0.2,
        "r2": 0.984375, "r2_low": None if high is None else 0.96, "r2_high": 0.99, "rmse_per_atom": 0.004,
    }  # fmt: skip
    facts = [make_facts(t, n_train=12 + 5 * t, errors={"test": error}, rrmse_high=high) for t in range(2)]
    write_history(str(folder / "history.csv"), facts, [COST] * 2, "enough")
    return str(folder / "history.csv")


@pytest.mark.parametrize(
    ("high", "cells"),
    [
        (0.05, ["20 <small>(10 to 50)", "0.125 <small>(0.1 to 0.2)", "0.984 <small>(0.960 to 0.990)"]),
        (None, ["20 <small>(10 upwards)", "0.125 <small>(0.1 upwards)", "0.984 <small>(up to 0.990)"]),
    ],
)
def test_table_and_curve(tmp_path, high, cells):
    file = history(tmp_path, high)
    write_iteration_table({"main": file}, TARGETS["energy"], str(tmp_path / "i.html"))
    table = (tmp_path / "i.html").read_text()
    for cell in [*cells, "RMSE per atom (meV/atom)", "<td>4</td>"]:
        assert cell in table, cell
    assert "nan" not in table and "None" not in table
    stop = Stop(rrmse=0.1, rrmse_bound="upper", patience=3)
    plot_learning_curve({"main": file}, TARGETS["energy"], stop, str(tmp_path / "c.svg"))
    picture = (tmp_path / "c.svg").read_text()
    assert "main, last: 0.12 of the std, R² 0.984" in picture
    assert "stops with the upper end of the interval below 0.1, 3 times in a row" in picture


def test_an_interval_without_an_upper_end_reaches_the_edge():
    figure, axis = plt.subplots()
    table = pd.DataFrame({"n_train": [1, 2], "rmse": [1.0, 1.0], "rmse_low": [0.8, 0.0], "rmse_high": [1.5, np.nan]})
    draw_bands(axis, {"main": table})
    bottom, top = axis.get_ylim()
    assert 0.5 < bottom < 0.8 and 1.5 < top < 2
    [whiskers] = [c for c in axis.collections if hasattr(c, "get_segments")]
    assert [segment[:, 1].tolist() for segment in whiskers.get_segments()] == [
        pytest.approx([0.8, 1.5]),
        pytest.approx([bottom, top]),
    ]
    [arrow] = axis.lines
    assert arrow.get_xydata().tolist() == [pytest.approx([2.0, top])]
    plt.close(figure)


def test_a_change_without_an_upper_end_is_an_arrow():
    figure, axis = plt.subplots()
    table = pd.DataFrame({"n_train": [1, 2], "rrmse": [0.5, 0.2], "rrmse_low": [0.1, 0.0], "rrmse_high": [0.9, np.nan]})
    draw_changes(axis, table, "black")
    whiskers = [segment[:, 1] for lines in axis.collections for segment in lines.get_segments()]
    assert [w.max() for w in whiskers] == pytest.approx([0.9, 0.2, 2.0])
    plt.close(figure)
