"""A forecast before anything is paid, jobs in their order, several structures per job, and right-sized jobs."""

from __future__ import annotations

import json
import shutil
from collections import Counter

import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.io import write

from quarry.campaign.batch_table import jobs_of, read_batch
from quarry.campaign.planned import planned_jobs
from quarry.labeling.record import read_records
from support.campaigns import CampaignFolder, stand_in_configuration

SIZES = [2, 5, 3, 8, 6, 4, 10, 7, 9, 12, 11] * 3

SLOW = """
import time
import stand_in

def label(atoms):
    time.sleep(0.03 * len(atoms))
    return stand_in.morse(atoms)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> CampaignFolder:
    """Chains of different length."""
    configuration = stand_in_configuration(
        labeling={"engine": "function", "function": "slow:label", "retries": 0},
        descriptor={"kind": "coulomb_matrix"},
        query={"strategy": "random", "initial": 10, "batch": {"schedule": "constant", "size": 5}},
        stop={"rrmse": None, "max_iterations": 1},
    )
    folder = CampaignFolder.create(tmp_path_factory.mktemp("mixed") / "campaign", configuration)
    folder.forked_jobs = False  # They would count the memory of what they were forked from.
    (folder.path / "slow.py").write_text(SLOW)
    rng = np.random.default_rng(1)
    pool = [Atoms(["H"] * n, np.arange(n)[:, None] * [[0.9, 0, 0]] + rng.normal(0, 0.05, (n, 3))) for n in SIZES]
    for atoms in pool:
        atoms.info["multiplicity"] = 1 + len(atoms) % 2
    write(folder.path / "pool.extxyz", pool)
    return folder


@pytest.fixture(scope="module")
def forecast(folder):
    """What a forecast said, and what it had computed."""
    outcome = folder.run("--cores", "1", "forecast")
    assert outcome.code == 0, outcome.text[-3000:]
    return outcome, folder.calls()


@pytest.fixture(scope="module")
def finished(folder, forecast):
    outcome = folder.run("--cores", "1")
    assert outcome.code == 0, outcome.text[-3000:]
    return folder.calls()


def atoms_of(folder: CampaignFolder) -> dict[str, int]:
    """Number of atoms by structure id, of everything labelled."""
    found = {}
    for path in (folder.path / "label_store").glob("*/??/*.json"):
        [record] = read_records(path)
        found[record.structure_id] = record.cost["size"]["atoms"]
    return found


def test_five_probes_tell_what_is_to_come(folder, forecast):
    outcome, probes = forecast
    data = json.loads((folder.results / "forecast.json").read_text())
    assert len(probes) == 5 and len({atoms_of(folder)[i] for i in probes}) >= 4
    assert data["batches"] == {"main": [13, 5]} and data["labels_new"] == data["label_jobs"] == 13
    assert (folder.results / "forecast.txt").read_text().strip() in outcome.text
    assert not (folder.results / "main").exists(), "nothing but the probes was computed"
    # 0.03 s of sleep per atom, 2 atoms at least, and the process around it.
    assert 0.06 * 13 / 3600 < data["label_core_hours"][0] < data["label_core_hours"][1]


def test_probes_are_not_paid_again_and_count_as_the_campaigns_own(folder, forecast, finished):
    assert max(Counter(finished).values()) == 1 and len(finished) == 18
    cost = json.loads((folder.results / "main/iter_000/cost.json").read_text())
    assert cost["labels_reused"] == 5
    assert cost["campaign_label_core_hours"] > cost["label_core_hours"]


def test_the_longest_jobs_are_started_first(folder, forecast, finished):
    """On one core, labels are computed in the order of the plan."""
    atoms, probes = atoms_of(folder), forecast[1]
    rows = {t: [r.structure_id for r in read_batch(folder.results / f"main/iter_00{t}/batch.csv")] for t in (0, 1)}
    for t, members in rows.items():
        order = [atoms[i] for i in finished if i in members and i not in probes]
        assert len(set(order)) > 2, f"iteration {t} says nothing"
        assert order == sorted(order, reverse=True)


def test_jobs_are_right_sized_after_the_first_iteration(folder, finished):
    for t, resources in ((0, (None, None)), (1, (5, 600))):
        planned = planned_jobs(folder.results / f"main/iter_00{t}/planned.csv")
        assert {(job.walltime_min, job.memory_MB) for job in planned.values()} == {resources}
        assert all(job.predicted_s > 0.06 for job in planned.values())


def test_a_forecast_of_a_finished_campaign_needs_no_probes(folder, finished):
    outcome = folder.run("--cores", "1", "forecast", "--config", "stop={max_iterations: 3}")
    assert outcome.code == 0 and "labelling" not in outcome.text
    data = json.loads((folder.results / "forecast.json").read_text())
    assert data["batches"] == {"main": [5, 5]} and data["labels_fitted"] == 18
    assert folder.calls() == finished
    assert folder.run("-n").nothing_to_do, "a forecast changes nothing of the campaign"


def test_several_structures_per_job_give_the_same_campaign(folder, finished, tmp_path):
    other = CampaignFolder.create(tmp_path / "several")
    for name in ("pool.extxyz", "slow.py"):
        shutil.copy(folder.path / name, other.path)
    configuration = yaml.safe_load((folder.path / "campaign.yaml").read_text())
    configuration["labeling"]["structures_per_job"] = 4
    other.configure(configuration)
    outcome = other.run()
    assert outcome.code == 0, outcome.text[-3000:]
    for t, jobs in ((0, 4), (1, 2)):
        rows = read_batch(other.results / f"main/iter_00{t}/batch.csv")
        assert len(jobs_of(rows)) == jobs and max(Counter(r.job for r in rows).values()) <= 4
    assert sorted(other.calls()) == sorted(finished)
    for name in ("dataset.h5", "main/iter_001/model/model.h5", "main/iter_001/facts.json"):
        assert (other.results / name).read_bytes() == (folder.results / name).read_bytes()
