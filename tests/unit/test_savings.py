"""Labels saved: intervals against simulated campaigns whose true saving is known, and numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from quarry.config.control import Control, no_verdict
from quarry.evaluation.comparison import Measure, savings_of
from quarry.evaluation.curves import REACH, Curve, grid, smoothing_weights
from quarry.evaluation.inversion import of_arms, of_pairs, point, shared_test_variance
from quarry.evaluation.savings import (
    Saving,
    disagreement,
    further_message,
    saving_message,
    scope_message,
    summary_messages,
)
from quarry.randomness import generator
from support import learning_curves
from support.learning_curves import SIZES, by_spread_of_pairs

AT = grid(20, 400, SIZES, points=60)
WEIGHTS = smoothing_weights(SIZES, AT)
LAST = len(AT) - 1


def simulated(campaigns, arms, purpose, saved=0.0, noise=0.05, along=0.0):
    return learning_curves.simulated(generator(5, "savings", *purpose), campaigns, arms, saved, noise, along)


def smoothed(values):
    return values @ WEIGHTS.T


def true_saving(saved):
    """The same functional of the curves without noise."""
    arm, control = (smoothed(simulated(1, 1, ("truth",), share, noise=0.0))[:, 0] for share in (saved, 0.0))
    return float(point(arm, control, AT, LAST).estimate()[0])


class TestNoSaving:
    """Main and random arms from the same power law with 5 % noise: every verdict is a false one."""

    @pytest.mark.parametrize("along", [0.0, 0.9])
    @pytest.mark.parametrize(("repeats", "number"), [(1, 2), (1, 3), (1, 10), (2, 10), (3, 3), (3, 10)])
    def test_false_verdicts(self, repeats, number, along):
        campaigns = 1500
        groups = [
            simulated(campaigns, n, (repeats, number, name), along=along) for n, name in ((repeats, "m"), (number, "c"))
        ]
        low, high = of_arms(*map(smoothed, groups), AT, LAST).interval()
        false = np.mean((low > 0) | (high < 0))
        assert false <= 0.05 + 2.6 * math.sqrt(0.05 * 0.95 / campaigns)
        if repeats == 1 and number > 2:
            assert false >= 0.05 - 3 * math.sqrt(0.05 * 0.95 / campaigns), "not bought by intervals that are too wide"

    @pytest.mark.parametrize(("repeats", "number", "least"), [(1, 1, 0.9), (1, 3, 0.3), (1, 10, 0.25), (3, 3, 0.15)])
    def test_the_rule_of_earlier_versions_fails(self, repeats, number, least):
        groups = [simulated(300, n, ("old", repeats, number, name)) for n, name in ((repeats, "m"), (number, "c"))]
        assert np.mean([by_spread_of_pairs(*campaign) != "none" for campaign in zip(*groups, strict=True)]) > least

    @pytest.mark.parametrize("ratio", [0.25, 4.0])
    @pytest.mark.parametrize(("repeats", "number"), [(3, 3), (3, 10), (5, 5), (5, 3)])
    def test_repeats_whose_chance_is_not_that_of_random_selection(self, repeats, number, ratio):
        arms = simulated(1200, repeats, ("ratio", repeats, number), noise=0.05 * math.sqrt(ratio))
        low, high = of_arms(smoothed(arms), smoothed(simulated(1200, number, ("ratio", number))), AT, LAST).interval()
        assert np.mean((low > 0) | (high < 0)) < 0.075

    @pytest.mark.parametrize("pairs", [3, 6])
    def test_splits(self, pairs):
        """What a pair shares, its initial batch and test set, is no saving; what splits differ in cancels."""
        shared = generator(5, "shared").standard_normal((1500, pairs, 1)) * 0.3
        arms, controls = (smoothed(simulated(1500, pairs, ("split", pairs, name)) + shared) for name in "mc")
        low, high = of_pairs(arms, controls, AT, LAST).interval()
        assert np.mean((low > 0) | (high < 0)) == pytest.approx(0.05, abs=3 * math.sqrt(0.05 * 0.95 / 1500))


@pytest.mark.parametrize("along", [0.0, 0.9])
@pytest.mark.parametrize("saved", [0.1, 0.25, 0.5])
@pytest.mark.parametrize(("repeats", "number"), [(1, 3), (1, 10), (3, 3), (3, 10)])
def test_intervals_cover(repeats, number, saved, along):
    names = ("cover", repeats, number, str(saved))
    arms = smoothed(simulated(800, repeats, (*names, "m"), saved, along=along))
    controls = smoothed(simulated(800, number, (*names, "c"), along=along))
    found = of_arms(arms, controls, AT, LAST)
    low, high = found.interval()
    truth = true_saving(saved)
    assert truth == pytest.approx(400 * saved, abs=3)
    assert 0.93 < np.mean((low <= truth) & (truth <= high)) < 0.99
    assert np.median(found.estimate()) == pytest.approx(truth, abs=6)


def test_power():
    """What the manual of `control` promises for independent noise of 5 %."""
    for number, saved in ((3, 0.25), (5, 0.18), (10, 0.15)):
        arms, controls = (smoothed(simulated(1500, k, ("power", k), s)) for k, s in ((1, saved), (number, 0.0)))
        assert np.mean(of_arms(arms, controls, AT, LAST).interval()[0] > 0) > 0.78


class TestSmoothing:
    def test_against_polyfit(self):
        """Weighted least squares by numpy at every place."""
        sizes, values = np.array([20, 40, 60, 100, 160, 260, 420]), generator(5, "values").normal(size=7)
        for finds in (False, True):
            weights = smoothing_weights(sizes, [20, 77.0, 420], finds)
            for at, row in zip((20, 77.0, 420), weights, strict=True):
                distance = np.abs(np.log(sizes / at))
                width = max(math.log(REACH), 1.5 * np.sort(distance)[2])
                kernel = np.sqrt(np.clip(1 - (distance / width) ** 2, 0, None))
                x = sizes - at if finds else np.log(sizes / at)
                assert row @ values == pytest.approx(np.polyfit(x, values, 1, w=kernel)[-1], rel=1e-9)

    def test_lines_are_kept(self):
        sizes, at = (1000, 2000, 4000, 8000, 16000), [1000, 3000.0, 16000]
        assert smoothing_weights(sizes, at) @ np.log(sizes) == pytest.approx(np.log(at))
        assert smoothing_weights(sizes, at, finds=True) @ np.array(sizes, float) == pytest.approx(at)

    def test_sizes_that_repeat(self):
        """Iterations whose labels all failed."""
        weights = smoothing_weights((10, 10, 10, 1000), (10, 1000))
        assert weights == pytest.approx(np.array([[1 / 3, 1 / 3, 1 / 3, 0], [0, 0, 0, 1]]), abs=1e-12)
        assert smoothing_weights((10, 10), (10,)) == pytest.approx(np.array([[0.5, 0.5]]))

    @pytest.mark.parametrize("sizes", [(10,), (10, 1000)])
    def test_few_points(self, sizes):
        assert smoothing_weights(sizes, sizes) == pytest.approx(np.eye(len(sizes)))


class TestInversion:
    def test_against_a_t_test_at_every_saving(self):
        """Every s inside the interval, and none outside, keeps Student's test from being significant."""
        arm, controls = (smoothed(simulated(1, n, ("brute", n), s))[0] for n, s in ((1, 0.2), (5, 0.0)))
        found = of_arms(arm, controls, AT, LAST)
        (low,), (high,) = (np.atleast_1d(end) for end in found.interval())
        inside = []
        for index, n in enumerate(AT):
            d = arm[0, index] - controls[:, LAST].mean()
            one, other = controls[:, index].var(ddof=1), controls[:, LAST].var(ddof=1) / 5
            both = np.cov(controls[:, index], controls[:, LAST])[0, 1]
            freedom = 4 * (one + other) ** 2 / (one**2 + other**2 + 2 * both**2 / 5)
            if abs(d) <= stats.t.ppf(0.975, freedom) * math.sqrt(one + other):
                inside.append(400 - n)
        step = np.diff(AT).max()
        assert min(inside) == pytest.approx(max(low, 0), abs=step) and max(inside) == pytest.approx(high, abs=step)

    def test_no_saving_is_inside_just_where_welch_or_student_see_no_difference(self):
        for campaign in range(60):
            arms, controls = (smoothed(simulated(1, n, ("zero", campaign, n), 0.05))[0] for n in (3, 4))
            low, high = of_arms(arms, controls, AT, LAST).interval()
            ends = arms[:, LAST], controls[:, LAST]
            p = max(stats.ttest_ind(*ends, equal_var=equal).pvalue for equal in (True, False))
            assert (low <= 0 <= high) == (p >= 0.05)

    def test_the_published_figure(self):
        """AA of Ghosh et al.: what random finds with 16,000 labels, strategy E finds with 5,600: 64 to 65 %."""
        sizes = tuple(range(1000, 16001, 200))
        random = Curve(sizes, tuple(0.3 * n for n in sizes), finds=True)
        search = Curve(sizes, tuple(300 + (n - 1000) * 4500 / 4600 for n in sizes), finds=True)
        found = Measure.of("finds", "", "", [search], [random]).savings[-1]
        assert found.saved / 16000 == pytest.approx(0.65, abs=1e-4) and found.verdict == "unknown"

    def test_power_laws(self):
        """An arm whose error is 1/sqrt(2 n) needs half the labels of 1/sqrt(n); the sign tells who is better."""
        arm, random = (Curve(tuple(SIZES), tuple((k * SIZES) ** -0.5)) for k in (2, 1))
        assert Measure.of("rmse", "", "", [arm], [random, random]).savings[-1] == Saving(400, 200.0, 200.0, 200.0, 380)
        assert Measure.of("rmse", "", "", [random], [arm, arm]).savings[-1] == Saving(400, -200.0, -200.0, -200.0, 380)
        same = Measure.of("rmse", "", "", [arm], [arm, arm]).savings
        assert same[0] is None and same[-1] == Saving(400, 0.0, 0.0, 0.0, 380) and same[-1].verdict == "none"

    def test_it_ends_with_the_labels_that_can_be_saved(self):
        arm, random = (Curve(tuple(SIZES), tuple(k * SIZES**-0.5)) for k in (0.01, 1))
        found = Measure.of("rmse", "", "", [arm], [random, random]).savings[-1]
        assert (found.saved, found.low, found.high, found.limit) == (380, 380, 380, 380)

    def test_arms_of_different_sizes(self):
        """Failed labels: only sizes that all arms have are compared."""
        arm = Curve((10, 20, 30, 40), (1.0, 0.6, 0.5, 0.4))
        controls = [Curve((9, 18, 27), (1.0, 0.8, 0.7)), Curve((10, 20, 30), (1.0, 0.8, 0.75))]
        found = Measure.of("rmse", "", "", [arm], controls).savings
        assert [s is None for s in found] == [True, False, True, True]

    def test_an_error_of_zero(self):
        arm, controls = Curve((10, 20, 30), (0.2, 0.1, 0.0)), [Curve((10, 20, 30), (0.2, 0.2, q)) for q in (0.15, 0.12)]
        found = Measure.of("accuracy", "", "", [arm], controls).savings[-1]
        assert found.saved > 0 and math.isfinite(found.low)


class TestTestSet:
    """Squared errors of structures: their own size, what a way of selecting does to them, and what a single arm does."""

    SIZES = (50, 400)

    def campaigns(self, number, n_test, purpose, hard, repeats=1, controls=6):
        """Logarithms of RMSE, and influences, of arms on a test set of each campaign's own. hard: spread of the structures'
        differences between main and random, which average out over all structures."""
        rng = generator(5, "test sets", purpose)
        for _ in range(number):
            size = np.exp(rng.normal(0, 0.3, n_test))
            shift = rng.normal(0, hard, n_test)
            found = []
            for arms, sign in ((repeats, 0.5), (controls, -0.5)):
                errors = [
                    size[:, None]
                    * np.exp(sign * shift[:, None] - hard**2 / 8 + rng.normal(0, 0.15, (n_test, 1)))
                    * np.abs(rng.normal(1, 0.1, (n_test, len(self.SIZES))))
                    * np.array(self.SIZES) ** -0.5
                    for _ in range(arms)
                ]
                found.append(errors)
            yield found

    def influences(self, groups):
        return tuple([e**2 / (2 * np.mean(e**2, axis=0)) for e in group] for group in groups)

    def verdicts(self, groups):
        """With and without the test set's part of the chance."""
        curves = [[Curve(self.SIZES, tuple(np.sqrt(np.mean(e**2, axis=0)))) for e in group] for group in groups]
        found = [savings_of(*curves, [], influences)[-1] for influences in (self.influences(groups), ((), ()))]
        return [saving.verdict != "none" for saving in found]

    @pytest.mark.parametrize(("hard", "wrong_without"), [(0.6, 0.2), (0.0, 0.0)])
    def test_false_verdicts_over_test_sets(self, hard, wrong_without):
        """Where selection moves errors from some structures to others, a small test set favours one or the other."""
        number = 120
        with_it, without = np.mean([self.verdicts(g) for g in self.campaigns(number, 100, str(hard), hard)], axis=0)
        assert with_it <= 0.05 + 2.6 * math.sqrt(0.05 * 0.95 / number)
        assert without >= max(wrong_without, with_it)

    def test_it_is_the_variance_of_the_difference(self):
        """Against repeated draws of test sets; nothing where main and random differ by chance alone."""

        def draw(number, purpose, hard):
            ends, shared = [], []
            for groups in self.campaigns(number, 60, purpose, hard, repeats=3, controls=3):
                ends.append([[0.5 * np.log(np.mean(e[:, -1] ** 2)) for e in group] for group in groups])
                influences = [[u[:, -1:] for u in group] for group in self.influences(groups)]
                shared.append(shared_test_variance(*influences)[0, 0])
            return np.array(ends), np.mean(shared)

        ends, shared = draw(300, "variance", 0.6)
        by_arms = np.mean(ends.var(axis=2, ddof=1).sum(axis=1)) / 3
        differences = ends.mean(axis=2)
        assert np.var(differences[:, 0] - differences[:, 1]) == pytest.approx(shared + by_arms, rel=0.2)
        assert shared > 3 * by_arms
        assert draw(100, "null", 0.0)[1] < 0.1 * shared


class TestMessages:
    @pytest.mark.parametrize(
        ("found", "words"),
        [
            (
                Saving(200, 80.0, 70.0, 90.2, 180),
                "RMSE: 80 of 200 training labels (40 %; 95 % interval 70 to 90 labels)",
            ),
            (
                Saving(200, 5.0, -20.0, 30.0, 180),
                "none beyond chance: 5 of 200 training labels (2 %; 95 % interval -20 to 30 labels)",
            ),
            (Saving(200, -50.0, -70.0, -9.0, 180), "none, random was better: -50 of 200"),
            (Saving(200, 80.0, None, None, 180), "no verdict: 80 of 200 training labels (40 %)"),
            (Saving(200, 180.0, 20.0, 180.0, 180), "at least 180 of 200"),
            (None, "not known"),
        ],
    )
    def test_of_the_deciding_measure(self, found, words):
        assert words in saving_message(found, "test RMSE")

    def test_of_further_measures(self):
        assert (
            further_message(Saving(200, -50.0, -70.0, -9.0, 180), "MAE")
            == "by MAE: none, random was better: -50 (-70 to -9)"
        )

    def test_measures_that_contradict_each_other(self):
        assert disagreement({"RMSE": "saved", "MAE": "wasted", "largest error": "none"}).startswith(
            "saved by RMSE, wasted by MAE:"
        )
        assert disagreement({"RMSE": "saved", "MAE": "none", "largest error": "unknown"}) is None

    def test_what_it_is_about(self):
        assert "one random arm cannot tell" in scope_message(1, 1, 0)
        # Also before any job.
        assert no_verdict(Control()) == no_verdict(Control(repeats=[8])) == scope_message(1, 1, 0)
        assert no_verdict(None) is no_verdict(Control(seeds=[0, 1])) is no_verdict(Control(splits=[1, 2])) is None
        assert "one initial batch (3 random arms, one arm main, whose chance" in scope_message(1, 3, 0)
        assert "over initial batches and test sets of this pool (6 of them" in scope_message(1, 1, 5)

    def test_lines(self):
        last = {"RMSE": Saving(200, 80.0, 70.0, 90.0, 180), "MAE": Saving(200, -20.0, -30.0, -10.0, 180)}
        lines = summary_messages(last, ["test RMSE", "test MAE"], 1, 3, 0)
        assert len(lines) == 3 and "by MAE: none, random was better" in lines[0] and "wasted by MAE" in lines[1]


def test_an_interval_of_all_that_can_be_is_no_verdict():
    """Flat curves, as of models that have learnt nothing: estimate and interval are the ends of the range."""
    nothing = Saving(30, 20.0, -20.0, 20.0, 20)
    assert nothing.verdict == "unknown"
    assert saving_message(nothing, "test RMSE").endswith(
        "no verdict, the curves are too flat beside their chance: anything from -20 to 20 of 30 training labels"
    )
    assert further_message(nothing, "MAE") == "by MAE: no verdict"
    assert Saving(30, 20.0, -19.0, 20.0, 20).verdict == "none"
