"""Target energy_forces through the stages: forces are learnt, predicted and measured."""

from __future__ import annotations

import json

import numpy as np
import pytest

from quarry.stages.evaluation import EvaluationFiles, evaluate_model, read_predictions
from quarry.stages.results import write_history
from quarry.stages.training import train_model
from quarry.stopping.facts import Cost, Facts
from quarry.structures.labelled import LabelledSet
from support.arms import models_in
from support.stages import ROWS, configuration
from support.stand_in import morse


@pytest.fixture
def labelled(tmp_path, pool) -> str:
    chosen = [pool[i] for i in ROWS]
    records = []
    for structure in chosen:
        atoms = structure.to_atoms()
        atoms.info["structure_id"] = structure.structure_id
        label = morse(atoms, calls=None)
        records.append({"energy": label["energy"], "forces": label["forces"].tolist()})
    LabelledSet.from_records(chosen, list(ROWS.values()), [0] * len(ROWS), records).write(tmp_path / "d.h5", {})
    return str(tmp_path / "d.h5")


def results(tmp_path, labelled, features, target: str) -> tuple[dict, dict]:
    conf = configuration(target=target, model={"kind": "kreg"})
    model, metrics, predictions = (str(tmp_path / f"{target}_{n}") for n in ("m.h5", "metrics.json", "p.h5"))
    train_model(models_in(conf, features), labelled, model)
    evaluate_model(models_in(conf, features), EvaluationFiles(model, labelled, predictions, metrics))
    return json.loads(open(metrics).read()), read_predictions(predictions, "test") or {}


def test_forces_are_learnt_and_measured(tmp_path, labelled, features):
    found, written = results(tmp_path, labelled, features, "energy_forces")
    of_energies, _ = results(tmp_path, labelled, features, "energy")
    test = LabelledSet.read(labelled)
    rows = test.indices("test")
    truth = np.concatenate([test.properties["forces"][3 * i : 3 * i + 3] for i in rows])
    rmse = float(np.sqrt(np.mean((written["forces"] - truth) ** 2)))
    assert found["errors"]["test"]["forces_rmse"] == pytest.approx(rmse, rel=1e-12)
    assert found["errors"]["test"]["forces_rmse_over_std"] == pytest.approx(rmse / np.std(truth), rel=1e-12)
    per_atom = found["errors"]["test"]["rmse_per_atom"]
    assert per_atom == pytest.approx(found["errors"]["test"]["rmse"] / 3, rel=1e-12)
    # Twelve structures: with their forces the energies of others are known far better.
    assert found["errors"]["test"]["rmse"] < 0.5 * of_energies["errors"]["test"]["rmse"]
    assert rmse < 0.2 * np.sqrt(np.mean(truth**2))
    facts = Facts(
        **found,
        arm="main", iteration=0, phase="initial", n_failed=0, pool_size=40, pool_left=20,
        target="energy_forces", metric="test",
    )  # fmt: skip
    write_history(str(tmp_path / "history.csv"), [facts], [Cost(1, 0, 0, 0.0, 0.0, 0.0, 0.0)], "done")
    head, row = (tmp_path / "history.csv").read_text().splitlines()
    assert float(row.split(",")[head.split(",").index("forces_rmse")]) == pytest.approx(rmse, rel=1e-9)
