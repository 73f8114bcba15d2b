"""Pool, initial batch, candidates, proposal, selection."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from quarry.campaign.batch_table import BatchRow, jobs_of, read_batch
from quarry.campaign.planned import planned_jobs
from quarry.config import Configuration
from quarry.csv_tables import write_dicts
from quarry.descriptors.features_file import read_features
from quarry.errors import QuarryError
from quarry.labeling.ledger import LabelLedger
from quarry.labeling.record import write_records
from quarry.labeling.store import LabelStore
from quarry.models.registry import load_regression
from quarry.randomness import generator
from quarry.stages.batch import batch_rows, draw_initial, read_proposal, select_batch
from quarry.stages.pool import pool_rows
from quarry.stages.proposal import candidate_rows, check_strategy, propose_batch, score_pool
from quarry.stopping.progress import Query
from quarry.structures.files import read_job_input, read_pool_ids
from support.arms import models_in
from support.stages import (
    METHOD_ID,
    PAIRS,
    ROWS,
    SIZE,
    batch_files,
    configuration,
    label_record,
    make_facts,
    planner,
    write_dataset,
    write_failures,
)

INITIAL = [9, 32, 18, 19, 17, 5, 14, 1, 3, 27, 8, 23, 13, 15]


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

    def test_another_version_draws_the_same(self, structures, pool):
        """A campaign of 2026 draws these, whatever has changed since."""
        place = {structure_id: n for n, structure_id in enumerate(pool.ids.tolist())}
        assert [place[row.structure_id] for row in draw_initial(configuration(), structures)] == INITIAL

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


class TestRows:
    def test_drawn_at_first_and_proposed_later(self, structures, pool, tmp_path):
        settings = configuration()
        proposal = tmp_path / "proposal.csv"
        write_dicts(proposal, ["structure_id", "score"], [{"structure_id": pool.ids[3], "score": "0.5"}])
        rows = batch_rows(settings, "main", 0, structures, str(proposal))
        assert rows == draw_initial(settings, structures)
        proposed = batch_rows(settings, "main", 2, structures, str(proposal))
        assert proposed == [BatchRow(pool.ids[3], "train", pool.ids[3], "0.5")]
        assert batch_rows(settings, "main", 2, structures, None) == []

    def test_the_equilibrium_of_a_spectrum_comes_first(self, structures, pool, monkeypatch):
        plain = draw_initial(configuration(), structures)
        monkeypatch.setattr(Configuration, "has_equilibrium", True)
        rows = draw_initial(configuration(), structures)
        train = [row.structure_id for row in rows if row.role == "train"]
        drawn = [row.structure_id for row in plain if row.structure_id != pool.ids[0]]
        assert train[0] == pool.ids[0] and len(train) == 8
        assert [*(row.structure_id for row in rows if row.role == "test"), *train[1:]] == drawn[:13]


class TestSelectBatch:
    @pytest.fixture
    def store(self, tmp_path) -> LabelStore:
        return LabelStore(tmp_path / "label_store", METHOD_ID, {})

    def select(self, folder: Path, rows, structures, store) -> str:
        ledger = LabelLedger(folder / "failed")
        return select_batch(rows, [structures], store, ledger, planner(), batch_files(folder))

    def test_table_leaves_and_stored_labels(self, tmp_path, structures, store, pool):
        rows = draw_initial(configuration(), structures)
        stored = [rows[2].structure_id, rows[9].structure_id]
        for structure_id in stored:
            store.put(label_record(structure_id))
        assert self.select(tmp_path, rows, structures, store) == "14 structures, 2 of them labelled already"
        assert list(read_batch(tmp_path / "batch.csv")) == rows
        assert set(planned_jobs(tmp_path / "planned.csv")) == set(jobs_of(rows))
        for job in jobs_of(rows):
            [job_input] = read_job_input(tmp_path / "batch" / f"{job}.extxyz")
            assert job_input.key == job_input.structure.structure_id == job
        labels = sorted(p.stem for p in (tmp_path / "labels").iterdir())
        assert labels == sorted(stored)
        assert (tmp_path / "reused.csv").read_text().split() == ["structure_id", *stored]
        for structure_id in stored:
            label, job_input = (
                tmp_path / "labels" / f"{structure_id}.json",
                tmp_path / "batch" / f"{structure_id}.extxyz",
            )
            assert label.read_bytes() == store.path(structure_id).read_bytes()
            assert label.stat().st_mtime_ns >= job_input.stat().st_mtime_ns

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
            label, job_input = (
                tmp_path / "labels" / f"{structure_id}.json",
                tmp_path / "batch" / f"{structure_id}.extxyz",
            )
            assert label.stat().st_mtime_ns >= job_input.stat().st_mtime_ns

    def test_a_label_of_another_structure_or_a_damaged_one_does_not_count(self, tmp_path, structures, store):
        *rows, other = draw_initial(configuration(), structures)[:4]
        (tmp_path / "labels").mkdir()
        write_records(tmp_path / "labels" / f"{rows[0].job}.json", [label_record(other.structure_id)])
        foreign = label_record(rows[2].structure_id, method_id="f" * 16)
        write_records(tmp_path / "labels" / f"{rows[2].job}.json", [foreign])
        (tmp_path / "labels" / f"{rows[1].job}.json").write_text("[")
        assert "0 of them labelled already" in self.select(tmp_path, rows, structures, store)
        for row in rows:
            label, job_input = tmp_path / "labels" / f"{row.job}.json", tmp_path / "batch" / f"{row.job}.extxyz"
            assert label.stat().st_mtime_ns <= job_input.stat().st_mtime_ns, "its job must run"

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


def score(folder: Path, trained, structures, features, conf, iteration=1) -> str:
    """Let the trained model score the pool; return the file."""
    files = [str(trained / name) for name in ("dataset.h5", "failures.csv")]
    output = str(folder / "scores.h5")
    models = models_in(conf, features, structures=structures, base=folder)
    score_pool(models, iteration, str(trained / "model.h5"), *files, output)
    return output


def querying(strategy: str, **changes: Any):
    """The configuration with another strategy; changes: further keys of query."""
    batch = {"schedule": "constant", "size": 5}
    ranges = {"search": {"minimum": -2000.0}} if strategy in ("property_search", "expected_gain") else {}
    return configuration(query={"strategy": strategy, "initial": 8, "batch": batch, **changes}, **ranges)


OWN = """
class Chosen:
    needs = ("mean", "embedding", "labelled_embedding", "targets")
    def select(self, pool, n, rng):
        assert len(pool.mean) == len(pool.embedding) == len(pool) and pool.std is None
        assert len(pool.labelled) == len(pool.targets) == len(pool.labelled_embedding)
        return pool.mean.argsort()[:n]
class Needy(Chosen):
    needs = ("votes",)
"""


class TestProposal:
    @pytest.fixture(scope="class")
    @staticmethod
    def scores(trained, structures, features) -> str:
        return score(trained, trained, structures, features, configuration())

    def propose(self, folder: Path, trained, features, conf, scores, iteration=1, **facts) -> list[BatchRow]:
        make_facts(**facts).write(folder / "facts.json")
        propose_batch(
            models_in(conf, features, base=folder),
            iteration,
            str(trained / "dataset.h5"),
            str(trained / "failures.csv"),
            str(folder / "facts.json"),
            scores,
            str(folder / "proposal.csv"),
        )
        return read_proposal(str(folder / "proposal.csv"))

    def test_scores_are_the_models_predictions_for_the_candidates(self, scores, trained, pool, features):
        with h5py.File(scores) as handle:
            assert set(handle) == {"rows", "std"}
            rows, std = handle["rows"][()], handle["std"][()]
        assert rows.tolist() == list(range(18, SIZE))
        prediction = load_regression(trained / "model.h5", "gpr").predict(
            pool.subset(rows), read_features(features)[rows]
        )
        assert np.array_equal(std, prediction.std)

    def test_what_the_query_said_stands_beside_the_proposal(self, tmp_path, scores, trained, features):
        """Of the candidates and of those that were chosen, to the last digit what the scores say."""
        rows = self.propose(tmp_path, trained, features, configuration(), scores)
        said = Query.read(tmp_path / "query.json")
        with h5py.File(scores) as handle:
            order, std = handle["rows"][()].tolist(), handle["std"][()]
        ids = [str(i) for i in read_pool_ids(str(Path(features).with_name("structures.h5")))]
        of = {ids[row]: value for row, value in zip(order, std.tolist(), strict=True)}
        assert (said.strategy, said.candidates, said.unfamiliar) == (configuration().query.strategy, len(std), 0)
        assert [one["structure_id"] for one in said.chosen] == [row.structure_id for row in rows]
        assert all(one["std"] == of[one["structure_id"]] for one in said.chosen)
        found = said.distributions["std"]
        assert found["q95"] == np.quantile(std, 0.95) and found["max"] == std.max() and found["mean"] == std.mean()
        before = (tmp_path / "query.json").read_bytes()
        self.propose(tmp_path, trained, features, configuration(), scores)
        assert (tmp_path / "query.json").read_bytes() == before

    @pytest.mark.parametrize(
        ("conf", "expected"),
        [
            (querying("property_search"), {"mean"}),
            (querying("expected_gain"), {"mean", "std"}),
            (querying("bait"), {"embedding", "labelled_embedding"}),
            (querying("uncertainty_max_min", distance="kernel"), {"std", "embedding", "labelled_embedding"}),
        ],
        ids=lambda c: c.query.strategy if hasattr(c, "query") else "",
    )
    def test_the_model_is_asked_for_what_the_strategy_needs(
        self, tmp_path, trained, structures, features, pool, conf, expected
    ):
        scores = score(tmp_path, trained, structures, features, conf)
        with h5py.File(scores) as handle:
            found = {name: handle[name][()] for name in handle}
        assert set(found) == {"rows", *expected}
        model = load_regression(trained / "model.h5", "gpr")
        if "mean" in expected:
            rows = found["rows"]
            assert np.array_equal(
                found["mean"], model.predict(pool.subset(rows), read_features(features)[rows], with_std=False).mean
            )
        if "embedding" in expected:
            known = [row for row, role in ROWS.items() if role == "train"]
            both = np.concatenate([found["rows"], known])
            rng = generator(conf.seed, "main", 1, "embed")
            maps = model.embed(pool.subset(both), read_features(features)[both], "kernel", rng).astype(np.float32)
            assert np.array_equal(np.concatenate([found["embedding"], found["labelled_embedding"]]), maps)
        rows = self.propose(tmp_path, trained, features, conf, scores)
        assert len({r.structure_id for r in rows} & set(pool.ids[18:].tolist())) == 5
        assert {r.score == "" for r in rows} == {conf.query.strategy in ("property_search", "bait")}

    def test_uncertainty_takes_the_most_uncertain_with_their_scores(self, tmp_path, trained, features, scores, pool):
        rows = self.propose(tmp_path, trained, features, configuration(), scores)
        with h5py.File(scores) as handle:
            std = dict(zip(pool.ids[handle["rows"][()]].tolist(), handle["std"][()].tolist(), strict=True))
        expected = sorted(std, key=lambda structure_id: -std[structure_id])[:5]
        assert [r.structure_id for r in rows] == expected
        assert [float(r.score) for r in rows] == [std[i] for i in expected]
        assert {(r.role, r.job == r.structure_id) for r in rows} == {("train", True)}

    @pytest.mark.parametrize("strategy", ["random", "clusters", "max_min"])
    def test_strategies_without_scores(self, tmp_path, trained, features, strategy, pool):
        conf = querying(strategy)
        rows = self.propose(tmp_path, trained, features, conf, None)
        assert len({r.structure_id for r in rows}) == 5
        assert {r.structure_id for r in rows} <= set(pool.ids[18:].tolist())
        assert {r.score for r in rows} == {""}
        assert self.propose(tmp_path, trained, features, conf, None) == rows

    def test_max_min_keeps_away_from_training_structures_not_from_the_test_set(self, tmp_path, trained, features, pool):
        rows = self.propose(tmp_path, trained, features, querying("max_min"), None)
        every = read_features(features)
        known = [row for row, role in ROWS.items() if role == "train"]
        expected = []
        for _ in range(5):
            far = {i: min(np.linalg.norm(every[i] - every[j]) for j in known) for i in range(18, SIZE)}
            expected.append(max(far, key=lambda i: far[i]))
            known.append(expected[-1])
        assert [r.structure_id for r in rows] == pool.ids[expected].tolist()

    def test_a_strategy_of_the_users_own(self, tmp_path, trained, structures, features, pool, monkeypatch):
        monkeypatch.setattr(sys, "path", list(sys.path))
        (tmp_path / "my_strategy.py").write_text(OWN)
        conf = querying("my_strategy:Chosen")
        check_strategy(conf, tmp_path)
        rows = self.propose(tmp_path, trained, features, conf, score(tmp_path, trained, structures, features, conf))
        left = list(range(18, SIZE))
        mean = (
            load_regression(trained / "model.h5", "gpr").predict(pool.subset(left), read_features(features)[left]).mean
        )
        assert {r.structure_id for r in rows} == set(pool.ids[18:][np.argsort(mean)[:5]].tolist())
        with pytest.raises(QuarryError, match="my_strategy:Needy of arm main needs classes as target"):
            check_strategy(querying("my_strategy:Needy"), tmp_path)
        with pytest.raises(
            QuarryError, match=r"query\.min_informativeness: my_strategy:Chosen of arm main has no methods"
        ):
            check_strategy(querying("my_strategy:Chosen", min_informativeness=1.0), tmp_path)

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
