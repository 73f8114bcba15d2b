"""The account of a targeted search, control arms in the history, and the picture of a model of one variable."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
from ase.io import read as read_frames
from ase.io import write as write_frames

from quarry.config.loading import load_configuration
from quarry.errors import QuarryError
from quarry.evaluation.comparison import Comparison
from quarry.stages.comparing import by_arm
from quarry.stages.evaluation import EvaluationFiles, evaluate_model
from quarry.stages.results import history_rows
from quarry.stages.searching import collect_pool_labels
from quarry.stages.snapshots import draw_function
from quarry.stopping.facts import Cost
from support.arms import models_in
from support.campaigns import stand_in_configuration
from support.stages import ROWS, energy_of, make_facts

MINIMUM = -1999.95


@pytest.fixture(scope="module")
def replay(pool_folder, pool):
    """A replay campaign on the pool, whose table lacks one structure."""
    frames = read_frames(pool_folder / "pool.extxyz", index=":")[: len(pool)]
    for atoms, structure in zip(frames, pool, strict=True):
        atoms.info["known"] = energy_of(structure)
    write_frames(pool_folder / "table.extxyz", frames[:-1])
    labeling = {"engine": "replay", "file": "table.extxyz", "columns": {"energy": "known"}}
    settings = {"labeling": labeling, "search": {"minimum": MINIMUM}, "test": {"size": 6}}
    return load_configuration(stand_in_configuration(**settings), "campaign.yaml")


@pytest.fixture(scope="module")
def truth(pool_folder, structures, replay):
    path = str(pool_folder / "labels.h5")
    line = collect_pool_labels(replay, pool_folder, structures, path)
    assert line == "labels of 39 of 40 candidates, to measure the search by"
    return path


def test_labels_of_the_whole_pool(truth, pool):
    with h5py.File(truth) as handle:
        values = handle["values"][()]
    assert values[:-1] == pytest.approx([energy_of(s) for s in pool][:-1], rel=1e-12) and np.isnan(values[-1])


def test_a_table_without_the_target(pool_folder, structures, replay):
    other = replay.model_copy(update={"target": "homo"})
    with pytest.raises(QuarryError, match="has no homo"):
        collect_pool_labels(other, pool_folder, structures, str(pool_folder / "no.h5"))


def test_the_account_of_an_iteration(replay, trained, structures, features, truth, pool, tmp_path):
    """Counted once more from the labels and the model's own predictions."""
    from quarry.descriptors.features_file import read_features
    from quarry.models.registry import load_regression

    names = [str(trained / name) for name in ("model.h5", "dataset.h5")]
    names += [str(tmp_path / name) for name in ("p.h5", "m.json")]
    evaluate_model(models_in(replay, features, structures=structures), EvaluationFiles(*names, truth=truth))
    found = json.loads((tmp_path / "m.json").read_text())["search"]
    wanted = np.array([energy_of(s) for s in pool]) > MINIMUM
    mean = load_regression(trained / "model.h5", "gpr").predict(pool, read_features(features)).mean
    roles = np.array([ROWS.get(i, "free") for i in range(40)])
    roles[39] = "none"
    assert found["found"] == wanted[roles == "train"].sum() > 0
    assert found["in_range"] == wanted[(roles != "test") & (roles != "none")].sum()
    for part, where in (("test", roles == "test"), ("pool", roles == "free")):
        hits = (wanted & (mean > MINIMUM))[where].sum()
        assert found[part]["true_positives"] == hits and found[part]["positives"] == wanted[where].sum()
        assert found[part]["fpr"] == pytest.approx((~wanted & (mean > MINIMUM))[where].sum() / (~wanted)[where].sum())


def test_columns_of_the_history():
    rates = {"tpr": 0.5, "fpr": None}
    facts = [
        make_facts(t, n_train=10 * (t + 1), search={"found": 2 + 6 * t, "in_range": 16, "test": rates, "pool": rates})
        for t in range(3)
    ]
    control = [make_facts(t, n_train=10 * (t + 1), search={"found": 2 + 2 * t}) for t in range(3)]
    comparison = Comparison.of([facts], [control, control])
    assert [m.quality for m in comparison.measures] == ["number of structures in range"]
    rows = history_rows(facts, [Cost(0, 0, 0, 0.0, 0.0, 0.0, 0.0)] * 3, "", comparison.columns())
    assert [row["in_range_found"] for row in rows] == ["2", "8", "14"]
    assert (rows[1]["in_range_share"], rows[1]["pool_tpr"], rows[1]["fpr"]) == ("0.5", "0.5", "")
    # The control's 6 with 30 labels are found with 10 + 4 / 6 of 10 more.
    assert float(rows[2]["labels_saved"]) == pytest.approx(30 - 10 - 10 * 4 / 6, abs=0.05)
    assert rows[2]["labels_saved_low"] == rows[2]["labels_saved_high"] == rows[2]["labels_saved"]
    assert rows[2]["verdict"] == "saved" and rows[0]["labels_saved"] == rows[0]["verdict"] == ""
    assert rows[2]["labels_saved_mae"] == rows[2]["verdict_mae"] == ""


def test_accuracies_are_compared_by_their_errors():
    def arm(values):
        return [
            make_facts(t, n_train=10 * 2**t, target="class", errors={"test": {"accuracy": v}})
            for t, v in enumerate(values)
        ]

    found = Comparison.of([arm([0.5, 0.8, 0.9])], [arm([0.5, 0.6, 0.8])])
    (measure,) = found.measures
    assert measure.quality == "test accuracy" and measure.controls[0].quality == pytest.approx((0.5, 0.4, 0.2))
    assert 10 < measure.savings[2].saved < 25 and measure.savings[2].verdict == "unknown"


def test_files_by_arm():
    paths = [f"results/x/{arm}/iter_{t:03d}/facts.json" for arm in ("b", "a") for t in range(2)]
    assert by_arm(paths) == {"b": paths[:2], "a": paths[2:]}


def test_the_picture_of_a_function(tmp_path):
    """A model that has seen its points: the picture is written, with what the next batch adds."""
    from quarry.stages.pool import build_features, build_pool
    from quarry.stages.training import train_model
    from quarry.structures.files import read_pool
    from quarry.structures.labelled import LabelledSet

    (tmp_path / "x.csv").write_text("x\n" + "\n".join(f"{0.5 * i}" for i in range(20)) + "\n")
    settings = {
        "pool": {"source": "table", "files": ["x.csv"], "features": ["x"]},
        "descriptor": {"kind": "table"},
        "target": "value",
    }
    configuration = load_configuration(stand_in_configuration(**settings), "campaign.yaml")
    assert configuration.is_function
    files = [str(tmp_path / name) for name in ("structures.h5", "reference.extxyz", "filtered.csv", "features.h5")]
    build_pool(configuration, tmp_path, None, *files[:3])
    build_features(files[0], files[1], configuration.descriptor, files[3])
    pool, models, datasets = read_pool(files[0]), [], []
    for t, rows in enumerate(([0, 9, 19], [0, 9, 14, 19])):
        folder = tmp_path / f"iter_{t:03d}"
        chosen = [pool[i] for i in rows]
        values = [{"value": float(np.sin(s.features[0]))} for s in chosen]
        datasets.append(str(folder / "dataset.h5"))
        folder.mkdir()
        LabelledSet.from_records(chosen, ["train"] * len(rows), [0] * len(rows), values).write(datasets[-1], {})
        models.append(str(folder / "model/model.h5"))
        train_model(models_in(configuration, files[3]), datasets[-1], models[-1])
    draw_function(models_in(configuration, files[3]), models, datasets, str(tmp_path / "f.svg"))
    text = (tmp_path / "f.svg").read_text()
    assert "iteration 0: 3 labels" in text and "iteration 1: 4 labels" in text and text.count("chosen next") == 1
