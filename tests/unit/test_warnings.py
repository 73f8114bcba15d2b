"""What is doubtful is said: each warning where it must come, and where it must not."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase.build import molecule
from tests.unit.test_calibration_of_models import geometries
from tests.unit.test_stopping import cost, facts

from quarry.campaign.batch_table import BatchRow
from quarry.config.models import Gpr, Kreg, Log2Grid
from quarry.config.targets import TARGETS
from quarry.evaluation.warnings import (
    constant_targets,
    contradictory_duplicates,
    low_excitations,
    no_better_than_the_mean,
)
from quarry.models.registry import make_regression
from quarry.models.regression import RegressionData
from quarry.stages.assessment import facts_before, warning_lines
from quarry.stages.batch import read_proposal
from quarry.stages.evaluation import EvaluationFiles, evaluate_model
from quarry.stages.pool import build_features
from quarry.stages.proposal import propose_batch, score_pool
from quarry.stages.results import history_rows
from quarry.stages.training import train_model
from quarry.stopping.facts import Facts
from quarry.structures import Structure, StructureSet
from quarry.structures.compositions import unfamiliar, unfamiliar_message
from quarry.structures.files import JobInputEntry, write_job_input, write_pool
from quarry.structures.labelled import LabelledSet
from support.arms import models_in
from support.networks import dimers, trained
from support.stages import configuration, write_failures


def data_of(x, y):
    return RegressionData(dimers(len(y)), np.asarray(x, dtype=float), np.asarray(y, dtype=float))


def of(settings, data, target="homo"):
    model = make_regression(settings, TARGETS[target])
    model.fit(data, None, np.random.default_rng(0))
    return model


class TestLabels:
    def test_contradictory_duplicates(self):
        x = np.random.default_rng(0).normal(size=(20, 3))
        y = x.sum(axis=1)
        assert contradictory_duplicates(y, x) is None
        twice, values = np.concatenate([x, x[:3] + 1e-13]), np.concatenate([y, y[:3]])
        assert contradictory_duplicates(values, twice) is None, "the same labels"
        values[-1] += 0.5
        said = contradictory_duplicates(values, twice)
        assert said is not None and said.startswith("2 training labels contradict each other") and "0.5" in said
        assert contradictory_duplicates(y[:1], x[:1]) is None
        # Copies to 1e-4 Angstrom have features that differ by more than rounding.
        near, groups = twice.copy(), np.concatenate([np.arange(20), [0, 1, 2]])
        near[20:] += 1e-5
        assert contradictory_duplicates(values, near) is None
        assert "2 training labels contradict" in (contradictory_duplicates(values, copies=groups) or "")

    def test_constant_targets(self):
        assert "all 5 training labels are the same (3)" in (constant_targets(np.full(5, 3.0)) or "")
        assert constant_targets(np.array([3.0, 3.1])) is None and constant_targets(np.ones(1)) is None

    @pytest.mark.parametrize("uncertainty", ["none", "committee", "mc_dropout"])
    def test_a_network_of_constant_targets_predicts_them(self, uncertainty):
        x = np.random.default_rng(0).normal(size=(60, 3))
        model = trained(data_of(x, np.full(60, 3.0)), uncertainty=uncertainty)
        found = model.predict(dimers(10), np.random.default_rng(1).normal(size=(10, 3)))
        np.testing.assert_allclose(found.mean, 3.0, rtol=1e-12)
        assert found.std is None or not found.std.any()

    def test_excitations_below_a_physical_floor(self):
        energies = np.array([[3.0, 4.0], [0.02, 5.0], [2.0, np.nan]])
        said = low_excitations(energies, np.array(["a", "b", "c"]))
        assert said is not None and said.startswith("1 labels") and "0.02 eV" in said and "structure b" in said
        assert low_excitations(energies[[0, 2]], np.array(["a", "c"])) is None


class TestFits:
    def test_a_length_scale_at_the_end_of_its_search(self):
        x = np.random.default_rng(0).normal(size=(60, 2))
        data = data_of(x, (x**2).sum(axis=1))
        assert "is the highest that its search tries" in of(Gpr(length_scale=0.3, bounds_factor=2.0), data).warnings[0]
        noisy = data_of(x, np.sin(2 * x[:, 0]) + 0.1 * np.random.default_rng(1).normal(size=60))
        assert of(Gpr(), noisy).warnings == []

    def test_a_grid_that_is_too_small(self):
        x = np.random.default_rng(0).uniform(size=(40, 2))
        grid = Log2Grid(minimum=-10, maximum=-9, points=2)
        said = of(Kreg(kind="kreg", log2_sigma=grid, grid_depth=1), data_of(x, x.sum(axis=1))).warnings
        assert "the sigma of kreg is at the highest end of its grid (model.log2_sigma)" in said

    def test_networks_that_did_not_converge(self):
        x = np.random.default_rng(0).normal(size=(60, 3))
        said = trained(data_of(x, x[:, 0]), epochs=2).warnings
        assert said == ["1 of 1 networks were best in their last epoch: they may not have converged (model.epochs)"]

    def test_forces_are_the_gradient_however_small_the_regularisation_may_be(self):
        """Weights of 1e12 make energies that differ by rounding: such pairs of hyperparameters are not taken."""
        data, step = geometries(40, 3), 1e-3
        grid = Log2Grid(minimum=-50, maximum=-1)
        model = of(Kreg(kind="kreg", log2_regularisation=grid), data, "energy_forces")
        base = geometries(1, 4)
        forces = model.predict(base.structures, base.features).forces
        positions = base.structures.positions
        for atom, axis in ((0, 0), (1, 1), (2, 2)):
            energies = []
            for sign in (1, -1):
                moved = positions.copy()
                moved[atom, axis] += sign * step
                structures = StructureSet.from_structures([Structure.create([8, 1, 1], moved)])
                energies.append(model.predict(structures, features_of(structures)).mean[0])
            assert -(energies[0] - energies[1]) / (2 * step) == pytest.approx(forces[atom, axis], abs=2e-3)

    def test_a_model_no_better_than_the_mean(self):
        def said(ratio, high, at_most=None):
            errors = {"rmse_over_std": ratio, "rmse_over_std_high": high, "rmse_over_std_at_most": at_most}
            return no_better_than_the_mean("cross_validation", errors)

        assert said(0.5, 0.8) is None and said(None, None) is None and no_better_than_the_mean("test", {}) is None
        assert "its RMSE is 0.98 of their std (up to 1.1)" in (said(0.98, 1.05) or "")
        assert "are too few to tell" in (said(0.5, None) or "") and "(up to 1.2)" in (said(0.5, None, 1.2) or "")
        assert said(0.5, None, 0.3) is None, "one structure carries the RMSE, the others are learnt"


def features_of(structures):
    from quarry.config.descriptors import InverseDistances
    from quarry.descriptors.compute import compute_features

    reference = Structure.create([8, 1, 1], np.array([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]))
    return compute_features(structures, InverseDistances(kind="inverse_distances"), reference)


def molecules(*names, copies=1):
    rng = np.random.default_rng(0)
    return [
        Structure.create(m.numbers.tolist(), m.positions + 0.02 * rng.normal(size=m.positions.shape))
        for name in names
        for _ in range(copies)
        for m in [molecule(name)]
    ]


class TestUnfamiliar:
    def test_elements_and_compositions(self):
        known = StructureSet.from_structures(molecules("CH4", "H2O"))
        others = StructureSet.from_structures(molecules("CH4", "CH3OH", "CH3Cl", "CO2"))
        assert unfamiliar(known, others, compositions=False).tolist() == [False, False, True, False]
        # CH4 + H2O spans C + 4 H and O + 2 H: CH4O is one methane and one water short of 2 H.
        assert unfamiliar(known, others, compositions=True).tolist() == [False, True, True, True]
        spanned = StructureSet.from_structures(molecules("CH4", "H2O", "H2"))
        assert unfamiliar(spanned, others, compositions=True).tolist() == [False, False, True, False]
        assert "(Cl)" in unfamiliar_message(known, others.subset([2]))
        assert "compositions" in unfamiliar_message(known, others.subset([1]))

    @pytest.fixture
    def campaign(self, tmp_path):
        """Hydrocarbons that are labelled, and a pool with chlorine in it."""
        structures = molecules("CH4", "C2H6", "C2H4", "C2H2", copies=8) + molecules("CH3Cl", copies=6)
        pool = StructureSet.from_structures(structures)
        write_pool(tmp_path / "structures.h5", pool)
        conf = configuration(
            target="homo",
            descriptor={"kind": "coulomb_matrix"},
            query={"strategy": "uncertainty", "initial": 8, "batch": {"schedule": "constant", "size": 10}},
        )
        write_job_input(tmp_path / "reference.extxyz", [JobInputEntry(pool[0])])
        paths = [str(tmp_path / name) for name in ("structures.h5", "reference.extxyz")]
        build_features(*paths, conf.descriptor, str(tmp_path / "features.h5"))
        rows = [*range(0, 32, 2)]
        values = [{"homo": -10.0 - 0.1 * len(pool[n].numbers) + 0.01 * n} for n in rows]
        roles = ["test"] * 4 + ["train"] * 12
        LabelledSet.from_records([pool[n] for n in rows], roles, [0] * 16, values).write(tmp_path / "dataset.h5", {})
        write_failures(tmp_path / "failures.csv", [])
        return pool, conf

    def proposed(self, tmp_path, pool, conf, **query):
        conf = conf.model_copy(update={"query": conf.query.model_copy(update=query)})
        paths = {name: str(tmp_path / f"{name}.h5") for name in ("structures", "features", "dataset", "model")}
        train_model(models_in(conf, paths["features"]), paths["dataset"], paths["model"])
        models = models_in(conf, paths["features"])
        made = (str(tmp_path / "predictions.h5"), str(tmp_path / "metrics.json"))
        evaluate_model(models, EvaluationFiles(paths["model"], paths["dataset"], *made))
        found = json.loads((tmp_path / "metrics.json").read_text())
        body = {k: v for k, v in vars(facts(0)).items() if k not in found}
        Facts(**{**body, **found, "pool_left": 22}).write(tmp_path / "facts.json")
        known = (paths["dataset"], str(tmp_path / "failures.csv"))
        scores = str(tmp_path / "scores.h5")
        score_pool(models, 1, paths["model"], *known, scores)
        output = str(tmp_path / "proposal.csv")
        propose_batch(models, 1, *known, str(tmp_path / "facts.json"), scores, output)
        rows: list[BatchRow] = read_proposal(output)
        chlorine = {str(pool.ids[n]) for n in range(32, 38)}
        return [row.structure_id in chlorine for row in rows], rows, found["warnings"]

    def test_a_few_are_drawn_and_the_others_ranked(self, tmp_path, campaign):
        strange, rows, warnings = self.proposed(tmp_path, *campaign)
        assert sum(strange) == 1 and strange[0] and len(rows) == 10
        assert rows[0].score == "" and all(row.score for row in rows[1:])
        assert any(
            "6 of 38 structures of the pool have elements that no training label has (Cl)" in w for w in warnings
        )

    def test_left_out_until_nothing_else_is_there(self, tmp_path, campaign):
        pool, conf = campaign
        assert sum(self.proposed(tmp_path, pool, conf, unfamiliar="leave_out")[0]) == 0
        batch = conf.query.batch.model_copy(update={"size": 18})
        strange = self.proposed(tmp_path, pool, conf, unfamiliar="leave_out", batch=batch)[0]
        assert len(strange) == 18 and sum(strange) == 2, "16 others are left"

    def test_trusted_where_the_user_says_so(self, tmp_path, campaign):
        strange, rows, _ = self.proposed(tmp_path, *campaign, unfamiliar="trust")
        assert len(rows) == 10 and all(row.score for row in rows)
        assert sum(strange) == 6, "far from all that is known, they are the most uncertain ones"


def test_they_stand_in_terminal_and_history():
    found = facts(3, warnings=["the first doubt", "another; doubt"])
    assert warning_lines(found, configuration()) == [
        "main iteration 3: warning: the first doubt",
        "main iteration 3: warning: another; doubt",
    ]
    row = history_rows([found], [cost()], "")[0]
    assert row["warnings"] == "the first doubt | another; doubt"


def test_what_the_iteration_before_said_is_not_said_again_in_the_terminal(tmp_path):
    before = facts(2, warnings=["6 of 38 candidates have elements that no label has (Cl)", "RMSE 0.98 (up to 1.2e-1)"])
    path = tmp_path / "iter_003" / "facts.json"
    for one in (before, facts(1, warnings=[])):
        folder = tmp_path / f"iter_{one.iteration:03d}"
        folder.mkdir()
        one.write(folder / "facts.json")
    new = ["5 of 33 candidates have elements that no label has (Cl)", "RMSE 0.5 (up to 1,000)", "a new doubt"]
    now = facts(3, warnings=new)
    assert facts_before(now, path) == before
    assert warning_lines(now, configuration(), facts_before(now, path)) == [
        "main iteration 3: warning: a new doubt",
        "main iteration 3: 2 warnings as before (column warnings of history.csv)",
    ]
    other = facts(3, warnings=["5 of 33 candidates have elements that no label has (Br, Cl)"])
    assert warning_lines(other, configuration(), before) == [f"main iteration 3: warning: {other.warnings[0]}"]
    assert facts_before(facts(0), tmp_path / "iter_000" / "facts.json") is None
    assert history_rows([now], [cost()], "")[0]["warnings"] == " | ".join(new)


@pytest.mark.parametrize(
    ("hyperparameters", "factor", "words"),
    [
        ({}, "", ""),
        ({"std_factor": None, "calibration_labels": 20}, "", "not calibrated: too few (20 labels)"),
        ({"std_factor": 1.5, "calibration_labels": 80}, "1.5", "by 80 held-out labels"),
        ({"std_factor": [1.0, 3.0], "calibration_labels": [80, 79]}, "2", "by 79 held-out labels"),
        ({"std_factor": [1.0, None], "calibration_labels": [80, 0]}, "", "not calibrated: too few (0 labels)"),
    ],
)
def test_the_history_says_what_the_calibration_rests_on(hyperparameters, factor, words):
    row = history_rows([facts(0, hyperparameters=hyperparameters)], [cost()], "")[0]
    assert (row["std_factor"], row["calibration"]) == (factor, words)
