"""How a data set is divided: the campaign's test set, validation that lasts, copies on one side."""

import numpy as np
import pytest

from quarry.product.split import COPY_OF_TEST, LEFT_OUT, TEST, TRAIN, VALIDATION, SplitRule, split_of
from quarry.structures.labelled import LabelledSet
from quarry.structures.structure import Structure
from support.data_sets import of_all_kinds


def waters(count, seed=1):
    rng = np.random.default_rng(seed)
    start = np.array([[0.0, 0.0, 0.1], [0.0, 0.75, -0.4], [0.0, -0.75, -0.4]])
    return [Structure.create([8, 1, 1], start + 0.05 * rng.normal(size=(3, 3))) for _ in range(count)]


def labelled(structures, roles, **changes):
    return LabelledSet.from_records(
        structures, roles, list(range(len(roles))), [{"energy": -1.0}] * len(roles), **changes
    )


def test_the_test_set_is_the_campaign_s_and_a_share_of_the_rest_validates():
    parts = split_of(labelled(waters(400), ["test"] * 100 + ["train"] * 300), SplitRule(share=0.2, seed=5))
    assert (parts[:100] == TEST).all() and set(parts[100:]) == {TRAIN, VALIDATION}
    assert 35 < (parts == VALIDATION).sum() < 85


def test_a_label_stays_on_its_side_when_others_come():
    every = waters(60)
    later = split_of(labelled(every, ["train"] * 60), SplitRule())
    sooner = split_of(labelled(every[:30], ["train"] * 30), SplitRule())
    assert later[:30].tolist() == sooner.tolist() and VALIDATION in sooner
    backwards = split_of(labelled(every[::-1], ["train"] * 60), SplitRule())
    assert backwards[::-1].tolist() == later.tolist()
    assert split_of(labelled(every, ["train"] * 60), SplitRule(seed=1)).tolist() != later.tolist()


@pytest.mark.parametrize("seed", range(6))
def test_copies_are_on_one_side(seed):
    every = waters(12)
    turned = [Structure.create([1, 8, 1], s.positions[[1, 0, 2]] @ np.diag([-1, -1, 1]) + 1.0) for s in every]
    roles = ["train"] * 10 + ["test"] * 2
    parts = split_of(labelled(every + turned, roles + ["train"] * 12), SplitRule(share=0.4, seed=seed))
    assert (parts[:10] == parts[12:22]).all() and VALIDATION in parts[:10]
    assert (parts[10:12] == TEST).all() and (parts[22:] == COPY_OF_TEST).all(), (
        "no model learns what the test set holds"
    )


def test_the_last_ones_validate_where_the_order_says_so():
    parts = split_of(labelled(waters(10), ["train"] * 10), SplitRule(share=0.3, order="sequence"))
    assert parts.tolist() == [TRAIN] * 7 + [VALIDATION] * 3


def test_left_out_labels_are_in_no_part():
    every = waters(5)
    out = frozenset({every[2].structure_id})
    assert split_of(labelled(every, ["train"] * 5, rejected=out), SplitRule())[2] == LEFT_OUT


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_labels(count):
    parts = split_of(labelled(waters(count), ["train"] * count), SplitRule())
    assert (parts == TRAIN).sum() >= min(count, 1) and (parts == VALIDATION).sum() == (count == 2)


@pytest.mark.parametrize("seed", range(8))
def test_free_atoms_and_the_only_structure_with_an_element_are_learnt(seed):
    parts = split_of(of_all_kinds(), SplitRule(share=0.9, seed=seed))
    assert (parts[2:5] == TRAIN).all(), "copper, and both free atoms"
    assert parts[5] == TEST


def test_the_rule_of_a_campaign():
    identity = {
        "seed": 7,
        "model": {"kind": "gmnn", "held_out": 0.1},
        "validation": {"fraction": 0.2, "order": "sequence"},
    }
    assert SplitRule.of_identity(identity) == SplitRule(0.1, "sequence", 7)
    assert SplitRule.of_identity({"filters": {"copy_tolerance_A": 0.01}}) == SplitRule(copy_tolerance_A=0.01)
