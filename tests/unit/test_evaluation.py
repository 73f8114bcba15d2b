"""Finds, calibration and savings against numbers worked out by hand or drawn from the definition."""

import numpy as np
import pytest
from scipy import stats

from quarry.evaluation.calibration import calibration, coverage, rank_correlation
from quarry.evaluation.savings import Curve, Saving, labels_saved, saving, saving_words
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


class TestSavings:
    def test_the_published_figure(self):
        """AA of Ghosh et al.: what random finds with 16,000 labels, strategy E finds with 5,600: 64 to 65 %."""
        random = Curve((1000, 2000, 4000, 8000, 16000), (300, 600, 1200, 2400, 4800), finds=True)
        search = Curve((1000, 5600, 16000), (300, 4800, 9000), finds=True)
        assert labels_saved(search, random, 16000) == pytest.approx(10_400)
        assert saving([search], [random], 16000).share == pytest.approx(0.65)

    def test_errors_follow_a_power_law(self):
        """An arm whose error is 1/sqrt(2 n) needs half the labels of 1/sqrt(n), also between its points."""
        sizes = (100, 300, 1000, 3000)
        arm = Curve(sizes, tuple((2 * n) ** -0.5 for n in sizes))
        random = Curve(sizes, tuple(n**-0.5 for n in sizes))
        assert labels_saved(arm, random, 3000) == pytest.approx(1500)
        assert labels_saved(random, arm, 3000) == pytest.approx(-1500)
        assert labels_saved(arm, arm, 1000) == 0.0
        assert labels_saved(arm, random, 50) is None

    def test_errors_that_go_up_by_chance(self):
        """The best so far counts; the first crossing is taken from the best point before it."""
        arm = Curve((10, 20, 40, 80), (1.0, 1.2, 0.5, 0.6))
        assert arm.best(80) == 0.5 and arm.best(20) == 1.0
        assert arm.labels_for(0.5) == pytest.approx(40)
        assert 10 < arm.labels_for(0.7) < 40
        assert arm.labels_for(0.1) is None and arm.labels_for(2.0) == 10

    def test_the_error_bar_is_over_all_pairs(self):
        arms = [Curve((10, 20), (1.0, q)) for q in (0.5, 0.4)]
        controls = [Curve((10, 20), (1.0, q)) for q in (0.7, 0.8, 0.75)]
        found = saving(arms, controls, 20)
        values = [labels_saved(a, c, 20) for a in arms for c in controls]
        assert found.pairs == 6 and found.saved == pytest.approx(np.mean(values))
        assert found.std == pytest.approx(np.std(values, ddof=1))

    @pytest.mark.parametrize(
        ("found", "words"),
        [
            (Saving(200, 80.0, 10.0, 3), "80 ± 10 of 200 training labels (40 ± 5 %, 3 pairs of arms)"),
            (Saving(200, 5.0, 10.0, 3), "none beyond the spread of the seeds: 5 ± 10"),
            (Saving(200, -50.0, 10.0, 3), "none, random was better: -50 ± 10"),
            (Saving(200, 80.0, None, 1), "80 of 200 training labels (40 %, one pair of arms, no error bar)"),
            (None, "not known"),
        ],
    )
    def test_words(self, found, words):
        assert words in saving_words(found, "test RMSE")
