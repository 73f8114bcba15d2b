"""A list of properties as the target: learnt at once by a model of the user's own, and each with its errors."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from ase.calculators.emt import EMT

from quarry.errors import QuarryError
from quarry.labeling.wanted import Wanted
from quarry.models.metrics import mae, rmse
from quarry.reporting.plots import write_iteration_table
from quarry.stages.arm_models import ArmModels, check_own_models
from quarry.stages.assessment import assess_iteration
from quarry.stages.evaluation import EvaluationFiles, evaluate_model
from quarry.stages.proposal import score_pool
from quarry.stages.results import HISTORY_COLUMNS, write_history
from quarry.stages.training import train_model
from quarry.stopping.facts import Cost, Facts
from quarry.structures import Structure, StructureSet
from quarry.structures.files import write_pool
from quarry.structures.labelled import LabelledSet
from support.crystals import copper
from support.stages import ROWS, configuration, label_record, write_failures

OWN = """
import json
import numpy as np
from quarry.config.model_traits import ModelTraits
from quarry.models.base import STD, Prediction
class Means:
    "Predicts the mean of the training labels, of forces those of each place, and the spread of the energies."
    traits = ModelTraits(learns=[{"energy", "dipole"}, {"energy", "forces", "stress"}], std=True)
    def fit(self, data, validation, rng, start=None, checkpoint=None):
        self.learnt = sorted(data.targets)
        atoms = len(data.structures.numbers) // len(data)
        shaped = {name: v.reshape(len(data), atoms, 3) if name == "forces" else v for name, v in data.targets.items()}
        self.means = {name: v.mean(axis=0) for name, v in shaped.items()}
        self.std = float(data.targets["energy"].std())
    def predict(self, structures, want):
        n = len(structures)
        mean = {name: np.repeat(np.asarray(self.means[name])[None], n, axis=0) for name in want - {STD}}
        if "forces" in mean:
            mean["forces"] = mean["forces"].reshape(-1, 3)
        return Prediction(mean, {"energy": np.full(n, self.std)})
    def save(self, path):
        path.write_text(json.dumps([self.learnt, self.std, {n: np.asarray(v).tolist() for n, v in self.means.items()}]))
    @classmethod
    def load(cls, path):
        model = cls()
        model.learnt, model.std, model.means = json.loads(path.read_text())
        return model
"""
MODEL = {"kind": "own_several:Means"}
CRYSTALS = StructureSet.from_structures(Structure.from_atoms(copper(seed)) for seed in range(18))
COST = Cost(8, 0, 0, 0.0, 0.0, 0.0, 0.0)


@pytest.fixture
def base(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "own_several", raising=False)
    (tmp_path / "own_several.py").write_text(OWN)
    return tmp_path


def crystal_labels() -> list[dict]:
    labels = []
    for structure in CRYSTALS:
        atoms = structure.to_atoms()
        atoms.calc = EMT()
        stress = atoms.get_stress(voigt=False)
        labels.append({"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": stress})
    return [{name: np.asarray(value).tolist() for name, value in label.items()} for label in labels]


def water_labels() -> list[dict]:
    rng = np.random.default_rng(2)
    return [{"energy": -5.0 + rng.normal(), "dipole": rng.normal(size=3).tolist()} for _ in ROWS]


def dataset_of(path: Path, structures, labels: list[dict]) -> str:
    count = len(labels)
    chosen = [structures[i] for i in range(count)]
    LabelledSet.from_records(chosen, list(ROWS.values())[:count], [0] * count, labels).write(path, {})
    return str(path)


def run(base: Path, target: list[str], structures: StructureSet, labels: list[dict]):
    """Train, evaluate, score and write the history; return the facts, the row of the history and the predictions."""
    write_pool(base / "structures.h5", structures)
    conf = configuration(target=target, model=MODEL, descriptor=None)
    check_own_models(conf, base)
    models = ArmModels(conf, "main", str(base / "structures.h5"), base=base)
    dataset, model = dataset_of(base / "dataset.h5", structures, labels), str(base / "model" / "model.h5")
    train_model(models, dataset, model)
    files = {name: str(base / name) for name in ("predictions.h5", "metrics.json", "facts.json", "history.csv")}
    evaluate_model(models, EvaluationFiles(model, dataset, files["predictions.h5"], files["metrics.json"]))
    failures = write_failures(base / "failures.csv", [])
    score_pool(models, 1, model, dataset, failures, str(base / "scores.h5"))
    facts = assess_iteration(conf, "main", 0, files["metrics.json"], failures, len(structures), files["facts.json"])
    assert Facts.read(files["facts.json"]) == facts
    write_history(files["history.csv"], [facts], [COST], "enough")
    with open(files["history.csv"], newline="") as handle:
        [row] = csv.DictReader(handle)
    with h5py.File(base / "predictions.h5") as handle:
        predicted = {name: handle["test"][name][()] for name in handle["test"]}
    write_iteration_table({"main": files["history.csv"]}, conf.goal, str(base / "table.html"))
    return facts, row, predicted, models.load(model).model


def check_errors(facts: Facts, row: dict[str, str], name: str, errors: np.ndarray, labels: np.ndarray) -> None:
    found = facts.errors["test"]
    assert found[f"{name}_rmse"] == pytest.approx(rmse(errors.ravel()), rel=1e-12)
    assert found[f"{name}_mae"] == pytest.approx(mae(errors.ravel()), rel=1e-12)
    assert found[f"{name}_rmse_over_std"] == pytest.approx(rmse(errors.ravel()) / labels.std(), rel=1e-12)
    for error in ("rmse", "mae", "rmse_over_std"):
        assert float(row[f"{name}_{error}"]) == pytest.approx(found[f"{name}_{error}"], rel=1e-9)


def test_energy_and_dipole(base, pool):
    labels = water_labels()
    facts, row, predicted, model = run(base, ["energy", "dipole"], pool, labels)
    assert model.learnt == ["dipole", "energy"]
    energy, dipole = (np.array([label[name] for label in labels]) for name in ("energy", "dipole"))
    test, train = slice(0, 6), slice(6, 18)
    np.testing.assert_allclose(predicted["dipole"], np.tile(dipole[train].mean(axis=0), (6, 1)))
    assert facts.target == "energy+dipole"
    assert float(row["rmse"]) == pytest.approx(rmse(energy[train].mean() - energy[test]), rel=1e-9)
    check_errors(facts, row, "dipole", dipole[train].mean(axis=0) - dipole[test], dipole[test])
    extra = ["dipole_rmse", "dipole_mae", "dipole_rmse_over_std"]
    assert [column for column in row if column not in HISTORY_COLUMNS] == extra
    assert [column for column in row if column not in extra] == list(HISTORY_COLUMNS)
    with h5py.File(base / "scores.h5") as handle:
        assert handle["std"].shape == (len(pool) - 18,)
        np.testing.assert_allclose(handle["std"][()], energy[train].std())
    assert "RMSE of the dipole (e*Å)" in (base / "table.html").read_text()


def test_energy_forces_and_stress(base):
    labels = crystal_labels()
    structures = StructureSet.from_structures([*CRYSTALS, *(Structure.from_atoms(copper(seed)) for seed in (50, 51))])
    facts, row, predicted, model = run(base, ["energy", "forces", "stress"], structures, labels)
    assert model.learnt == ["energy", "forces", "stress"]
    forces, stress = (np.array([label[name] for label in labels]) for name in ("forces", "stress"))
    test, train = slice(0, 6), slice(6, 18)
    assert predicted["stress"].shape == (6, 3, 3) and predicted["forces"].shape == (24, 3)
    check_errors(facts, row, "forces", forces[train].mean(axis=0) - forces[test], forces[test])
    check_errors(facts, row, "stress", stress[train].mean(axis=0) - stress[test], stress[test])
    extra = ["forces_mae", "stress_rmse", "stress_mae", "stress_rmse_over_std"]
    assert [column for column in row if column not in HISTORY_COLUMNS] == extra
    page = (base / "table.html").read_text()
    assert "RMSE of the forces (eV/Å)" in page and "RMSE / std of the stress" in page


def test_what_lacks_one_property_is_not_learnt(base, pool):
    labels = water_labels()
    del labels[7]["dipole"], labels[1]["dipole"]
    facts, _, predicted, model = run(base, ["energy", "dipole"], pool, labels)
    assert (facts.n_train, facts.n_test) == (11, 5) and len(predicted["label"]) == 5
    assert model.means["energy"] == pytest.approx(np.mean([labels[i]["energy"] for i in range(6, 18) if i != 7]))
    judged = Wanted.of(configuration(target=["energy", "dipole"], model=MODEL, descriptor=None).goal).judged(
        label_record("a")
    )
    assert (judged.status, judged.message) == ("lacks_target", "the label has no dipole, which the target needs")


def test_labels_that_all_lack_it_are_one_line(base, pool):
    labels = [{"energy": label["energy"]} for label in water_labels()]
    with pytest.raises(QuarryError, match="target: the labels hold no dipole; they hold energy"):
        run(base, ["energy", "dipole"], pool, labels)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (["energy", "dipole", "dipole"], "a property is named twice; remove one"),
        (["energy", "magnetism"], "'magnetism' cannot be learnt beside energy; known are "),
        (["magnetism", "energy"], "'magnetism' cannot be the main property; the first is one of energy"),
        (["energy", "class"], "class is learnt alone; remove the others"),
        ([], "name at least one property"),
    ],
)
def test_a_list_that_is_none_is_one_line(target, said):
    with pytest.raises(QuarryError) as error:
        configuration(target=target, model=MODEL, descriptor=None)
    assert said in str(error.value) and "target" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("model", "target", "said"),
    [
        ({"kind": "kreg"}, ["energy", "dipole"], "model.kind: kreg learns no dipole; for target energy+dipole set"),
        ({"kind": "gpr"}, ["energy", "forces", "stress"], "model.kind: gpr learns no forces and no stress"),
        (MODEL, ["energy", "dipole", "stress"], "learns energy and dipole and stress not at once"),
    ],
)
def test_a_model_that_cannot_learn_the_list_is_one_line(base, model, target, said):
    with pytest.raises(QuarryError) as error:
        check_own_models(configuration(target=target, model=model), base)
    assert said in str(error.value) and "\n" not in str(error.value)
