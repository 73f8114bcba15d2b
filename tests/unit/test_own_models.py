"""Models by import path: what is refused before any job, and a killed training that goes on from its state."""

from __future__ import annotations

import errno
import fcntl
import json
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from quarry.config.models import OwnModel
from quarry.config.pool import SamplerPool
from quarry.config.query import Query
from quarry.errors import QuarryError
from quarry.models.base import Informativeness, Prediction
from quarry.models.own import UserModel
from quarry.query.base import PoolView
from quarry.query.strategies import chosen_by, make_strategy, ranks_of
from quarry.sampling.samplers import initial_structures, make_sampler, sampled_structures
from quarry.stages.arm_models import check_own_models
from quarry.stages.training import train_model
from quarry.stopping.own_rules import own_rules
from quarry.structures import Structure, StructureSet
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
class FitsOnly(Mean):
    def fit(self, data, validation, rng): ...
class FitsAny(Mean):
    def fit(self, data, validation, rng, **more): ...
class Unbound(Mean):
    def load(self, path): ...
class OneWish(Mean):
    def predict(self, structures): ...
class Nowhere(Mean):
    def save(self): ...
class NoMap(Mean):
    traits = ModelTraits(learns=["energy"], feature_maps=["x"])
    def features(self, structures): ...
class Exits(Mean):
    def __init__(self):
        raise SystemExit(3)
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
        ({"kind": "own_mean:FitsOnly"}, "own_mean:FitsOnly: its fit has got an unexpected keyword argument 'start'"),
        ({"kind": "own_mean:Unbound"}, "own_mean:Unbound: load is called on the class; write @classmethod"),
        ({"kind": "own_mean:OneWish"}, "OneWish: its predict has too many positional arguments; define it as predict("),
        ({"kind": "own_mean:Nowhere"}, "own_mean:Nowhere: its save has too many positional arguments"),
        ({"kind": "own_mean:NoMap"}, "own_mean:NoMap: its features has too many"),
        ({"kind": "own_mean:Exits"}, "own_mean:Exits failed with model.arguments (it called sys.exit(3))"),
    ],
)
def test_a_mistake_is_one_line(base, keys, said):
    with pytest.raises(QuarryError) as error:
        check_own_models(own(**keys), base)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_method_may_take_any_keyword(base):
    check_own_models(own(kind="own_mean:FitsAny"), base)


def test_the_checks_say_what_gpus_it_needs(base):
    (base / "own_mean.py").write_text(OWN.replace("warm_start=True", "gpus=2"))
    assert check_own_models(own(), base) == {"main": 2}
    assert check_own_models(configuration(), base) == {}


def training_code(base, features, dataset, output):
    """Code of a process that trains the model."""
    return f"""
import sys
sys.path[:0] = [{str(REPOSITORY / "workflow_scripts")!r}, {str(REPOSITORY / "tests")!r}]
from pathlib import Path
from quarry.stages.training import train_model
from support.arms import models_in
from support.stages import configuration
conf = configuration(model={{"kind": "own_mean:Mean"}}, query={QUERY!r})
train_model(models_in(conf, {features!r}, base=Path({str(base)!r})), {dataset!r}, {str(output)!r})
"""


def test_a_killed_training_goes_on(base, pool, features):
    dataset, output = write_dataset(base / "d.h5", pool, ROWS), base / "model" / "model.h5"
    code = training_code(base, features, dataset, output)
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


def test_a_second_training_waits_for_the_first_and_takes_its_model(base, pool, features, monkeypatch):
    """As after kill -9 of the main process alone: the training that it left goes on, and is not done a second time."""
    dataset, output = write_dataset(base / "d.h5", pool, ROWS), base / "model" / "model.h5"
    (base / "own_mean.py").write_text(
        OWN.replace(
            "        self.value = ",
            """        import time
        from pathlib import Path
        if "TOLD" in os.environ:
            while not Path(os.environ["TOLD"]).exists():
                time.sleep(0.01)
            assert state.exists(), "its folder is gone"
        self.value = """,
        )
    )
    code = training_code(base, features, dataset, output)
    told = base / "told"
    first = subprocess.Popen([sys.executable, "-c", code], env={"TOLD": str(told), "PATH": ""})
    try:
        state, end = output.parent / "checkpoint" / "state.txt", time.monotonic() + 60
        while not state.exists() or state.read_text() != "4":
            assert first.poll() is None and time.monotonic() < end
            time.sleep(0.01)
        lines = []

        def log(line):
            lines.append(line)
            told.touch()

        models = models_in(own(), features, base=base)
        with monkeypatch.context() as patch:
            patch.setattr("quarry.stages.training.fit", lambda *_, **__: pytest.fail("it trained once more"))
            train_model(models, dataset, str(output), log=log)
        assert first.wait(60) == 0
    finally:
        first.kill()
        first.wait()
    assert len(lines) == 1 and f"waiting for process {first.pid} of " in lines[0]
    assert models.load(output).model.first == 0, "the first had removed its state when the second began"
    assert [file.name for file in output.parent.iterdir()] == ["model.h5"]


def test_where_files_cannot_be_locked_training_goes_on(base, pool, features, monkeypatch):
    def no_locks(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", no_locks)
    output = base / "model" / "model.h5"
    train_model(models_in(own(), features, base=base), write_dataset(base / "d.h5", pool, ROWS), str(output))
    assert output.exists()


REAL = "are real numbers of shape"
N_ATOMS, WANT = 9, frozenset({"energy", "forces"})
WATERS = StructureSet.from_structures([Structure.create([8, 1, 1], np.eye(3) + n) for n in range(3)])
ENERGY, FORCES = np.arange(3.0), np.ones((N_ATOMS, 3))


class Says:
    """A model that says what a test gives it."""

    def __init__(self, **said):
        self.__dict__.update(said)

    def predict(self, structures, want):
        return self.said

    def save(self, path):
        self.saved(path)


def user_model(n_states=0, **said):
    return UserModel(OwnModel(kind="own_mean:Says"), Says(**said), n_states)


def says(want, said, n_states=0):
    return user_model(n_states, said=said).predict(WATERS, frozenset(want))


def refused(call, words):
    with pytest.raises(QuarryError) as error:
        call()
    assert words in str(error.value) and "own_mean:Says" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (None, "predict must return a Prediction, not NoneType"),
        (Prediction(None, None), "mean of a Prediction must be a dictionary by property, not NoneType"),
        (Prediction(ENERGY), "mean of a Prediction must be a dictionary by property, not ndarray"),
        (Prediction({"energy": ENERGY, "forces": FORCES}, None), "std of a Prediction must be a dictionary"),
        (Prediction({"energy": ENERGY}), "predict must give forces, got energy"),
        (Prediction({"energy": ENERGY, "forces": FORCES[:, :1]}), f"forces has shape (9, 1); expected {REAL} (9, 3)"),
        (Prediction({"energy": ENERGY[:, None], "forces": FORCES}), f"energy has shape (3, 1); expected {REAL} (3,)"),
        (Prediction({"energy": np.eye(3), "forces": FORCES}), "energy has shape (3, 3)"),
        (Prediction({"energy": 1j * ENERGY, "forces": FORCES}), "energy is an array of complex128; expected are real"),
        (Prediction({"energy": ENERGY.astype(object), "forces": FORCES}), "energy is an array of object"),
        (Prediction({"energy": ENERGY.astype(str), "forces": FORCES}), "energy is an array of <U32"),
        (Prediction({"energy": np.ma.masked_equal(ENERGY, 1), "forces": FORCES}), "energy is a masked array"),
        (Prediction({"energy": None, "forces": FORCES}), "energy is NoneType"),
        (Prediction({"energy": [[1], [1, 2]], "forces": FORCES}), "energy is no array but list"),
        (Prediction({"energy": np.array([0, 1, np.inf]), "forces": FORCES}), "energy is not finite everywhere"),
        (Prediction({"energy": ENERGY, "forces": FORCES}, {"energy": -ENERGY}), "a std of energy is negative"),
        (Prediction({"energy": ENERGY, "forces": FORCES}, {"energy": ENERGY[:, None]}), "std of energy has shape (3, 1)"),
        (Prediction({"energy": ENERGY, "forces": FORCES}, probabilities=ENERGY), "probabilities has shape (3,); expected"),
        (Prediction({"energy": ENERGY, "forces": FORCES}, noise_variance={"energy": "x"}), "noise_variance of energy is "),
    ],
)  # fmt: skip
def test_a_wrong_prediction_is_one_line(said, words):
    refused(lambda: says(WANT, said), words)


def test_shapes_are_those_of_the_properties():
    found = says({"energy", "forces", "std"}, Prediction({"energy": [1, 2, 3], "forces": FORCES}, {"energy": ENERGY}))
    assert found.mean["energy"].dtype == float and found.mean["energy"].tolist() == [1, 2, 3]
    assert found.std["energy"].tolist() == [0, 1, 2]
    for name, shape in {"dipole": (3, 3), "stress": (3, 3, 3), "charges": (9,), "dipole_norm": (3,)}.items():
        assert says({name}, Prediction({name: np.ones(shape)})).mean[name].shape == shape
    states = {"excitation_energies": np.ones((3, 2))}
    assert says(states, Prediction(states), 2).mean["excitation_energies"].shape == (3, 2)
    refused(lambda: says(states, Prediction(states), 4), "shape (3, 2); expected are real numbers of shape (3, 4)")


def test_a_wrong_informativeness_is_one_line():
    def asked(said):
        return user_model(informativeness=lambda *given: said).informativeness(WATERS, WATERS, frozenset({"energy"}))

    assert asked({"energy": Informativeness(ENERGY, ENERGY)})["energy"].known.tolist() == [0, 1, 2]
    for said, words in {
        None: "3 values of energy and 3 known, got nothing",
        Informativeness(ENERGY, ENERGY[1:]): "3 values of energy and 3 known, got [(3,), (2,)]",
        Informativeness(ENERGY, 1j * ENERGY): "known of the informativeness of energy is an array of complex128",
    }.items():
        refused(partial(asked, {"energy": said}), words)


@pytest.mark.parametrize(
    ("saved", "words"),
    [
        (lambda path: None, "and wrote nothing"),
        (lambda path: np.savez(path, x=1), "and wrote model.h5.npz; where a library adds an ending, open the file"),
        (lambda path: path.mkdir(), "and wrote no plain file"),
        (lambda path: sys.exit(), "failed with its save (it called sys.exit(None))"),
    ],
)
def test_a_model_that_is_not_saved_leaves_nothing(tmp_path, saved, words):
    refused(lambda: user_model(saved=saved).save(tmp_path / "model.h5"), words)
    assert not list(tmp_path.iterdir())


def test_what_goes_into_the_facts():
    found = user_model(hyperparameters={"a": np.float32(0.5), "b": np.arange(2), 3: [np.int64(1)], "d": np.nan})
    assert json.dumps(dict(found.hyperparameters)) == '{"a": 0.5, "b": [0, 1], "3": [1], "d": null}'
    assert user_model(warnings="one\nsentence").warnings == ["one sentence"]
    assert user_model(warnings=("a", "b")).warnings == ["a", "b"]
    assert not user_model().hyperparameters and not user_model().warnings
    refused(lambda: user_model(hyperparameters={"a": {1, 2}}).hyperparameters, "hyperparameter a is a set that JSON")
    refused(lambda: user_model(hyperparameters=np.eye(2)).hyperparameters, "must be a dictionary, not ndarray")
    refused(lambda: user_model(warnings=[1]).warnings, "warnings must be a list of sentences, not list")


@pytest.mark.parametrize("method", ["fit", "predict", "load"])
def test_an_exit_is_one_line(base, pool, features, method):
    body = re.sub(rf"(def {method}\(.*\n)", r"\1        raise SystemExit('bye')\n", OWN, count=1)
    (base / "own_mean.py").write_text(body)
    models, output = models_in(own(), features, base=base), base / "m" / "model.h5"
    with pytest.raises(QuarryError, match=r"own_mean:Mean .*\(it called sys.exit\('bye'\)\)"):
        train_model(models, write_dataset(base / "d.h5", pool, ROWS), str(output))
        models.load(output).predict(WATERS, frozenset({"energy"}))


EXITS = """
import sys
class Sampler:
    def sample(self, model, labelled, iteration, rng): sys.exit("sampled")
    def initial(self, rng): exit(4)
class Strategy:
    def select(self, pool, n, rng): sys.exit(1)
    def score(self, pool): sys.exit(2)
class Early:
    def __init__(self): sys.exit(3)
def rule(progress): sys.exit(0)
"""


def test_an_exit_of_samplers_strategies_and_rules_is_one_line(base, monkeypatch):
    monkeypatch.delitem(sys.modules, "own_exits", raising=False)
    monkeypatch.delitem(sys.modules, "own_exit_now", raising=False)
    (base / "own_exits.py").write_text(EXITS)
    (base / "own_exit_now.py").write_text("import sys\nsys.exit(9)\n")
    pool, view, rng = SamplerPool(source="sampler", sampler="own_exits:Sampler"), PoolView(np.zeros((3, 1))), None
    early = SamplerPool(source="sampler", sampler="own_exits:Early")
    query = Query(strategy="own_exits:Strategy", initial=2, batch=QUERY["batch"])
    strategy = make_strategy(query, base)
    rules = own_rules(configuration(stop={"rules": [{"rule": "own_exits:rule"}]}), base)
    arm, other = query.strategy, query.model_copy(update={"strategy": "own_exits:Early"})
    calls = {
        "pool.sampler: own_exits:Sampler failed|'sampled'": lambda: sampled_structures(pool, base, None, None, 1, rng),
        "pool.sampler: own_exits:Sampler failed|4": lambda: initial_structures(pool, base, rng),
        "pool.sampler: own_exits:Early cannot be made with pool.arguments|3": lambda: make_sampler(early, base),
        "query.strategy: own_exits:Strategy failed|1": lambda: chosen_by(strategy, arm, view, 2, rng),
        "query.strategy: own_exits:Strategy failed|2": lambda: ranks_of(strategy, arm, view),
        "query.strategy: own_exits:Early cannot be made with query.arguments|3": lambda: make_strategy(other, base),
        "stop.rules[0]: own_exits:rule failed|0": lambda: rules[0].says(None),
        "model.kind: cannot import 'own_exit_now:X'|9": lambda: check_own_models(own(kind="own_exit_now:X"), base),
    }
    for words, call in calls.items():
        with pytest.raises(QuarryError) as error:
            call()
        failed, _, code = words.partition("|")
        assert f"{failed} (it called sys.exit({code}))" in str(error.value) and "\n" not in str(error.value)


def test_a_damaged_model_is_one_line(base, features):
    (base / "model.h5").write_text("no model")
    with pytest.raises(QuarryError, match="own_mean:Mean cannot read its model"):
        models_in(own(), features, base=base).load(base / "model.h5")
