"""One test per fault that a campaign must survive, and a long seeded run of them; docs/faults.md is the table."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from quarry.labeling.claims import Claims
from quarry.structures import Structure
from support.campaigns import REPOSITORY, CampaignFolder, kill_group, stand_in_configuration
from support.fault_engine import ENGINE_FAULTS
from support.fault_run import MACHINE_FAULTS
from support.faults import damage
from support.label_desk import ENGINE_FUNCTIONS, IDS, STRUCTURES, LabelDesk, check_right, morse_energy, wait_until

A, B, C, D = IDS


# What is killed


def test_killed_engine(desk):
    """Its neighbours are not hurt, and the label is tried again with more memory: that is who kills engines."""
    desk.labeling["retries"] = 1
    desk.arguments = {"seconds": 5.0, "only": [B]}
    job = desk.start()
    wait_until(lambda: desk.calls("began")[-1:] == [B])
    job.engine().kill()
    ended = job.wait()
    assert ended.code == 1 and f"to be tried again: {B} (out_of_memory)" in ended.text
    desk.arguments = {}
    assert desk.run().code == 0
    check_right(desk)


def test_killed_job(desk):
    """The next job goes on where it stopped; its engine does not outlive it."""
    desk.labeling["retries"] = 1
    desk.arguments = {"seconds": 5.0, "only": [B]}
    job = desk.start()
    wait_until(lambda: desk.calls("began")[-1:] == [B])
    engine = job.engine()
    job.signal(signal.SIGKILL)
    assert job.wait().code == -signal.SIGKILL
    wait_until(lambda: not engine.is_running())
    desk.arguments = {}
    assert desk.run().code == 0
    check_right(desk)


WAITS = "waiting for the job that computes it"


def killed_and_started_again(folder: Path, **changes: str) -> CampaignFolder:
    """Return a finished campaign of six labels whose first main process was killed while two of them were computed.

    changes: keys of labeling that are changed before the second one, which waits for both.
    """
    settings = stand_in_configuration(stop={"max_labels": 6})
    settings["labeling"] |= {"function": "engine_functions:waits_for", "arguments": {"file": "go"}, "heartbeat_s": 0.5}
    campaign = CampaignFolder.create(folder / "campaign", settings)
    (campaign.path / "engine_functions.py").write_text(ENGINE_FUNCTIONS)
    began, log = (campaign.path / name for name in ("began", "background.log"))
    process = campaign.start(forked_jobs=True)
    try:
        wait_until(lambda: began.exists() and len(began.read_text().split()) == 2, 300)
        process.kill()
        process.wait()
        settings["labeling"] |= changes
        campaign.configure(settings)
        # All six at once: with two cores the scheduler may begin with others than those that run already.
        process = campaign.start("--cores", "6", forked_jobs=True)
        wait_until(lambda: process.poll() is not None or log.read_text().count(WAITS) == 2, 300)
        assert process.poll() is None, log.read_text()[-3000:]
        (campaign.path / "go").touch()
        assert process.wait(timeout=300) == 0, log.read_text()[-3000:]
    finally:
        (campaign.path / "go").touch()
        kill_group(process)
    assert len(began.read_text().split()) == 6
    return campaign


def test_killed_main_process(folder):
    """The same command at once: orphaned jobs run on, their twins wait for them, no engine call is made twice."""
    campaign = killed_and_started_again(folder)
    assert sorted((campaign.path / "finished").read_text().split()) == sorted(campaign.stored())


def test_changed_store_after_a_killed_main_process(folder):
    """The jobs that it left still work for the store before: they are waited for, and nothing is paid twice."""
    campaign = killed_and_started_again(folder, store="another_store")
    finished = campaign.path / "finished"
    stored = {path.stem for path in (campaign.path / "another_store").glob("*/??/*.json")}
    assert stored == set(finished.read_text().split()) and len(stored) == 6


def test_cancelled_job(desk):
    """The label is free at once, without the time that a silent holder is given."""
    desk.labeling["heartbeat_s"] = 30.0
    desk.arguments = {"seconds": 30.0}
    job = desk.start()
    wait_until(lambda: desk.calls("began"))
    job.signal(signal.SIGTERM)
    assert job.wait().code not in (0, None)
    desk.arguments = {}
    ended = desk.run()
    assert ended.code == 0 and ended.seconds < 20
    check_right(desk)


# Limits


def test_time_limit(desk):
    desk.labeling["retries"] = 1
    desk.arguments = {"seconds": 30.0, "only": [B]}
    ended = desk.run(walltime_min=0.05)
    assert ended.code == 1 and f"{B} (out_of_time)" in ended.text
    # The last attempt takes the second job's time; the third one has the record of it and does the others.
    while desk.jobs < 3 and desk.run(walltime_min=0.05).code:
        pass
    assert desk.calls("began").count(B) == 2
    assert desk.statuses() == ["ok", "out_of_time", "ok", "ok"] and desk.store().get(B) is None


def test_memory_limit(desk):
    desk.labeling["retries"] = 1
    desk.function, desk.arguments = "hungry", {"only": [B], "megabytes": 3000}
    ended = desk.run(memory_MB=2500)
    assert ended.code == 1 and f"{B} (out_of_memory)" in ended.text
    assert desk.run(memory_MB=2500).code == 0
    assert desk.statuses() == ["ok", "out_of_memory", "ok", "ok"] and desk.calls("began").count(B) == 2


# Engines that fail


def test_unconverged_scf(desk):
    """Two cycles are not enough, and there is no ladder."""
    method = {"xc": "hf", "basis": "sto-3g", "max_cycles": 2}
    desk.labeling = {"engine": "pyscf", "method": method, "recovery": ["plain"], "heartbeat_s": 0.3}
    assert desk.run(STRUCTURES[-1:], job="hydrogen").code == 0
    water = Structure.create([8, 1, 1], [[0, 0, 0.117], [0, 0.9, -0.469], [0, -0.757, -0.469]])
    assert desk.run([water]).code == 0
    [record] = desk.records()
    assert record.status == "scf_not_converged" and record.properties == {}
    assert desk.store().get(water.structure_id) is None


def test_nan_energy(desk):
    desk.function, desk.arguments = "not_a_number", {"only": [B]}
    assert desk.run().code == 0
    assert desk.statuses() == ["ok", "engine_error", "ok", "ok"]
    assert "finite" in desk.records()[1].message and desk.store().get(B) is None


def test_engine_printing_garbage(desk):
    """A program that answers with noise, on every channel."""
    command = "head -c 100000 /dev/urandom; head -c 100000 /dev/urandom >&2; head -c 500 /dev/urandom > answer.json"
    desk.labeling = {"engine": "command", "command": command, "output": {"file": "answer.json", "format": "json"}}
    assert desk.run().code == 0
    assert desk.statuses() == ["engine_error"] * 4
    assert all("\n" not in r.message and "answer.json" in r.message for r in desk.records())


def test_missing_program(desk):
    """Missing on the node where the job runs; the campaign's start looks on the machine where it is started."""
    command, output = "a-program-that-is-not-here structure.xyz", {"file": "answer.json", "format": "json"}
    desk.labeling = {"engine": "command", "command": command, "output": output}
    assert desk.run().code == 0
    assert desk.statuses() == ["engine_error"] * 4
    assert all("a-program-that-is-not-here" in r.message for r in desk.records())


# Records and clocks


def test_truncated_record(desk):
    """In the store: named, moved aside, computed again; the other labels are not."""
    assert desk.run().code == 0
    damage(desk.store().path(B), "truncated")
    desk.output().unlink()
    ended = desk.run()
    assert ended.code == 0 and f"{B}.json: damaged label record" in ended.text and "moved aside" in ended.text
    assert desk.calls() == [A, B, C, D, B]
    assert desk.records()[1].properties["energy"] == pytest.approx(morse_energy(STRUCTURES[1]), rel=1e-13)


@pytest.mark.parametrize("offset_s", [-86400.0, 86400.0])
def test_clock_skew_between_hosts(desk, offset_s):
    """Another host whose clock is a day off holds a label: waited for while it beats, taken over when it does not."""
    claim = Claims(desk.store().folder, 0.3).acquire(B)
    assert claim is not None
    claim.path.write_text(json.dumps({**json.loads(claim.path.read_text()), "host": "elsewhere"}))
    job = desk.start()
    end = time.monotonic() + 5.0
    while time.monotonic() < end:
        stamp = time.time() + offset_s
        os.utime(claim.path, (stamp, stamp))
        time.sleep(0.1)
    assert set(desk.calls("began")) == {A, C, D}
    assert job.wait().code == 0
    check_right(desk)


def test_two_jobs_for_the_same_labels_at_once(folder):
    """Of two campaigns on one store: they share the work and agree on every label."""
    desks = [LabelDesk(folder, name=name) for name in ("one", "two")]
    for desk in desks:
        desk.arguments = {"seconds": 0.5}
    jobs = [desk.start() for desk in desks]
    assert [job.wait().code for job in jobs] == [0, 0]
    assert desks[0].records() == desks[1].records()
    check_right(desks[0])


def test_two_campaigns_on_one_store_at_once(folder):
    """Started together with different strategies; then a third one, for which everything is there already."""
    settings = stand_in_configuration(stop={"max_labels": 12})
    settings["labeling"]["heartbeat_s"] = 0.5
    campaign = CampaignFolder.create(folder / "campaign", settings, size=12)
    for name, strategy in (("one", "uncertainty_clusters"), ("two", "random"), ("three", "random")):
        query = {**settings["query"], "strategy": strategy}
        changed = {**settings, "name": name, "query": query, "seed": len(name)}
        (campaign.path / f"{name}.yaml").write_text(json.dumps(changed))
    with ThreadPoolExecutor(2) as both:
        runs = [both.submit(campaign.run, "--configfile", f"{name}.yaml") for name in ("one", "two")]
    assert [run.result().code for run in runs] == [0, 0]
    assert sorted(campaign.calls()) == sorted(campaign.stored()) and len(campaign.calls()) == 12
    text = campaign.run("--configfile", "three.yaml").text
    assert "label_structure" not in text and len(campaign.calls()) == 12
    for name in ("one", "two", "three"):
        records = campaign.labels(name=name)
        assert len(records) == 12 and all(r.ok for r in records)


# All together


def test_seeded_run_of_faults(tmp_path):
    """Two campaigns on one store, at least 200 faults: labels lost 0, duplicated 0, wrong 0."""
    command = [sys.executable, str(REPOSITORY / "tests" / "support" / "fault_run.py"), str(tmp_path), "--seed", "3"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=500, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    account = json.loads(done.stdout)
    assert account["injected"] == {**ENGINE_FAULTS, **MACHINE_FAULTS} and account["faults"] >= 200
    assert (account["lost"], account["duplicated"], account["wrong"], account["violations"]) == (0, 0, 0, 0), account
    # Every call that finished gave a label that was kept, unless a fault destroyed just that.
    assert account["calls finished"] - account["results destroyed"] == account["labels"]


def table() -> list[list[str]]:
    """Rows of the table in docs/faults.md, without its head."""
    lines = [line for line in (REPOSITORY / "docs" / "faults.md").read_text().splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def test_the_table_names_tests_that_exist():
    sources = "".join(p.read_text() for p in (REPOSITORY / "tests").rglob("test_*.py"))
    existing = set(re.findall(r"def (test_\w+)\(", sources))
    named = {name for row in table() for name in re.findall(r"`(test_\w+)`", row[3])}
    assert len(named) >= 18 and named <= existing
    assert all(re.search(r"`test_\w+`", row[3]) for row in table())


def test_the_table_has_the_counts_of_the_seeded_run():
    counts = {}
    for row in table():
        for count, name in re.findall(r"(\d+) ([A-Za-z ]+)", row[4]):
            counts[name.strip()] = int(count)
    assert counts == {**ENGINE_FAULTS, **MACHINE_FAULTS}
