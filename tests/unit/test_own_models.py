"""Models by import path: what is refused before any job, and a killed training that goes on from its state."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from quarry.errors import QuarryError
from quarry.stages.arm_models import check_own_models
from quarry.stages.training import train_model
from support.arms import models_in
from support.campaigns import REPOSITORY
from support.stages import ROWS, configuration, write_dataset

OWN = """
import os, signal
import numpy as np
from quarry.config.model_traits import ModelTraits
from quarry.models.base import Prediction
class Mean:
    traits = ModelTraits(learns=["energy"], warm_start=True)
    def __init__(self, steps=4):
        self.steps = steps
    def fit(self, data, validation, rng, start=None, checkpoint=None):
        self.begun = 0 if start is None else start.begun + 1
        state = checkpoint / "state.txt"
        self.first = int(state.read_text()) if state.exists() else 0
        for step in range(self.first, self.steps):
            state.write_text(str(step + 1))
            if step == 1 and os.environ.get("KILL"):
                os.kill(os.getpid(), signal.SIGKILL)
        self.value = float(np.mean(data.targets["energy"]))
    def predict(self, structures, want):
        return Prediction({"energy": np.full(len(structures), self.value)})
    def save(self, path):
        path.write_text(f"{self.first} {self.begun} {self.value!r}")
    @classmethod
    def load(cls, path):
        model = cls()
        first, begun, value = path.read_text().split()
        model.first, model.begun, model.value = int(first), int(begun), float(value)
        return model
class Silent:
    fit = predict = save = load = print
class Lacking:
    traits = ModelTraits(learns=["energy"])
    fit = save = load = print
class Cold(Mean):
    traits = ModelTraits(learns=["homo"])
"""
QUERY = {"strategy": "random", "initial": 8, "batch": {"schedule": "constant", "size": 5}}


@pytest.fixture
def base(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "own_mean", raising=False)
    (tmp_path / "own_mean.py").write_text(OWN)
    return tmp_path


def own(**keys):
    return configuration(model={"kind": "own_mean:Mean", **keys}, query=QUERY)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"kind": "absent_module:Mean"}, "model.kind: cannot import 'absent_module:Mean'"),
        ({"kind": "own_mean:Maen"}, "did you mean 'own_mean:Mean'"),
        ({"arguments": {"step": 3}}, "model.arguments: own_mean:Mean has no argument 'step'; did you mean 'steps'"),
        ({"kind": "own_mean:Silent"}, "says nothing of what it can do"),
        ({"kind": "own_mean:Lacking"}, "has no method predict"),
        ({"kind": "own_mean:Cold"}, "model.kind: own_mean:Cold learns no energy; for target energy set"),
        ({"kind": "own_mean:Cold", "start": "last"}, "does not begin from another model"),
    ],
)
def test_a_mistake_is_one_line(base, keys, said):
    with pytest.raises(QuarryError) as error:
        check_own_models(own(**keys), base)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_the_checks_say_what_gpus_it_needs(base):
    (base / "own_mean.py").write_text(OWN.replace("warm_start=True", "gpus=2"))
    assert check_own_models(own(), base) == {"main": 2}
    assert check_own_models(configuration(), base) == {}


def test_a_killed_training_goes_on(base, pool, features):
    dataset, output = write_dataset(base / "d.h5", pool, ROWS), base / "model" / "model.h5"
    code = f"""
import sys
sys.path += [{str(REPOSITORY / "workflow_scripts")!r}, {str(REPOSITORY / "tests")!r}]
from pathlib import Path
from quarry.stages.training import train_model
from support.arms import models_in
from support.stages import configuration
conf = configuration(model={{"kind": "own_mean:Mean"}}, query={QUERY!r})
train_model(models_in(conf, {features!r}, base=Path({str(base)!r})), {dataset!r}, {str(output)!r})
"""
    killed = subprocess.run([sys.executable, "-c", code], env={"KILL": "1", "PATH": ""}, check=False)
    assert killed.returncode == -signal.SIGKILL and not output.exists()
    assert (output.parent / "checkpoint" / "state.txt").read_text() == "2"
    models = models_in(own(), features, base=base)
    train_model(models, dataset, str(output))
    assert models.load(output).model.first == 2, "it went on after two steps"
    assert not (output.parent / "checkpoint").exists()


def test_the_state_of_another_training_is_not_used(base, pool, features):
    output = base / "model" / "model.h5"
    models = models_in(own(), features, base=base)
    (output.parent / "checkpoint").mkdir(parents=True)
    (output.parent / "checkpoint" / "state.txt").write_text("3")
    (output.parent / "checkpoint" / "training.txt").write_text("of other labels")
    train_model(models, write_dataset(base / "d.h5", pool, ROWS), str(output))
    assert models.load(output).model.first == 0


def test_it_begins_from_the_last_model(base, pool, features):
    dataset, models = write_dataset(base / "d.h5", pool, ROWS), models_in(own(start="last"), features, base=base)
    for number, start in enumerate((None, str(base / "0" / "model.h5"))):
        train_model(models, dataset, str(base / str(number) / "model.h5"), start=start)
    assert models.load(base / "1" / "model.h5").model.begun == 1


def test_a_damaged_model_is_one_line(base, features):
    (base / "model.h5").write_text("no model")
    with pytest.raises(QuarryError, match="own_mean:Mean cannot read its model"):
        models_in(own(), features, base=base).load(base / "model.h5")
