"""Finds and calibration against numbers worked out by hand or drawn from the definition."""

import numpy as np
import pytest
from scipy import stats

from quarry.evaluation.calibration import calibration, coverage, rank_correlation
from quarry.evaluation.search import classification_rates, in_range


class TestSearch:
    def test_rates_by_hand(self):
        label = np.array([-5.0, -5.2, -5.4, -5.6, -6.0, -6.5, -7.0, -7.5])
        mean = np.array([-5.1, -5.7, -5.5, -5.0, -6.0, -5.4, -7.0, -7.5])
        assert classification_rates(label, mean, -5.55, np.inf) == {
            "positives": 3,
            "negatives": 5,
            "true_positives": 2,
            "false_positives": 2,
            "tpr": 2 / 3,
            "fpr": 2 / 5,
        }

    def test_nothing_wanted_is_no_division_by_zero(self):
        rates = classification_rates(np.zeros(3), np.ones(3), 0.5, 2.0)
        assert rates["tpr"] is None and rates["fpr"] == 1.0

    def test_the_range_is_open_and_nan_is_outside(self):
        assert in_range(np.array([1.0, 1.5, 2.0, np.nan]), 1.0, 2.0).tolist() == [False, True, False, False]


class TestCalibration:
    def test_a_calibrated_model(self):
        rng = np.random.default_rng(0)
        std = rng.uniform(0.1, 2.0, 40_000)
        found = calibration(rng.normal(0, std), std)
        assert found["rms_z"] == pytest.approx(1.0, abs=0.02)
        assert [found[f"coverage_{p}"] for p in (50, 68, 90, 95)] == pytest.approx([0.5, 0.68, 0.9, 0.95], abs=0.01)
        assert found["miscalibration_area"] < 0.01 and found["rank_correlation"] > 0.4

    def test_one_that_is_twice_too_sure(self):
        rng = np.random.default_rng(1)
        found = calibration(rng.normal(0, 2.0, 40_000), np.ones(40_000))
        assert found["rms_z"] == pytest.approx(2.0, rel=0.02) and found["rank_correlation"] is None
        assert found["coverage_95"] == pytest.approx(stats.norm.cdf(1.96 / 2) * 2 - 1, abs=0.01)

    def test_against_scipy(self):
        rng = np.random.default_rng(2)
        errors, std = rng.normal(size=50), rng.uniform(0.5, 1, 50).round(1)
        assert rank_correlation(errors, std) == pytest.approx(stats.spearmanr(np.abs(errors), std)[0], abs=1e-12)

    def test_a_std_of_zero(self):
        assert coverage(np.array([0.0, 0.1]), np.zeros(2), (0.5,)).tolist() == [0.5]
        assert calibration(np.array([0.0, 0.1]), np.zeros(2))["rms_z"] is None
