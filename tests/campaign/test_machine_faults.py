"""Faults of the machine: a job of any rule that dies without a word is tried again; one with a fault of its own is not."""

from __future__ import annotations

from support.campaigns import CampaignFolder, stand_in_configuration

KILLED = (
    "build_pool",
    "build_features",
    "select_batch",
    "merge_labels",
    "train_model",
    "evaluate_model",
    "assess_iteration",
)
SITE = """
import os, signal, sys
from pathlib import Path

script = Path(sys.orig_argv[-1]).name.split(".")
if len(script) == 3 and script[1] in {killed} and script[0].startswith("tmp"):
    try:
        (Path("{folder}") / script[1]).touch(exist_ok=False)
        os.kill(os.getpid(), signal.SIGKILL)
    except FileExistsError:
        pass
"""


def test_a_job_of_any_rule_that_is_killed_is_tried_again(tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITE.format(killed=KILLED, folder=site))
    folder = CampaignFolder.create(tmp_path / "campaign")
    folder.environment, folder.forked_jobs = {"PYTHONPATH": str(site)}, False
    outcome = folder.run("--", "results/toy/main/iter_000/facts.json")
    assert outcome.code == 0, outcome.text[-3000:]
    assert {path.name for path in site.iterdir()} >= set(KILLED)
    assert outcome.text.count("Trying to restart job") == len(KILLED)


def test_a_job_that_finds_a_fault_of_its_own_is_not_tried_again(tmp_path):
    settings = stand_in_configuration()
    settings["labeling"] |= {
        "function": "stand_in:fails_without",
        "arguments": {"file": "nothing"},
        "max_failed_fraction": 0.2,
    }
    folder = CampaignFolder.create(tmp_path / "campaign", settings)
    outcome = folder.run()
    assert outcome.code != 0
    assert len([line for line in outcome.lines if "merge_labels" in line]) == 1, outcome.text[-3000:]
    assert "Trying to restart" not in outcome.text
