"""Metrics against scikit-learn and the values that a published run printed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import max_error, mean_absolute_error, root_mean_squared_error

from quarry.models.metrics import regression_metrics, rrmse


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
