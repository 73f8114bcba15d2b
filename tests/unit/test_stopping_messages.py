"""Stop rules: what labels with absurd values hold back, units, and models of one class."""

from __future__ import annotations

import pytest

from quarry.config.targets import TARGETS
from quarry.stopping.rules import absurd_message, has_learnt, held_back
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
