"""Real DFT from the molecule to the stop, and what a campaign leaves behind."""

import base64
import csv
import html
import re
import shutil
import subprocess
from xml.etree import ElementTree

import ase.io
import h5py
import numpy as np
import pytest

from quarry.campaign.batch_table import read_batch
from quarry.campaign.paths import CampaignPaths
from quarry.evaluation.comparison import Measure
from quarry.evaluation.curves import Curve
from support.campaigns import CampaignFolder, stand_in_configuration

H2 = "2\n\nH 0 0 0\nH 0 0 0.75\n"


def h2_configuration(**changes):
    configuration = {
        "name": "h2",
        "seed": 1,
        "pool": {"source": "wigner", "molecule": "h2.xyz", "size": 200},
        "labeling": {"engine": "pyscf", "method": {"xc": "pbe", "basis": "sto-3g", "grid_level": 1}},
        "descriptor": {"kind": "inverse_distances"},
        "model": {"noise": 1.0e-3},
        "query": {"strategy": "uncertainty_clusters", "initial": 4, "batch": {"schedule": "constant", "size": 3}},
        "test": {"size": 8},
        "stop": {"rrmse": 0.3, "patience": 1, "min_r2": None, "max_labels": 60},
    }
    return {**configuration, **changes}


@pytest.fixture(scope="module")
def h2(tmp_path_factory):
    """H2 with PBE/STO-3G, stopped by rRMSE."""
    folder = CampaignFolder.create(tmp_path_factory.mktemp("h2") / "campaign", h2_configuration())
    (folder.path / "h2.xyz").write_text(H2)
    outcome = folder.run()
    assert outcome.code == 0, outcome.text[-3000:]
    return folder, outcome


def history_of(folder, name=None):
    root = folder.results if name is None else folder.results.parent / name
    with open(root / "history.csv", newline="") as handle:
        return list(csv.DictReader(handle))


def test_stop_by_rrmse(h2):
    folder, outcome = h2
    rows = history_of(folder)
    rmse, rrmse = ([float(row[key]) for row in rows] for key in ("rmse", "rrmse"))
    assert rrmse[0] == 1.0
    for last, now, change in zip(rmse, rmse[1:], rrmse[1:], strict=False):
        assert change == pytest.approx(abs(now - last) / now, rel=1e-6)
    assert rrmse[-1] < 0.3 and all(change >= 0.3 for change in rrmse[:-1])
    assert rows[-1]["stop_reason"].startswith(f"rRMSE {rrmse[-1]:.3f}")
    assert all(row["stop_reason"] == "" for row in rows[:-1])
    assert any("stopped: rRMSE" in line for line in outcome.lines)
    assert any("results in results/h2" in line for line in outcome.lines)
    for row in rows:
        assert float(row["rmse_low"]) <= float(row["rmse"]) <= float(row["rmse_high"] or "inf")


def test_labels_are_those_of_pyscf(h2):
    """Energies and forces that ASE reads back equal a calculation of our own, structure by structure."""
    from pyscf import dft, gto

    folder, _ = h2
    frames = ase.io.read(folder.results / "dataset.extxyz", index=":")
    assert len(frames) == int(history_of(folder)[-1]["n_labels"])
    assert sum(atoms.info["role"] == "test" for atoms in frames) == 8
    for atoms in frames[:: len(frames) // 3]:
        molecule = gto.M(atom=list(zip(["H", "H"], atoms.positions, strict=True)), basis="sto-3g", verbose=0)
        mean_field = dft.RKS(molecule, xc="pbe")
        mean_field.grids.level = 1
        energy = mean_field.kernel()
        forces = -mean_field.nuc_grad_method().kernel()
        assert atoms.get_potential_energy() == pytest.approx(energy * 27.211386245988, abs=1e-6)
        assert atoms.get_forces() == pytest.approx(forces * 27.211386245988 / 0.529177210903, abs=1e-4)


def test_products(h2):
    folder, _ = h2
    with h5py.File(folder.results / "dataset.h5") as handle:
        assert {"energy", "forces", "homo", "lumo", "gap", "dipole"} == set(handle["properties"])
        assert handle["properties/energy"].attrs["unit"] == "eV"
    assert (folder.results / "failures.csv").read_text().startswith("structure_id,key,role,iteration,job,status")
    assert (folder.results / "model/model.h5").stat().st_size > 0
    assert {path.name for path in folder.results.iterdir()} - {"main"} <= CampaignPaths("h2").names, (
        "no arm can be called so"
    )


def test_a_second_campaign_reuses_the_labels_and_stops_by_budget(h2, tmp_path):
    """Another strategy on the same pool: the shared test set and initial batch are not labelled again."""
    folder = h2[0].copy(tmp_path / "second")
    stored = folder.stored()
    configuration = h2_configuration(name="budget", stop={"rrmse": None, "max_labels": 16})
    configuration["query"]["strategy"] = "random"
    folder.configure(configuration)
    outcome = folder.run()
    assert outcome.code == 0, outcome.text[-3000:]
    rows = history_of(folder)
    assert int(rows[0]["labels_new"]) == 0 and int(rows[0]["labels_reused"]) == 12
    assert float(rows[0]["label_core_hours"]) == 0
    assert [int(row["n_labels"]) for row in rows] == [12, 15, 16], "the last batch is cut to the budget"
    assert rows[-1]["stop_reason"].startswith(
        "the budget of max_labels = 16 is spent (16 labels used); the model's RMSE is"
    )
    assert len(folder.stored() - stored) <= 4


def test_overview(h2):
    """The page holds the numbers of the last iteration, its pictures are whole, and it says what to know about them."""
    folder, outcome = h2
    page = (folder.results / "overview.html").read_text()
    last, core_hours = history_of(folder)[-1], float(history_of(folder)[-1]["core_hours_total"])
    text = html.unescape(re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL))
    for words in (
        f"Ended: {last['stop_reason']}",
        "PBE/sto-3g (pyscf)",
        "pyscf 2.14.0",
        "sun2020pyscf",
    ):
        assert words in text, words
    # The history's has four digits already.
    assert any(f"{core_hours * factor:.3g}" in text for factor in (0.9999, 1.0, 1.0001))
    assert f"{float(last['rrmse']):.3g}" in text and f"{last['n_labels']} of at most 60" in text
    assert "Nothing says whether labels were saved" in text
    pictures = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', page)
    assert len(pictures) == 6, "learning curve, parity, errors, map, core-hours, time line"
    for picture in pictures:
        assert ElementTree.fromstring(base64.b64decode(picture)).tag.endswith("svg")
    assert any("on one page: results/h2/overview.html" in line for line in outcome.lines)


def test_report(h2, tmp_path):
    """The report holds the figures, and headless Chromium shows them."""
    folder, _ = h2
    outcome = folder.run("--report", "report.html")
    assert outcome.code == 0, outcome.text[-2000:]
    page = (folder.path / "report.html").read_text()
    assert "learning_curve.svg" in page and "parity.svg" in page and "iterations.html" in page
    assert "label_structure" in page, "the report shows the whole campaign, finished iterations included"
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed: the page was written, not looked at")
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-sync",
        "--no-first-run",
    ]
    for file, message in (
        ("report.html", "Learning"),
        ("results/h2/figures/iterations.html", "Stopped: rRMSE"),
        ("results/h2/overview.html", "Issues found"),
    ):
        where = [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000", "--dump-dom"]
        command = [chromium, *options, *where, f"file://{folder.path / file}"]
        seen = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert message in seen.stdout


def test_arms_and_control(tmp_path):
    """A random arm and one of another seed beside main: same pool, test set and initial batch, labels paid once.

    The control arm ends where arm main does, whatever the stop rules would say of it; history, figure and terminal give
    the labels saved, and the finds of the targeted search.
    """
    configuration = stand_in_configuration(
        arms={"seeded": {"seed": 5}},
        control={"seeds": [0]},
        search={"maximum": 0.22},
        stop={"rrmse": None, "max_iterations": 20, "target_rmse": 0.004},
    )
    folder = CampaignFolder.create(tmp_path / "arms", configuration)
    outcome = folder.run()
    assert outcome.code == 0, outcome.text[-3000:]
    first = {arm: (folder.results / arm / "iter_000/batch.csv").read_bytes() for arm in ("main", "random_0", "seeded")}
    assert first["main"] == first["random_0"] == first["seeded"]
    second = {arm: (folder.results / arm / "iter_001/batch.csv").read_bytes() for arm in ("main", "random_0")}
    assert second["main"] != second["random_0"]
    assert len(folder.calls()) == len(set(folder.calls()))
    rows, control, seeded = (history_of(folder, f"toy/{arm}") for arm in ("main", "random_0", "seeded"))
    assert int(control[0]["labels_new"]) == 0 and int(control[0]["labels_reused"]) == 6
    assert (folder.results / "history.csv").read_bytes() == (folder.results / "main/history.csv").read_bytes()
    assert "below target_rmse" in rows[-1]["stop_reason"] and len(rows) > 1
    assert control[-1]["stop_reason"] == "arm main has ended, this is its control"
    assert [row["n_train"] for row in control] == [row["n_train"] for row in rows]
    assert all(float(row["rmse"]) >= 0.004 for row in seeded[:-1]), "other arms have stop rules of their own"
    curves = [
        Curve(*zip(*((int(r["n_train"]), int(r["in_range_found"])) for r in arm), strict=True), finds=True)
        for arm in (rows, control)
    ]
    saved = Measure.of("finds", "", "", [curves[0]], [curves[1]]).savings[-1].saved
    assert float(rows[-1]["labels_saved"]) == pytest.approx(saved)
    assert (rows[-1]["labels_saved_low"], rows[-1]["verdict"]) == ("", "unknown"), "one control arm tells no chance"
    assert control[-1]["labels_saved"] == control[-1]["verdict"] == ""
    with h5py.File(folder.results / "main/dataset.h5") as handle:
        labels = handle["properties/energy"][()][handle["roles"][()] == b"train"]
    assert int(rows[-1]["in_range_found"]) == np.sum(labels < 0.22)
    assert any("labels saved against random at equal number of structures in range" in line for line in outcome.lines)
    assert (folder.results / "figures/savings.svg").stat().st_size > 0
    assert any("one random arm cannot tell a saving from chance" in line for line in outcome.lines)
    assert folder.run().nothing_to_do


def test_control_with_further_initial_batches_and_test_sets(tmp_path):
    """Arms of a split share a draw of their own; the interval is over draws, and they end with arm main."""
    configuration = stand_in_configuration(
        control={"seeds": [0], "splits": [5]}, stop={"rrmse": None, "max_iterations": 1}
    )
    configuration["labeling"]["structures_per_job"] = 10
    folder = CampaignFolder.create(tmp_path / "splits", configuration)
    outcome = folder.run()
    assert outcome.code == 0, outcome.text[-3000:]
    arms = ("main", "random_0", "main_split_5", "random_split_5")
    drawn = [
        [(r.structure_id, r.role) for r in read_batch(folder.results / arm / "iter_000/batch.csv")] for arm in arms
    ]
    assert drawn[0] == drawn[1] != drawn[2] == drawn[3]
    last = history_of(folder)[-1]
    ends = [float(last[f"labels_saved{end}{m}"]) for m in ("", "_mae", "_maxe") for end in ("_low", "", "_high")]
    for low, saved, high in (ends[:3], ends[3:6], ends[6:]):
        assert -3 <= low <= saved <= high <= 3
    # Two splits of three labels: the interval may be all that there is, which is no verdict.
    everything = ends[0] == -3 and ends[2] == 3
    assert last["verdict"] == (
        "unknown" if everything else "saved" if ends[0] > 0 else "wasted" if ends[2] < 0 else "none"
    )
    assert history_of(folder, "toy/random_split_5")[-1]["stop_reason"] == "arm main has ended, this is its control"
    assert any("over initial batches and test sets of this pool (2 of them" in line for line in outcome.lines)
    assert folder.run().nothing_to_do


def test_same_batches_whatever_the_cores(tmp_path):
    """And whether its jobs are forked from a process that has their imports, as those of most tests are."""
    configuration = stand_in_configuration(stop={"rrmse": None, "max_iterations": 1})
    configuration["labeling"]["structures_per_job"] = 2
    one, two = (CampaignFolder.create(tmp_path / name, configuration) for name in ("one", "two"))
    two.forked_jobs = False
    assert one.run("-c1").code == two.run("-c4").code == 0
    assert one.products() == two.products()


def test_failed_labels_are_accounted_for_and_too_many_stop_the_campaign(tmp_path):
    configuration = stand_in_configuration()
    folder = CampaignFolder.create(tmp_path / "failures", configuration)
    assert folder.run("--until", "select_batch").code == 0
    with open(folder.results / "main/iter_000/batch.csv", newline="") as handle:
        ids = [row["structure_id"] for row in csv.DictReader(handle)]
    shutil.rmtree(folder.results)
    configuration["labeling"] |= {"arguments": {"fail": ids[:2]}, "max_failed_fraction": 0.2}
    folder.configure(configuration)
    outcome = folder.run()
    assert outcome.code != 0
    assert any("2 of 6 labels have failed (engine_error 2)" in line for line in outcome.lines)
    configuration["labeling"]["max_failed_fraction"] = 0.5
    folder.configure(configuration)
    calls = len(folder.calls())
    outcome = folder.run()
    assert outcome.code == 0, outcome.text[-3000:]
    assert len(folder.calls()) - calls == 6, "the four good labels of iteration 0 stay"
    with open(folder.results / "failures.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["structure_id"] for row in rows] == ids[:2]
    assert all(row["status"] == "engine_error" and "told to fail" in row["message"] for row in rows)


def test_a_job_that_dies_is_tried_again(tmp_path):
    configuration = stand_in_configuration(stop={"rrmse": None, "max_iterations": 1})
    configuration["labeling"] |= {"function": "stand_in:flaky", "retries": 1}
    folder = CampaignFolder.create(tmp_path / "flaky", configuration)
    outcome = folder.run()
    assert outcome.code == 0, outcome.text[-3000:]
    assert len(folder.calls()) == 9


def test_coulomb_matrix_on_different_molecules(tmp_path):
    """A pool of different molecules from two files, one of them sliced, with duplicates. Folders and files have odd names:
    braces are no wildcards, blanks and quotes no ends of names, from the pool to the figures.
    """
    from ase.build import molecule

    folder = CampaignFolder.create(tmp_path / "my {arm} é'q\" $x; y")
    rng = np.random.default_rng(1)
    frames = []
    for name in ("CH4", "NH3", "H2O", "C2H6"):
        for _ in range(6):
            atoms = molecule(name)
            atoms.positions += rng.normal(0, 0.05, atoms.positions.shape)
            frames.append(atoms)
    mixed = "mixed {pool}'s é.extxyz"
    ase.io.write(folder.path / mixed, frames)
    pool = {"source": "file", "files": [mixed, {"path": mixed, "index": "::2"}]}
    stop = {"rrmse": None, "max_iterations": 1}
    configuration = stand_in_configuration(pool=pool, descriptor={"kind": "coulomb_matrix"}, stop=stop)
    configuration["labeling"] |= {"store": "store {b} é", "structures_per_job": 10}
    folder.configure(configuration)
    outcome = folder.run()
    assert outcome.code == 0, outcome.text[-3000:]
    assert any("pool: 24 structures, 12 duplicates dropped" in line for line in outcome.lines)
    assert (folder.results / "figures" / "parity.svg").exists() and list(
        (folder.path / "store {b} é").glob("*/??/*.json")
    )


@pytest.mark.parametrize("metric", ["validation", "cross_validation"])
def test_stop_on_other_metrics(tmp_path, metric):
    configuration = stand_in_configuration(
        test={"size": 0}, stop={"rrmse": 0.9, "patience": 1, "metric": metric, "max_labels": 40}
    )
    configuration["query"] = {**configuration["query"], "initial": 10}
    configuration["labeling"]["structures_per_job"] = 10
    folder = CampaignFolder.create(tmp_path / metric, configuration)
    outcome = folder.run()
    assert outcome.code == 0, outcome.text[-3000:]
    rows = history_of(folder)
    assert {row["metric"] for row in rows} == {metric} and {row["n_test"] for row in rows} == {"0"}
    assert rows[-1]["stop_reason"]
