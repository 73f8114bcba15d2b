"""A campaign on a real Slurm under a seeded stream of faults. It takes minutes, so it runs only when it is asked for:

QUARRY_CLUSTER_FAULTS=50 make test ARGS='-n 0 -s tests/cluster/test_cluster_fault_run.py'
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import ase.io
import psutil
import pytest

from quarry.structures import Structure
from support.campaigns import CampaignFolder, kill_group, stand_in_configuration
from support.profiles import SLURM
from support.stand_in import morse

FAULTS = int(os.environ.get("QUARRY_CLUSTER_FAULTS", "0"))
SEED = int(os.environ.get("QUARRY_CLUSTER_SEED", "1"))
LABELS = 60
HANG_S = 420.0
"""Without a new label, fault or end for so long, the run hangs."""
REFUSING = '#!/bin/sh\n[ -e "$QUARRY_REFUSE" ] && { echo "sbatch: error: busy" >&2; exit 1; }\nexec %s "$@"\n'


class FaultyCluster:
    """A cluster, a campaign on it, and what befalls them."""

    def __init__(self, cluster, folder: CampaignFolder, refuse: Path) -> None:
        self.cluster, self.folder, self.refuse = cluster, folder, refuse
        self.dice = random.Random(SEED)
        self.injected: Counter[str] = Counter()
        self.main = folder.start()

    @property
    def finished(self) -> bool:
        return (self.folder.results / "history.csv").exists()

    def running(self) -> list[str]:
        answer = subprocess.run(
            ["squeue", "--noheader", "--states=R", "--format=%i"],
            env=self.cluster.environment,
            capture_output=True,
            text=True,
        )
        return answer.stdout.split()

    def label_scripts(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter(["cmdline", "cwd"]):
            words = process.info["cmdline"] or []
            if words and words[-1].endswith("label_structure.py") and process.info["cwd"] == str(self.folder.path):
                found.append(process)
        return found

    # Each returns whether there was something to befall.

    def cancelled_job(self) -> bool:
        jobs = self.running()
        if jobs:
            subprocess.run(["scancel", self.dice.choice(jobs)], env=self.cluster.environment, check=False)
        return bool(jobs)

    def killed_job(self) -> bool:
        scripts = self.label_scripts()
        if scripts:
            self.dice.choice(scripts).kill()
        return bool(scripts)

    def node_down(self) -> bool:
        node = self.dice.choice(self.cluster.nodes)
        self.cluster.kill_node(node)
        time.sleep(self.dice.uniform(2, 8))
        subprocess.run(["slurmd", "-N", node], env=self.cluster.environment, check=True)
        return True

    def controller_away(self) -> bool:
        self.cluster.stop_controller()
        time.sleep(self.dice.uniform(5, 20))
        self.cluster.start_controller()
        return True

    def refused_submissions(self) -> bool:
        self.refuse.touch()
        time.sleep(self.dice.uniform(3, 10))
        self.refuse.unlink()
        return True

    def ended_main_process(self) -> bool:
        number = self.dice.choice([signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
        if self.main.poll() is None:
            self.main.send_signal(number)
            try:
                self.main.wait(timeout=120)
            except subprocess.TimeoutExpired:
                # After TERM it waits for its running jobs.
                assert number == signal.SIGTERM, f"{number.name} has not ended the main process"
                kill_group(self.main)
        return True

    def go_on(self) -> None:
        if self.main.poll() is not None and (self.main.returncode != 0 or not self.finished):
            self.main = self.folder.start()

    def run(self) -> None:
        kinds = [
            self.cancelled_job,
            self.killed_job,
            self.node_down,
            self.controller_away,
            self.refused_submissions,
            self.ended_main_process,
        ]
        last, labels = time.monotonic(), 0
        while self.main.poll() != 0 or not self.finished:
            time.sleep(self.dice.uniform(0.5, 4))
            if not self.finished and sum(self.injected.values()) < FAULTS:
                fault = self.dice.choice(kinds)
                if fault():
                    self.injected[fault.__name__] += 1
                    last = time.monotonic()
            self.go_on()
            if len(self.folder.stored()) > labels:
                labels, last = len(self.folder.stored()), time.monotonic()
            assert time.monotonic() - last < HANG_S, (self.folder.path / "background.log").read_text()[-5000:]


@pytest.mark.timeout(3600)
@pytest.mark.skipif(not FAULTS, reason="takes minutes; QUARRY_CLUSTER_FAULTS=50 asks for it")
def test_a_campaign_under_a_stream_of_faults(slurm_cluster, tmp_path):
    settings = stand_in_configuration(stop={"max_labels": LABELS})
    settings["query"] |= {"initial": 15, "batch": {"schedule": "constant", "size": 15}}
    settings["labeling"] |= {"arguments": {"seconds": 2.0}, "retries": 8, "heartbeat_s": 1.0}
    folder = CampaignFolder.create(tmp_path / "campaign", settings, size=LABELS + 20)
    real = subprocess.run(
        ["sh", "-c", "command -v sbatch"], env=slurm_cluster.environment, capture_output=True, text=True, check=True
    ).stdout.strip()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sbatch").write_text(REFUSING % real)
    (tmp_path / "bin" / "sbatch").chmod(0o755)
    path = f"{tmp_path / 'bin'}:{slurm_cluster.environment['PATH']}"
    folder.environment = {**slurm_cluster.environment, "PATH": path, "QUARRY_REFUSE": str(tmp_path / "refuse")}
    folder.options = SLURM
    faulty = FaultyCluster(slurm_cluster, folder, tmp_path / "refuse")
    started = time.monotonic()
    try:
        faulty.run()
    finally:
        kill_group(faulty.main)
        # Labels that still run are paid for: they come into the store.
        while slurm_cluster.queue() and time.monotonic() - started < 3000:
            time.sleep(1)
    energies = {
        s.structure_id: morse(s.to_atoms(), calls=None)["energy"]
        for s in map(Structure.from_atoms, ase.io.read(folder.path / "pool.extxyz", ":"))
    }
    records = folder.labels()
    calls = Counter(folder.calls())
    account = {
        "faults": sum(faulty.injected.values()),
        "injected": dict(faulty.injected),
        "labels": len(records),
        "lost": sum(not record.ok for record in records) + LABELS - len(records),
        "wrong": sum(abs(r.properties["energy"] - energies[r.structure_id]) > 1e-9 for r in records if r.ok),
        "calls finished": sum(calls.values()),
        "calculated twice": sum(count - 1 for count in calls.values()),
        "seconds": round(time.monotonic() - started),
    }
    print(json.dumps(account))
    assert account["faults"] >= FAULTS and account["labels"] == LABELS
    assert (account["lost"], account["wrong"]) == (0, 0)
    # A job that is killed between a calculation and its record leaves nothing that another could take.
    assert account["calculated twice"] <= faulty.injected["killed_job"] + faulty.injected["cancelled_job"]
