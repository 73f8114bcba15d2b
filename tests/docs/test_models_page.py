"""The page on models: its own model runs through a whole campaign, and its forces are minus the gradient."""

from __future__ import annotations

import csv
import re
import sys

import h5py
import numpy as np
import pytest
import yaml

from quarry.config.models import MODEL_SECTIONS, OwnModel
from quarry.models.base import TrainingData
from quarry.models.own import UserModel
from support.campaigns import REPOSITORY, CampaignFolder, stand_in_configuration
from support.toys import EQUILIBRIUM, labelled, set_of

PAGE = REPOSITORY / "docs" / "models.md"
TEXT = PAGE.read_text()
CODE, SECTION = (re.search(rf"```{kind}\n(.*?)```", TEXT, re.DOTALL)[1] for kind in ("python", "yaml"))
WANT = frozenset({"energy", "forces"})


def test_the_table_has_every_kind():
    rows = {
        row.split("|")[1].strip().strip("`") for row in TEXT.partition("|---")[2].partition("\n\n")[0].splitlines()[1:]
    }
    kinds = {section.model_fields["kind"].annotation.__args__[0] for section in MODEL_SECTIONS}
    assert rows == kinds | {"package.module:Name"}


@pytest.fixture
def ridge(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_models", raising=False)
    (tmp_path / "my_models.py").write_text(CODE)
    model = UserModel.make(OwnModel(kind="my_models:Ridge"), tmp_path)
    made = labelled(60, 0)
    data = TrainingData(made.structures, {"energy": made.targets, "forces": made.forces})
    model.fit(data, None, np.random.default_rng(0))
    return model


def test_forces_are_minus_the_gradient(ridge):
    frame, step = EQUILIBRIUM + 0.05 * np.random.default_rng(3).normal(size=(3, 3)), 1e-3
    frame = frame.round(3)
    forces = ridge.predict(set_of(frame[None]), WANT).mean["forces"]
    for atom in range(3):
        for axis in range(3):
            moved = np.stack([frame, frame])
            moved[0, atom, axis] += step
            moved[1, atom, axis] -= step
            high, low = ridge.predict(set_of(moved), WANT).mean["energy"]
            assert forces[atom, axis] == pytest.approx(-(high - low) / (2 * step), abs=2e-3)


def test_it_learns_and_is_read_as_it_was_written(ridge, tmp_path):
    test = labelled(20, 1)
    found = ridge.predict(test.structures, WANT | {"std"})
    assert np.sqrt(np.mean((found.mean["energy"] - test.targets) ** 2)) < 0.3 * np.std(test.targets)
    assert (found.std["energy"] > 0).all()
    ridge.save(tmp_path / "a.h5")
    loaded = UserModel.load(tmp_path / "a.h5", ridge.settings, tmp_path)
    assert np.array_equal(loaded.predict(test.structures, WANT).mean["forces"], found.mean["forces"])
    loaded.save(tmp_path / "b.h5")
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_it_runs_through_the_whole_loop_without_a_descriptor(tmp_path):
    configuration = stand_in_configuration(**yaml.safe_load(SECTION))
    del configuration["descriptor"]
    folder = CampaignFolder.create(tmp_path / "campaign", configuration)
    (folder.path / "my_models.py").write_text(CODE)
    outcome = folder.run()
    assert outcome.code == 0, outcome.text[-3000:]
    assert not (folder.results / "pool" / "features.h5").exists()
    with open(folder.results / "history.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [int(row["n_train"]) for row in rows] == [8, 12, 16]
    assert all(0 < float(row["forces_rmse"]) < 10 for row in rows)
    with h5py.File(folder.results / "main" / "iter_002" / "predictions.h5") as handle:
        assert handle["test/forces"].shape == (9, 3) and handle["test/std"].shape == (3,)
    assert folder.run().nothing_to_do
