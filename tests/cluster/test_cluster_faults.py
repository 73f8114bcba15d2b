"""A node that goes down and a cancelled job on a real Slurm: no label is lost, none is computed twice."""

from __future__ import annotations

import subprocess

from support.campaigns import CampaignFolder, kill_group, stand_in_configuration
from support.label_desk import ENGINE_FUNCTIONS, wait_until
from support.profiles import SLURM

OPTIONS = [
    *SLURM,
    # Slurm would start the jobs of a lost node again by itself, but only after two minutes.
    *("--default-resources", "mem_mb=1000", "runtime=60", "slurm_extra='--no-requeue'"),
]


def label_jobs(cluster) -> dict[str, str]:
    """Nodes of the running label jobs by job id."""
    lines = cluster.run("squeue", "--noheader", "--states=R", "--format=%i %N %k").splitlines()
    return {line.split()[0]: line.split()[1] for line in lines if "label_structure" in line}


def test_node_down_and_cancelled_job(slurm_cluster, tmp_path):
    """One label job is cancelled, and the slurmd under others is killed, whose processes run on.

    All are submitted again. The cancelled label is computed by the new job; for the others the new jobs wait until the
    processes on the lost node have finished them.
    """
    settings = stand_in_configuration(stop={"max_labels": 6})
    settings["labeling"] |= {"function": "engine_functions:waits_for", "arguments": {"file": "go"}, "retries": 2}
    settings["labeling"]["heartbeat_s"] = 2.0
    folder = CampaignFolder.create(tmp_path / "campaign", settings)
    folder.options, folder.environment = OPTIONS, dict(slurm_cluster.environment)
    (folder.path / "engine_functions.py").write_text(ENGINE_FUNCTIONS)
    began, finished = folder.path / "began", folder.path / "finished"
    main = folder.start("--", "results/toy/main/iter_000/dataset.h5", forked_jobs=True)
    lost = ""
    try:
        wait_until(lambda: began.exists() and len(began.read_text().split()) == 6, 120)
        jobs = label_jobs(slurm_cluster)
        lost = jobs[max(jobs, key=int)]
        cancelled = next(job for job, node in jobs.items() if node != lost)
        slurm_cluster.kill_node(lost)
        slurm_cluster.run("scancel", cancelled)
        wait_until(lambda: "down" in slurm_cluster.run("sinfo", "--noheader", f"--nodes={lost}", "--format=%T"), 90)
        # Submitted again, and not as what Slurm still shows of the old ones.
        wait_until(lambda: sum(node != lost for node in label_jobs(slurm_cluster).values()) == 6, 120)
        (folder.path / "go").touch()
        text = (folder.path / "background.log").read_text
        assert main.wait(timeout=200) == 0, text()[-3000:]
    finally:
        (folder.path / "go").touch()
        kill_group(main)
        if lost:
            subprocess.run(["slurmd", "-N", lost], env=slurm_cluster.environment, check=True)
            wait_until(lambda: "idle" in slurm_cluster.run("sinfo", "--noheader", f"--nodes={lost}", "--format=%T"), 60)
    assert sorted(finished.read_text().split()) == sorted(folder.stored()) and len(folder.stored()) == 6
    # Only the cancelled one was begun again.
    assert len(began.read_text().split()) <= 7
