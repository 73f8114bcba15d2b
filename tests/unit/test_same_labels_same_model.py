"""The same training labels give the same model: in every arm, iteration and order, with whatever seed the arm has."""

from __future__ import annotations

import numpy as np
import pytest

from quarry.descriptors.features_file import read_features
from quarry.models.registry import load_regression
from quarry.randomness import generator
from quarry.stages.training import train_member, train_model
from support import potentials
from support.arms import models_in
from support.networks import SMALL
from support.stages import configuration, write_dataset

ROWS = list(range(6, 36))

MODELS = {
    "gpr": {"kind": "gpr"},
    "gpr on a subset": {"kind": "gpr", "subset": 20},
    "kreg": {"kind": "kreg"},
    "committee": {**SMALL, "uncertainty": "committee", "members": 2},
    "dropout": {**SMALL, "uncertainty": "mc_dropout"},
    "gmnn": {**potentials.SMALL, "epochs": 3},
}

BATCH = {"schedule": "constant", "size": 5}


def arms(model):
    potential = model["kind"] == "gmnn"
    return configuration(
        **({"descriptor": None} if potential else {}),
        query={"strategy": "lcmd" if potential else "uncertainty", "initial": 8, "batch": BATCH},
        model=model,
        arms={"other": {"query": {"strategy": "random"}, "seed": 99}},
        control={"seeds": [3, 4], "repeats": [8]},
    )


@pytest.mark.parametrize("kind", MODELS)
def test_in_every_arm_and_order(kind, tmp_path, pool, features):
    conf = arms(MODELS[kind])
    assert {"main", "other", "random_3", "random_4", "main_8"} <= set(conf.arm_names)
    made = set()
    for number, arm in enumerate(conf.arm_names):
        order = generator(number, "order").permutation(ROWS)
        dataset = write_dataset(tmp_path / "dataset.h5", pool, {int(n): "train" for n in order})
        output = tmp_path / f"{arm}.h5"
        train_model(models_in(conf, features, arm), dataset, str(output))
        made.add(output.read_bytes())
    assert len(made) == 1


def test_members_too(tmp_path, pool, features):
    conf, made = arms(MODELS["committee"]), set()
    dataset = write_dataset(tmp_path / "dataset.h5", pool, dict.fromkeys(ROWS, "train"))
    for arm in ("main", "random_3"):
        train_member(models_in(conf, features, arm), 1, dataset, str(tmp_path / f"{arm}.h5"))
        made.add((tmp_path / f"{arm}.h5").read_bytes())
    assert len(made) == 1


def test_the_campaigns_seed_still_chooses_what_is_random(tmp_path, pool, features):
    dataset = write_dataset(tmp_path / "dataset.h5", pool, dict.fromkeys(ROWS, "train"))
    for kind, differs in (("gpr", False), ("dropout", True)):
        made = set()
        for seed in (1, 2):
            output = tmp_path / f"{kind}_{seed}.h5"
            train_model(models_in(configuration(model=MODELS[kind], seed=seed), features), dataset, str(output))
            made.add(output.read_bytes())
        assert (len(made) == 2) == differs, kind


def test_where_the_last_labels_validate_their_order_counts(tmp_path, pool, features):
    """The published rule of KREG: what comes last validates."""
    conf = configuration(model={"kind": "kreg"}, validation={"order": "sequence"})
    found = []
    for rows in (ROWS, ROWS[::-1]):
        dataset = write_dataset(tmp_path / "dataset.h5", pool, dict.fromkeys(rows, "train"))
        train_model(models_in(conf, features), dataset, str(tmp_path / "model.h5"))
        model = load_regression(tmp_path / "model.h5", conf.model.kind)
        found.append(model.predict(pool, read_features(features)).mean)
    assert not np.array_equal(*found)
