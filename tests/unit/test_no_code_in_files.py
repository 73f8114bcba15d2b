"""Files of models and of trainings that go on are numbers: what would run as code when it is read is not read."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from quarry.errors import QuarryError
from quarry.models import network_training
from quarry.models.gmnn.training import STATE
from quarry.models.registry import POTENTIALS, REGRESSIONS, check_kind, load_regression
from support.potentials import toy_data, trained


@pytest.fixture
def mark(tmp_path) -> Path:
    """A file that is there once the attack has been run."""
    return tmp_path / "harmed"


@pytest.fixture(params=["pickle", "torch"])
def attack(request, mark) -> bytes:
    class Attack:
        def __reduce__(self):
            return Path.touch, (mark,)

    if request.param == "pickle":
        return pickle.dumps(Attack())
    packed = io.BytesIO()
    torch.save({"module": Attack()}, packed)
    return packed.getvalue()


def test_the_attack_works_where_pickles_are_run(attack, mark):
    if attack.startswith(b"PK"):
        torch.load(io.BytesIO(attack), weights_only=False)
    else:
        pickle.loads(attack)
    assert mark.exists()


@pytest.mark.parametrize("kind", [*REGRESSIONS, *POTENTIALS, "sevenn", "mace", "ani"])
def test_model_files(attack, mark, tmp_path, kind):
    path = tmp_path / "model.h5"
    path.write_bytes(attack)
    with pytest.raises(QuarryError, match="this is not an intact model file"):
        check_kind(path, kind)
    if kind in REGRESSIONS:
        with pytest.raises(QuarryError, match="this is not an intact model file"):
            load_regression(path, kind)
    assert not mark.exists()


def test_the_state_of_a_gmnn(attack, mark, tmp_path, monkeypatch):
    data = toy_data(12)
    expected = trained(data, epochs=2)
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / STATE).write_bytes(attack)
    model = type(expected)(expected.settings, expected.learnt)
    model.fit(data, None, np.random.default_rng(1), checkpoint=folder)
    assert not mark.exists()
    one, other = (m.predict(data.structures, frozenset({"energy"})).mean["energy"] for m in (expected, model))
    assert np.array_equal(one, other), "it began anew"


def test_the_state_of_other_networks(attack, mark, tmp_path):
    module = torch.nn.Linear(2, 1)
    (tmp_path / "state").write_bytes(attack)
    optimiser, order = torch.optim.Adam(module.parameters()), torch.Generator()
    assert network_training._resume(tmp_path / "state", module, optimiser, order) is None
    assert not mark.exists()
