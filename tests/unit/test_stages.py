"""The stages between labels: drawing, writing a batch down, proposing, evaluating, accounting, the product."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import ase.io
import h5py
import numpy as np
import pytest
from ase import Atoms

from quarry.campaign.batch_table import BatchRow, jobs_of, read_batch
from quarry.campaign.receipts import write_receipt
from quarry.config import Configuration, load_configuration
from quarry.errors import QuarryError
from quarry.files import write_json
from quarry.labeling.record import LabelRecord, write_records
from quarry.labeling.store import LabelStore
from quarry.models.base import Prediction
from quarry.models.registry import load_model
from quarry.stages import learning
from quarry.stages.assessment import account_cost, assess_iteration, progress_line
from quarry.stages.batch import draw_initial, read_proposal, select_batch
from quarry.stages.learning import evaluate_model, read_predictions, train_model, training_data
from quarry.stages.merging import FAILURE_COLUMNS
from quarry.stages.pool import build_features, build_pool, pool_rows, read_features
from quarry.stages.proposal import candidate_rows, propose_batch, score_pool
from quarry.stages.results import HISTORY_COLUMNS, collect_results, history_rows
from quarry.stopping.facts import Cost, Facts
from quarry.structures.files import read_leaf, read_pool
from quarry.structures.labelled import LabelledSet
from support.campaigns import WATER, stand_in_configuration

SIZE = 40
METHOD_ID = "0123456789abcdef"


def configuration(**changes: Any) -> Configuration:
    """Test set of 6, initial batch of 8, batches of 5, on a pool of 40."""
    defaults: dict[str, Any] = {
        "query": {"strategy": "uncertainty", "initial": 8, "batch": {"schedule": "constant", "size": 5}},
        "test": {"size": 6},
        "model": {"restarts": 0},
    }
    return load_configuration(stand_in_configuration(**{**defaults, **changes}), "campaign.yaml")


@pytest.fixture(scope="module")
def pool_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pool")
    rng = np.random.default_rng(1)
    frames = [Atoms("OHH", WATER + rng.normal(0, 0.08, (3, 3))) for _ in range(SIZE)]
    ase.io.write(folder / "pool.extxyz", [*frames, frames[3]])
    line = build_pool(configuration(), folder, None, str(folder / "structures.h5"), str(folder / "reference.extxyz"))
    assert line == f"pool: {SIZE} structures, 1 duplicates dropped"
    build_features(
        str(folder / "structures.h5"),
        str(folder / "reference.extxyz"),
        "inverse_distances",
        str(folder / "features.h5"),
    )
    return folder


@pytest.fixture(scope="module")
def structures(pool_folder) -> str:
    return str(pool_folder / "structures.h5")


@pytest.fixture(scope="module")
def features(pool_folder) -> str:
    return str(pool_folder / "features.h5")


@pytest.fixture(scope="module")
def pool(structures):
    return read_pool(structures)


def energy_of(structure) -> float:
    bond = np.linalg.norm(structure.positions[1:] - structure.positions[0], axis=1)
    return float(-2000 + 5 * np.sum((bond - 0.96) ** 2))


def write_dataset(path: Path, pool, rows: dict[int, str], **changes: Any) -> str:
    """A data set of pool rows with their roles."""
    chosen = [pool[i] for i in rows]
    properties = [{"energy": energy_of(s), **changes} for s in chosen]
    LabelledSet.from_records(chosen, list(rows.values()), [0] * len(rows), properties).write(path, {})
    return str(path)


def write_failures(path: Path, ids: list[str]) -> str:
    with open(path, "w", newline="") as handle:
        writer = csv.DictWriter(handle, FAILURE_COLUMNS)
        writer.writeheader()
        writer.writerows([{**dict.fromkeys(FAILURE_COLUMNS, ""), "structure_id": i} for i in ids])
    return str(path)


ROWS = {n: "test" if n < 6 else "train" for n in range(18)}
"""Six test and twelve training structures."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory, pool, features) -> Path:
    """A folder with a data set, no failures, and a model."""
    folder = tmp_path_factory.mktemp("trained")
    write_dataset(folder / "dataset.h5", pool, ROWS)
    write_failures(folder / "failures.csv", [])
    line = train_model(configuration(), "main", 1, str(folder / "dataset.h5"), features, str(folder / "model.h5"))
    assert line == "gpr trained on 12 labels"
    return folder


def make_facts(t: int = 0, **changes: Any) -> Facts:
    values: dict[str, Any] = {
        "arm": "main",
        "iteration": t,
        "phase": "query" if t else "initial",
        "n_train": 12,
        "n_test": 6,
        "n_labels": 18,
        "n_failed": 0,
        "pool_size": SIZE,
        "pool_left": SIZE - 18,
        "target": "energy",
        "metric": "test",
        "errors": {},
        "rrmse": 1.0,
        "rrmse_low": 1.0,
        "rrmse_high": 1.0,
    }
    return Facts(**{**values, **changes})


PAIRS = [(0, 1), (0, 2), (1, 2)]


class TestPool:
    def test_features_of_some_rows_come_in_their_order(self, features):
        everything = read_features(features)
        assert everything.shape == (SIZE, 3)
        rows = np.array([7, 0, 39, 12])
        assert np.array_equal(read_features(features, rows), everything[rows])
        assert read_features(features, np.array([], dtype=np.int64)).shape == (0, 3)

    def test_features_are_ratios_to_the_reference(self, features, pool):
        """r_eq / r of every pair; the reference of a file pool is its first structure."""
        assert read_features(features)[0] == pytest.approx(np.ones(3))
        first, other = pool[0].positions, pool[9].positions
        expected = [np.linalg.norm(first[i] - first[j]) / np.linalg.norm(other[i] - other[j]) for i, j in PAIRS]
        assert sorted(read_features(features)[9]) == pytest.approx(sorted(expected), rel=1e-12)

    def test_rows_by_id(self, features, pool):
        assert pool_rows(features, pool.ids[[5, 2]]).tolist() == [5, 2]
        with pytest.raises(QuarryError, match="is not in the pool"):
            pool_rows(features, np.array(["absent"]))


class TestInitial:
    def test_it_is_deterministic_and_test_and_training_are_disjoint(self, structures, pool):
        rows = draw_initial(configuration(), structures)
        assert rows == draw_initial(configuration(), structures)
        assert [r.role for r in rows] == ["test"] * 6 + ["train"] * 8
        assert len({r.structure_id for r in rows}) == 14
        assert {r.structure_id for r in rows} <= set(pool.ids.tolist())
        assert all(r.job == r.structure_id and r.score == "" for r in rows)

    def test_it_is_the_same_for_every_arm_and_strategy(self, structures):
        """Seeds of arms, strategies and models play no part."""
        other = configuration(
            query={"strategy": "random", "initial": 8, "batch": {"schedule": "doubling", "size": 2}},
            arms={"other": {"seed": 99}},
        )
        assert draw_initial(other, structures) == draw_initial(configuration(), structures)

    def test_the_test_set_does_not_depend_on_the_initial_batch(self, structures):
        small = configuration(query={"strategy": "random", "initial": 2, "batch": {"schedule": "constant", "size": 2}})
        assert draw_initial(small, structures)[:6] == draw_initial(configuration(), structures)[:6]

    def test_another_seed_draws_another_batch(self, structures):
        drawn = {tuple(draw_initial(configuration(seed=seed), structures)) for seed in range(5)}
        assert len(drawn) == 5

    def test_the_draw_is_uniform(self, structures, pool):
        """Every structure is drawn 14 / 40 of the time: 300 seeds, five standard deviations."""
        counts = dict.fromkeys(pool.ids.tolist(), 0)
        for seed in range(300):
            for row in draw_initial(configuration(seed=seed), structures):
                counts[row.structure_id] += 1
        spread = 5 * np.sqrt(300 * 0.35 * 0.65)
        assert all(abs(count - 105) < spread for count in counts.values())

    def test_the_whole_pool_and_more(self, structures):
        exact = configuration(test={"size": 32})
        assert len(draw_initial(exact, structures)) == SIZE
        with pytest.raises(QuarryError, match=r"query.initial \+ test.size = 41 is more than the pool's 40 structures"):
            draw_initial(configuration(test={"size": 33}), structures)


def label_record(structure_id: str, **changes: Any) -> LabelRecord:
    values: dict[str, Any] = {
        "structure_id": structure_id,
        "method_id": METHOD_ID,
        "method": {},
        "status": "ok",
        "message": "",
        "properties": {"energy": 1.0},
        "attempts": [],
        "cost": {"wall_s": 36.0, "cpu_s": 70.0, "threads": 2, "peak_memory_MB": 1.0},
        "origin": {"campaign_id": "mine", "campaign": "toy", "arm": "main", "iteration": 1},
        "host": "here",
        "versions": {},
        "finished": "now",
    }
    return LabelRecord(**{**values, **changes})


class TestSelectBatch:
    @pytest.fixture
    def store(self, tmp_path) -> LabelStore:
        return LabelStore(tmp_path / "label_store", METHOD_ID, {})

    def select(self, folder: Path, rows, structures, store) -> str:
        return select_batch(
            rows,
            structures,
            store,
            table=str(folder / "batch.csv"),
            folder=str(folder / "batch"),
            labels=str(folder / "labels"),
            reused=str(folder / "reused.csv"),
        )

    def test_table_leaves_and_stored_labels(self, tmp_path, structures, store, pool):
        rows = draw_initial(configuration(), structures)
        stored = [rows[2].structure_id, rows[9].structure_id]
        for structure_id in stored:
            store.put(label_record(structure_id))
        assert self.select(tmp_path, rows, structures, store) == "14 structures, 2 of them labelled already"
        assert list(read_batch(tmp_path / "batch.csv")) == rows
        for job in jobs_of(rows):
            [leaf] = read_leaf(tmp_path / "batch" / f"{job}.extxyz")
            assert leaf.structure_id == job
        labels = sorted(p.stem for p in (tmp_path / "labels").iterdir())
        assert labels == sorted(stored)
        assert (tmp_path / "reused.csv").read_text().split() == ["structure_id", *stored]
        for structure_id in stored:
            label, leaf = tmp_path / "labels" / f"{structure_id}.json", tmp_path / "batch" / f"{structure_id}.extxyz"
            assert label.read_bytes() == store.path(structure_id).read_bytes()
            assert label.stat().st_mtime_ns >= leaf.stat().st_mtime_ns

    def test_finished_labels_stay_and_count_as_done_when_the_batch_is_written_again(self, tmp_path, structures, store):
        rows = draw_initial(configuration(), structures)
        self.select(tmp_path, rows, structures, store)
        table = (tmp_path / "batch.csv").read_bytes()
        finished, failed = rows[0].structure_id, rows[1].structure_id
        write_records(tmp_path / "labels" / f"{finished}.json", [label_record(finished)])
        write_records(tmp_path / "labels" / f"{failed}.json", [label_record(failed, status="out_of_time")])
        content = (tmp_path / "labels" / f"{finished}.json").read_bytes()
        for structure_id in (finished, failed):
            os.utime(tmp_path / "labels" / f"{structure_id}.json", (1, 1))
        assert "2 of them labelled already" in self.select(tmp_path, rows, structures, store)
        assert (tmp_path / "batch.csv").read_bytes() == table
        assert (tmp_path / "labels" / f"{finished}.json").read_bytes() == content
        for structure_id in (finished, failed):
            label, leaf = tmp_path / "labels" / f"{structure_id}.json", tmp_path / "batch" / f"{structure_id}.extxyz"
            assert label.stat().st_mtime_ns >= leaf.stat().st_mtime_ns

    def test_a_label_of_another_structure_or_a_damaged_one_does_not_count(self, tmp_path, structures, store):
        rows = draw_initial(configuration(), structures)[:3]
        (tmp_path / "labels").mkdir()
        write_records(tmp_path / "labels" / f"{rows[0].job}.json", [label_record(rows[1].structure_id)])
        (tmp_path / "labels" / f"{rows[1].job}.json").write_text("[")
        assert "0 of them labelled already" in self.select(tmp_path, rows, structures, store)
        for row in rows[:2]:
            label, leaf = tmp_path / "labels" / f"{row.job}.json", tmp_path / "batch" / f"{row.job}.extxyz"
            assert label.stat().st_mtime_ns <= leaf.stat().st_mtime_ns, "its job must run"

    def test_a_damaged_batch_table_is_seen(self, tmp_path, structures, store):
        self.select(tmp_path, draw_initial(configuration(), structures), structures, store)
        text = (tmp_path / "batch.csv").read_text()
        for damaged in ("", text.replace("role", "rule"), text[:-30]):
            (tmp_path / "batch.csv").write_text(damaged)
            with pytest.raises(ValueError, match="damaged batch table"):
                read_batch(tmp_path / "batch.csv")


class TestCandidates:
    def test_neither_labelled_nor_failed_ones(self, tmp_path, pool, features):
        dataset = write_dataset(tmp_path / "d.h5", pool, {3: "train", 39: "test", 17: "train"})
        failures = write_failures(tmp_path / "f.csv", [str(pool.ids[0]), str(pool.ids[20])])
        expected = [n for n in range(SIZE) if n not in (3, 39, 17, 0, 20)]
        assert candidate_rows(features, dataset, failures).tolist() == expected

    def test_without_failures(self, trained, features):
        rows = candidate_rows(features, str(trained / "dataset.h5"), str(trained / "failures.csv"))
        assert rows.tolist() == list(range(18, SIZE))

    def test_a_foreign_label_is_refused(self, tmp_path, pool, features):
        dataset = write_dataset(tmp_path / "d.h5", pool, {3: "train"})
        with pytest.raises(QuarryError, match="not in the pool"):
            candidate_rows(features, dataset, write_failures(tmp_path / "f.csv", ["absent"]))


class TestProposal:
    @pytest.fixture(scope="class")
    @staticmethod
    def scores(trained, structures, features) -> str:
        files = [str(trained / name) for name in ("dataset.h5", "failures.csv", "scores.h5")]
        score_pool(str(trained / "model.h5"), structures, features, *files)
        return files[2]

    def propose(self, folder: Path, trained, features, conf, scores, iteration=1, **facts) -> list[BatchRow]:
        make_facts(**facts).write(folder / "facts.json")
        propose_batch(
            conf,
            "main",
            iteration,
            features,
            str(trained / "dataset.h5"),
            str(trained / "failures.csv"),
            str(folder / "facts.json"),
            scores,
            str(folder / "proposal.csv"),
        )
        return read_proposal(str(folder / "proposal.csv"))

    def test_scores_are_the_models_predictions_for_the_candidates(self, scores, trained, pool, features):
        with h5py.File(scores) as handle:
            rows, mean, std = (handle[name][()] for name in ("rows", "mean", "std"))
        assert rows.tolist() == list(range(18, SIZE))
        prediction = load_model(trained / "model.h5").predict(pool.subset(rows), read_features(features)[rows])
        assert np.array_equal(mean, prediction.mean) and np.array_equal(std, prediction.std)

    def test_uncertainty_takes_the_most_uncertain_with_their_scores(self, tmp_path, trained, features, scores, pool):
        rows = self.propose(tmp_path, trained, features, configuration(), scores)
        with h5py.File(scores) as handle:
            std = dict(zip(pool.ids[handle["rows"][()]].tolist(), handle["std"][()].tolist(), strict=True))
        expected = sorted(std, key=lambda structure_id: -std[structure_id])[:5]
        assert [r.structure_id for r in rows] == expected
        assert [float(r.score) for r in rows] == [std[i] for i in expected]
        assert {(r.role, r.job == r.structure_id) for r in rows} == {("train", True)}

    @pytest.mark.parametrize("strategy", ["random", "clusters"])
    def test_strategies_without_scores(self, tmp_path, trained, features, strategy, pool):
        conf = configuration(query={"strategy": strategy, "initial": 8, "batch": {"schedule": "constant", "size": 5}})
        rows = self.propose(tmp_path, trained, features, conf, None)
        assert len({r.structure_id for r in rows}) == 5
        assert {r.structure_id for r in rows} <= set(pool.ids[18:].tolist())
        assert {r.score for r in rows} == {""}
        assert self.propose(tmp_path, trained, features, conf, None) == rows

    def test_iterations_and_seeds_draw_differently(self, tmp_path, trained, features):
        conf = configuration(query={"strategy": "random", "initial": 8, "batch": {"schedule": "constant", "size": 5}})
        drawn = {tuple(self.propose(tmp_path, trained, features, conf, None, iteration=t)) for t in (1, 2, 3)}
        other = conf.model_copy(update={"seed": 4})
        drawn.add(tuple(self.propose(tmp_path, trained, features, other, None)))
        assert len(drawn) == 4

    @pytest.mark.parametrize(("limit", "size"), [(18 + 3, 3), (18 + 5, 5), (18 + 50, 5), (18, 0), (17, 0)])
    def test_the_budget_of_labels_is_kept_exactly(self, tmp_path, trained, features, scores, limit, size):
        conf = configuration(stop={"max_labels": limit})
        assert len(self.propose(tmp_path, trained, features, conf, scores)) == size

    def test_no_more_than_the_pool_has_left(self, tmp_path, trained, features, scores):
        query = {"strategy": "uncertainty", "initial": 8, "batch": {"schedule": "constant", "size": 500}}
        rows = self.propose(tmp_path, trained, features, configuration(query=query), scores)
        assert len(rows) == len({r.structure_id for r in rows}) == SIZE - 18

    def test_the_schedule_sees_training_labels_only(self, tmp_path, trained, features, scores):
        query = {"strategy": "uncertainty", "initial": 8, "batch": {"schedule": "fraction", "fraction": 0.5}}
        assert len(self.propose(tmp_path, trained, features, configuration(query=query), scores)) == 6


class TestTraining:
    def test_only_training_labels_are_learnt(self, trained, tmp_path, pool, features):
        """Other test labels, the same model."""
        LabelledSet.from_records(
            [pool[i] for i in ROWS],
            list(ROWS.values()),
            [0] * len(ROWS),
            [{"energy": energy_of(pool[i]) + (100 if ROWS[i] == "test" else 0)} for i in ROWS],
        ).write(tmp_path / "d.h5", {})
        train_model(configuration(), "main", 1, str(tmp_path / "d.h5"), features, str(tmp_path / "m" / "model.h5"))
        assert (tmp_path / "m" / "model.h5").read_bytes() == (trained / "model.h5").read_bytes()

    def test_labels_without_the_target_are_left_out(self, tmp_path, pool, features):
        properties = [{"energy": 1.0, "lumo": None if n % 3 else float(n)} for n in range(9)]
        labelled = LabelledSet.from_records([pool[n] for n in range(9)], ["train"] * 9, [0] * 9, properties)
        data = training_data(labelled, "train", features, "lumo")
        assert data.targets.tolist() == [0.0, 3.0, 6.0]
        assert data.structures.ids.tolist() == pool.ids[[0, 3, 6]].tolist()
        assert np.array_equal(data.features, read_features(features)[[0, 3, 6]])

    def test_a_target_that_no_label_has_is_one_line(self, trained, features):
        labelled = LabelledSet.read(trained / "dataset.h5")
        with pytest.raises(QuarryError, match="the labels hold no gap; they hold energy"):
            training_data(labelled, "train", features, "gap")

    def test_nothing_to_train_on_is_one_line(self, tmp_path, pool, features):
        dataset = write_dataset(tmp_path / "d.h5", pool, {0: "test", 1: "test"})
        with pytest.raises(QuarryError, match="no training label succeeded"):
            train_model(configuration(), "main", 0, dataset, features, str(tmp_path / "model.h5"))


class MeanModel:
    """Predicts the mean of its training targets: what a fold was trained on can be told from its predictions."""

    def fit(self, data, validation, rng):
        self.value = float(np.mean(data.targets))

    def predict(self, structures, features):
        return Prediction(np.full(len(structures), self.value), None)


def by_hand(errors: np.ndarray) -> dict[str, float]:
    return {
        "rmse": float(np.sqrt((errors**2).sum() / len(errors))),
        "mae": float(np.abs(errors).sum() / len(errors)),
        "maxe": float(np.abs(errors).max()),
        "n": len(errors),
    }


class TestEvaluation:
    def evaluate(self, folder: Path, trained: Path, features, conf, previous=None, iteration=1) -> dict[str, Any]:
        evaluate_model(
            conf,
            "main",
            iteration,
            str(trained / "model.h5"),
            str(trained / "dataset.h5"),
            features,
            previous,
            str(folder / "predictions.h5"),
            str(folder / "metrics.json"),
        )
        found: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
        return found

    def test_of_the_test_set_by_hand(self, tmp_path, trained, features, pool):
        found = self.evaluate(tmp_path, trained, features, configuration())
        rows = list(range(6))
        predicted = load_model(trained / "model.h5").predict(pool.subset(rows), read_features(features)[rows])
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
        assert read_predictions(str(tmp_path / "predictions.h5"), "validation") is None

    def test_the_bootstrap_interval_is_that_of_resampled_errors(self, tmp_path, trained, features):
        """Against scipy's bootstrap with its own random numbers."""
        from scipy.stats import bootstrap

        found = self.evaluate(tmp_path, trained, features, configuration())["errors"]["test"]
        written = read_predictions(str(tmp_path / "predictions.h5"), "test")
        errors = written["mean"] - written["label"]
        for name, statistic in {
            "rmse": lambda e, axis: np.sqrt(np.mean(e**2, axis=axis)),
            "mae": lambda e, axis: np.mean(np.abs(e), axis=axis),
        }.items():
            interval = bootstrap(
                (errors,), statistic, method="percentile", n_resamples=20_000, rng=np.random.default_rng(0)
            ).confidence_interval
            width = interval.high - interval.low
            assert found[f"{name}_low"] == pytest.approx(interval.low, abs=0.1 * width)
            assert found[f"{name}_high"] == pytest.approx(interval.high, abs=0.1 * width)

    def test_the_relative_change_by_hand(self, tmp_path, trained, features, pool):
        conf = configuration()
        before, after = tmp_path / "before", tmp_path / "after"
        before.mkdir()
        after.mkdir()
        few = {n: role for n, role in ROWS.items() if n < 10}
        write_dataset(before / "dataset.h5", pool, few)
        train_model(conf, "main", 0, str(before / "dataset.h5"), features, str(before / "model.h5"))
        first = self.evaluate(before, before, features, conf, iteration=0)
        second = self.evaluate(after, trained, features, conf, previous=str(before / "predictions.h5"))
        old, new = first["errors"]["test"]["rmse"], second["errors"]["test"]["rmse"]
        assert old != new
        assert second["rrmse"] == pytest.approx(abs(new - old) / new, rel=1e-12)
        assert 0 <= second["rrmse_low"] < second["rrmse_high"]

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
        monkeypatch.setattr(learning, "make_model", lambda settings, target: MeanModel())
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
        monkeypatch.setattr(learning, "make_model", lambda settings, target: MeanModel())
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

    def test_each_iteration_splits_anew_and_the_same_way_on_a_restart(self, tmp_path, trained, features):
        conf = configuration(validation={"fraction": 0.25}, stop={"metric": "validation", "max_iterations": 2})
        drawn = []
        for t in (1, 2, 3, 1):
            self.evaluate(tmp_path, trained, features, conf, iteration=t)
            drawn.append(tuple(read_predictions(str(tmp_path / "predictions.h5"), "validation")["ids"].tolist()))
        assert drawn[3] == drawn[0] and len(set(drawn)) == 3

    def test_without_a_test_set(self, tmp_path, pool, features):
        write_dataset(tmp_path / "dataset.h5", pool, dict.fromkeys(range(8), "train"))
        conf = configuration(test={"size": 0}, stop={"rrmse": None, "max_iterations": 2})
        train_model(conf, "main", 0, str(tmp_path / "dataset.h5"), features, str(tmp_path / "model.h5"))
        found = self.evaluate(tmp_path, tmp_path, features, conf, iteration=0)
        assert found["errors"] == {} and found["n_test"] == 0 and found["rrmse"] == 1.0


class TestFacts:
    def test_sizes_and_what_the_metrics_said(self, tmp_path):
        errors = {"test": {"rmse": 0.0213, "rmse_low": 0.01, "rmse_high": 0.03}}
        changes = {"rrmse": 0.5, "rrmse_low": 0.1, "rrmse_high": 0.9}
        counts = {"n_train": 12, "n_test": 6, "n_labels": 18}
        write_json(tmp_path / "m.json", {**counts, **changes, "errors": errors, "hyperparameters": {"a": 1.0}})
        failures = write_failures(tmp_path / "f.csv", ["a", "b"])
        arguments = (str(tmp_path / "m.json"), failures, SIZE, str(tmp_path / "facts.json"))
        found = assess_iteration(configuration(), "main", 2, *arguments)
        assert Facts.read(tmp_path / "facts.json") == found
        assert (found.n_failed, found.pool_size, found.pool_left) == (2, SIZE, SIZE - 18 - 2)
        assert (found.phase, found.iteration, found.rmse, found.rrmse) == ("query", 2, 0.0213, 0.5)
        assert assess_iteration(configuration(), "main", 0, *arguments).phase == "initial"

    @pytest.mark.parametrize(
        ("facts", "line"),
        [
            ({}, "main iteration 0: 12 training labels (3 new, 2 reused)"),
            (
                {"errors": {"test": {"rmse": 0.05, "rmse_low": 0.04, "rmse_high": 0.0612}}, "n_failed": 2},
                "main iteration 0: 12 training labels, 2 failed; test RMSE 50 meV (95 %: 40 to 61.2); rRMSE 1.0",
            ),
            (
                {
                    "t": 3,
                    "errors": {"test": {"rmse": 0.5, "rmse_low": 0.4, "rmse_high": 0.6}},
                    "rrmse": 0.25,
                    "rrmse_low": 0.125,
                },
                "main iteration 3: 12 training labels; test RMSE 0.5 eV (95 %: 0.4 to 0.6); rRMSE 0.250 (0.125 to 1.000)",
            ),
            (
                {"target": "dipole", "errors": {"test": {"rmse": 0.05, "rmse_low": 0.04, "rmse_high": 0.06}}},
                "main iteration 0: 12 training labels; test RMSE 50 me*Angstrom (95 %: 40 to 60); rRMSE 1.0",
            ),
        ],
    )
    def test_the_line_in_the_terminal(self, facts, line):
        assert progress_line(make_facts(**facts), Cost(3, 2, 0, 0.0, 0.0, 0.0, 0.0)) == line


MANIFEST = {"campaign_id": "mine"}


class TestCost:
    def account(self, folder: Path, records: list[LabelRecord], receipts: dict[str, dict] | None = None) -> Cost:
        labels = []
        for number, record in enumerate(records):
            labels.append(str(folder / f"{number}.json"))
            write_records(labels[-1], [record])
        for rule, cost in (receipts or {}).items():
            write_receipt(folder / "receipts" / f"{rule}.json", rule, [], cost)
        found = account_cost(MANIFEST, "main", 1, labels, [folder / "receipts"], str(folder / "cost.json"))
        assert Cost.read(folder / "cost.json") == found
        return found

    def test_new_reused_and_failed_labels(self, tmp_path):
        """Each label costs 36 s on 2 threads: 0.02 core-hours."""
        origin = label_record("x").origin
        records = [
            label_record("a"),
            label_record("b"),
            label_record("c", status="out_of_time"),
            label_record("d", origin={**origin, "arm": "random"}),
            label_record("e", origin={**origin, "iteration": 0}),
            label_record("f", origin={**origin, "campaign_id": "another"}),
            label_record("g", origin={}),
        ]
        found = self.account(tmp_path, records)
        assert (found.labels_new, found.labels_reused, found.labels_failed) == (2, 4, 1)
        assert found.label_core_hours == pytest.approx(3 * 0.02)
        assert found.campaign_label_core_hours == pytest.approx(5 * 0.02)
        assert found.label_cpu_s == pytest.approx(210)

    def test_core_hours_of_models_are_those_of_the_receipts_but_bookkeeping(self, tmp_path):
        jobs = {
            "train_model": {"wall_s": 1800.0, "threads": 4},
            "evaluate_model": {"wall_s": 900.0, "threads": 2},
            "select_batch": {"wall_s": 3600.0, "threads": 1},
            "merge_labels": {"wall_s": 3600.0, "threads": 1},
            "assess_iteration": {"wall_s": 3600.0, "threads": 1},
        }
        assert self.account(tmp_path, [], jobs).train_core_hours == pytest.approx(2.5)

    def test_a_damaged_record_is_refused(self, tmp_path):
        (tmp_path / "a.json").write_text("[")
        with pytest.raises(QuarryError, match="damaged label record"):
            account_cost(MANIFEST, "main", 1, [str(tmp_path / "a.json")], [], str(tmp_path / "cost.json"))
        assert not (tmp_path / "cost.json").exists()


FACTS = [
    make_facts(0, errors={"test": {"rmse": 0.5, "mae": 0.25, "maxe": 1.0}}),
    make_facts(1, errors={"test": {"rmse": 1 / 3, "mae": 0.125, "maxe": 0.5}}, rrmse=0.5, n_labels=23),
]
COSTS = [Cost(8, 1, 0, 0.5, 0.75, 0.25, 1.0), Cost(5, 0, 2, 0.25, 0.25, 0.125, 1.0)]


class TestProduct:
    def test_history(self):
        first, last = history_rows(FACTS, COSTS, "enough")
        assert tuple(first) == tuple(last) == HISTORY_COLUMNS
        assert (first["iteration"], first["phase"], first["rmse"], first["n_labels"]) == ("0", "initial", "0.5", "18")
        assert (last["iteration"], last["phase"], last["rmse"], last["n_labels"]) == (
            "1",
            "query",
            "0.3333333333",
            "23",
        )
        assert (first["labels_new"], first["labels_reused"], last["labels_failed"]) == ("8", "1", "2")
        assert (first["stop_reason"], last["stop_reason"]) == ("", "enough")
        # Costs add up over iterations: what the campaign paid for the labels used, and the models.
        assert [float(row["core_hours_total"]) for row in (first, last)] == [1.0, 1.375]
        assert (first["label_core_hours"], last["train_core_hours"]) == ("0.5", "0.125")
        assert first["mae_low"] == ""

    def test_errors_are_those_of_the_stop_metric(self):
        errors = {"test": {"rmse": 9.0}, "validation": {"rmse": 0.5}}
        [row] = history_rows([make_facts(metric="validation", errors=errors)], COSTS[:1], "")
        assert (row["metric"], row["rmse"]) == ("validation", "0.5")

    def test_facts_and_costs_must_be_of_the_same_iterations(self):
        with pytest.raises(ValueError, match="zip"):
            history_rows(FACTS, COSTS[:1], "")

    def test_collect_results(self, tmp_path, trained):
        files = []
        for f, c in zip(FACTS, COSTS, strict=True):
            folder = tmp_path / f"iter_{f.iteration:03d}"
            f.write(folder / "facts.json")
            c.write(folder / "cost.json")
            files.append(str(folder / "facts.json"))
        names = {"history": "history.csv", "failures": "failures.csv", "dataset": "dataset.h5"}
        names |= {"extxyz": "dataset.extxyz", "model": "model.h5"}
        output = {key: str(tmp_path / name) for key, name in names.items()}
        last = {key: str(trained / names[key]) for key in ("dataset", "failures", "model")}
        collect_results(files, "enough, said the rule", last, output)
        with open(output["history"], newline="") as handle:
            assert list(csv.DictReader(handle)) == history_rows(FACTS, COSTS, "enough, said the rule")
        for key, source in last.items():
            assert Path(output[key]).read_bytes() == Path(source).read_bytes()
        labelled = LabelledSet.read(output["dataset"])
        energies = [atoms.get_potential_energy() for atoms in ase.io.read(output["extxyz"], index=":")]
        assert energies == pytest.approx(labelled.properties["energy"].tolist(), rel=1e-12)
