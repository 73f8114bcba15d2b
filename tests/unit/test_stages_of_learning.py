"""Training and evaluation against numpy by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import r2_score

from quarry.config.targets import TARGETS
from quarry.descriptors.features_file import read_features
from quarry.errors import QuarryError
from quarry.evaluation.intervals import error_interval
from quarry.models.base import Prediction, TrainingData
from quarry.models.registry import load_regression
from quarry.randomness import generator
from quarry.stages import arm_models
from quarry.stages.errors import Evaluated, summary_of
from quarry.stages.evaluation import EvaluationFiles, evaluate_model, read_predictions
from quarry.stages.targets import training_data
from quarry.stages.training import train_model
from quarry.structures import Structure, StructureSet
from quarry.structures.labelled import LabelledSet
from support.arms import models_in
from support.stages import (
    ROWS,
    configuration,
    energy_of,
    write_dataset,
)


class TestTraining:
    def test_only_training_labels_are_learnt(self, trained, tmp_path, pool, features):
        """Other test labels, the same model."""
        LabelledSet.from_records(
            [pool[i] for i in ROWS],
            list(ROWS.values()),
            [0] * len(ROWS),
            [{"energy": energy_of(pool[i]) + (100 if ROWS[i] == "test" else 0)} for i in ROWS],
        ).write(tmp_path / "d.h5", {})
        train_model(models_in(configuration(), features), str(tmp_path / "d.h5"), str(tmp_path / "m" / "model.h5"))
        assert (tmp_path / "m" / "model.h5").read_bytes() == (trained / "model.h5").read_bytes()

    def test_labels_without_the_target_are_left_out(self, tmp_path, pool, features):
        properties = [{"energy": 1.0, "lumo": None if n % 3 else float(n)} for n in range(9)]
        labelled = LabelledSet.from_records([pool[n] for n in range(9)], ["train"] * 9, [0] * 9, properties)
        data = training_data(labelled, "train", features, configuration(target="lumo"))
        assert data.targets["lumo"].tolist() == [0.0, 3.0, 6.0]
        assert data.structures.ids.tolist() == pool.ids[[0, 3, 6]].tolist()
        cache = models_in(configuration(), features).descriptor
        assert cache is not None
        assert np.array_equal(cache.of(data.structures), read_features(features)[[0, 3, 6]])

    def test_a_target_that_no_label_has_is_one_line(self, trained, features):
        labelled = LabelledSet.read(trained / "dataset.h5")
        with pytest.raises(QuarryError, match="the labels hold no gap; they hold energy"):
            training_data(labelled, "train", features, configuration(target="gap"))

    def test_nothing_to_train_on_is_one_line(self, tmp_path, pool, features):
        dataset = write_dataset(tmp_path / "d.h5", pool, {0: "test", 1: "test"})
        with pytest.raises(QuarryError, match="no training label succeeded"):
            train_model(models_in(configuration(), features), dataset, str(tmp_path / "model.h5"))


class MeanModel:
    """Predicts the mean of its training targets: what a fold was trained on can be told from its predictions."""

    def fit(self, data, validation, rng, **more):
        self.value = float(np.mean(data.targets["energy"]))

    def predict(self, structures, want):
        return Prediction({"energy": np.full(len(structures), self.value)})


def by_hand(errors: np.ndarray) -> dict[str, float]:
    return {
        "rmse": float(np.sqrt((errors**2).sum() / len(errors))),
        "mae": float(np.abs(errors).sum() / len(errors)),
        "maxe": float(np.abs(errors).max()),
        "n": len(errors),
    }


class TestEvaluation:
    def evaluate(self, folder: Path, trained: Path, features, conf, previous=None) -> dict[str, Any]:
        evaluate_model(
            models_in(conf, features),
            EvaluationFiles(
                str(trained / "model.h5"),
                str(trained / "dataset.h5"),
                str(folder / "predictions.h5"),
                str(folder / "metrics.json"),
                previous=previous,
            ),
        )
        found: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
        return found

    def test_of_the_test_set_by_hand(self, tmp_path, trained, features, pool):
        found = self.evaluate(tmp_path, trained, features, configuration())
        rows = list(range(6))
        predicted = load_regression(trained / "model.h5", "gpr").predict(
            pool.subset(rows), read_features(features)[rows]
        )
        labels = np.array([energy_of(pool[n]) for n in rows])
        errors = predicted.mean - labels
        assert found["errors"].keys() == {"test"}
        for name, value in by_hand(errors).items():
            assert found["errors"]["test"][name] == pytest.approx(value, rel=1e-12), name
        assert (found["n_train"], found["n_test"], found["n_labels"]) == (12, 6, 18)
        assert (found["rrmse"], found["rrmse_low"], found["rrmse_high"]) == (1.0, 1.0, 1.0)
        written = read_predictions(str(tmp_path / "predictions.h5"), "test")
        assert written["ids"].astype(str).tolist() == pool.ids[:6].tolist()
        assert np.array_equal(written["label"], labels) and np.array_equal(written["mean"], predicted.mean)
        assert np.array_equal(written["std"], predicted.std)
        noise = load_regression(trained / "model.h5", "gpr").hyperparameters["noise_variance"]
        assert written["std_with_noise"] ** 2 == pytest.approx(predicted.std**2 + noise, rel=1e-12)
        z = (written["mean"] - written["label"]) / written["std_with_noise"]
        assert found["errors"]["test"]["rms_z"] == pytest.approx(np.sqrt(np.mean(z**2)), rel=1e-9)
        assert read_predictions(str(tmp_path / "predictions.h5"), "validation") is None

    def test_intervals_ratios_and_errors_per_atom(self, tmp_path, trained, features, pool):
        """R^2 against scikit-learn, the error per atom by a loop, and intervals that depend on seed and metric only."""
        conf = configuration()
        found = self.evaluate(tmp_path, trained, features, conf)["errors"]["test"]
        written = read_predictions(str(tmp_path / "predictions.h5"), "test")
        errors, labels = written["mean"] - written["label"], written["label"]
        rng = generator(conf.seed, "bootstrap", "test")
        assert (found["rmse_low"], found["rmse_high"]) == error_interval(errors, 2, rng)
        assert (found["mae_low"], found["mae_high"]) == error_interval(errors, 1, rng)
        assert 0 <= found["rmse_low"] < found["rmse"]
        assert found["r2"] == pytest.approx(r2_score(labels, written["mean"]), rel=1e-9)
        assert found["rmse_over_std"] == pytest.approx(found["rmse"] / np.std(labels), rel=1e-9)
        low, high = found["rmse_over_std_low"], found["rmse_over_std_high"]
        assert found["r2_high"] == 1 - low**2
        assert found["r2_low"] == (None if high is None else 1 - high**2)
        per_atom = [e / len(pool[n].numbers) for n, e in enumerate(errors)]
        assert found["rmse_per_atom"] == pytest.approx(np.sqrt(np.mean(np.square(per_atom))), rel=1e-12)
        assert found["mae_per_atom"] == pytest.approx(np.mean(np.abs(per_atom)), rel=1e-12)

    def test_energies_of_different_molecules_are_measured_beside_a_sum_over_elements(self):
        """An error of 10 eV is small beside total energies, and as large as all that counting atoms leaves."""
        rng = np.random.default_rng(0)
        counts = rng.integers(1, 5, size=(60, 2))
        structures = StructureSet.from_structures(
            Structure.create([6] * c + [1] * h, rng.normal(size=(c + h, 3)).round(3)) for c, h in counts
        )
        bonds = 10 * rng.normal(size=60)
        data = TrainingData(structures, {"energy": counts @ [-1035.0, -16.0] + bonds})
        nothing_learnt = Prediction({"energy": data.targets["energy"] - bonds})

        def summary(target):
            return summary_of(Evaluated.of(target, data, nothing_learnt), target, np.random.default_rng(0))

        found = summary(TARGETS["energy"])
        assert found["rmse_over_std"] == pytest.approx(1, abs=0.03) and found["r2_low"] < 0
        assert summary(replace(TARGETS["energy"], total_energy=False))["r2"] > 0.999
        rest = bonds - np.linalg.lstsq(counts, bonds, rcond=None)[0] @ counts.T
        assert found["rmse_over_std"] == pytest.approx(np.sqrt(np.mean(bonds**2)) / rest.std(), rel=1e-6)

    def test_the_relative_change_by_hand(self, tmp_path, trained, features, pool):
        conf = configuration()
        before, after = tmp_path / "before", tmp_path / "after"
        before.mkdir()
        after.mkdir()
        few = {n: role for n, role in ROWS.items() if n < 10}
        write_dataset(before / "dataset.h5", pool, few)
        train_model(models_in(conf, features), str(before / "dataset.h5"), str(before / "model.h5"))
        first = self.evaluate(before, before, features, conf)
        second = self.evaluate(after, trained, features, conf, previous=str(before / "predictions.h5"))
        old, new = first["errors"]["test"]["rmse"], second["errors"]["test"]["rmse"]
        assert old != new
        assert second["rrmse"] == pytest.approx(abs(new - old) / new, rel=1e-12)
        # Of six errors that differ much there may be no upper bound.
        assert second["rrmse_high"] is None or 0 <= second["rrmse_low"] < second["rrmse_high"]

    def test_the_same_model_again_changes_nothing(self, tmp_path, trained, features):
        """Paired on the fixed test set: not even the interval opens."""
        self.evaluate(tmp_path, trained, features, configuration())
        (tmp_path / "again").mkdir()
        found = self.evaluate(
            tmp_path / "again", trained, features, configuration(), previous=str(tmp_path / "predictions.h5")
        )
        assert (found["rrmse"], found["rrmse_low"], found["rrmse_high"]) == (0.0, 0.0, 0.0)

    def test_the_same_input_gives_the_same_bytes(self, tmp_path, trained, features):
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            self.evaluate(tmp_path / name, trained, features, configuration())
        for name in ("predictions.h5", "metrics.json"):
            assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()

    def test_cross_validation_predicts_every_label_by_a_model_that_did_not_see_it(
        self, tmp_path, trained, features, pool, monkeypatch
    ):
        monkeypatch.setattr(arm_models, "make_model", lambda *_: MeanModel())
        conf = configuration(validation={"folds": 5}, stop={"metric": "cross_validation", "max_iterations": 2})
        found = self.evaluate(tmp_path, trained, features, conf)
        written = read_predictions(str(tmp_path / "predictions.h5"), "cross_validation")
        ids, labels, means = written["ids"].astype(str), written["label"], written["mean"]
        assert sorted(ids) == sorted(pool.ids[6:18])
        assert labels.tolist() == [energy_of(pool[int(n)]) for n in pool.index_of(ids)]
        folds = [np.flatnonzero(means == value) for value in np.unique(means)]
        assert sorted(len(fold) for fold in folds) == [2, 2, 2, 3, 3]
        for fold in folds:
            assert means[fold[0]] == pytest.approx(np.delete(labels, fold).mean(), rel=1e-14)
        for name, value in by_hand(means - labels).items():
            assert found["errors"]["cross_validation"][name] == pytest.approx(value, rel=1e-12)
        assert found["errors"]["test"]["n"] == 6

    def test_validation_holds_a_share_back(self, tmp_path, trained, features, pool, monkeypatch):
        monkeypatch.setattr(arm_models, "make_model", lambda *_: MeanModel())
        conf = configuration(validation={"fraction": 0.25}, stop={"metric": "validation", "max_iterations": 2})
        found = self.evaluate(tmp_path, trained, features, conf)
        written = read_predictions(str(tmp_path / "predictions.h5"), "validation")
        held = pool.index_of(written["ids"].astype(str))
        assert len(held) == 3 and set(held.tolist()) <= set(range(6, 18))
        rest = [energy_of(pool[n]) for n in range(6, 18) if n not in held]
        assert written["mean"] == pytest.approx(np.full(3, np.mean(rest)), rel=1e-14)
        labels = np.array([energy_of(pool[int(n)]) for n in held])
        for name, value in by_hand(np.mean(rest) - labels).items():
            assert found["errors"]["validation"][name] == pytest.approx(value, rel=1e-9)

    def test_the_split_depends_on_the_labels_and_the_seed_alone(self, tmp_path, trained, features, pool):
        def drawn(rows=ROWS, **keys):
            write_dataset(trained / "dataset.h5", pool, rows)
            conf = configuration(
                validation={"fraction": 0.25}, stop={"metric": "validation", "max_iterations": 2}, **keys
            )
            self.evaluate(tmp_path, trained, features, conf)
            return read_predictions(str(tmp_path / "predictions.h5"), "validation")["ids"].tolist()

        first = drawn()
        assert drawn(dict(reversed(ROWS.items()))) == first
        assert len({tuple(drawn(seed=seed)) for seed in (2, 3, 4)}) == 3

    def test_without_a_test_set(self, tmp_path, pool, features):
        write_dataset(tmp_path / "dataset.h5", pool, dict.fromkeys(range(8), "train"))
        conf = configuration(test={"size": 0}, stop={"rrmse": None, "max_iterations": 2})
        train_model(models_in(conf, features), str(tmp_path / "dataset.h5"), str(tmp_path / "model.h5"))
        found = self.evaluate(tmp_path, tmp_path, features, conf)
        assert found["errors"] == {} and found["n_test"] == 0 and found["rrmse"] == 1.0


def test_components_that_symmetry_makes_zero_say_nothing_of_error_bars():
    """Two thirds of the forces of a diatomic: with them a calibrated model had a third of its errors within 95 % intervals."""
    rng, n = np.random.default_rng(0), 400
    structures = StructureSet.from_structures(
        Structure.create([9, 1], np.array([[0.0, 0.0, 0.0], [0.0, 0.0, r]])) for r in rng.uniform(0.8, 1.1, n)
    )
    forces, std, mean = np.zeros((2 * n, 3)), np.zeros((2 * n, 3)), np.zeros((2 * n, 3))
    forces[:, 2], std[:, 2] = rng.normal(size=2 * n), rng.uniform(0.01, 0.02, 2 * n)
    mean[:, 2] = forces[:, 2] + rng.normal(size=2 * n) * std[:, 2]
    # What a quantum-chemistry program and rounding leave of zero.
    forces[:, :2], std[:, 0] = 1e-7 * rng.normal(size=(2 * n, 2)), 1e-17
    energies = rng.normal(size=n)
    prediction = Prediction({"energy": energies, "forces": mean}, {"energy": np.ones(n), "forces": std})
    data = TrainingData(structures, {"energy": energies, "forces": forces})
    target = TARGETS["energy_forces"]
    found = summary_of(Evaluated.of(target, data, prediction), target, np.random.default_rng(1))
    assert found["forces_coverage_95"] == pytest.approx(0.95, abs=0.025)
    assert found["forces_rms_z"] == pytest.approx(1.0, abs=0.08)
    assert abs(found["forces_rank_correlation"] - stats.spearmanr(np.abs(mean - forces)[:, 2], std[:, 2])[0]) < 1e-9
    # A model that is sure and wrong is not let off.
    std[:, 0], mean[:, 0] = 0.0, 0.1
    found = summary_of(Evaluated.of(target, data, prediction), target, np.random.default_rng(1))
    assert found["forces_coverage_95"] == pytest.approx(0.475, abs=0.02) and found["forces_rms_z"] is None
