"""Campaigns on tables of features: the lecture's labs, classes by a committee."""

import csv
import shutil

import numpy as np
import pytest

from support.campaigns import REPOSITORY, CampaignFolder, stand_in_configuration


def rows_of(path):
    with open(path, newline="") as handle:
        return list(csv.DictReader(handle))


def test_the_first_lab_of_the_lecture(tmp_path):
    """A point at a time where the model is least certain, and the picture of it; two points instead of all."""
    folder = CampaignFolder.create(tmp_path / "lab")
    for name in ("lecture_gpr.yaml", "lecture_gpr.csv"):
        shutil.copy(REPOSITORY / "config" / "campaigns" / name, folder.path)
    shutil.copy(folder.path / "lecture_gpr.yaml", folder.path / "campaign.yaml")
    outcome = folder.run("--config", "stop={max_iterations: 2}")
    assert outcome.code == 0, outcome.text[-3000:]
    results = folder.path / "results/lecture_gpr"
    rows = rows_of(results / "history.csv")
    assert [int(row["n_train"]) for row in rows] == [3, 4, 5]
    picture = (results / "figures/function.svg").read_text()
    assert "iteration 0: 3 labels" in picture and "iteration 2: 5 labels" in picture
    # The point that was added is the most uncertain candidate of the model before.
    batch = rows_of(results / "main/iter_001/proposal.csv")
    assert len(batch) == 1 and float(batch[0]["score"]) > 0


def test_classes_by_a_committee(tmp_path):
    """Labels from the function engine, votes of two members that are trained by jobs of their own; one is lost and made again."""
    rng = np.random.default_rng(0)
    folder = CampaignFolder.create(tmp_path / "classes")
    table = "x1,x2\n" + "".join(f"{a},{b}\n" for a, b in rng.uniform(-1, 1, (60, 2)))
    (folder.path / "table.csv").write_text(table)
    (folder.path / "oracle.py").write_text(
        "def ring(atoms):\n    return {'value': float((atoms.info['features'] ** 2).sum())}\n"
    )
    configuration = stand_in_configuration(
        pool={"source": "table", "files": ["table.csv"], "features": ["x1", "x2"]},
        descriptor={"kind": "table"},
        target="class",
        classification={"property": "value", "boundaries": [0.6], "names": ["inside", "outside"]},
        labeling={"engine": "function", "function": "oracle:ring", "retries": 0, "structures_per_job": 10},
        model={"kind": "mlp", "hidden": [16], "epochs": 40, "uncertainty": "committee", "members": 2},
        query={"strategy": "vote_entropy", "initial": 12, "batch": {"schedule": "constant", "size": 6}},
        test={"size": 20},
        stop={"rrmse": None, "max_iterations": 1},
    )
    folder.configure(configuration)
    outcome = folder.run()
    assert outcome.code == 0, outcome.text[-3000:]
    rows = rows_of(folder.results / "history.csv")
    for row in rows:
        confusion = np.array([[int(n) for n in line.split()] for line in row["confusion"].split("; ")])
        assert confusion.sum() == 20 and float(row["accuracy"]) == pytest.approx(np.trace(confusion) / 20)
        assert row["rmse"] == ""
    assert any("test accuracy" in line for line in outcome.lines)
    assert "label" in (folder.results / "figures/parity.svg").read_text()
    before = folder.products()
    member = folder.results / "main/iter_001/model/members/001.h5"
    content = member.read_bytes()
    member.unlink()
    outcome = folder.run()
    assert outcome.code == 0 and outcome.text.count("training member") == 1, outcome.text[-3000:]
    assert member.read_bytes() == content and folder.products() == before
