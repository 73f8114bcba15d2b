"""Whole campaigns on a real Slurm: success, jobs that fail or are cancelled, a main process that is killed."""

import time
from pathlib import Path

import pytest

from support.campaigns import REPOSITORY, CampaignFolder, stand_in_configuration

HERE = Path(__file__).parent
OPTIONS = {
    "slurm": [
        *("--profile", str(REPOSITORY / "profiles" / "slurm"), "--profile", str(HERE / "slurm-overrides")),
        *("--workflow-profile", "none"),
    ],
    "cluster-generic": [
        *("--workflow-profile", str(REPOSITORY / "profiles" / "cluster-generic")),
        *("--seconds-between-status-checks", "1", "--latency-wait", "10"),
        *("--cluster-generic-status-cmd", ".snakemake/cluster-generic/status.py --cache 1 --grace 4"),
    ],
}


def configuration(function="morse", retries=1, max_labels=9, **arguments):
    labeling = {"engine": "function", "function": f"stand_in:{function}", "arguments": arguments, "retries": retries}
    return stand_in_configuration(labeling=labeling, stop={"rrmse": None, "max_labels": max_labels})


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The same campaign on this machine alone, undisturbed."""
    folder = CampaignFolder.create(tmp_path_factory.mktemp("local") / "campaign", configuration())
    assert folder.run().code == 0
    return folder


def on_cluster(path, cluster, profile, settings):
    folder = CampaignFolder.create(path, settings)
    folder.options = OPTIONS[profile]
    folder.environment = dict(cluster.environment)
    return folder


def gates(folder):
    """Batches and facts: what the labels decide, whatever engine function made them."""
    return {name: data for name, data in folder.products().items() if name.endswith(("batch.csv", "facts.json"))}


# The slurm plugin looks every 2, 12, 22 ... seconds: one iteration where every job fails once takes a minute already.
@pytest.mark.parametrize(("profile", "max_labels"), [("slurm", 6), ("cluster-generic", 9)])
def test_campaign_with_jobs_that_die(profile, max_labels, slurm_cluster, tmp_path, reference):
    """Every label job dies once and is submitted again; the data set is that of an undisturbed local run."""
    settings = configuration("flaky", max_labels=max_labels)
    folder = on_cluster(tmp_path / "campaign", slurm_cluster, profile, settings)
    outcome = folder.run(timeout=400)
    assert outcome.code == 0, outcome.text[-3000:]
    assert len(folder.calls()) == len(set(folder.calls())) == max_labels
    ours, theirs = gates(folder), gates(reference)
    assert ours and all(theirs[name] == content for name, content in ours.items())
    assert slurm_cluster.queue() == []
    assert folder.run().nothing_to_do


def test_cancelled_job_and_killed_main_process(slurm_cluster, tmp_path, reference):
    """A label job is cancelled, then the main process gets kill -9; the same command goes on, and no label is lost."""
    folder = on_cluster(tmp_path / "campaign", slurm_cluster, "slurm", configuration(seconds=6.0))
    process = folder.start()

    def wait_for(condition, what, seconds=90):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"no {what}: " + (folder.path / "background.log").read_text()[-3000:]
            time.sleep(0.2)

    def running_labels():
        lines = slurm_cluster.run("squeue", "--noheader", "--states=R", "--format=%i %k").splitlines()
        return [line.split()[0] for line in lines if "label_structure" in line]

    wait_for(running_labels, "running label job")
    slurm_cluster.run("scancel", running_labels()[0])
    wait_for(lambda: folder.stored(), "label in the store")
    process.kill()
    process.wait()
    wait_for(lambda: not slurm_cluster.queue(), "end of the orphaned jobs")
    known, before = folder.stored(), len(folder.calls())
    assert known
    outcome = folder.run(timeout=400)
    assert outcome.code == 0, outcome.text[-3000:]
    assert not known & set(folder.calls()[before:]), "finished labels were computed again"
    assert gates(folder) == gates(reference)
    assert folder.run().nothing_to_do
