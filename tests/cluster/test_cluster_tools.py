"""The cluster profiles against a real Slurm: jobs that end well, fail or are cancelled, and a silent queue."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from support.profiles import lend_submit

REPOSITORY = Path(__file__).parents[2]
OPTIONS = {
    "slurm": ["--profile", "profiles/slurm", "--profile", "slurm-overrides", "--workflow-profile", "none"],
    "cluster-generic": [
        *("--workflow-profile", "cluster-generic", "--seconds-between-status-checks", "1", "--latency-wait", "10"),
        *("--cluster-generic-status-cmd", ".snakemake/cluster-generic/status.py --cache 1 --grace 4"),
    ],
}
# `retries` counts in the main process only: nested Snakemakes would retry too, inside the same job and its memory.
HEAD = """
RETRIES = 1 if workflow.is_main_process else 0
NOTE = "echo $SLURM_JOB_ID >> {rule}.jobs; "
"""
GOOD = """
rule good:
    output: "good.txt"
    script: "good.py"
"""
FLAKY = """
rule flaky:
    output: "flaky.txt"
    retries: RETRIES
    threads: 2
    resources: mem_mb=lambda wildcards, attempt: 1000 * attempt, runtime=7
    shell: NOTE + "test {resources.mem_mb} -gt 1000 && touch {output}"
"""
LONG = """
rule long:
    output: "long.txt"
    retries: RETRIES
    shell: NOTE + "if [ $(wc -l < {rule}.jobs) = 1 ]; then sleep 600; fi; touch {output}"
"""
BROKEN = """
rule broken:
    output: "broken.txt"
    log: "broken.log"
    shell: "echo broken on purpose > {log}; exit 3"
"""


@pytest.fixture
def workflow(tmp_path):
    """Return a function that writes a Snakefile of the given rules beside a copy of the profiles."""
    shutil.copytree(REPOSITORY / "profiles", tmp_path / "profiles")
    shutil.copytree(Path(__file__).parent / "slurm-overrides", tmp_path / "slurm-overrides")
    lend_submit(tmp_path, tmp_path)
    (tmp_path / "good.py").write_text('open(snakemake.output[0], "w").write("good")\n')

    def write(*rules):
        targets = [rule.split()[1].rstrip(":") + ".txt" for rule in rules]
        (tmp_path / "Snakefile").write_text(f"{HEAD}\nrule all:\n    input: {targets}\n{''.join(rules)}")
        return tmp_path

    return write


def jobs(folder, rule):
    """Return the id of every Slurm job in which the rule has run."""
    path = folder / f"{rule}.jobs"
    return path.read_text().split() if path.exists() else []


@pytest.mark.parametrize("profile", OPTIONS)
def test_failed_and_cancelled_jobs_run_again_as_new_jobs(profile, slurm_cluster, workflow, start_snakemake):
    folder = workflow(GOOD, FLAKY, LONG)
    run = start_snakemake(folder, *OPTIONS[profile], environment=slurm_cluster.environment)
    run.wait_until(lambda: jobs(folder, "long"), "the start of the long job")
    cancelled_at = time.monotonic()
    slurm_cluster.run("scancel", jobs(folder, "long")[0])
    run.wait_until(lambda: len(jobs(folder, "long")) == 2, "the second attempt of the cancelled job")
    noticed_after_s = time.monotonic() - cancelled_at
    code, output = run.wait()

    assert code == 0, output
    assert (folder / "good.txt").read_text() == "good"
    for job, memory in zip(jobs(folder, "flaky"), ("1000M", "2000M"), strict=True):
        granted = slurm_cluster.run("scontrol", "show", "job", job).split()
        assert {"NumCPUs=2", f"MinMemoryNode={memory}", "TimeLimit=00:07:00"} <= set(granted)
    assert len(set(jobs(folder, "flaky") + jobs(folder, "long"))) == 4, "every attempt is a job of its own"
    # The looks of the slurm plugin are 2, 12, 22 and 32 s apart while nothing ends: the fourth sees the job at the latest.
    assert noticed_after_s < 2 + 12 + 22 + 32 + 20
    assert slurm_cluster.queue() == []
    logs = list((folder / "logs").rglob("*.log"))
    assert any("flaky" in str(log) for log in logs), "the failed attempt's log is kept"
    assert not any("good" in str(log) for log in logs), "logs of finished jobs are removed"


@pytest.mark.parametrize("profile", OPTIONS)
def test_a_broken_job_ends_the_run_with_its_log_but_not_the_other_jobs(profile, slurm_cluster, workflow, run_snakemake):
    folder = workflow(BROKEN, GOOD)
    code, output = run_snakemake(folder, *OPTIONS[profile], environment=slurm_cluster.environment)
    assert code != 0
    assert "broken on purpose" in output
    assert (folder / "good.txt").exists()
    assert not (folder / "broken.txt").exists()


@pytest.mark.parametrize("profile", OPTIONS)
def test_ctrl_c_cancels_the_jobs(profile, slurm_cluster, workflow, start_snakemake):
    # Between two looks: during one, Snakemake does not know its jobs (see the next test).
    folder = workflow(LONG)
    pause = ["--seconds-between-status-checks", "15"] if profile == "cluster-generic" else []
    run = start_snakemake(folder, *OPTIONS[profile], *pause, environment=slurm_cluster.environment)
    run.wait_until(lambda: jobs(folder, "long"), "the start of the long job")
    os.killpg(run.process.pid, signal.SIGINT)
    run.wait_until(lambda: not slurm_cluster.queue(), "an empty queue")
    assert run.wait()[0] != 0


def test_cancel_all_ends_what_ctrl_c_during_a_look_leaves_behind(slurm_cluster, workflow, start_snakemake):
    folder = workflow(LONG)
    slow_look = "touch looking; sleep 2; .snakemake/cluster-generic/status.py --cache 1 --grace 4"
    options = [*OPTIONS["cluster-generic"], "--cluster-generic-status-cmd", slow_look]
    run = start_snakemake(folder, *options, environment=slurm_cluster.environment)
    run.wait_until(lambda: jobs(folder, "long"), "the start of the long job")
    (folder / "looking").unlink(missing_ok=True)
    run.wait_until((folder / "looking").exists, "a look at the job")
    os.kill(run.process.pid, signal.SIGINT)
    assert run.wait()[0] != 0
    assert slurm_cluster.queue() == jobs(folder, "long"), (
        "Snakemake cancels during a look now: correct profiles/README.md"
    )
    cancel = folder / ".snakemake" / "cluster-generic" / "cancel.py"
    subprocess.run([cancel, "--all"], cwd=folder, env=slurm_cluster.environment, check=True)
    run.wait_until(lambda: not slurm_cluster.queue(), "an empty queue")


def test_the_slurm_profile_survives_a_controller_that_does_not_answer(slurm_cluster, workflow, run_snakemake):
    # Seven answers missing in one round: more than the plugin's default of five, after which it would wait for ever.
    folder = workflow(GOOD)
    calls = folder / "squeue.calls"
    broken = folder / "broken-bin" / "squeue"
    broken.parent.mkdir()
    real = shutil.which("squeue", path=slurm_cluster.environment["PATH"])
    broken.write_text(f'#!/bin/sh\necho >> {calls}\n[ $(wc -l < {calls}) -gt 7 ] && exec {real} "$@"\nexit 1\n')
    broken.chmod(0o755)
    environment = {**slurm_cluster.environment, "PATH": f"{broken.parent}:{slurm_cluster.environment['PATH']}"}
    code, output = run_snakemake(folder, *OPTIONS["slurm"], environment=environment, timeout_s=60)
    assert code == 0, output
    assert len(calls.read_text()) > 7
