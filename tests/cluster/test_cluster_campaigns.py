"""Whole campaigns on a real Slurm: success, jobs that fail or are cancelled, a main process that is killed."""

import time

import ase.io
import numpy as np
import pytest

from quarry.sampling.modes import NormalModes
from quarry.structures import Structure
from support.campaigns import CampaignFolder, stand_in_configuration
from support.profiles import OPTIONS

WAITING = """
import time
from pathlib import Path
import stand_in

def morse(atoms):
    while not Path("go").exists():
        time.sleep(0.05)
    return stand_in.morse(atoms)
"""


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


def jobs_of(cluster, folder):
    """The names of all jobs of a campaign that went through cluster-generic."""
    jobs = [job for job in cluster.run("scontrol", "show", "job", "-o").splitlines() if str(folder.path) in job]
    return [job.split("JobName=")[1].split(".")[0] for job in jobs]


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
    if max_labels > 6:
        # The model steps of the second iteration ran beside the main process: those of the first one were short.
        assert (folder.results / "main/iter_001/receipts/train_model.json").exists()
        steps = [name for name in jobs_of(slurm_cluster, folder) if name != "label_structure"]
        assert sorted(steps) == sorted(
            ["build_pool", "build_features", "train_model", "evaluate_model", "score_pool", "propose_batch"]
        )
    assert folder.run().nothing_to_do


def hydrogen(folder):
    """H2 by its own dynamics, three iterations, with labels that wait for a file; its normal modes are those of the stand-in."""
    masses, vectors = np.full(2, 1.008), np.zeros((1, 2, 3))
    vectors[0, :, 2] = np.array([-1.0, 1.0]) / np.sqrt(masses.sum())
    molecule = Structure.create([1, 1], np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]))
    NormalModes(molecule, np.array([1246.0]), vectors, masses, 0.0, {}).write(folder.path / "modes.json")
    (folder.path / "waiting.py").write_text(WAITING)
    explore = {"trajectories": 20, "jobs": 2, "length_fs": 20.0, "threshold": "1 meV"}
    pool = {"source": "dynamics", "modes_file": "modes.json", "initial_size": 12, "growth": None, "explore": explore}
    folder.configure(
        stand_in_configuration(
            pool=pool,
            target="energy_forces",
            model={"kind": "kreg"},
            labeling={"engine": "function", "function": "waiting:morse", "retries": 1},
            query={"strategy": "random", "initial": 4, "batch": {"schedule": "constant", "size": 3}},
            test={"size": 2},
            stop={"rrmse": None, "min_new_points": 3, "max_iterations": 8},
        )
    )
    return folder


def test_dynamics_with_a_cancelled_job_and_a_main_process_killed_twice(slurm_cluster, tmp_path):
    """A label job is cancelled, then the main process gets kill -9 while labels run, and again while trajectories do.

    It starts again at once each time, while the orphaned jobs still run: their twins wait for the labels, so that none is
    computed twice, and none is lost. The campaign ends by its own rule, with the batches of an undisturbed run.
    """
    alone = hydrogen(CampaignFolder.create(tmp_path / "alone"))
    (alone.path / "go").touch()
    undisturbed = alone.run()
    assert undisturbed.code == 0, undisturbed.text[-3000:]
    folder = hydrogen(on_cluster(tmp_path / "campaign", slurm_cluster, "slurm", None))

    def wait_for(condition, what, seconds=300):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"no {what}: " + (folder.path / "background.log").read_text()[-3000:]
            time.sleep(0.2)

    def running(rule):
        lines = slurm_cluster.run("squeue", "--noheader", "--states=R", "--format=%i %k").splitlines()
        return {line.split()[0] for line in lines if rule in line}

    process = folder.start(forked_jobs=True)
    wait_for(lambda: len(running("label_structure")) == 6, "running label jobs")
    slurm_cluster.run("scancel", min(running("label_structure"), key=int))
    process.kill()
    process.wait()
    orphans = running("label_structure")
    assert orphans
    again = folder.start(forked_jobs=True)
    wait_for(lambda: running("label_structure") - orphans, "twin of an orphaned job")
    assert orphans & running("label_structure"), "the orphans had ended before their twins started"
    (folder.path / "go").touch()
    wait_for(lambda: running("explore"), "running trajectories")
    again.kill()
    again.wait()
    outcome = folder.run(timeout=400)
    assert outcome.code == 0, outcome.text[-3000:]
    assert "stopped: converged: 0 of 20 trajectories met" in outcome.text
    assert len(folder.calls()) == len(set(folder.calls())) == len(folder.stored()) == 8, "a label was computed twice"
    ours, theirs = folder.products(), alone.products()
    assert ours.keys() == theirs.keys()
    assert [name for name in theirs if ours[name] != theirs[name]] == []
    assert folder.run().nothing_to_do


def test_real_dft_on_slurm(slurm_cluster, tmp_path):
    """Optimisation, Hessian and labels of H2 with PySCF as Slurm jobs, with the campaign's threads and memory."""
    settings = {
        "name": "h2",
        "pool": {"source": "wigner", "molecule": "h2.xyz", "size": 20},
        "labeling": {"engine": "pyscf", "method": {"xc": "hf", "basis": "sto-3g"}},
        "descriptor": {"kind": "inverse_distances"},
        "query": {"strategy": "random", "initial": 3, "batch": {"schedule": "constant", "size": 1}},
        "test": {"size": 2},
        "stop": {"max_labels": 5},
        "resources": {"label": {"threads": 2, "memory_MB": 1500, "walltime_min": 7}},
    }
    folder = on_cluster(tmp_path / "campaign", slurm_cluster, "slurm", settings)
    (folder.path / "h2.xyz").write_text("2\n\nH 0 0 0\nH 0 0 0.75\n")
    outcome = folder.run(timeout=400)
    assert outcome.code == 0, outcome.text[-3000:]
    for record in folder.labels("main/iter_000"):
        assert record.ok and record.cost["threads"] == 2
    energies = [atoms.get_potential_energy() for atoms in ase.io.read(folder.results / "dataset.extxyz", ":")]
    assert len(energies) == 5
    # HF/STO-3G H2 has its minimum, -1.1175 hartree, at 0.712 Angstrom (Szabo and Ostlund, table 3.13).
    assert all(-1.1176 < energy / 27.211386245988 < -1.0 for energy in energies)
    jobs = slurm_cluster.run("scontrol", "show", "job", "-o").splitlines()
    labels = [job for job in jobs if "label_structure" in job and str(folder.path) in job]
    assert len(labels) == 5
    assert all("NumCPUs=2 " in job and "MinMemoryNode=1500M" in job and "TimeLimit=00:07:00" in job for job in labels)
