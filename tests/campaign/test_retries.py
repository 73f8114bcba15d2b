"""Failed labels that are tried again: with more memory by the workflow, in the next batch by the user."""

import csv

import pytest

from quarry.campaign.batch_table import read_batch
from quarry.campaign.failure_table import read_failures
from support.campaigns import CampaignFolder, stand_in_configuration


def labeling(function, retries=0, **settings):
    keys = ("max_failed_fraction", "growth", "straggler_factor", "structures_per_job")
    common = {key: settings.pop(key) for key in keys if key in settings}
    return {
        "engine": "function",
        "function": f"stand_in:{function}",
        "arguments": settings,
        "retries": retries,
        "heartbeat_s": 0.5,
        **common,
    }


def core_hours(folder):
    with open(folder.results / "history.csv", newline="") as handle:
        return float(list(csv.DictReader(handle))[-1]["core_hours_total"])


def test_a_label_that_runs_out_of_memory_gets_more(tmp_path):
    """300 MB are not enough for 350, 600 are; the record says what the first attempt was."""
    settings = stand_in_configuration(
        labeling=labeling("hungry", retries=1, needs_MB=350),
        query={"strategy": "random", "initial": 2, "batch": {"schedule": "constant", "size": 1}},
        test={"size": 2},
        stop={"max_labels": 4},
        resources={"label": {"memory_MB": 350}},
    )
    folder = CampaignFolder.create(tmp_path / "campaign", settings)
    folder.forked_jobs = False  # They would count the memory of what they were forked from.
    outcome = folder.run()
    assert outcome.code == 0, outcome.text[-3000:]
    labels = folder.labels("main/iter_000")
    assert len(labels) == 4
    for record in labels:
        assert record.ok
        [[verdict, _, memory_MB, _]] = record.cost["earlier_attempts"]
        assert (verdict, memory_MB) == ("out_of_memory", 350)


@pytest.fixture(scope="module")
def stopped_run(tmp_path_factory):
    """A campaign that failures have stopped in its first batch, and the run's outcome: every label waits for a file."""
    settings = stand_in_configuration(labeling=labeling("fails_without", max_failed_fraction=0.4, file="repaired"))
    folder = CampaignFolder.create(tmp_path_factory.mktemp("stopped") / "campaign", settings)
    return folder, folder.run()


@pytest.fixture
def stopped(stopped_run, tmp_path):
    return stopped_run[0].copy(tmp_path / "campaign")


def test_a_campaign_without_a_good_label_may_be_changed(stopped_run, stopped):
    """The cause of all failures is an argument of the method; the manifest lets it be repaired, and nothing else is kept."""
    outcome = stopped_run[1]
    assert "every key may be changed" in outcome.text
    changed = labeling("fails_without", max_failed_fraction=0.4, file="stand_in.py")
    stopped.configure(stand_in_configuration(labeling=changed, seed=4, stop={"rrmse": None, "max_labels": 6}))
    preview = stopped.run("-n")
    message = "results/toy has no label that has succeeded, and another configuration now: "
    assert preview.code == 0 and message in preview.text and not (stopped.results / "set_aside").exists()
    outcome = stopped.run()
    assert outcome.code == 0, outcome.text[-3000:]
    [line] = [line for line in outcome.lines if message in line]
    assert 'labeling.arguments.file ("repaired" there, "stand_in.py" now)' in line and "seed (3 there, 4 now)" in line
    assert len(stopped.calls()) == len(set(stopped.calls())) == 6
    assert {"main", "pool", "failed", "campaign.json"} <= {
        p.name for p in (stopped.results / "set_aside" / "1").iterdir()
    }
    assert not list((stopped.results / "failed").glob("*.json"))
    assert not read_failures(stopped.results / "failures.csv")
    stopped.configure(stand_in_configuration(labeling=changed, seed=5, stop={"rrmse": None, "max_labels": 6}))
    outcome = stopped.run("-n")
    assert outcome.code != 0 and "was made by another configuration: seed (4 there, 5 now)" in outcome.text


def test_retry_failed_of_a_stopped_campaign(stopped_run, stopped):
    outcome = stopped_run[1]
    assert outcome.code != 0
    assert "6 of 6 labels have failed (engine_error 6)" in outcome.text and "retry_failed" in outcome.text
    assert "Quarry: failed: engine_error" in outcome.text
    assert "failed labels go into" not in stopped.run().text, "the same command alone tries nothing again"
    assert not stopped.calls()
    (stopped.path / "repaired").touch()
    outcome = stopped.run("retry_failed")
    assert outcome.code == 0, outcome.text[-3000:]
    assert "arm main: 6 failed labels go into the batch of iteration 0" in outcome.text
    assert len(stopped.calls()) == len(set(stopped.calls())) == 12
    rows = read_batch(stopped.results / "main/iter_000/batch.csv")
    assert all(row.retry_of == row.structure_id and row.key == f"{row.structure_id}_r1" for row in rows)
    failures = read_failures(stopped.results / "failures.csv")
    assert [f["retried"] for f in failures] == [row.key for row in rows], "the first records stay accounted for"
    assert len(list((stopped.results / "failed").glob("*.json"))) == 6
    assert stopped.run().nothing_to_do
    assert "no failed labels" in stopped.run("retry_failed").text


def test_retry_failed_of_a_finished_campaign(tmp_path):
    """The retries come as one more batch, which holds nothing else; nothing that succeeded is computed again."""
    settings = stand_in_configuration(labeling=labeling("morse"))
    plain = CampaignFolder.create(tmp_path / "plain", settings)
    assert plain.run("--until", "select_batch").code == 0
    first = [row.structure_id for row in read_batch(plain.results / "main/iter_000/batch.csv")]
    arguments = {"file": "repaired", "only": [first[0], first[4]], "max_failed_fraction": 0.5}
    folder = CampaignFolder.create(
        tmp_path / "campaign", stand_in_configuration(labeling=labeling("fails_without", **arguments))
    )
    assert folder.run().code == 0
    before, cost = folder.calls(), core_hours(folder)
    iterations = len(list(folder.results.glob("main/iter_*")))
    (folder.path / "repaired").touch()
    preview = folder.run("-n", "retry_failed")
    assert "2 failed labels go into" in preview.text and not (folder.results / "retries.json").exists()
    outcome = folder.run("retry_failed")
    assert outcome.code == 0, outcome.text[-3000:]
    assert f"2 failed labels go into the batch of iteration {iterations}, which holds nothing else" in outcome.text
    assert set(folder.calls()[len(before) :]) == {first[0], first[4]}
    rows = read_batch(folder.results / f"main/iter_{iterations:03d}/batch.csv")
    assert {row.role for row in rows} == {"train", "test"} and len(rows) == 2
    assert core_hours(folder) >= cost
    assert folder.run().nothing_to_do


def test_a_straggler_does_not_hold_its_iteration(tmp_path):
    """A label that takes a minute where others take none is put off, and comes back in the next batch by itself."""
    plain = CampaignFolder.create(tmp_path / "plain", stand_in_configuration())
    assert plain.run("results/toy/main/iter_001/batch.csv").code == 0
    [slow, *_] = [row.structure_id for row in read_batch(plain.results / "main/iter_001/batch.csv")]
    settings = stand_in_configuration(
        labeling=labeling("slow_at_first", slow=[slow], straggler_factor=3.0, structures_per_job=2),
    )
    folder = CampaignFolder.create(tmp_path / "campaign", settings)
    outcome = folder.run(timeout=300)
    assert outcome.code == 0, outcome.text[-3000:]
    [failure] = read_failures(folder.results / "failures.csv")
    assert (failure["status"], failure["straggler"], failure["retried"]) == ("out_of_time", "yes", f"{slow}_r1")
    assert float(failure["wall_s"]) < 30
    retries = [row for row in read_batch(folder.results / "main/iter_002/batch.csv") if row.retry_of]
    assert [row.structure_id for row in retries] == [slow]
    assert folder.calls().count(slow) == 1 and len(folder.calls()) == len(set(folder.calls())) == 12
