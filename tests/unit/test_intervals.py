"""Intervals of errors: do they cover what they say, and are they what their definition says?"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import r2_score

from quarry.evaluation.intervals import (
    RESAMPLES,
    Terms,
    change_interval,
    error_interval,
    log_interval,
    share_change_interval,
    share_interval,
    spread_ratio,
    spread_ratio_at_most,
    spread_ratio_interval,
)
from quarry.evaluation.tails import carriers, heavy_tail_warning
from quarry.models.metrics import geometric, mae, rmse, rrmse

REPLICATES = 1500


def rng_of(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def coverage(intervals, truth: float) -> float:
    """Return the share of intervals that hold the truth; an upper end of None holds everything above the lower one."""
    return float(np.mean([low <= truth and (high is None or truth <= high) for low, high in intervals]))


class TestCoverage:
    """Where the true value is known. The standard error of 1,500 replicates is 0.6 %; the streams are fixed."""

    @pytest.mark.parametrize(
        ("draw", "power", "truth"),
        [
            ("normal", 2, 1.0),
            ("laplace", 2, math.sqrt(2)),
            ("laplace", 1, 1.0),
        ],
    )
    def test_of_rmse_and_mae_at_40(self, draw, power, truth):
        rng = rng_of(1)
        errors = [getattr(rng, draw)(size=40) for _ in range(REPLICATES)]
        assert 0.93 <= coverage([error_interval(e, power, rng) for e in errors], truth) <= 0.97
        if power == 2:
            # What the bounds are for: percentiles of the same errors, which Quarry printed before, are outside of them.
            drawn = ([np.mean(e[rng.integers(40, size=(500, 40))] ** 2, axis=1) for e in errors],)
            ends = np.sqrt(np.quantile(drawn[0], [0.025, 0.975], axis=1)).T
            assert coverage(ends.tolist(), truth) < 0.93

    def test_of_few(self):
        rng = rng_of(2)
        for n in (5, 10):
            found = [error_interval(rng.normal(size=n), 2, rng) for _ in range(REPLICATES)]
            assert 0.92 <= coverage(found, 1.0) <= 0.98
        # They are not bought by having no upper end.
        assert np.mean([high is None for _, high in found]) < 0.1

    def test_of_r2_of_skewed_targets(self):
        rng = rng_of(3)
        found = [
            spread_ratio_interval(0.2 * rng.normal(size=40), 5 + rng.gamma(4.0, 0.5, size=40), rng)
            for _ in range(REPLICATES)
        ]
        assert 0.93 <= coverage(found, 0.2) <= 0.98

    def test_of_a_paired_change(self):
        rng, found = rng_of(4), []
        for _ in range(REPLICATES):
            before = rng.normal(size=40)
            found.append(change_interval(before, (0.8 * before + 0.6 * rng.normal(size=40)) / 1.2, True, rng))
        assert 0.94 <= coverage(found, 0.2) <= 0.99
        assert np.mean([high < 0.2 for _, high in found]) <= 0.04
        # Pairs are worth something: of independent errors the interval is wider.
        apart = change_interval(rng.normal(size=40), rng.normal(size=40) / 1.2, False, rng)
        assert apart[1] - apart[0] > np.median([high - low for low, high in found])

    def test_of_a_change_of_wrong_classes(self):
        rng, found = rng_of(5), []
        for _ in range(2000):
            hard = rng.random(60) < 0.3
            before, now = ((hard & (rng.random(60) < share)).astype(float) for share in (0.8, 0.6))
            found.append(share_change_interval(before, now, True))
        assert 0.94 <= coverage(found, 1 / 3) <= 0.995


class TestDefinition:
    def test_log_interval_by_loops(self):
        """Of RMSE / standard deviation over two quantities: every resample, sum and influence on its own."""
        data = rng_of(6)
        errors, targets, n = data.normal(size=(12, 2)), data.normal(size=(12, 2)), 12
        spread = targets - targets.mean(axis=0)
        values = [[*(e**2), *(d**2)] for e, d in zip(errors, spread, strict=True)]
        exponents = [0.25, 0.25, -0.25, -0.25]

        def of(rows) -> tuple[float, list[float]]:
            means = [sum(values[i][k] for i in rows) / n for k in range(4)]
            log = sum(c * math.log(m) for c, m in zip(exponents, means, strict=True))
            return log, means

        log, means = of(range(n))
        raised = [
            sum(
                c * (values[i][k] / means[k] - 1) / (1 - values[i][k] / (n * means[k])) for k, c in enumerate(exponents)
            )
            for i in range(n)
        ]
        error = math.sqrt(sum(u**2 for u in raised)) / n
        students = []
        for rows in rng_of(7).integers(n, size=(RESAMPLES, n)):
            again, drawn = of(rows)
            influence = [sum(c * (values[i][k] / drawn[k] - 1) for k, c in enumerate(exponents)) for i in rows]
            students.append((again - log) / (math.sqrt(sum(u**2 for u in influence)) / n))
        students.sort()
        expected = math.exp(log - students[-25] * error), math.exp(log - students[24] * error)
        found = spread_ratio_interval(errors, targets, rng_of(7))
        assert found == pytest.approx(expected, rel=1e-9)
        assert spread_ratio(errors, targets) == pytest.approx(math.exp(log), rel=1e-12)

    @pytest.mark.parametrize(("power", "statistic"), [(2, rmse), (1, mae)])
    @pytest.mark.parametrize("shape", [(40,), (40, 3)])
    def test_holds_the_statistic_and_is_deterministic(self, power, statistic, shape):
        errors = rng_of(8).laplace(size=shape) * (1.0 if len(shape) == 1 else np.array([1.0, 1e-3, 0.0]))
        low, high = error_interval(errors, power, rng_of(9))
        assert low < geometric(statistic)(errors) < high
        assert (low, high) == error_interval(errors, power, rng_of(9))
        # In another unit it is the same interval.
        assert error_interval(27.2114 * errors, power, rng_of(9)) == pytest.approx((27.2114 * low, 27.2114 * high))

    def test_r2_equals_scikit_learn(self):
        targets, errors = rng_of(10).normal(size=50), 0.3 * rng_of(11).normal(size=50)
        assert 1 - spread_ratio(errors, targets) ** 2 == pytest.approx(r2_score(targets, targets + errors), rel=1e-12)

    def test_of_errors_that_are_none_few_equal_or_one(self):
        targets = np.arange(10.0)
        assert error_interval(np.zeros(10), 2, rng_of()) == (0.0, 0.0)
        assert error_interval(np.ones(3), 2, rng_of()) == (None, None)
        assert error_interval(-0.5 * np.ones(10), 1, rng_of()) == pytest.approx((0.5, 0.5))
        # One error that carries all: resamples may not hold it, so nothing bounds the RMSE from above.
        low, high = error_interval(np.array([1.0, *[0.0] * 9]), 2, rng_of())
        assert (low, high) == (0.0, None)
        assert spread_ratio(np.ones(10), np.full(10, 0.1)) is None
        assert spread_ratio_interval(np.ones(10), np.full(10, 0.1), rng_of()) == (None, None)
        assert spread_ratio(np.zeros(10), targets) == 0.0
        assert spread_ratio_interval(np.zeros(10), targets, rng_of()) == (0.0, 0.0)

    def test_a_constant_quantity_is_left_out_of_the_ratio(self):
        errors, targets = rng_of(12).normal(size=(20, 2)), rng_of(13).normal(size=(20, 2))
        targets[:, 1] = -76.3
        assert spread_ratio(errors, targets) == pytest.approx(rmse(errors[:, 0]) / targets[:, 0].std())

    def test_blocks_are_bounded(self, monkeypatch):
        monkeypatch.setattr("quarry.evaluation.intervals.BLOCK", 90)
        logs, variances = Terms.of(rng_of(14).normal(size=40), 2).resampled(rng_of(15), 25)
        assert np.isfinite(logs).all() and (variances > 0).all() and len(set(logs)) == 25

    def test_a_lower_level_is_narrower(self):
        terms = [Terms.of(rng_of(16).normal(size=40), 2)]
        wide, narrow = (log_interval(terms, rng_of(17), level=level) for level in (0.95, 0.68))
        assert wide[0] < narrow[0] < narrow[1] < wide[1]


class TestShares:
    @pytest.mark.parametrize(("count", "size"), [(0, 6), (6, 6), (3, 7), (581, 600)])
    def test_equal_scipy(self, count, size):
        expected = binomtest(count, size).proportion_ci(0.95, method="wilson")
        assert share_interval(count, size) == pytest.approx((expected.low, expected.high), abs=1e-12)
        assert share_interval(0, 0) == (None, None)


class TestChanges:
    def test_of_the_same_and_of_proportional_errors(self):
        errors = rng_of(18).normal(size=100)
        assert change_interval(errors, errors, True, rng_of()) == (0.0, 0.0)
        assert change_interval(errors, 0.5 * errors, True, rng_of()) == pytest.approx((1.0, 1.0))
        low, high = change_interval(errors, errors, False, rng_of())
        # sd of ln(RMSE) is about 1 / sqrt(2 n) = 0.07, of the difference of two 0.1: its ends are at 0.2, e^0.2 - 1 = 0.22.
        assert low == 0.0 and 0.17 < high < 0.32

    def test_holds_the_value(self):
        before, now = rng_of(19).normal(scale=2.0, size=300), rng_of(20).normal(size=200)
        low, high = change_interval(before, now, False, rng_of())
        assert 0.5 < low < rrmse(rmse(before), rmse(now)) < high
        # The other way round the error has grown: 0.5 of the RMSE now.
        low, high = change_interval(now, before, False, rng_of())
        assert 0.3 < low < rrmse(rmse(now), rmse(before)) < high < 0.7

    def test_of_no_errors_and_of_few(self):
        some, none = rng_of(21).normal(size=6), np.zeros(6)
        assert change_interval(none, none, True, rng_of()) == (0.0, 0.0)
        assert change_interval(some, none, True, rng_of()) == (1.0, 1.0)
        assert change_interval(some[:3], some[3:], True, rng_of()) == (0.0, None)
        with pytest.raises(ValueError, match="same structures: got 3 and 6"):
            change_interval(some[:3], some, True, rng_of())

    def test_equal_classes_of_few_structures_prove_no_plateau(self):
        wrong = np.array([1.0] * 6 + [0.0] * 54)
        low, high = share_change_interval(wrong, wrong, True)
        assert low == 0.0 and 0.2 < high < 0.6
        # All right now: the change is 1 by definition, and the interval holds it.
        low, high = share_change_interval(wrong, np.zeros(60), True)
        assert low <= 1.0 <= (high or math.inf)


class TestTails:
    def test_the_fewest_structures_by_trying_all(self):
        squares = rng_of(22).standard_t(3, size=9) ** 2
        for size in range(1, 10):
            best = max(itertools.combinations(range(9), size), key=lambda rows: squares[list(rows)].sum())
            if squares[list(best)].sum() >= 0.5 * squares.sum():
                break
        found = carriers(np.sqrt(squares))
        assert sorted(found) == sorted(best)
        assert list(squares[found]) == sorted(squares[found], reverse=True)

    def test_words(self):
        errors = np.full(60, 0.1)
        ids = [f"s{i}" for i in range(60)]
        assert heavy_tail_warning(errors, ids) is None
        errors[7] = 2.0
        assert heavy_tail_warning(errors, ids) == (
            "1 of 60 test structures carries 87 % of the squared error: the RMSE is that structure's (id s7)"
        )
        many = np.full(200, 0.1)
        many[:5] = 2.0, -3.0, 2.5, 1.5, 1.0
        assert heavy_tail_warning(many, range(200), "cross_validation") == (
            "2 of 200 cross-validation structures carry 62 % of the squared error: the RMSE is those structures' (ids 1, 2)"
        )
        many[:] = 0.0
        many[:6] = 1.0
        assert heavy_tail_warning(many, range(200)).endswith("(ids 0, 1, 2)")
        assert heavy_tail_warning(np.zeros(60), ids) is None

    def test_of_few_structures_one_must_carry_nine_tenths(self):
        assert heavy_tail_warning(np.array([2.0, 1.0, 1.0, 1.0, 0.5]), range(5)) is None
        assert heavy_tail_warning(np.array([9.0, 1.0, 1.0, 1.0, 0.5]), range(5)) is not None

    def test_quantities_count_alike(self):
        """In units of its own mean square: an outlier of the small quantity is seen beside a large, even one."""
        errors = np.column_stack([np.full(100, 1e-4), np.full(100, 10.0)])
        assert heavy_tail_warning(errors, range(100)) is None
        errors[[3, 5], 0] = 1.0
        assert carriers(errors, 0.4).tolist() == [3, 5]

    def test_ordinary_errors_seldom_warn(self):
        rng = rng_of(23)
        for n in (10, 30, 60, 300):
            said = [heavy_tail_warning(rng.laplace(size=n), range(n)) is not None for _ in range(500)]
            assert np.mean(said) < 0.07, n


def test_the_end_that_decides_where_the_interval_is_open():
    """One structure carries the squared error: no upper end, but far from the mean of the targets."""
    rng = np.random.default_rng(0)
    targets, errors = rng.normal(size=100), 1e-4 * rng.normal(size=100)
    errors[3] = 0.05
    ratio = spread_ratio(errors, targets)
    assert spread_ratio_interval(errors, targets, np.random.default_rng(1))[1] is None
    bound = spread_ratio_at_most(errors, targets)
    assert ratio < bound < 2.5 * ratio < 0.02
    assert spread_ratio_at_most(errors[:3], targets[:3]) is None
    assert spread_ratio_at_most(errors, np.ones(100)) is None and spread_ratio_at_most(0 * errors, targets) == 0.0


def test_that_end_is_seldom_below_the_truth_for_a_model_that_is_the_mean():
    """The truth is 1: how often would nothing learnt pass for something, with normal and heavy-tailed targets?"""
    rng = np.random.default_rng(2)
    for draw in (rng.normal, lambda size: rng.standard_t(4, size=size)):
        below = 0
        for _ in range(500):
            targets = draw(size=40)
            errors = -targets + rng.normal(0, 0.15)
            below += spread_ratio_at_most(errors, targets) < 1
        assert below / 500 <= 0.05
