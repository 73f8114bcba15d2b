"""When a campaign stops, and the words that say why."""

from __future__ import annotations

import json

import ase.units
import pytest
import scipy.constants

from quarry.config import Configuration
from quarry.config.targets import TARGETS
from quarry.stopping.facts import Cost, Facts
from quarry.stopping.progress import Progress
from quarry.stopping.rules import core_hours, held_back, labels_left, stop_reason
from support.progress import configuration, cost, facts, series

LECTURE = [0.06717941145022376, 0.09043318436728051, 0.06411060145373663, 0.0695737045717655]
"""RMSE (eV) of the four iterations that P. O. Dral's lecture "Active learning" (2024) prints; it stops at the fourth."""


def reasons(history: list[Facts], conf: Configuration) -> list[str | None]:
    """The rule that would end the campaign after each iteration."""
    found = [stop_reason(Progress(history[: t + 1], [cost()] * (t + 1), conf)) for t in range(len(history))]
    return [reason.rule if reason else None for reason in found]


class TestRelativeChange:
    def test_the_lecture_stops_at_its_fourth_iteration(self):
        conf = configuration(rrmse=0.1, patience=1)
        assert reasons(series(LECTURE), conf) == [None, None, None, "rrmse"]

    def test_the_words_name_the_change_and_the_rule(self):
        reason = stop_reason(Progress(series(LECTURE), [cost()] * 4, configuration(rrmse=0.1, patience=1)))
        assert reason is not None
        assert reason.words.startswith("rRMSE 0.079 (95 % interval 0.039 to 0.086) is below 0.1")
        assert "in a row" not in reason.words

    def test_with_a_patience_of_two_the_lecture_goes_on(self):
        assert reasons(series(LECTURE), configuration(rrmse=0.1, patience=2)) == [None] * 4

    def test_patience_asks_for_iterations_in_a_row(self):
        history = series([1.0, 0.5, 0.49, 0.2, 0.19, 0.185, 0.1849])
        assert reasons(history, configuration(rrmse=0.1, patience=2)) == [None] * 5 + ["rrmse"] * 2
        assert reasons(history, configuration(rrmse=0.1, patience=3)) == [None] * 6 + ["rrmse"]
        reason = stop_reason(Progress(history, [cost()] * 7, configuration(rrmse=0.1, patience=3)))
        assert reason is not None and "3 iterations in a row" in reason.words

    def test_iteration_zero_never_counts(self):
        """It has no change, whatever stands there."""
        history = [facts(0, rrmse=0.0, rrmse_low=0.0, rrmse_high=0.0)]
        assert reasons(history, configuration(rrmse=0.1, patience=1)) == [None]

    def test_an_iteration_that_taught_nothing_never_counts(self):
        """All its labels failed, or trajectories found none: the model is the same, and its error too."""
        history = [facts(0), facts(1), facts(2, rrmse=0.0), facts(3, rrmse=0.0), facts(4, rrmse=0.0)]
        history[3] = facts(3, rrmse=0.0, n_train=history[2].n_train)
        conf = configuration(rrmse=0.1, patience=1)
        assert reasons(history, conf) == [None, None, "rrmse", None, "rrmse"]
        assert reasons(history, configuration(rrmse=0.1, patience=2)) == [None] * 5

    def test_a_change_equal_to_the_limit_goes_on(self):
        history = [facts(0), facts(1, rrmse=0.1)]
        assert reasons(history, configuration(rrmse=0.1, patience=1)) == [None, None]

    def test_the_upper_bound_excludes_a_chance_plateau(self):
        plateau = [facts(0), facts(1, rrmse=0.05, rrmse_low=0.01, rrmse_high=0.3)]
        assert reasons(plateau, configuration(rrmse=0.1, patience=1, rrmse_bound="upper")) == [None, None]
        assert reasons(plateau, configuration(rrmse=0.1, patience=1, rrmse_bound="value")) == [None, "rrmse"]
        reason = stop_reason(Progress(plateau, [cost()] * 2, configuration(rrmse=0.1, patience=1)))
        assert reason is not None and "chance plateau" in reason.words and "rrmse_bound" in reason.words

    def test_a_change_without_an_upper_bound_is_no_sure_plateau(self):
        plateau = [facts(0), facts(1, rrmse=0.05, rrmse_low=0.0, rrmse_high=None)]
        assert reasons(plateau, configuration(rrmse=0.1, patience=1, rrmse_bound="upper")) == [None, None]
        reason = stop_reason(Progress(plateau, [cost()] * 2, configuration(rrmse=0.1, patience=1)))
        assert reason is not None
        assert "(95 % interval 0.000 upwards)" in reason.words and "chance plateau" in reason.words

    def test_the_upper_bound_stops_at_a_sure_plateau(self):
        plateau = [facts(0), facts(1, rrmse=0.05, rrmse_low=0.01, rrmse_high=0.09)]
        assert reasons(plateau, configuration(rrmse=0.1, patience=1, rrmse_bound="upper")) == [None, "rrmse"]
        reason = stop_reason(Progress(plateau, [cost()] * 2, configuration(rrmse=0.1, patience=1, rrmse_bound="upper")))
        assert reason is not None and "chance" not in reason.words

    def test_the_upper_bound_holds_for_every_iteration_of_the_patience(self):
        wide, narrow = {"rrmse": 0.05, "rrmse_high": 0.3}, {"rrmse": 0.05, "rrmse_high": 0.09}
        conf = configuration(rrmse=0.1, patience=2, rrmse_bound="upper")
        assert reasons([facts(0), facts(1, **wide), facts(2, **narrow)], conf) == [None] * 3
        assert reasons([facts(0), facts(1, **narrow), facts(2, **narrow)], conf) == [None, None, "rrmse"]

    def test_null_switches_it_off(self):
        assert reasons([facts(0), facts(1, rrmse=0.0)], configuration(max_iterations=9)) == [None, None]


class TestTargetRmse:
    def test_strictly_below(self):
        conf = configuration(target_rmse=0.02)
        assert reasons([facts(rmse=0.02)], conf) == [None]
        assert reasons([facts(rmse=0.0199999)], conf) == ["target_rmse"]

    @pytest.mark.parametrize(
        ("unit", "ev", "codata"),
        [
            ("eV", ase.units.eV, 1.0),
            ("meV", 1e-3 * ase.units.eV, 1e-3),
            ("hartree", ase.units.Hartree, scipy.constants.value("Hartree energy in eV")),
            ("millihartree", 1e-3 * ase.units.Hartree, 1e-3 * scipy.constants.value("Hartree energy in eV")),
            ("kcal/mol", ase.units.kcal / ase.units.mol, scipy.constants.calorie * 1e3 / 96485.33212331001),
            ("kJ/mol", ase.units.kJ / ase.units.mol, 1e3 / 96485.33212331001),
            ("cm-1", ase.units.invcm, scipy.constants.value("inverse meter-electron volt relationship") * 100),
        ],
    )
    def test_units_against_ase_and_scipy(self, unit, ev, codata):
        found = configuration(target_rmse=f"0.5 {unit}").target_rmse()
        assert found == pytest.approx(0.5 * ev, rel=1e-7, abs=0)
        assert found == pytest.approx(0.5 * codata, rel=1e-8, abs=0)

    @pytest.mark.parametrize("text", ["0.5 kcal/mol", "0.5kcal/mol", " 5e-1  kcal/mol ", "+.5 kcal/mol"])
    def test_ways_to_write_it(self, text):
        assert configuration(target_rmse=text).target_rmse() == pytest.approx(0.02168205)

    def test_half_a_kcal_per_mol_in_a_campaign_in_ev(self):
        conf = configuration(target_rmse="0.5 kcal/mol")
        assert reasons([facts(rmse=0.0217)], conf) == [None]
        assert reasons([facts(rmse=0.0216)], conf) == ["target_rmse"]
        reason = stop_reason(Progress([facts(rmse=0.0216)], [cost()], conf))
        assert reason is not None and reason.words == (
            "test-set RMSE 0.0216 is below target_rmse = 0.0216821 eV; the model's RMSE is 21.6 meV"
        )

    def test_of_the_dipole_in_its_unit(self):
        reason = stop_reason(
            Progress([facts(rmse=0.01, target="dipole")], [cost()], configuration(target="dipole", target_rmse=0.02))
        )
        assert reason is not None and "0.02 e*Angstrom" in reason.words
        assert (TARGETS["dipole"].unit, TARGETS["gap"].unit) == ("e*Angstrom", "eV")

    @pytest.mark.parametrize(
        ("metric", "word"),
        [("test", "test-set"), ("validation", "validation"), ("cross_validation", "cross-validation")],
    )
    def test_it_looks_at_the_stop_metric(self, metric, word):
        errors = {"test": {"rmse": 9.0}, metric: {"rmse": 0.01}}
        reason = stop_reason(Progress([facts(errors=errors, metric=metric)], [cost()], configuration(target_rmse=0.02)))
        assert reason is not None and reason.words.startswith(f"{word} RMSE 0.01 ")

    def test_an_error_that_was_not_computed_goes_on(self):
        assert facts(errors={}).rmse is None
        assert reasons([facts(errors={})], configuration(target_rmse=0.02)) == [None]

    def test_not_a_number_stops_nothing(self):
        try:
            conf = configuration(target_rmse=float("nan"))
        except Exception as error:
            assert "target_rmse" in str(error)
        else:
            assert reasons([facts(rmse=9.0)], conf) == [None]


class TestBudgets:
    def test_labels(self):
        assert reasons([facts(n_labels=119)], configuration(max_labels=120)) == [None]
        assert reasons([facts(n_labels=120)], configuration(max_labels=120)) == ["max_labels"]
        assert reasons([facts(n_labels=121)], configuration(max_labels=120)) == ["max_labels"]

    def test_core_hours_add_up_over_iterations_and_kinds(self):
        conf = configuration(max_core_hours=2.0)
        history, costs = [facts(0), facts(1)], [cost(0.5, 0.25, own=9.0), cost(1.0, 0.2, own=9.0)]
        assert core_hours(costs) == pytest.approx(1.95)
        assert stop_reason(Progress(history, costs, conf)) is None
        reason = stop_reason(Progress(history, [costs[0], cost(1.0, 0.25)], conf))
        assert reason is not None and reason.rule == "max_core_hours"

    def test_iterations_after_iteration_zero(self):
        conf = configuration(max_iterations=2)
        assert reasons([facts(t) for t in range(3)], conf) == [None, None, "max_iterations"]

    def test_the_pool(self):
        conf = configuration(max_iterations=99)
        assert reasons([facts(pool_left=1)], conf) == [None]
        assert reasons([facts(pool_left=0)], conf) == ["pool_exhausted"]

    def test_labels_left(self):
        assert labels_left(facts(n_labels=60, pool_left=940), configuration(max_iterations=1)) == 940
        assert labels_left(facts(n_labels=60, pool_left=940), configuration(max_labels=75)) == 15
        assert labels_left(facts(n_labels=60, pool_left=7), configuration(max_labels=75)) == 7
        assert labels_left(facts(n_labels=80, pool_left=7), configuration(max_labels=75)) == 0


EVERYTHING = {
    "target_rmse": 0.02,
    "rrmse": 0.1,
    "patience": 1,
    "max_labels": 120,
    "max_core_hours": 2.5,
    "max_iterations": 1,
}
HISTORY_THAT_ENDS_BY_ALL = [
    facts(0),
    facts(1, rmse=0.01, rrmse=0.05, rrmse_low=0.01, rrmse_high=0.09, pool_left=0, n_labels=130),
]


def test_the_order_of_the_rules():
    """The first that holds is the reason; without it, the next."""
    stop, order = dict(EVERYTHING), []
    history = HISTORY_THAT_ENDS_BY_ALL
    while True:
        ends = {k: v for k, v in stop.items() if k != "patience"}
        conf = configuration(**stop) if ends else configuration(max_iterations=99)
        reason = stop_reason(Progress(history, [cost(2.0), cost(1.0)], conf))
        if reason is None:
            break
        order.append(reason.rule)
        stop.pop(reason.rule, None)
        if reason.rule == "pool_exhausted":
            history = [history[0], facts(1, rmse=0.01, pool_left=5, n_labels=130)]
    assert order == ["target_rmse", "rrmse", "pool_exhausted", "max_labels", "max_core_hours", "max_iterations"]


@pytest.mark.parametrize(
    ("rule", "stop", "words"),
    [
        ("target_rmse", {"target_rmse": 0.02}, ["target_rmse = 0.02 eV", "0.01"]),
        ("rrmse", {"rrmse": 0.1, "patience": 1}, ["below 0.1", "0.050", "0.010 to 0.090"]),
        ("pool_exhausted", {"max_iterations": 9}, ["pool", "1000 structures"]),
        ("max_labels", {"max_labels": 120}, ["max_labels = 120", "130 labels"]),
        ("max_core_hours", {"max_core_hours": 2.5}, ["max_core_hours = 2.5", "3 core-hours"]),
        ("max_iterations", {"max_iterations": 1}, ["max_iterations = 1"]),
    ],
)
def test_every_reason_names_the_value_of_its_rule(rule, stop, words):
    history = HISTORY_THAT_ENDS_BY_ALL
    if rule != "pool_exhausted":
        history = [history[0], facts(1, rmse=0.01, rrmse=0.05, rrmse_low=0.01, rrmse_high=0.09, n_labels=130)]
    reason = stop_reason(Progress(history, [cost(2.0), cost(1.0)], configuration(**stop)))
    assert reason is not None and reason.rule == rule
    assert [w for w in words if w not in reason.words] == [] and "\n" not in reason.words


class TestFiles:
    def test_facts_round_trip_and_have_one_form(self, tmp_path):
        one = facts(1, hyperparameters={"b": 1e-9, "a": 1 / 3})
        one.write(tmp_path / "a.json")
        facts(1, hyperparameters={"a": 1 / 3, "b": 1e-9}).write(tmp_path / "b.json")
        assert Facts.read(tmp_path / "a.json") == one
        assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()

    def test_every_changed_digit_of_facts_is_seen(self, tmp_path):
        path = tmp_path / "facts.json"
        facts(1).write(path)
        text = path.read_text()
        for place in (i for i, c in enumerate(text) if c.isdigit()):
            changed = "1" if text[place] == "0" else "0"
            path.write_text(text[:place] + changed + text[place + 1 :])
            with pytest.raises(ValueError, match="damaged facts"):
                Facts.read(path)

    @pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"checksum": "x"}', "\xff"])
    def test_damaged_files_are_value_errors_with_their_path(self, tmp_path, text):
        path = tmp_path / "x.json"
        path.write_text(text, encoding="latin-1")
        for kind in (Facts, Cost):
            with pytest.raises(ValueError, match=r"x\.json: damaged"):
                kind.read(path)

    def test_absent_files_are_file_not_found(self, tmp_path):
        for kind in (Facts, Cost):
            with pytest.raises(FileNotFoundError):
                kind.read(tmp_path / "absent.json")

    def test_cost_round_trip(self, tmp_path):
        cost(1.5, 0.25, 1.0).write(tmp_path / "cost.json")
        assert Cost.read(tmp_path / "cost.json") == cost(1.5, 0.25, 1.0)
        assert json.loads((tmp_path / "cost.json").read_text())["train_core_hours"] == 0.25


class TestSomethingLearnt:
    """rRMSE is small too where nothing is learnt: the margin over the mean of the labels."""

    @staticmethod
    def plateau(high: float | None) -> list[Facts]:
        errors = {"rmse": 0.105, "rmse_over_std": 0.98, "rmse_over_std_low": 0.9, "rmse_over_std_high": high}
        r2 = {"r2": 1 - 0.98**2, "r2_low": None if high is None else 1 - high**2, "r2_high": 1 - 0.9**2}
        both = {"test": {**errors, **r2, "rmse_low": 0.09, "rmse_high": 0.12}}
        return [facts(0, errors=both), facts(1, errors=both, rrmse=0.02, rrmse_low=0.0, rrmse_high=0.05)]

    @pytest.mark.parametrize("bound", ["value", "upper"])
    def test_a_model_that_is_the_mean_does_not_stop(self, bound):
        conf = configuration(rrmse=0.1, patience=1, rrmse_bound=bound)
        assert reasons(self.plateau(1.05), conf) == [None, None]
        assert reasons(self.plateau(None), conf) == [None, None], "an interval without a lower end of R2 shows nothing"
        # 1 - 0.89^2 = 0.208 is above the margin of 0.2, 1 - 0.9^2 is not.
        assert reasons(self.plateau(0.9), conf) == [None, None]
        assert reasons(self.plateau(0.89), conf) == [None, "rrmse"]
        carried = self.plateau(None)
        for f in carried:
            f.errors["test"]["rmse_over_std_at_most"] = 0.3
        assert reasons(carried, conf) == [None, "rrmse"], "one structure carries the RMSE, the others are learnt"

    def test_what_is_held_back_is_said(self):
        conf = configuration(rrmse=0.1, patience=1)
        said = held_back(self.plateau(1.05)[1], conf)
        assert (
            said is not None
            and said.startswith("rRMSE is below 0.1, but stops nothing")
            and "stop.min_r2 = 0.2" in said
        )
        assert held_back(self.plateau(0.89)[1], conf) is None and held_back(self.plateau(1.05)[0], conf) is None
        assert held_back(self.plateau(1.05)[1], configuration(rrmse=0.01, patience=1)) is None

    def test_the_margin_is_the_users(self):
        assert reasons(self.plateau(1.05), configuration(rrmse=0.1, patience=1, min_r2=None)) == [None, "rrmse"]
        assert reasons(self.plateau(0.89), configuration(rrmse=0.1, patience=1, min_r2=0.9)) == [None, None]

    def test_budgets_end_it_and_say_how_good_the_model_is(self):
        reason = stop_reason(Progress(self.plateau(1.05), [cost()] * 2, configuration(max_labels=100)))
        assert reason is not None and reason.rule == "max_labels"
        assert reason.words.endswith(
            "the model's RMSE is 0.105 eV, 0.98 of the labels' std (R2 0.04, 95 %: -0.103 to 0.19)"
        )

    def test_classes_beside_the_most_frequent_one(self):
        def history(low: float, majority: float) -> list[Facts]:
            errors = {"accuracy": low + 0.02, "accuracy_low": low, "accuracy_high": low + 0.04, "majority": majority}
            return [facts(t, target="class", errors={"test": errors}, rrmse=0.01 if t else 1.0) for t in (0, 1)]

        conf = configuration(rrmse=0.1, patience=1)
        assert reasons(history(0.9, 0.5), conf) == [None, "rrmse"]
        assert reasons(history(0.9, 0.92), conf) == [None, None]
        assert reasons(history(0.9, 1.0), conf) == [None, None]

    def test_the_upper_end_of_the_error_can_be_asked_for(self):
        conf = configuration(target_rmse=0.11, target_rmse_bound="upper")
        assert reasons(self.plateau(1.05)[:1], conf) == [None]
        wide = facts(0, errors={"test": {"rmse": 0.05, "rmse_low": 0.01, "rmse_high": None}})
        assert reasons([wide], conf) == [None]
        assert reasons(self.plateau(1.05)[:1], configuration(target_rmse=0.13, target_rmse_bound="upper")) == [
            "target_rmse"
        ]
