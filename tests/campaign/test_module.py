"""The workflow as a module of a Snakefile of the user's own, with prefixes, rules before and behind it, and two campaigns."""

import json

import pytest
import yaml

from quarry.campaign.loop import RULES
from support.campaigns import REPOSITORY, SNAKEFILE, CampaignFolder, kill_group, stand_in_configuration
from support.label_desk import wait_until

SNAKEFILE_OF_THE_USER = f"""
configfile: "settings.yaml"

rule everything:
    input:
        "labelling/size.txt",
        "again/results/toy/dataset.h5",

module quarry:
    snakefile: "{SNAKEFILE}"
    config: config["labelling"]
    prefix: "labelling"

use rule * from quarry as quarry_*

use rule train_model from quarry as quarry_train_model with:
    priority: 5

module second:
    snakefile: "{SNAKEFILE}"
    config: config["again"]
    prefix: "again"

use rule * from second as second_*

rule size:
    input:
        "labelling/results/toy/dataset.h5",
    output:
        "labelling/size.txt",
    shell:
        "stat -c %s {{input}} > {{output}}"

onsuccess:
    quarry.onsuccess()
    second.onsuccess()

onerror:
    quarry.onerror()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = CampaignFolder.create(tmp_path_factory.mktemp("module") / "own")
    (folder.path / "campaign.yaml").unlink()
    first = stand_in_configuration(stop={"rrmse": None, "max_iterations": 1})
    second = stand_in_configuration(seed=4, stop={"rrmse": None, "max_labels": 6})
    (folder.path / "settings.yaml").write_text(yaml.safe_dump({"labelling": first, "again": second}))
    folder.snakefile = folder.path / "Snakefile"
    folder.snakefile.write_text(SNAKEFILE_OF_THE_USER)
    return folder


OPTIONS = ["--cores", "2", "--workflow-profile", str(REPOSITORY / "profiles" / "default")]


def run(folder, *arguments):
    return folder.run_as_given(*arguments, *OPTIONS)


def test_a_campaign_is_a_part_of_a_workflow(folder):
    planned = run(folder, "-n")
    assert planned.code == 0, planned.text[-3000:]
    assert "quarry_build_pool" in planned.text and "second_build_pool" in planned.text

    process = folder.start_as_given(*OPTIONS)
    wait_until((folder.path / "labelling/results/toy/main/iter_000/facts.json").exists)
    kill_group(process)
    before = folder.calls()
    outcome = run(folder)
    assert outcome.code == 0, outcome.text[-3000:]
    calls = folder.calls()
    assert len(calls) == len(set(calls)) and set(before) <= set(calls), "no label is computed twice"
    size = (folder.path / "labelling/results/toy/dataset.h5").stat().st_size
    assert (folder.path / "labelling/size.txt").read_text().split() == [str(size)]
    assert not (folder.path / "results").exists(), "everything lies behind a prefix"
    assert set(calls) == folder.stored(), "both share the label store of the working directory"
    for message in (
        "arm main: 9 labels in 2 iterations; stopped: the budget of max_iterations = 1 is spent",
        "arm main: 6 labels in 1 iterations; stopped: the budget of max_labels = 6 is spent",
        "results in labelling/results/toy:",
    ):
        assert any(message in line for line in outcome.lines), (message, outcome.lines)
    for prefix in ("labelling", "again"):
        root = folder.path / prefix / "results/toy"
        receipts = list(root.rglob("receipts/*.json"))
        assert {path.stem for path in receipts} <= set(RULES)
        assert {json.loads(path.read_text())["rule"] for path in receipts} <= set(RULES)
        assert (root / "main/iter_000/packed.zip").exists()
    again = run(folder)
    assert again.nothing_to_do, again.text[-3000:]


def test_pictures_of_a_module_are_a_look(folder):
    """They take no lease and write down no run, so that they can be drawn beside one."""
    runs = [folder.path / place / "results/toy/last_run.json" for place in ("labelling", "again")]
    before = [path.read_bytes() for path in runs]
    outcome = run(folder, "quarry_dag_pictures")
    assert outcome.code == 0 and "results in" not in outcome.text, outcome.text[-3000:]
    assert [path.read_bytes() for path in runs] == before
    picture = (folder.path / "labelling/results/toy/figures/dag_iteration.svg").read_text()
    assert "toy: iteration " in picture and ">label_structure × 3<" in picture


def test_targets_and_configurations_of_a_module_are_checked(folder, tmp_path):
    outcome = run(folder, "-n", "quarry_verify")
    assert outcome.code == 0 and "quarry_recompute_label" in outcome.text, outcome.text[-3000:]
    summary = run(folder, "--summary")
    assert "labelling/results/toy/main/iter_000/labels/" in summary.text, "packed labels are shown as there"
    own = CampaignFolder.create(tmp_path / "wrong")
    own.snakefile = own.path / "Snakefile"
    own.snakefile.write_text(SNAKEFILE_OF_THE_USER)
    wrong = {"labelling": stand_in_configuration(sed=1), "again": stand_in_configuration()}
    (own.path / "settings.yaml").write_text(yaml.safe_dump(wrong))
    refused = run(own, "-n")
    assert refused.code == 1
    assert any(line.startswith("Quarry: config of module quarry: sed: ") for line in refused.lines), refused.text


def test_jobs_take_the_library_of_their_snakefile(tmp_path):
    """Whatever is installed, or lies on the user's own path."""
    folder = CampaignFolder.create(tmp_path / "campaign")
    other = tmp_path / "elsewhere" / "quarry"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("raise ImportError('this is another Quarry')\n")
    folder.environment, folder.forked_jobs = {"PYTHONPATH": str(other.parent)}, False
    outcome = folder.run("results/toy/pool/structures.h5")
    assert outcome.code == 0, outcome.text[-3000:]
