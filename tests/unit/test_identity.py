"""What makes a campaign another one."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarry.config import load_configuration
from quarry.files import canonical_json
from support.configurations import FILES, changed, load


class TestIdentity:
    REFERENCE = load(FILES, arms={"a": {"query": {"strategy": "random"}}}).identity()

    @given(st.randoms(use_true_random=False))
    def test_is_not_that_of_the_order_of_keys(self, dice):
        def shuffled(node):
            if not isinstance(node, dict):
                return node
            keys = list(node)
            dice.shuffle(keys)
            return {key: shuffled(node[key]) for key in keys}

        data = changed(FILES, {"arms": {"a": {"query": {"strategy": "random"}}}})
        assert canonical_json(load_configuration(shuffled(data), "x").identity()) == canonical_json(self.REFERENCE)

    @pytest.mark.parametrize(
        "changes",
        [
            {"stop": {"rrmse": 0.5, "patience": 7}},
            {"stop.max_labels": 1000},
            {"stop.target_rmse": "1 kcal/mol"},
            {"resources": {"label": {"threads": 8, "memory_MB": 100}}},
            {"labeling.store": "elsewhere"},
            {"labeling.retries": 0},
            {"labeling.max_failed_fraction": 0.9},
            {"name": "other"},
            {"model": {"kind": "gpr", "criterion": "predictive"}},
            {"validation": {"folds": 5}},
        ],
    )
    def test_does_not_see(self, changes):
        data = changed(FILES, {"arms": {"a": {"query": {"strategy": "random"}}}, **changes})
        assert load_configuration(data, "x").identity() == self.REFERENCE

    @pytest.mark.parametrize(
        "changes",
        [
            {"seed": 1},
            {"target": "gap"},
            {"pool.files": ["a.xyz"]},
            {"pool.charge": 1},
            {"labeling.function": "stand_in:other"},
            {"labeling.arguments": {"version": 3}},
            {"descriptor": {"kind": "coulomb_matrix"}},
            {"model": {"subset": 3}},
            {"query.strategy": "random"},
            {"query.initial": 11},
            {"query.batch.size": 6},
            {"test.size": 21},
            {"validation": {"folds": 4}},
            {"stop.metric": "cross_validation"},
            {"arms": {}},
        ],
    )
    def test_sees(self, changes):
        data = changed(FILES, {"arms": {"a": {"query": {"strategy": "random"}}}, **changes})
        assert load_configuration(data, "x").identity() != self.REFERENCE

    def test_of_pyscf_sees_stability_and_excited_states_but_not_recovery(self):
        def identity(labeling=None, **method):
            given = {"engine": "pyscf", "method": {"xc": "pbe", "basis": "sto-3g", **method}, **(labeling or {})}
            return canonical_json(load(labeling=given).identity())

        assert identity({"recovery": ["newton"]}) == identity({"recovery": []}) == identity()
        assert identity({"look_for_instabilities": True}) == identity()
        others = [
            identity({"stability": "internal"}),
            identity({"stability": "external"}),
            identity(forces=False),
            identity(excitations={"n_states": 3}),
            identity(excitations={"n_states": 3, "kind": "tda"}),
        ]
        assert len({identity(), *others}) == 6

    def test_is_json(self):
        assert json.loads(canonical_json(self.REFERENCE)) == self.REFERENCE
        identity = load(pool__temperature_K=300).identity()
        assert canonical_json(identity) == canonical_json(load(pool__temperature_K=300.0).identity())
