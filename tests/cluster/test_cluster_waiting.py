"""Refused submissions, a controller that is away, and settings that could never work, on a real Slurm."""

from __future__ import annotations

import os
import shutil
import signal
import time

import pytest

from support.campaigns import REPOSITORY, CampaignFolder, kill_group, stand_in_configuration
from support.label_desk import wait_until
from support.profiles import OPTIONS

SBATCH = """
# A site's sbatch: a banner with dates before the id, no more than three jobs at a time, and a hiccup now and then.
echo $BASHPID >> {folder}/sbatch.calls
calls=$(wc -l < {folder}/sbatch.calls)
if [ $((calls % 4)) = 2 ]; then
  echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2; exit 1
fi
if [ $(squeue --noheader --states=PD,R | wc -l) -ge 3 ]; then
  echo "sbatch: error: AssocMaxSubmitJobLimit" >&2
  echo "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size)" >&2
  exit 1
fi
echo "2026-11-26 08:00 maintenance of 3 nodes"
exec {real} "$@"
"""


# Six jobs that wait for the file `go`, by the executors that a campaign uses.
SNAKEFILE = """
import sys
from pathlib import Path

if workflow.is_main_process:
    sys.path.insert(0, "{library}")
    from quarry.submission.executors import install

    install(Path("{project}"))

rule all:
    input: [f"{{n}}.txt" for n in range(6)]

rule job:
    output: "{{n}}.txt"
    shell: "echo {{wildcards.n}} >> began; while [ ! -e go ]; do sleep 0.1; done; touch {{output}}"
"""


@pytest.fixture
def workflow(tmp_path):
    """A working directory with six jobs, which go on at the end if they still wait."""
    (tmp_path / "Snakefile").write_text(SNAKEFILE.format(library=REPOSITORY / "workflow_scripts", project=REPOSITORY))
    (tmp_path / "profiles").symlink_to(REPOSITORY / "profiles")
    yield tmp_path
    (tmp_path / "go").touch()


def began(folder):
    path = folder / "began"
    return path.read_text().split() if path.exists() else []


def site_command(folder, name, script):
    """Write a command that stands before Slurm's own in PATH."""
    path = folder / "site" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/bash\n{script}")
    path.chmod(0o755)


@pytest.mark.parametrize("profile", OPTIONS)
def test_refused_submissions_wait_and_use_up_no_attempt(profile, slurm_cluster, workflow, start_snakemake):
    """Three jobs at a time, every fourth submission fails, a banner before the id: nothing is tried again, nothing lost."""
    real = shutil.which("sbatch", path=slurm_cluster.environment["PATH"])
    site_command(workflow, "sbatch", SBATCH.format(folder=workflow, real=real))
    environment = {**slurm_cluster.environment, "PATH": f"{workflow / 'site'}:{slurm_cluster.environment['PATH']}"}
    run = start_snakemake(workflow, *OPTIONS[profile], "--retries", "0", environment=environment, forked=True)
    run.wait_until(lambda: "AssocMaxSubmitJobLimit" in run.output and len(began(workflow)) == 3, "limit")
    (workflow / "go").touch()
    code, output = run.wait()
    assert code == 0, output
    assert sorted(began(workflow)) == list("012345")
    told = [line for line in output.splitlines() if "does not take jobs now" in line]
    assert len(told) == 2, told
    assert "AssocMaxSubmitJobLimit; Batch job submission failed" in "".join(told)


def test_the_controller_is_away_while_jobs_end(slurm_cluster, workflow, start_snakemake):
    """The plugin's question for the jobs fails; the jobs end meanwhile, and the run goes on."""
    real = shutil.which("squeue", path=slurm_cluster.environment["PATH"])
    asked = workflow / "asked.nobody"
    site_command(workflow, "squeue", f"scontrol ping | grep -q 'is UP' || touch {asked}\nexec {real} \"$@\"\n")
    environment = {**slurm_cluster.environment, "PATH": f"{workflow / 'site'}:{slurm_cluster.environment['PATH']}"}
    run = start_snakemake(workflow, *OPTIONS["slurm"], environment=environment, forked=True)
    run.wait_until(lambda: len(began(workflow)) == 6, "running jobs")
    slurm_cluster.stop_controller()
    try:
        (workflow / "go").touch()
        run.wait_until(asked.exists, "question to the controller")
        # It fails after 9 s.
        time.sleep(11)
        assert run.process.poll() is None, run.output
    finally:
        slurm_cluster.start_controller()
    code, output = run.wait()
    assert code == 0, output
    assert "Falling back to 'sacct'" not in output
    assert len(began(workflow)) == 6


@pytest.fixture
def campaign(slurm_cluster, tmp_path):
    """A small campaign; its main process is killed at the end."""
    folder = CampaignFolder.create(tmp_path / "campaign", stand_in_configuration(stop={"max_labels": 6}))
    folder.environment = dict(slurm_cluster.environment)
    started = []

    def start(profile, *arguments):
        folder.options = OPTIONS[profile]
        started.append(folder.start(*arguments))
        return started[-1]

    folder.begin = start
    folder.text = (folder.path / "background.log").read_text
    yield folder
    for process in started:
        kill_group(process)


def test_a_stopped_run_does_not_wait_for_what_was_refused(slurm_cluster, campaign):
    """A closed partition refuses every job; TERM gives the waiting jobs back, and the run ends."""
    slurm_cluster.run("scontrol", "update", "PartitionName=main", "State=INACTIVE")
    try:
        main = campaign.begin("slurm")
        wait_until(lambda: "does not take jobs now" in campaign.text(), 120)
        assert "Required partition not available" in campaign.text()
        os.kill(main.pid, signal.SIGTERM)
        assert main.wait(timeout=30) != 0
    finally:
        slurm_cluster.run("scontrol", "update", "PartitionName=main", "State=UP")
    assert slurm_cluster.queue() == []


@pytest.mark.parametrize("profile", OPTIONS)
def test_a_partition_that_does_not_exist_ends_the_run_in_one_line(profile, slurm_cluster, campaign):
    options = {
        "slurm": ["--default-resources", "mem_mb=1000", "runtime=60", "slurm_partition=nope"],
        "cluster-generic": [
            "--cluster-generic-submit-cmd",
            "'{workflow.basedir}/profiles/cluster-generic/submit.py' --partition=nope",
        ],
    }
    main = campaign.begin(profile, *options[profile])
    assert main.wait(timeout=60) != 0
    told = [line for line in campaign.text().splitlines() if "will never take such a job" in line]
    assert len(told) == 1 and "nvalid partition" in told[0], campaign.text()[-3000:]
    assert "Trying to restart" not in campaign.text()


def test_sacct_without_accounting_is_refused_at_the_start(slurm_cluster, campaign):
    main = campaign.begin("slurm", "--slurm-status-command", "sacct")
    assert main.wait(timeout=60) != 0
    [line] = [line for line in campaign.text().splitlines() if line.startswith("Quarry: slurm-status-command")]
    assert "this cluster has no accounting" in line and "use squeue" in line
    assert "Traceback" not in campaign.text()
