"""Metrics against the values that a published run printed, and bootstrap intervals against a known distribution."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import max_error, mean_absolute_error, root_mean_squared_error

from quarry.models.metrics import bootstrap_interval, mae, maxe, regression_metrics, rmse, rrmse, rrmse_interval


@given(arrays(float, st.integers(1, 30), elements=st.floats(-1e6, 1e6)))
def test_regression_metrics_equal_scikit_learn(errors):
    zeros = np.zeros_like(errors)
    metrics = regression_metrics(errors)
    assert metrics == pytest.approx(
        {
            "rmse": root_mean_squared_error(zeros, errors),
            "mae": mean_absolute_error(zeros, errors),
            "maxe": max_error(zeros, errors),
        }
    )


def test_no_errors_have_no_metrics():
    with pytest.raises(ValueError, match="no errors"):
        regression_metrics(np.zeros(0))


def test_rrmse_equals_the_printed_values_of_the_lecture():
    geometric_means = [0.06717941145022376, 0.09043318436728051, 0.06411060145373663, 0.0695737045717655]
    printed = [1.0, 0.25713761026721255, 0.410580813729204, 0.07852252732055763]
    for previous, current, expected in zip([None, *geometric_means], geometric_means, printed, strict=False):
        assert rrmse(previous, current) == pytest.approx(expected, rel=1e-12, abs=0)


def test_rrmse_of_a_perfect_model():
    assert rrmse(None, 0.0) == 1.0
    assert rrmse(0.0, 0.0) == 0.0
    assert rrmse(0.5, 0.0) == 1.0


def test_bootstrap_interval_covers_the_true_rmse_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        low, high = bootstrap_interval(rng.normal(scale=2.0, size=150), rmse, rng, samples=200, level=0.9)
        hits += low <= 2.0 <= high
    # 180 expected, standard deviation 4.2; percentile intervals cover a little less than they say.
    assert 162 <= hits <= 194


def test_bootstrap_interval_of_a_mean_has_the_width_of_the_normal_theory():
    errors = np.random.default_rng(1).normal(size=400)
    low, high = bootstrap_interval(errors, lambda e: float(np.mean(e)), np.random.default_rng(2), samples=4000)
    half = 1.959964 * np.std(errors) / 20
    assert low == pytest.approx(np.mean(errors) - half, abs=0.1 * half)
    assert high == pytest.approx(np.mean(errors) + half, abs=0.1 * half)


@pytest.mark.parametrize("statistic", [rmse, mae, maxe])
def test_bootstrap_interval_is_deterministic_and_holds_the_statistic(statistic):
    errors = np.random.default_rng(3).normal(size=60)
    first = bootstrap_interval(errors, statistic, np.random.default_rng(4))
    assert first == bootstrap_interval(errors, statistic, np.random.default_rng(4))
    assert first[0] <= statistic(errors) <= first[1]


def test_rrmse_interval_paired_is_narrow_where_the_errors_are_the_same():
    errors = np.random.default_rng(5).normal(size=100)
    assert rrmse_interval(errors, errors, True, np.random.default_rng(6)) == (0.0, 0.0)
    assert rrmse_interval(errors, 0.5 * errors, True, np.random.default_rng(6)) == pytest.approx((1.0, 1.0))
    low, high = rrmse_interval(errors, errors, False, np.random.default_rng(6))
    # sd of ln(RMSE) is about 1 / sqrt(2 n) = 0.07, of the difference of two 0.1: 97.5 % of |.| lie below 0.22.
    assert 0 <= low < 0.02
    assert 0.17 < high < 0.30


def test_rrmse_interval_holds_the_value():
    rng = np.random.default_rng(7)
    before, now = rng.normal(scale=2.0, size=300), rng.normal(size=200)
    low, high = rrmse_interval(before, now, False, rng)
    assert low < rrmse(rmse(before), rmse(now)) < high
    assert low > 0.5


def test_rrmse_interval_without_a_previous_iteration_and_with_unequal_pairs():
    errors = np.ones(5)
    assert rrmse_interval(None, errors, True, np.random.default_rng(0)) == (1.0, 1.0)
    with pytest.raises(ValueError, match="same structures"):
        rrmse_interval(np.ones(4), errors, True, np.random.default_rng(0))
