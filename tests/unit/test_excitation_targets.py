"""Excitations as the target: what is learnt of a label, the split, RMSE_geom, and the line of ML-NEA."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarry.config import Configuration, load_configuration
from quarry.errors import QuarryError
from quarry.models.base import main_values
from quarry.models.metrics import excitation_metrics, geometric, mae, rmse
from quarry.stages.assessment import progress_line
from quarry.stages.batch import draw_initial
from quarry.stages.proposal import joint_std
from quarry.stages.targets import excitation_targets, split, training_data
from quarry.stopping.facts import Cost, Facts
from quarry.stopping.progress import Progress
from quarry.stopping.rules import stop_reason
from quarry.structures.labelled import LabelledSet
from support.campaigns import stand_in_configuration

PUBLISHED = {
    "RMSE_geom": [0.06717941145022376, 0.09043318436728051, 0.06411060145373663, 0.0695737045717655],
    "rRMSE": [1.0, 0.25713761026721255, 0.410580813729204, 0.07852252732055763],
}
"""What the lecture of P. O. Dral (2024) prints for benzene at 50, 100, 150 and 200 labels, where it stops."""


def configuration(**changes: Any) -> Configuration:
    defaults: dict[str, Any] = {
        "target": "excitations",
        "spectrum": {"n_states": 2},
        "labeling": {"engine": "function", "function": "stand_in:lines"},
        "model": {"kind": "kreg"},
        "query": {"strategy": "sequence", "initial": 10, "batch": {"schedule": "constant", "size": 5}},
        "validation": {"order": "sequence"},
        "test": {"size": 0},
        "stop": {"metric": "validation", "rrmse": 0.1, "patience": 1},
    }
    return load_configuration(stand_in_configuration(**{**defaults, **changes}), "campaign.yaml")


def labelled(pool, energies, strengths, **more: Any) -> LabelledSet:
    n = len(energies)
    found = LabelledSet.from_records([pool[i] for i in range(n)], ["train"] * n, [0] * n, [{"energy": 1.0}] * n)
    properties = {"excitation_energies": np.array(energies), "oscillator_strengths": np.array(strengths), **more}
    return LabelledSet(found.structures, found.roles, found.iterations, {**found.properties, **properties})


ENERGIES = [[1.0, 2.0, 3.0], [1.1, 2.1, 3.1], [1.2, 2.2, np.nan]]
STRENGTHS = [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6], [0.7, 0.8, np.nan]]


class TestTargets:
    def test_energies_then_strengths_of_the_lowest_states(self, pool, features):
        data = training_data(labelled(pool, ENERGIES, STRENGTHS), "train", features, configuration())
        assert data.targets["excitation_energies"].tolist() == [[1.0, 2.0], [1.1, 2.1], [1.2, 2.2]]
        assert data.targets["oscillator_strengths"].tolist() == [[0.1, 0.2], [0.4, 0.5], [0.7, 0.8]]
        joined = main_values(configuration().goal, data.targets)
        assert joined.tolist() == [[1.0, 2.0, 0.1, 0.2], [1.1, 2.1, 0.4, 0.5], [1.2, 2.2, 0.7, 0.8]]

    @pytest.mark.parametrize("n_states, whole", [(3, [0, 1]), (4, [])])
    def test_a_label_with_fewer_states_is_never_learnt(self, pool, features, n_states, whole):
        found = labelled(pool, ENERGIES, STRENGTHS)
        wanted = configuration(spectrum={"n_states": n_states})
        data = training_data(found, "train", features, wanted)
        assert data.structures.ids.tolist() == pool.ids[whole].tolist()
        assert excitation_targets(found, wanted).shape == (3, 2 * n_states)

    def test_tracked_states(self, pool):
        """Label 1 has its first two states swapped; of label 2 it is not known."""
        order = np.array([[0.0, 1.0, 2.0], [1.0, 0.0, 2.0], [np.nan] * 3])
        method = {"xc": "hf", "basis": "sto-3g", "excitations": {"n_states": 3, "characters": True}}
        wanted = configuration(
            labeling={"engine": "pyscf", "method": method}, spectrum={"n_states": 2, "order": "overlap"}
        )
        targets = excitation_targets(labelled(pool, ENERGIES, STRENGTHS, state_order=order), wanted)
        assert targets[:2].tolist() == [[1.0, 2.0, 0.1, 0.2], [2.1, 1.1, 0.5, 0.4]]
        assert np.isnan(targets[2]).all()
        with pytest.raises(QuarryError, match="hold no state_order"):
            excitation_targets(labelled(pool, ENERGIES, STRENGTHS), wanted)

    def test_labels_without_states_are_one_line(self, pool, features):
        none = LabelledSet.from_records([pool[0]], ["train"], [0], [{"energy": 1.0}])
        with pytest.raises(QuarryError, match="the labels hold no excitation_energies; they hold energy"):
            training_data(none, "train", features, configuration())

    def test_energies_with_forces(self, pool, features):
        records = [
            {"energy": float(n), "forces": None if n == 1 else (n + np.arange(9.0)).reshape(3, 3)} for n in range(3)
        ]
        found = LabelledSet.from_records([pool[n] for n in (4, 2, 7)], ["train"] * 3, [0] * 3, records)
        data = training_data(found, "train", features, configuration(target="energy_forces", spectrum=None))
        assert (
            data.targets["energy"].tolist() == [0.0, 2.0] and data.structures.ids.tolist() == pool.ids[[4, 7]].tolist()
        )
        assert data.targets["forces"].tolist() == [
            *np.arange(9.0).reshape(3, 3).tolist(),
            *(2 + np.arange(9.0)).reshape(3, 3).tolist(),
        ]
        again = data.subset([1])
        assert again.targets["forces"][0, 0] == 2.0


class TestSplit:
    @pytest.mark.parametrize("n, learnt", [(50, 40), (100, 80), (150, 120), (51, 40), (2, 1), (1, 1)])
    def test_sequence_is_that_of_ml_nea(self, n, learnt):
        rest, held = split(n, configuration(), np.random.default_rng(0))
        assert rest.tolist() == list(range(learnt)) and held.tolist() == list(range(learnt, n))

    @given(n=st.integers(2, 60), fraction=st.floats(0.1, 0.6), order=st.sampled_from(["random", "sequence"]))
    @settings(max_examples=20, deadline=None)
    def test_every_label_is_in_one_part(self, n, fraction, order):
        wanted = configuration(
            validation={"fraction": fraction, "order": order},
            query={"strategy": "random", "initial": 20, "batch": {"schedule": "constant", "size": 5}},
        )
        rest, held = split(n, wanted, np.random.default_rng(1))
        assert sorted([*rest, *held]) == list(range(n)) and len(held) and len(rest)


class TestGeometricMean:
    @given(seed=st.integers(0, 1000), n=st.integers(1, 6), columns=st.integers(1, 5))
    @settings(max_examples=20, deadline=None)
    def test_it_is_the_root_of_the_product(self, seed, n, columns):
        errors = np.random.default_rng(seed).normal(size=(n, 2 * columns))
        product = np.prod([np.sqrt(np.mean(errors[:, k] ** 2)) for k in range(2 * columns)])
        assert geometric(rmse)(errors) == pytest.approx(product ** (1 / (2 * columns)), rel=1e-12)
        assert geometric(rmse)(errors[:, 0]) == rmse(errors[:, 0])

    def test_quantities_without_error_are_left_out(self):
        errors = np.array([[1.0, 0.0, 4.0], [-1.0, 0.0, 4.0]])
        assert geometric(rmse)(errors) == pytest.approx(2.0)
        assert geometric(mae)(np.zeros((3, 2))) == 0.0

    def test_energies_and_strengths_apart(self):
        errors = np.array([[0.3, 0.4, 0.01, 0.02], [-0.3, 0.4, 0.01, -0.02]])
        found = excitation_metrics(errors)
        assert found["rmse_energies_eV"] == pytest.approx(np.sqrt(0.125))
        assert found["rmse_strengths"] == pytest.approx(np.sqrt(2.5e-4))
        assert found["states"] == pytest.approx([0.3, 0.4, 0.01, 0.02])
        assert found["rmse"] == pytest.approx((0.3 * 0.4 * 0.01 * 0.02) ** 0.25)


class TestJointUncertainty:
    def test_quantities_count_in_units_of_their_spread(self):
        targets = np.array([[1.0, 0.0, 7.0], [3.0, 0.2, 7.0]])
        std = np.array([[0.5, 0.1, 9.0], [1.0, 0.0, 0.0]])
        assert joint_std(std, targets) == pytest.approx([np.sqrt((0.25 + 1) / 2), np.sqrt(0.5)])
        assert joint_std(std, targets[:1]).tolist() == [0.0, 0.0]


class TestInitialBatch:
    def test_sequence_takes_the_first_structures(self, structures, pool):
        rows = draw_initial(configuration(), structures)
        assert [r.structure_id for r in rows] == pool.ids[:10].tolist() and {r.role for r in rows} == {"train"}

    def test_the_equilibrium_comes_first_and_is_no_test_structure(self, structures, pool):
        query = {"strategy": "random", "initial": 10, "batch": {"schedule": "constant", "size": 5}}
        for seed in range(8):
            wanted = configuration(
                query=query, seed=seed, test={"size": 20}, spectrum={"n_states": 2, "equilibrium": True}
            )
            rows = draw_initial(wanted, structures)
            train = [r.structure_id for r in rows if r.role == "train"]
            assert train[0] == pool.ids[0] and len(train) == 10 and len(rows) == 30
            assert len({r.structure_id for r in rows}) == 30

    def test_sequence_beside_a_test_set(self, structures, pool):
        rows = draw_initial(configuration(test={"size": 5}), structures)
        test = {r.structure_id for r in rows if r.role == "test"}
        left = [i for i in pool.ids.tolist() if i not in test]
        assert [r.structure_id for r in rows if r.role == "train"] == left[:10]


class TestLineOfMlNea:
    def facts(self) -> list[Facts]:
        found = []
        for t, (value, change) in enumerate(zip(PUBLISHED["RMSE_geom"], PUBLISHED["rRMSE"], strict=True)):
            numbers = {"n_train": 50 * (t + 1), "n_test": 0, "n_labels": 50 * (t + 1), "n_failed": 0}
            errors = {"validation": {"rmse": value, "rmse_low": 0.9 * value, "rmse_high": 1.1 * value}}
            of = {"arm": "main", "phase": "query", "target": "excitations", "metric": "validation"}
            pool = {"pool_size": 1000, "pool_left": 1000 - 50 * (t + 1)}
            change_of = {"rrmse": change, "rrmse_low": 0.0, "rrmse_high": 1.0}
            found.append(Facts(iteration=t, errors=errors, **numbers, **of, **pool, **change_of))
        return found

    def test_the_published_lines(self):
        lines = [progress_line(f, Cost(50, 0, 0, 0.0, 0.0, 0.0, 0.0)) for f in self.facts()]
        assert "ML-NEA iteration 1: train_number = 50; RMSE_geom = 0.0671794 (" in lines[0]
        assert lines[0].endswith("rRMSE = 1.0")
        assert "ML-NEA iteration 4: train_number = 200; RMSE_geom = 0.0695737 (" in lines[3]
        assert "rRMSE = 0.0785225 (" in lines[3]

    def test_the_published_values_stop_at_the_fourth(self):
        found, costs = self.facts(), [Cost(50, 0, 0, 0.0, 0.0, 0.0, 0.0)] * 4
        reasons = [stop_reason(Progress(found[: t + 1], costs[: t + 1], configuration())) for t in range(4)]
        assert [r is None for r in reasons] == [True, True, True, False]
        assert reasons[3] is not None and reasons[3].rule == "rrmse"

    def test_swapped_states_are_told(self):
        from dataclasses import replace

        line = progress_line(
            replace(self.facts()[1], states={"labels": 99, "swapped": 12}), Cost(50, 0, 0, 0.0, 0.0, 0.0, 0.0)
        )
        assert line.endswith("; 12 of 99 labels with swapped states")
