"""Target class from the configuration to history and figures."""

from __future__ import annotations

import csv
import json
from typing import Any

import ase.io
import numpy as np
import pytest
from scipy.stats import binomtest

from quarry.config import load_configuration
from quarry.config.classification import Classification
from quarry.errors import QuarryError
from quarry.labeling.engines.answers import plain_properties
from quarry.models.base import TrainingData
from quarry.models.classes import check_classes, classes_of
from quarry.models.metrics import confusion_matrix
from quarry.reporting.classification_plots import plot_accuracy, plot_confusion, write_class_table
from quarry.stages.assessment import progress_line
from quarry.stages.evaluation import EvaluationFiles, evaluate_model, read_predictions
from quarry.stages.results import write_history
from quarry.stages.targets import training_data
from quarry.stages.training import train_model
from quarry.stopping.facts import Cost
from quarry.stopping.progress import Progress
from quarry.stopping.rules import stop_reason
from quarry.structures.frames import write_extxyz
from quarry.structures.labelled import LabelledSet
from support.arms import models_in
from support.campaigns import stand_in_configuration
from support.networks import SMALL, by_hand, classes, trained
from support.stages import ROWS, configuration, energy_of, make_facts, write_dataset

GAP = {"property": "gap", "boundaries": [5.0, "6 eV"], "names": ["low", "middle", "high"]}
OWN = {"names": ["no", "yes"]}
QUERY = {"strategy": "random", "initial": 8, "batch": {"schedule": "constant", "size": 5}}
CLASS: dict[str, Any] = {"target": "class", "classification": GAP, "model": SMALL, "query": QUERY}
COST = Cost(0, 0, 0, 0.0, 0.0, 0.0, 0.0)


def section(**keys) -> Classification:
    return Classification.model_validate(keys)


class TestConfiguration:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"classification": None}, "classification: target class needs this section"),
            ({"target": "gap"}, "classification: only target class has classes"),
            ({"model": {}}, r"model\.kind: gpr predicts numbers, not classes; for target class use mlp"),
            ({"arms": {"a": {"model": {"kind": "gpr"}}}}, r"arms\.a\.model\.kind: gpr predicts numbers"),
            ({"stop": {"target_rmse": 0.1}}, r"stop\.target_rmse: classes have no RMSE; use stop\.target_accuracy"),
            ({"classification": {**GAP, "names": ["a", "b"]}}, "2 boundaries make 3 classes, not 2"),
            ({"classification": {**GAP, "names": ["a", "b", "a"]}}, "every class needs a name of its own"),
            ({"classification": {**GAP, "boundaries": ["6 eV", 5.0]}}, "must ascend"),
            ({"classification": {**GAP, "boundaries": [5.0, "6 apples"]}}, "classification: .*units"),
            ({"classification": {"property": "gap", "names": ["a", "b"]}}, "say where gap is divided"),
            ({"classification": {**OWN, "boundaries": [1.0]}}, "the property class is not divided"),
            ({"classification": {**GAP, "property": "forces"}}, "'forces' gives no classes; known are class, energy"),
            ({"classification": {**GAP, "property": "dipole"}}, "dipole is no energy; give plain numbers"),
            ({"classification": {"names": ["all"]}}, r"classification\.names: "),
        ],
    )
    def test_mistakes_are_one_line(self, changes, message):
        keys = {k: v for k, v in {**CLASS, **changes}.items() if v is not None}
        with pytest.raises(QuarryError, match=message) as error:
            load_configuration(stand_in_configuration(**keys), "campaign.yaml")
        assert "\n" not in str(error.value)

    def test_an_accuracy_needs_classes(self):
        with pytest.raises(QuarryError, match=r"stop\.target_accuracy = 0\.9 needs target: class"):
            load_configuration(stand_in_configuration(stop={"target_accuracy": 0.9}), "campaign.yaml")

    @pytest.mark.parametrize(
        ("model", "message"),
        [
            ({"uncertainty": "committee", "members": 1}, "a committee needs at least 2 members"),
            ({"members": 4}, "members = 4 needs uncertainty: committee"),
            ({"bootstrap": True}, "bootstrap needs uncertainty: committee"),
            ({"uncertainty": "mc_dropout", "dropout": 0.0}, "dropout = 0 gives mc_dropout no uncertainty"),
            ({"uncertainty": "mc_dropout", "dropout": 1.0}, r"model\.dropout: .*less than 1"),
            ({"uncertainty": "mc_dropout", "dropout": -0.1}, r"model\.dropout: .*greater than or equal to 0"),
            ({"uncertainty": "mc_dropout", "passes": 1}, "mc_dropout needs at least 2 passes"),
            ({"passes": 9}, "passes = 9 needs uncertainty: mc_dropout"),
            ({"hidden": []}, r"model\.hidden: "),
            ({"layers": [3]}, r"model\.layers: unknown key"),
        ],
    )
    def test_mistakes_in_a_network_are_one_line(self, model, message):
        with pytest.raises(QuarryError, match=message) as error:
            load_configuration(stand_in_configuration(model={"kind": "mlp", **model}), "campaign.yaml")
        assert "\n" not in str(error.value)


class TestClasses:
    def test_boundaries_belong_to_the_class_above(self):
        values = np.array([4.999, 5.0, 5.999, 6.0, 100.0])
        assert classes_of(values, section(**GAP)).tolist() == [0, 1, 1, 2, 2]
        in_mev = section(property="gap", boundaries=["5000 meV"], names=["a", "b"])
        assert classes_of(values, in_mev).tolist() == [0, 1, 1, 1, 1]

    def test_labels_that_are_classes(self):
        assert classes_of(np.array([1.0, 0.0]), section(**OWN)).tolist() == [1, 0]
        with pytest.raises(QuarryError, match="a label is class 2, but only 0 to 1 have names"):
            classes_of(np.array([1.0, 2.0]), section(**OWN))

    @pytest.mark.parametrize("value", [1.5, -1.0])
    def test_a_label_that_is_no_class_is_none(self, value):
        assert plain_properties({"class": 2}, 3) == {"class": 2.0}
        with pytest.raises(ValueError, match="must be a whole number, counted from 0"):
            plain_properties({"class": value}, 3)

    def test_a_class_without_examples(self):
        made = classes()
        data = TrainingData(made.structures, {"class": made.targets}, made.classes)
        assert check_classes(data) == []
        two = data.subset(np.flatnonzero(made.targets != 1))
        assert check_classes(two) == ["no training label is of class 'middle': the model cannot predict it yet"]
        one = data.subset(np.flatnonzero(made.targets == 2))
        with pytest.raises(
            QuarryError, match=f"all {len(one)} training labels are of class 'high', none of 'low', 'mid"
        ):
            check_classes(one)

    def test_confusion_by_hand(self):
        labels, predicted = np.array([0, 0, 1, 2, 2, 2.0]), np.array([0, 1, 1, 2, 2, 0.0])
        assert confusion_matrix(labels, predicted, 4).tolist() == [[1, 1, 0, 0], [0, 1, 0, 0], [1, 0, 2, 0], [0] * 4]


def softmax(outputs):
    weights = np.exp(outputs)
    return weights / weights.sum(axis=1, keepdims=True)


class TestNetworks:
    def test_it_learns(self):
        data, unseen = classes(250), classes(200, seed=5)
        model = trained(data, hidden=[16], epochs=60, learning_rate=0.02)
        found = model.predict(unseen.structures, unseen.features)
        assert np.mean(found.mean == unseen.targets) > 0.85
        assert found.std is None and found.votes is None
        assert found.probabilities.sum(axis=1) == pytest.approx(np.ones(200), abs=1e-12)

    def test_votes_and_probabilities_of_a_committee_by_hand(self, tmp_path):
        data = classes()
        model = trained(data, uncertainty="committee", members=3)
        model.save(tmp_path / "m.h5")
        each = [softmax(by_hand(tmp_path / "m.h5", data.features, n)) for n in range(3)]
        votes = [[sum(p[row].argmax() == k for p in each) / 3 for k in range(3)] for row in range(60)]
        found = model.predict(data.structures, data.features)
        assert found.votes == pytest.approx(np.array(votes), abs=1e-12)
        assert found.probabilities == pytest.approx(sum(each) / 3, abs=1e-5)
        assert np.array_equal(found.mean, found.probabilities.argmax(axis=1))
        assert {tuple(v) for v in votes} - {(1, 0, 0), (0, 1, 0), (0, 0, 1)}, "they do not always agree"

    def test_mean_probabilities_of_passes(self):
        """Equation 6: means of the passes' probabilities, not the probabilities of mean outputs."""
        data = classes()
        model = trained(data, uncertainty="mc_dropout", dropout=0.5, passes=6)
        found = model.predict(data.structures, data.features)
        outputs = next(model._outputs(data.structures, data.features))[1].double().numpy()
        assert outputs.shape == (6, 60, 3)
        assert found.probabilities == pytest.approx(np.mean([softmax(o) for o in outputs], axis=0), abs=1e-12)
        assert np.max(np.abs(found.probabilities - softmax(outputs.mean(axis=0)))) > 1e-3
        assert found.votes is None

    def test_a_class_without_examples_has_a_small_probability(self):
        data = classes(100)
        seen = data.subset(np.flatnonzero(data.targets != 1))
        found = trained(seen, epochs=100, learning_rate=0.01).predict(data.structures, data.features)
        assert found.probabilities.shape == (100, 3) and found.probabilities[:, 1].max() < 0.2


@pytest.fixture
def labelled(tmp_path, pool):
    """A data set whose gap is around 5.5: 4.5 plus a share of the energy's spread."""
    energies = np.array([energy_of(pool[i]) for i in ROWS])
    ranks = energies.argsort().argsort()
    chosen = [pool[i] for i in ROWS]
    properties = [{"gap": 4.5 + 2.0 * rank / len(ROWS)} for rank in ranks]
    LabelledSet.from_records(chosen, list(ROWS.values()), [0] * len(ROWS), properties).write(tmp_path / "d.h5", {})
    return str(tmp_path / "d.h5")


class TestStages:
    def test_from_labels_to_metrics(self, tmp_path, labelled, features, pool):
        conf = configuration(**CLASS)
        data = training_data(LabelledSet.read(labelled), "test", features, conf)
        values = LabelledSet.read(labelled).properties["gap"][:6]
        assert data.targets["class"].tolist() == [0 if v < 5 else 1 if v < 6 else 2 for v in values]
        assert data.classes == ("low", "middle", "high")
        model, metrics, predictions = (str(tmp_path / n) for n in ("m.h5", "metrics.json", "p.h5"))
        assert train_model(models_in(conf, features), labelled, model) == ["mlp trained on 12 labels"]
        evaluate_model(models_in(conf, features), EvaluationFiles(model, labelled, predictions, metrics))
        found = json.loads((tmp_path / "metrics.json").read_text())["errors"]["test"]
        written = read_predictions(predictions, "test")
        right = written["mean"] == data.targets["class"]
        assert found["accuracy"] == pytest.approx(right.mean()) and found["n"] == 6
        assert 0 <= found["accuracy_low"] <= found["accuracy"] <= found["accuracy_high"] <= 1
        expected = binomtest(int(right.sum()), 6).proportion_ci(0.95, method="wilson")
        assert (found["accuracy_low"], found["accuracy_high"]) == pytest.approx((expected.low, expected.high))
        most = max((data.targets["class"] == number).sum() for number in range(3))
        assert found["majority"] == pytest.approx(most / 6)
        assert found["error_over_majority_error"] == pytest.approx((6 - right.sum()) / (6 - most))
        assert np.trace(found["confusion"]) == right.sum() and np.sum(found["confusion"]) == 6
        assert written["probabilities"].shape == (6, 3) and "std" not in written

    def test_labels_that_are_classes_through_the_data_set(self, tmp_path, pool, features):
        chosen, labels = [pool[i] for i in (3, 1, 4)], [{"class": 1.0}, {"class": 0.0}, {"energy": 2.0}]
        packed = LabelledSet.from_records(chosen, ["train"] * 3, [0] * 3, labels)
        packed.write(tmp_path / "d.h5", {})
        write_extxyz(packed, tmp_path / "d.extxyz")
        assert [atoms.info.get("class") for atoms in ase.io.read(tmp_path / "d.extxyz", ":")] == [1, 0, None]
        own = configuration(**{**CLASS, "classification": OWN})
        data = training_data(LabelledSet.read(tmp_path / "d.h5"), "train", features, own)
        assert data.targets["class"].tolist() == [1, 0] and data.classes == ("no", "yes")

    def test_the_relative_change_is_that_of_the_error_rate(self, tmp_path, labelled, features):
        conf = configuration(**CLASS)
        paths = [str(tmp_path / n) for n in ("m.h5", "p.h5", "metrics.json", "p2.h5", "metrics2.json")]
        train_model(models_in(conf, features), labelled, paths[0])
        evaluate_model(models_in(conf, features), EvaluationFiles(paths[0], labelled, paths[1], paths[2]))
        import h5py

        with h5py.File(paths[1], "r+") as handle:
            handle["test/mean"][...] = [(label + (n < 3)) % 3 for n, label in enumerate(handle["test/label"][()])]
        evaluate_model(
            models_in(conf, features), EvaluationFiles(paths[0], labelled, paths[3], paths[4], previous=paths[1])
        )
        found = json.loads((tmp_path / "metrics2.json").read_text())
        now = 1 - found["errors"]["test"]["accuracy"]
        assert now > 0
        assert found["rrmse"] == pytest.approx(abs(now - 0.5) / now)

    def test_a_split_and_folds(self, tmp_path, labelled, features):
        conf = configuration(**CLASS, stop={"metric": "cross_validation", "max_iterations": 1})
        model, metrics, predictions = (str(tmp_path / n) for n in ("m.h5", "metrics.json", "p.h5"))
        train_model(models_in(conf, features), labelled, model)
        evaluate_model(models_in(conf, features), EvaluationFiles(model, labelled, predictions, metrics))
        assert json.loads((tmp_path / "metrics.json").read_text())["errors"]["cross_validation"]["n"] == 12

    def test_one_class_only_is_one_line(self, tmp_path, pool, features):
        dataset = write_dataset(tmp_path / "d.h5", pool, ROWS, gap=1.0)
        with pytest.raises(QuarryError, match="all 12 training labels are of class 'low'"):
            train_model(models_in(configuration(**CLASS), features), dataset, str(tmp_path / "m.h5"))


def facts(t, accuracy, confusion=((3, 1), (0, 2)), **changes):
    errors = {"accuracy": accuracy, "accuracy_low": accuracy - 0.1, "accuracy_high": accuracy + 0.05, "n": 6}
    both = {"test": {**errors, "confusion": [list(row) for row in confusion]}}
    return make_facts(t, target="class", errors=both, **changes)


class TestReport:
    def test_progress(self):
        line = progress_line(facts(1, 0.75, rrmse=0.25, rrmse_low=0.1, rrmse_high=0.5), COST)
        assert line.endswith(
            "test accuracy 0.750 (95 %: 0.650 to 0.800); relative change of the error rate 0.250 (0.100 to 0.500)"
        )

    def test_progress_beside_the_most_frequent_class(self):
        found = facts(0, 0.75)
        found.errors["test"]["majority"] = 0.5
        assert "(95 %: 0.650 to 0.800; the most frequent class alone: 0.500)" in progress_line(found, COST)

    def test_stop(self):
        conf = configuration(**CLASS, stop={"rrmse": None, "target_accuracy": 0.9})
        assert stop_reason(Progress([facts(0, 0.5), facts(1, 0.89)], [COST] * 2, conf)) is None
        reason = stop_reason(Progress([facts(0, 0.5), facts(1, 0.9)], [COST] * 2, conf))
        assert reason.rule == "target_accuracy"
        assert reason.words == (
            "test-set accuracy 0.9 has reached target_accuracy = 0.9; the model's accuracy is 0.900"
        )

    def test_history_and_figures(self, tmp_path):
        for arm in ("main", "random"):
            (tmp_path / arm).mkdir()
            write_history(str(tmp_path / arm / "history.csv"), [facts(0, 0.5), facts(1, 0.75)], [COST] * 2, "enough")
        histories = {arm: str(tmp_path / arm / "history.csv") for arm in ("main", "random")}
        with open(histories["main"], newline="") as handle:
            rows = list(csv.DictReader(handle))
        assert [row["accuracy"] for row in rows] == ["0.5", "0.75"]
        assert rows[1]["confusion"] == "3 1; 0 2" and rows[1]["rmse"] == ""
        predictions = {"label": np.array([0, 0, 1.0]), "mean": np.array([0, 1, 1.0])}
        plot_accuracy(histories, str(tmp_path / "a.svg"))
        plot_confusion(predictions, ["cold", "warm"], "test", str(tmp_path / "c.svg"))
        write_class_table(histories, str(tmp_path / "t.html"))
        assert "test accuracy" in (tmp_path / "a.svg").read_text()
        assert "test: 3 structures, accuracy 0.667" in (tmp_path / "c.svg").read_text()
        table = (tmp_path / "t.html").read_text()
        assert "0.750 <small>(0.650 to 0.800)</small>" in table and "3 1; 0 2" in table and "enough" in table
