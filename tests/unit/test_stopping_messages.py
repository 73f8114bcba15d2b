"""Stop rules: what labels with absurd values hold back, units, and models of one class."""

from __future__ import annotations

import pytest

from quarry.config.targets import TARGETS
from quarry.evaluation.intervals import share_interval
from quarry.stopping.rules import absurd_message, has_learnt, held_back, too_few_tested
from support.stages import configuration, make_facts

FLAGGED = {"labels": 1, "train": 0, "evaluated": 1, "error_share": 0.5, "ids": ["s1"]}


@pytest.mark.parametrize(
    ("iteration", "change", "said"), [(1, 0.05, "rRMSE 0.050 is below 0.1"), (0, 0.05, None), (1, 0.1, None)]
)
def test_a_small_change_stops_nothing_and_is_told(iteration, change, said):
    last = make_facts(iteration, rrmse=change, rrmse_low=change, rrmse_high=change, flagged=FLAGGED)
    message = held_back(last, configuration(stop={"rrmse": 0.1, "patience": 1}))
    assert (
        message is None if said is None else message.startswith(f"{said}, but stops nothing: 0 training labels and 1 ")
    )


def test_labels_of_the_training_and_of_the_test_set_are_told_apart():
    assert "50 % of the squared error" in absurd_message(make_facts(1, flagged=FLAGGED))
    message = absurd_message(make_facts(1, flagged={**FLAGGED, "train": 2, "evaluated": 0}))
    assert message.startswith("2 training labels and 0 test-set labels have absurd values (ids s1;")
    assert absurd_message(make_facts(1, flagged={"labels": 1, "ids": ["s1"], "error_share": 0.0})) == ""


def test_units_of_targets():
    assert [TARGETS[t].unit for t in ("energy", "gap", "dipole", "value", "excitations")] == [
        "eV",
        "eV",
        "e*Angstrom",
        "",
        "",
    ]


def test_one_class_teaches_nothing_and_a_margin_must_be_exceeded():
    errors = {"majority": 0.5, "accuracy_low": 0.75, "accuracy": 0.8}
    last = make_facts(1, errors={"test": errors})
    assert has_learnt(last, 0.49) and not has_learnt(last, 0.5)
    errors["majority"] = 1.0
    assert not has_learnt(last, 0.1)


@pytest.mark.parametrize(
    ("size", "stop", "words"),
    [
        (3, {}, "test.size = 3: so few structures set no bound to the error, so that stop.rrmse will never end"),
        (3, {"min_r2": None, "rrmse_bound": "upper"}, "never end the campaign (stop.rrmse_bound: upper)"),
        (4, {}, "test.size = 4: of so few structures a good model is seldom told from the mean of the labels"),
        (19, {}, "stop.rrmse may end the campaign late (stop.min_r2 = 0.2); 20 or more tell it"),
        (20, {}, None),
        (3, {"min_r2": None}, None),
        (3, {"rrmse": None, "max_iterations": 2}, None),
        (3, {"metric": "cross_validation"}, None),
    ],
)
def test_a_test_set_that_is_too_small_to_stop_by_is_told_before_the_start(size, stop, words):
    said = too_few_tested(configuration(test={"size": size}, stop={"rrmse": 0.1, **stop}))
    assert said is None if words is None else said is not None and words in said


@pytest.mark.parametrize("names", [["low", "high"], ["low", "middle", "high"]])
def test_so_many_right_classes_could_end_a_campaign_and_fewer_never(names):
    boundaries = [-2000 + 0.1 * n for n in range(len(names) - 1)]
    conf = {
        "target": "class",
        "classification": {"property": "energy", "boundaries": boundaries, "names": names},
        "model": {"kind": "mlp", "uncertainty": "committee"},
        "query": {"strategy": "vote_entropy", "initial": 8, "batch": {"schedule": "constant", "size": 5}},
    }
    never = [
        "never" in str(too_few_tested(configuration(**conf, test={"size": n}, stop={"rrmse": 0.1})))
        for n in range(2, 12)
    ]
    shown = []
    for n in range(2, 12):
        errors = {"accuracy": 1.0, "accuracy_low": share_interval(n, n)[0], "majority": 1 / len(names)}
        shown.append(has_learnt(make_facts(1, target="class", errors={"test": errors}), 0.2))
    assert never == [not could for could in shown] and len(set(never)) == 2
