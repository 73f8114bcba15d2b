"""Results folders that an earlier version left, finished or killed midway, go on: its labels stay, its batches are made."""

import csv
import json
import shutil
import tarfile

import ase.io
import numpy as np
import pytest
import yaml

from quarry.calculator import QuarryCalculator
from quarry.command_line.main import main
from support.campaigns import REPOSITORY, CampaignFolder
from support.graph import rules_to_run

ARCHIVES = REPOSITORY / "tests" / "data" / "earlier_results"
PACKED = {"batch", "labels", "attempts", "logs"}
"""Folders of an iteration whose files go into its archive."""


def look(root, to, capsys):
    """Ask for all that ``quarry`` says of a campaign, which has merged labels: an answer each, and no write."""
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in root.rglob("*") if path.is_file()}
    exports = [["export", "--format", name, "--to", str(to / f"a.{name}")] for name in ("extxyz", "hdf5")]
    for command in (["status"], ["status", "--json"], ["card"], *exports):
        assert main([command[0], str(root), *command[1:]]) == 0
        out, err = capsys.readouterr()
        assert out and not err
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in root.rglob("*") if path.is_file()} == before


def files_of(iterations):
    """Return the content of every file of iterations that no archive takes, by its path."""
    return {
        path: path.read_bytes()
        for iteration in iterations
        for path in iteration.rglob("*")
        if path.is_file() and path.name != "packed.zip" and path.relative_to(iteration).parts[0] not in PACKED
    }


@pytest.mark.parametrize("kind", ["finished", "arms", "spectrum", "search", "committee"])
def test_the_campaign_of_an_earlier_version_goes_on(kind, tmp_path, capsys):
    with tarfile.open(ARCHIVES / f"{kind}.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    shutil.copy(REPOSITORY / "tests" / "support" / "stand_in.py", tmp_path)
    folder, expected = CampaignFolder(tmp_path), json.loads((tmp_path / "batches.json").read_text())
    name = yaml.safe_load((tmp_path / "campaign.yaml").read_text())["name"]
    root = tmp_path / "results" / name
    # Finished for good: what has facts of an arm. (The last one may have been cut behind them; it is made again as it was.)
    whole = [path.parent for path in root.glob("*/iter_*/facts.json")]
    before, stored = files_of(whole), {path: path.read_bytes() for path in tmp_path.glob("label_store/*/??/*.json")}
    calls = folder.calls()
    assert len(whole) >= 2 and stored
    look(root, tmp_path, capsys)

    if kind == "finished":
        new = ["describe_model", "publish_model", "describe_dataset", "write_overview", "all"]
        assert rules_to_run(folder) == dict.fromkeys(new, 1), "its model is a product, and its data set has a card"
    outcome = folder.run()
    assert outcome.code == 0, outcome.text[-3000:]
    assert not outcome.nothing_to_do
    assert not [line for line in outcome.lines if "moved aside" in line or "another configuration" in line], (
        outcome.text
    )
    batches = {
        str(table.parent.relative_to(root)): [row["structure_id"] for row in csv.DictReader(table.open())]
        for table in root.glob("*/iter_*/batch.csv")
    }
    assert batches == expected, "the batches are those that the earlier version chose"
    changed = [path for path, content in before.items() if not path.exists() or path.read_bytes() != content]
    assert changed == []
    assert all(path.read_bytes() == content for path, content in stored.items())
    now = folder.calls()
    assert now[: len(calls)] == calls and len(now) == len(set(now)), "no label is computed again"
    assert folder.run().nothing_to_do
    if kind == "finished":
        frame = ase.io.read(tmp_path / "pool.extxyz", 0)
        frame.calc = QuarryCalculator(root)
        assert np.isfinite(frame.get_forces()).all() and frame.get_forces().any()
    summary = folder.run("--summary")
    plans = {line.split("\t")[0]: line.split("\t")[-1] for line in summary.text.splitlines() if line.count("\t") > 4}
    assert summary.code == 0 and {str(path.relative_to(tmp_path)) for path in root.glob("*/iter_*/facts.json")} <= {
        *plans
    }
    assert {plan for path, plan in plans.items() if path != "output_file"} == {"no update"}
