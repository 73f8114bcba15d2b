"""A potential in the loop's stages, where pool and test set hold elements that no training label has."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest

from quarry.campaign.batch_table import BatchRow
from quarry.config import Configuration
from quarry.errors import QuarryError
from quarry.models.gmnn.auxiliary import AuxiliaryProcess
from quarry.stages.arm_models import ArmModels
from quarry.stages.batch import read_proposal
from quarry.stages.evaluation import EvaluationFiles, evaluate_model
from quarry.stages.proposal import propose_batch, score_pool
from quarry.stages.training import train_model
from quarry.stopping.progress import Query
from quarry.structures import Structure, StructureSet
from quarry.structures.files import read_pool, read_pool_ids, write_pool
from quarry.structures.labelled import LabelledSet
from support.potentials import SMALL, toy, toy_data
from support.stages import configuration, make_facts, write_failures

N_TEST, N_TRAIN, N_LEFT = 6, 12, 10


def strange(count: int) -> list[Structure]:
    """Chlorine, which no training label has."""
    return [Structure.create([17, 1], np.array([[0, 0, 0], [0, 0, 1.3 + 0.01 * n]])) for n in range(count)]


def campaign(**changes) -> Configuration:
    query = {"strategy": "lcmd", "initial": 8, "batch": {"schedule": "constant", "size": 5}, **changes.pop("query", {})}
    small = {**SMALL, "epochs": 3, "uncertainty": changes.pop("uncertainty", "none")}
    return configuration(target="energy_forces", model=small, query=query, descriptor=None, **changes)


@pytest.fixture
def files(tmp_path) -> dict[str, str]:
    """Water and methane, two of six test structures and four of 14 candidates with chlorine; a trained model."""
    structures = [*toy_data(N_TEST - 2).structures, *strange(2)]
    structures += [*toy_data(N_TRAIN + N_LEFT, seed=2).structures, *strange(6)[2:]]
    pool = StructureSet.from_structures(structures)
    write_pool(tmp_path / "structures.h5", pool)
    roles = ["test"] * N_TEST + ["train"] * N_TRAIN
    labels = [
        dict(zip(("energy", "forces"), toy(s) if 17 not in s.numbers else (1.0, np.zeros((2, 3))), strict=True))
        for s in structures[: len(roles)]
    ]
    known = structures[: len(roles)]
    LabelledSet.from_records(known, roles, [0] * len(roles), labels).write(tmp_path / "dataset.h5", {})
    write_failures(tmp_path / "failures.csv", [])
    names = ("dataset.h5", "failures.csv", "model.h5", "predictions.h5", "metrics.json", "scores.h5", "proposal.csv")
    paths = {name.partition(".")[0]: str(tmp_path / name) for name in names}
    paths["facts"] = str(tmp_path / "facts.json")
    make_facts(n_train=N_TRAIN).write(paths["facts"])
    train_model(models(tmp_path), paths["dataset"], paths["model"])
    return paths


def models(folder, conf: Configuration | None = None) -> ArmModels:
    return ArmModels(conf or campaign(), "main", str(folder / "structures.h5"))


def test_test_structures_that_it_cannot_judge_are_left_out_and_told(tmp_path, files):
    evaluate_model(
        models(tmp_path), EvaluationFiles(*(files[n] for n in ("model", "dataset", "predictions", "metrics")))
    )
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert found["n_test"] == found["errors"]["test"]["n"] == N_TEST - 2
    assert np.isfinite(found["errors"]["test"]["forces_rmse"])
    assert found["warnings"][0].startswith("2 of 6 test structures have elements that no training label has")
    with h5py.File(files["predictions"]) as handle:
        assert np.isfinite(handle["test/mean"][()]).all() and len(handle["test/mean"]) == N_TEST - 2


@pytest.mark.parametrize("metric", ["validation", "cross_validation"])
def test_held_back_labels(tmp_path, files, metric):
    conf = campaign(stop={"metric": metric, "rrmse": 0.1, "max_iterations": 2})
    evaluate_model(
        models(tmp_path, conf), EvaluationFiles(*(files[n] for n in ("model", "dataset", "predictions", "metrics")))
    )
    found = json.loads((tmp_path / "metrics.json").read_text())["errors"][metric]
    assert np.isfinite(found["rmse"]) and found["n"] == (N_TRAIN if metric == "cross_validation" else 2)


def test_cross_validation_beside_the_test_set_leaves_the_auxiliary_model_out(tmp_path, files, monkeypatch):
    made = models(tmp_path, campaign(uncertainty="auxiliary"))
    train_model(made, files["dataset"], files["model"])
    made_so = []
    monkeypatch.setattr(AuxiliaryProcess, "fit", lambda *given: made_so.append(1))
    names = (files[n] for n in ("model", "dataset", "predictions", "metrics"))
    evaluate_model(made, EvaluationFiles(*names, cross_validates=True))
    found = json.loads((tmp_path / "metrics.json").read_text())["errors"]
    assert sorted(found) == ["cross_validation", "test"]
    assert found["cross_validation"]["n"] == N_TRAIN
    assert not made_so


def test_candidates_that_it_cannot_judge_have_no_score_and_few_are_drawn(tmp_path, files):
    made = models(tmp_path)
    score_pool(made, 1, files["model"], files["dataset"], files["failures"], files["scores"])
    with h5py.File(files["scores"]) as handle:
        lacking = np.isnan(handle["embedding"][()]).all(axis=1)
        assert lacking.tolist() == [False] * N_LEFT + [True] * 4
        assert np.isfinite(handle["labelled_embedding"][()]).all() and len(handle["labelled_embedding"]) == N_TRAIN
    known = (files["dataset"], files["failures"])
    propose_batch(made, 1, *known, files["facts"], files["scores"], files["proposal"])
    rows: list[BatchRow] = read_proposal(files["proposal"])
    chlorine = {s.structure_id for s in strange(6)}
    assert [row.structure_id in chlorine for row in rows] == [True, False, False, False, False]


@pytest.mark.parametrize("embedding", ["last_layer", "gradient", "last_layer_forces", "gradient_forces"])
def test_diverse_batches_on_its_own_features(tmp_path, files, embedding):
    """The same seed gives the same batch, another one another map and mostly another batch."""
    batches = {}
    for strategy in ("lcmd", "k_means_plus_plus", "maxdet", "bait"):
        for seed in (3, 3, 4):
            conf = campaign(query={"strategy": strategy, "embedding": embedding}, seed=seed)
            made = models(tmp_path, conf)
            score_pool(made, 1, files["model"], files["dataset"], files["failures"], files["scores"])
            with h5py.File(files["scores"]) as handle:
                width = handle["embedding"].shape[1]
            known = (files["dataset"], files["failures"], files["facts"], files["scores"], files["proposal"])
            propose_batch(made, 1, *known)
            batch = [row.structure_id for row in read_proposal(files["proposal"])]
            assert len(set(batch)) == 5 and width == (9 if embedding == "last_layer" else 512)
            assert batches.setdefault((strategy, seed), batch) == batch
    assert len({tuple(batch) for batch in batches.values()}) > 1


@pytest.mark.parametrize("key", ["embedding", "distance"])
def test_features_of_forces_need_forces(key):
    strategy = {"embedding": "lcmd", "distance": "max_min"}[key]
    query = {"strategy": strategy, key: "gradient_forces", "initial": 8, "batch": {"schedule": "constant", "size": 5}}
    with pytest.raises(
        QuarryError, match=rf"{strategy} cannot use the embedding gradient_forces without forces .*energy\)"
    ):
        configuration(target="energy", model=SMALL, query=query, descriptor=None)
    with pytest.raises(
        QuarryError, match=r"cannot use the embedding gradient_forces: model\.kind: mlp has gradient, last"
    ):
        configuration(target="energy", model={"kind": "mlp"}, query=query)
    assert campaign(query=query).query.embedding_of(campaign().model.traits)


@pytest.mark.parametrize("strategy", ["oed_energy", "oed_forces", "oed_total"])
def test_the_network_says_what_labels_would_tell_it(tmp_path, files, strategy):
    made = models(
        tmp_path, campaign(query={"strategy": strategy, **({"beta": 2.0} if strategy == "oed_total" else {})})
    )
    score_pool(made, 1, files["model"], files["dataset"], files["failures"], files["scores"])
    with h5py.File(files["scores"]) as handle:
        found = {name: handle[name][()] for name in handle}
    rows = found.pop("rows")
    criteria = {"oed_energy": {"energy": 1.0}, "oed_forces": {"forces": 1.0}}.get(
        strategy, {"energy": 1.0, "forces": 2.0}
    )
    assert set(found) == {f"{of}informativeness_{name}" for name in criteria for of in ("", "labelled_")}
    wanted = sum(weight * found[f"informativeness_{name}"] for name, weight in criteria.items())
    training = sum(weight * found[f"labelled_informativeness_{name}"] for name, weight in criteria.items())
    assert np.isnan(wanted).tolist() == [False] * N_LEFT + [True] * 4 and len(training) == N_TRAIN
    known = (files["dataset"], files["failures"])
    propose_batch(made, 1, *known, files["facts"], files["scores"], files["proposal"])
    ids = [str(i) for i in read_pool_ids(made.pool)]
    order = [ids[rows[n]] for n in np.argsort(-wanted[:N_LEFT])[:4]]
    chosen = read_proposal(files["proposal"])
    assert [row.structure_id for row in chosen[1:]] == order and 17 in read_pool(made.pool)[
        ids.index(chosen[0].structure_id)
    ].numbers
    said = Query.read(tmp_path / "query.json")
    assert said.thresholds == {"training_mean": training.mean(), "training_median": np.median(training)}
    for name, threshold in (("mean", training.mean()), ("median", np.median(training))):
        by = said.distributions[f"informativeness_by_{name}"]
        assert by["max"] == pytest.approx(np.nanmax(wanted) / threshold)
        assert by["above_1"] == np.mean(wanted[:N_LEFT] > threshold)
        assert said.chosen[1][f"informativeness_by_{name}"] == by["max"]
    assert "informativeness_by_mean" not in said.chosen[0]


@pytest.mark.parametrize("threshold", [None, "mean"])
def test_candidates_that_tell_too_little_are_left_out_counted_and_said(tmp_path, files, threshold):
    made = models(tmp_path, campaign(query={"strategy": "oed_energy"}))
    score_pool(made, 1, files["model"], files["dataset"], files["failures"], files["scores"])
    known = (files["dataset"], files["failures"], files["facts"], files["scores"], files["proposal"])
    assert propose_batch(made, 1, *known) == []
    plain, ids = Query.read(tmp_path / "query.json"), [row.structure_id for row in read_proposal(files["proposal"])]
    name = f"informativeness_by_{threshold or 'median'}"
    values = [one[name] for one in plain.chosen[1:]]
    assert plain.uninformative == 0 and len(values) == 4 and values == sorted(values, reverse=True)
    # Between the second and the third of what the strategy wants most.
    limit = float(np.mean(values[1:3]))
    query = {"strategy": "oed_energy", "min_informativeness": limit, **({"threshold": threshold} if threshold else {})}
    strict = models(tmp_path, campaign(query=query))
    (line,) = propose_batch(strict, 1, *known)
    assert [row.structure_id for row in read_proposal(files["proposal"])] == ids[:3], (
        "the unfamiliar one is not left out"
    )
    found = Query.read(tmp_path / "query.json")
    assert found.uninformative == N_LEFT - 2 and found.distributions == plain.distributions
    assert line == (
        f"8 of 14 candidates have an informativeness of {limit:g} or less and are left out (query.min_informativeness); "
        "3 of 5 places are filled"
    )


def test_a_batch_may_be_empty(tmp_path, files):
    conf = campaign(query={"strategy": "oed_forces", "min_informativeness": 1e12, "unfamiliar": "leave_out"})
    made = models(tmp_path, conf)
    write_failures(tmp_path / "failures.csv", [str(i) for i in read_pool_ids(made.pool)[N_TEST + N_TRAIN + N_LEFT :]])
    score_pool(made, 1, files["model"], files["dataset"], files["failures"], files["scores"])
    known = (files["dataset"], files["failures"], files["facts"], files["scores"], files["proposal"])
    (line,) = propose_batch(made, 1, *known)
    assert read_proposal(files["proposal"]) == [] and "0 of 5 places are filled" in line
    assert Query.read(tmp_path / "query.json").uninformative == N_LEFT


@pytest.mark.parametrize(
    ("query", "words"),
    [
        (
            {"min_informativeness": 1.0},
            "query.min_informativeness: the strategy lcmd has no such setting",
        ),
        ({"strategy": "oed_energy", "threshold": "mean"}, "threshold = mean needs min_informativeness"),
        ({"strategy": "oed_energy", "min_informativeness": 0}, "query.min_informativeness.*greater than 0"),
        ({"strategy": "oed_energy", "min_informativeness": float("inf")}, "query.min_informativeness.*finite"),
    ],
)
def test_what_cannot_leave_anything_out_is_refused(query, words):
    with pytest.raises(QuarryError, match=words) as caught:
        campaign(query=query)
    assert "\n" not in str(caught.value)


def test_to_trust_what_it_cannot_predict_is_refused():
    with pytest.raises(QuarryError, match=r"query\.unfamiliar: trust, but model\.kind: gmnn predicts nothing"):
        campaign(query={"unfamiliar": "trust"})
    assert campaign(query={"unfamiliar": "trust", "strategy": "random"})
