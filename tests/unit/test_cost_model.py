"""The cost of labels: power laws are found again, and 90 % means 90 %."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from quarry.labeling.cost_model import (
    EXPONENT_SD,
    MIN_LABELS,
    SINGLY,
    CostModel,
    LabelCost,
    MemoryLaw,
    PowerLaw,
    _floor_and_growth,
    label_cost,
)


def labels(n, low, high, scatter, exponent, rng, factor=1e-3):
    sizes = np.exp(rng.uniform(np.log(low), np.log(high), n))
    return sizes, factor * sizes**exponent * np.exp(scatter * rng.standard_normal(n))


class TestPowerLaw:
    @pytest.mark.parametrize("exponent", [0.5, 2.0, 3.5, 5.0])
    def test_a_known_law_is_found_again(self, exponent):
        rng = np.random.default_rng(1)
        law = PowerLaw.fit(*labels(100, 10, 500, 0.1, exponent, rng))
        assert law.exponent == pytest.approx(exponent, abs=4 * law.exponent_sd) and law.exponent_sd < 0.02
        assert law.scatter == pytest.approx(0.1, rel=0.3)
        assert np.exp(law.log_quantile(200.0, 0.5)) == pytest.approx(1e-3 * 200**exponent, rel=0.05)

    def test_it_is_ordinary_regression_where_that_is_sound(self):
        """Mean and prediction interval as scipy's linear regression and the textbook formula give them.

        Many sizes over two decades, no wild points: prior and weights have next to no effect.
        """
        rng = np.random.default_rng(2)
        x = rng.uniform(2, 6.6, 300)
        y = 1.7 * x - 3 + 0.2 * rng.standard_normal(300)
        law, line = PowerLaw.fit(np.exp(x), np.exp(y)), stats.linregress(x, y)
        s = np.sqrt(np.sum((y - line.intercept - line.slope * x) ** 2) / 298)
        for new in (2.0, 4.0, 6.5):
            se = s * np.sqrt(1 + 1 / 300 + (new - x.mean()) ** 2 / np.sum((x - x.mean()) ** 2))
            mean = line.intercept + line.slope * new
            assert law.log_quantile(np.exp(new), 0.5) == pytest.approx(mean, abs=0.02)
            assert law.log_quantile(np.exp(new), 0.95) - mean == pytest.approx(stats.t.ppf(0.95, 298) * se, rel=0.08)

    @pytest.mark.parametrize(
        ("n", "low", "high", "scatter", "exponent"),
        [
            (5, 50, 50.001, 0.2, 2),
            (5, 10, 100, 0.3, 1.5),
            (8, 10, 300, 0.1, 4),
            (30, 20, 300, 0.4, 3),
            (5, 10, 12, 0.1, 2),
        ],
    )
    def test_ninety_percent_are_below_the_ninety_percent(self, n, low, high, scatter, exponent):
        """600 fits, one new label each; five standard deviations of the count, and a little for the weights."""
        rng = np.random.default_rng(3)
        below = {0.5: 0, 0.9: 0}
        for _ in range(600):
            law = PowerLaw.fit(*labels(n, low, high, scatter, exponent, rng))
            [size], [time] = labels(1, low, high, scatter, exponent, rng)
            for quantile in below:
                below[quantile] += np.log(time) < law.log_quantile(size, quantile)
        for quantile, count in below.items():
            assert abs(count / 600 - quantile) < 5 * np.sqrt(quantile * (1 - quantile) / 600) + 0.02

    def test_one_size_says_little_of_another(self):
        """The median follows the prior's exponent; the 90 % are wide, and wider the farther away."""
        rng = np.random.default_rng(4)
        law = PowerLaw.fit(*labels(20, 50, 50.001, 0.1, 2, rng))
        assert law.exponent == pytest.approx(2.5, abs=1e-3) and law.exponent_sd == pytest.approx(EXPONENT_SD, rel=1e-3)
        widths = [law.log_quantile(size, 0.9) - law.log_quantile(size, 0.5) for size in (50, 100, 200)]
        assert widths[0] < 0.2 < 1.0 < widths[1] < widths[2]

    @pytest.mark.parametrize("exponent", [2.0, 2.5, 3.0])
    def test_small_labels_tell_of_large_ones_with_care(self, exponent):
        """Small ones cost little more than the start of the program; those five times as large are what a power law says.

        The line through the small ones, drawn on, is far below (the exponent seems to be about 1).
        """
        rng = np.random.default_rng(9)
        cost = 0.5 * (np.array([100.0, 150.0]) / 22) ** exponent + 0.5
        below, median = 0, []
        for _ in range(100):
            sizes = rng.uniform(15, 30, 8)
            times = (0.5 * (sizes / 22) ** exponent + 0.5) * np.exp(0.05 * rng.standard_normal(8))
            law, line = PowerLaw.fit(sizes, times), stats.linregress(np.log(sizes), np.log(times))
            below += np.all(np.log(cost) < law.log_quantile([100, 150], 0.9))
            median.append(law.log_quantile(150, 0.5) - np.log(cost[1]))
        assert below > 85
        assert abs(np.median(median)) < np.log(4)
        assert line.intercept + line.slope * np.log(150) < np.log(cost[1] / 2)

    def test_wild_points_change_little(self):
        """Three of 30 labels took 20 times as long, on a busy node."""
        rng = np.random.default_rng(5)
        sizes, times = labels(30, 10, 300, 0.1, 3, rng)
        wild = times * np.where(np.arange(30) % 10 == 0, 20, 1)
        plain, spoiled = PowerLaw.fit(sizes, times), PowerLaw.fit(sizes, wild)
        line = stats.linregress(np.log(sizes), np.log(wild))
        for size in (10, 50, 300):
            truth = plain.log_quantile(size, 0.5)
            assert abs(spoiled.log_quantile(size, 0.5) - truth) < 0.7 * abs(
                line.intercept + line.slope * np.log(size) - truth
            )
            assert spoiled.log_quantile(size, 0.95) > plain.log_quantile(size, 0.95)

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(st.tuples(st.floats(1, 1e4), st.floats(1e-2, 1e6)), min_size=5, max_size=12),
        st.sampled_from([0.05, 0.5, 0.9, 0.99]),
    )
    def test_larger_never_costs_less(self, points, quantile):
        """Whatever was measured, also nonsense."""
        law = PowerLaw.fit(*zip(*points, strict=True))
        curve = law.log_quantile(np.logspace(-2, 6, 60), quantile)
        assert np.isfinite(curve).all()
        assert np.all(np.diff(curve) >= -1e-9)
        assert 0 <= law.exponent <= 7

    @settings(max_examples=40, deadline=None)
    @given(st.floats(0.01, 100), st.floats(0.1, 50))
    def test_units_do_not_matter(self, size_unit, time_unit):
        sizes, times = labels(12, 10, 200, 0.2, 2.5, np.random.default_rng(6))
        one, other = PowerLaw.fit(sizes, times), PowerLaw.fit(sizes * size_unit, times * time_unit)
        shifted = other.log_quantile(70 * size_unit, 0.9) - np.log(time_unit)
        assert shifted == pytest.approx(float(one.log_quantile(70, 0.9)), abs=1e-6)


class TestMemory:
    def test_a_floor_and_squares_are_found_again(self):
        rng = np.random.default_rng(7)
        sizes = rng.uniform(20, 400, 40)
        memory = (200 + 0.02 * sizes**2) * np.exp(0.03 * rng.standard_normal(40))
        law = MemoryLaw.fit(sizes, memory)
        assert law.quantile([1000.0], 0.5)[0] == pytest.approx(200 + 0.02 * 1e6, rel=0.1)
        assert law.quantile([1.0], 0.5)[0] == pytest.approx(200, rel=0.1)

    @settings(deadline=None)
    @given(st.lists(st.tuples(st.floats(1, 100), st.floats(1, 1e4)), min_size=2, max_size=10))
    def test_the_least_squares_are_those_of_scipy(self, points):
        squares, memory = (np.array(column) for column in zip(*points, strict=True))
        columns = np.column_stack([1 / memory, squares / memory])
        expected, residual = optimize.nnls(columns, np.ones(len(memory)))
        found = np.array(_floor_and_growth(squares, memory))
        assert (found >= 0).all()
        assert np.linalg.norm(columns @ found - 1) == pytest.approx(residual, rel=1e-6, abs=1e-7), expected

    def test_one_size(self):
        """All but the base is taken to grow."""
        law = MemoryLaw.fit([100.0] * 6, [350.0, 351, 349, 350, 350, 352])
        assert law.quantile([100.0], 0.5)[0] == pytest.approx(350, rel=0.01)
        assert law.quantile([200.0], 0.5)[0] == pytest.approx(150 + 4 * 200, rel=0.01)

    @settings(deadline=None)
    @given(st.lists(st.tuples(st.floats(1, 1e3), st.floats(0, 1e5)), min_size=5, max_size=12))
    def test_larger_never_needs_less(self, points):
        curve = MemoryLaw.fit(*zip(*points, strict=True)).quantile(np.logspace(0, 5, 30), 0.95)
        assert np.isfinite(curve).all() and np.all(np.diff(curve) >= 0)


def costs(n, rng, cores=1, exponent=3.0, scatter=0.1, **changes):
    sizes, core_s = labels(n, 20, 200, scatter, exponent, rng)
    plain = LabelCost(1.0, cores, 300.0, 5, 50)
    return [
        replace(plain, wall_s=float(t) / cores, basis_functions=int(s), **changes)
        for s, t in zip(np.round(sizes), core_s, strict=True)
    ]


class TestModel:
    def test_fewer_than_five_are_no_model(self):
        found = costs(MIN_LABELS, np.random.default_rng(0))
        assert CostModel.fit(found[:-1], 1) is None and CostModel.fit(found, 1) is not None

    def test_basis_functions_only_where_all_have_them(self):
        found = costs(8, np.random.default_rng(0))
        assert CostModel.fit(found, 1).measure == "basis_functions"
        assert CostModel.fit([*found[:-1], replace(found[-1], basis_functions=None)], 1).measure == "atoms"

    def test_labels_on_as_many_cores_are_taken_alone(self):
        """The others' core-seconds would be wrong if the program does not scale."""
        rng = np.random.default_rng(1)
        alike, other = costs(10, rng, cores=4), [replace(c, wall_s=50 * c.wall_s) for c in costs(20, rng, cores=1)]
        model = CostModel.fit([*alike, *other], 4)
        assert (model.n, model.same_cores) == (10, True)
        assert model.wall_s([100.0]) == pytest.approx(CostModel.fit(alike, 4).wall_s([100.0]))

    def test_otherwise_core_seconds_are_kept(self):
        found = costs(10, np.random.default_rng(1), cores=1)
        one, four = CostModel.fit(found, 1), CostModel.fit(found, 4)
        assert not four.same_cores and four.wall_s([100.0]) == pytest.approx(one.wall_s([100.0]) / 4)

    @pytest.mark.parametrize("seed", range(3))
    def test_sums_by_normal_scatter_are_those_drawn_one_by_one(self, seed):
        model = CostModel.fit(costs(12, np.random.default_rng(seed), scatter=0.3), 2)
        sizes = np.repeat([30.0, 80.0, 150.0], (SINGLY + 99) // 3)
        assert len(sizes) > SINGLY
        quick, drawn = model.draw_totals(sizes, 2000), model.draw_walls(sizes, 2000).sum(axis=1)
        for quantile in (0.1, 0.5, 0.9):
            assert np.quantile(quick, quantile) == pytest.approx(np.quantile(drawn, quantile), rel=0.02)

    def test_ninety_percent_of_a_sum(self):
        """The true sum of 200 labels is below the 90 % of nine fits of ten; the sum of 90 % would be far above."""
        rng = np.random.default_rng(8)
        below = 0
        for _ in range(150):
            model = CostModel.fit(costs(8, rng, scatter=0.3), 1)
            sizes, walls = labels(200, 20, 200, 0.3, 3.0, rng)
            below += walls.sum() < np.quantile(model.draw_totals(sizes, 500), 0.9)
        assert 0.9 - 0.11 < below / 150 < 0.9 + 0.08
        many = CostModel.fit(costs(200, rng, scatter=0.3), 1)
        assert np.quantile(many.draw_totals(sizes), 0.9) < 0.85 * many.wall_s(sizes, 0.9).sum()

    def test_one_label_and_a_sum_of_one_agree(self):
        model = CostModel.fit(costs(100, np.random.default_rng(2)), 1)
        for quantile, size in itertools.product((0.5, 0.95), (80.0, 20.0, 400.0)):
            drawn = np.quantile(model.draw_walls([size], 20000), quantile)
            assert model.total_wall_s([size], quantile) == pytest.approx(drawn, rel=0.03)
        assert model.total_wall_s([80.0, 80.0], 0.5) == model.total_wall_s([80.0, 80.0], 0.5)

    def test_the_same_labels_give_the_same_numbers(self):
        found = costs(10, np.random.default_rng(2))
        one, other = (CostModel.fit(found, 1).draw_totals([50.0, 60.0]) for _ in range(2))
        assert np.array_equal(one, other)


COST = {"wall_s": 2.0, "cpu_s": 1.0, "threads": 2, "tasks": 3, "peak_memory_MB": 7.0}


class TestLabelCost:
    def test_of_a_record(self):
        size = {"atoms": 4, "basis_functions": 40}
        assert label_cost("ok", {**COST, "size": size}) == LabelCost(2.0, 6, 7.0, 4, 40)

    def test_older_records(self):
        old = {"wall_s": 2.0, "threads": 2, "peak_memory_MB": 7.0}
        assert label_cost("ok", old, 5) == LabelCost(2.0, 2, 7.0, 5)
        assert label_cost("ok", old) is None

    def test_failed_and_damaged_ones_do_not_enter(self):
        good = {**COST, "size": {"atoms": 4}}
        assert label_cost("ok", good) is not None
        assert label_cost("out_of_time", good) is None
        for key, value in itertools.product(("wall_s", "threads"), (0, -1, "x", None, float("nan"))):
            assert label_cost("ok", {**good, key: value}) is None
        assert label_cost("ok", {**good, "size": "large"}) is None
