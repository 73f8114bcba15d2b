"""Campaigns that find their own structures: trajectories on the last model's potential end where it is unsure."""

from __future__ import annotations

import json
import shutil
import signal
from typing import Any

import ase.io
import numpy as np
import pytest

from quarry.campaign.batch_table import read_batch
from quarry.campaign.paths import CampaignPaths
from quarry.config import load_configuration
from quarry.dynamics.files import Trajectories, read_exploration
from quarry.sampling.modes import NormalModes
from quarry.stages.overview import sections
from quarry.stages.overview.files import Campaign
from quarry.structures import Structure
from quarry.structures.files import read_pool_ids
from quarry.structures.labelled import LabelledSet
from support.campaigns import CampaignFolder, Outcome, stand_in_configuration

EXPLORE: dict[str, Any] = {
    "trajectories": 6,
    "jobs": 2,
    "length_fs": 20.0,
    "time_step_fs": 1.0,
    "ensemble": "langevin",
    "temperature_K": 600.0,
    "threshold": "each",
}


def dynamics(explore: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    initial = {"source": "file", "files": ["pool.extxyz"]}
    configuration = stand_in_configuration(
        pool={"source": "dynamics", "initial": initial, "explore": {**EXPLORE, **(explore or {})}},
        target="energy_forces",
        model={"kind": "kreg"},
        query={"strategy": "random", "initial": 5, "batch": {"schedule": "constant", "size": 2}},
        test={"size": 4},
        stop={"rrmse": None, "max_iterations": 2},
    )
    return {**configuration, **changes}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> CampaignFolder:
    folder = CampaignFolder.create(tmp_path_factory.mktemp("dynamics") / "campaign", dynamics())
    outcome = folder.run()
    assert outcome.code == 0, outcome.text[-3000:]
    return folder


def facts_of(folder: CampaignFolder, iteration: int) -> dict[str, Any]:
    return json.loads((folder.results / f"main/iter_{iteration:03d}/facts.json").read_text())


def water_modes() -> NormalModes:
    """Return made-up vibrations of a water molecule."""
    masses, bent = (
        np.array([15.999, 1.008, 1.008]),
        np.array([[0.0, 0.0, 0.1], [0.0, 0.76, -0.47], [0.0, -0.76, -0.47]]),
    )
    vectors = np.linalg.qr(np.random.default_rng(0).normal(size=(9, 9)))[0][:3].reshape(3, 3, 3)
    water = Structure.create([8, 1, 1], bent)
    return NormalModes(water, np.array([1600.0, 3600.0, 3700.0]), vectors / np.sqrt(masses)[:, None], masses, 0.0, {})


def test_candidates_are_the_frames_that_the_model_was_unsure_of(finished):
    folder = finished.unpack()
    for iteration in (1, 2):
        place = folder.results / f"main/iter_{iteration:03d}"
        parts = [Trajectories.read(place / f"trajectories/00{group}.h5") for group in (0, 1)]
        assert [len(part.fates) for part in parts] == [3, 3]
        met = [
            structure_id
            for part in parts
            for structure_id, fate, value in zip(part.structures.ids, part.fates, part.uncertainty, strict=True)
            if fate == "uncertain" and value > part.facts["threshold"]
        ]
        assert set(read_pool_ids(place / "candidates.h5")) <= set(met)
        found = read_exploration(place / "candidates.h5")
        assert found["trajectories"] == 6 == found["uncertain"] + found["complete"] + found["unphysical"]
        facts = facts_of(finished, iteration)
        assert facts["phase"] == "query"
        assert {**facts["exploration"], "phase": "query"} == found
    assert finished.run().nothing_to_do


def test_the_map_shows_what_trajectories_found(finished, monkeypatch, tmp_path):
    """Structures of the batches of trajectories are in no pool: the map showed iteration 0 alone."""
    drawn = []
    monkeypatch.setattr(sections.plots, "plot_selection", lambda *given: drawn.append(given))
    paths = CampaignPaths(finished.results.name, str(finished.results))
    campaign = Campaign(load_configuration(dynamics(), "campaign.yaml"), paths, ("", ""))
    (figure,) = sections._selection(campaign, tmp_path)
    _, selected, iterations, _ = drawn[0]
    labelled = LabelledSet.read(finished.results / "main/iter_002/dataset.h5")
    train = labelled.indices("train")
    assert iterations.tolist() == labelled.iterations[train].tolist() and set(iterations) == {0, 1, 2}
    # Inverse distances over those of the reference: by hand, in whatever order of pairs.
    first = labelled.structures[int(train[-1])].positions
    distances = np.linalg.norm(first[[0, 0, 1]] - first[[1, 2, 2]], axis=1)
    reference = ase.io.read(finished.results / "pool/reference.extxyz").positions
    expected = np.linalg.norm(reference[[0, 0, 1]] - reference[[1, 2, 2]], axis=1) / distances
    assert np.sort(selected[-1]) == pytest.approx(np.sort(expected), abs=1e-6)
    assert figure.caption.endswith("Grey: the initial pool.")


def growing(**labeling: Any) -> dict[str, Any]:
    """Initial data that grow once; so many more labels lower the error for certain."""
    settings = dynamics(query={"strategy": "random", "initial": 4, "batch": {"schedule": "constant", "size": 12}})
    settings["pool"] = {
        "source": "dynamics",
        "modes_file": "modes.json",
        "initial_size": 30,
        "growth": {"points": 2, "gain": 0.99},
        "explore": {**EXPLORE, "ensemble": "nve", "jobs": 2, "threshold": "1 kJ/mol"},
    }
    return {**settings, "labeling": {**settings["labeling"], **labeling}}


@pytest.fixture(scope="module")
def grown_run(tmp_path_factory) -> tuple[CampaignFolder, Outcome]:
    folder = CampaignFolder.create(tmp_path_factory.mktemp("grown") / "campaign", growing())
    water_modes().write(folder.path / "modes.json")
    outcome = folder.run()
    assert outcome.code == 0, outcome.text[-3000:]
    return folder, outcome


def test_initial_data_grow_before_trajectories_start_from_the_wigner_distribution(grown_run):
    folder, outcome = grown_run
    why = "1 of the 2 models that the power law needs (pool.growth.points)"
    assert "main iteration 1: 12 geometries drawn to let the initial data grow (RMSE of " in outcome.text
    assert f"; {why}); 12 candidates" in outcome.text
    first, last = facts_of(folder, 1), facts_of(folder, 2)
    assert (first["phase"], first["exploration"]["new"]) == ("initial", 12)
    assert first["exploration"]["growth"].endswith(why)
    assert last["exploration"]["growth"].endswith("below 3 meV (pool.explore.least_energy_eV_atom)")
    assert (last["phase"], last["exploration"]["trajectories"]) == ("query", 6)
    assert last["exploration"]["threshold"] == pytest.approx(0.0103642697)
    assert "main iteration 2: 6 trajectories" in outcome.text
    assert folder.run().nothing_to_do


def test_labels_that_fail_while_the_initial_data_grow_are_tried_again_there(grown_run, tmp_path):
    """Failures of iteration 0 are borne with, those of the growth are too many; all come back in the batch of the growth."""
    first, second = (read_batch(grown_run[0].results / f"main/iter_00{t}/batch.csv") for t in (0, 1))
    failing = [first[0].structure_id, first[-1].structure_id, *(row.structure_id for row in second[:6])]
    labeling = {"function": "stand_in:fails_without", "arguments": {"file": "repaired", "only": failing}}
    folder = CampaignFolder.create(tmp_path / "campaign", growing(**labeling, max_failed_fraction=0.3))
    water_modes().write(folder.path / "modes.json")
    outcome = folder.run()
    assert outcome.code != 0 and "8 of 20 labels have failed (engine_error 8), more than" in outcome.text
    assert "main iteration 1: 12 geometries drawn" in outcome.text, "two failures of eight are no end"
    (folder.path / "repaired").touch()
    before = folder.calls()
    outcome = folder.run("retry_failed")
    assert outcome.code == 0, outcome.text[-3000:]
    assert "arm main: 8 failed labels go into the batch of iteration 1" in outcome.text
    again = [row for row in read_batch(folder.results / "main/iter_001/batch.csv") if row.retry_of]
    assert {row.structure_id for row in again} == set(failing)
    assert sorted(row.role for row in again) == ["test"] + 7 * ["train"]
    assert set(failing) <= set(folder.calls()[len(before) :]) and len(set(folder.calls())) == len(folder.calls())
    # The growth goes on as if nothing had failed: its model has all labels.
    for t, phase in ((1, "initial"), (2, "query")):
        assert facts_of(folder, t)["phase"] == phase
        expected, found = (
            set(read_pool_ids(one.results / f"main/iter_00{t}/candidates.h5")) for one in (grown_run[0], folder)
        )
        assert found == expected
    expected, found = (LabelledSet.read(one.results / "dataset.h5").structures.ids for one in (grown_run[0], folder))
    assert sorted(found) == sorted(expected)
    assert folder.run().nothing_to_do


# Kills an exploration, the main process and all else of its group, when it has left a state after some steps.
KILLS_AN_EXPLORATION = """
import os, signal, sys, threading, time
from pathlib import Path

killed, script = Path("{folder}") / "killed", Path(sys.orig_argv[-1]).name.split(".")


def prepare():
    while not hasattr(sys.modules.get("quarry.dynamics.exploration"), "_taken_up"):
        time.sleep(0.001)
    module = sys.modules["quarry.dynamics.exploration"]
    write, module.CHECKPOINT_S = module._write, 0.0

    def written(path, state, *rest):
        write(path, state, *rest)
        if state.step >= 4:
            killed.touch()
            os.killpg(os.getpgrp(), signal.SIGKILL)

    module._write = written


if len(script) == 3 and script[1] == "explore" and not killed.exists():
    threading.Thread(target=prepare, daemon=True).start()
"""


BOUNDED = {"uncertainty": "forces", "calibration": "conformal", "threshold": "4 eV/Angstrom", "ensemble": "langevin"}


@pytest.mark.parametrize(
    ("uncertainty", "test_size", "changes"),
    [
        ({"uncertainty": "auxiliary"}, 12, {}),
        ({"uncertainty": "committee", "members": 2}, 20, {**BOUNDED, "bias": {"skip_elements": ["H"]}}),
    ],
    ids=["auxiliary", "biased committee, conformal bounds of forces"],
)
def test_a_campaign_that_is_killed_among_its_trajectories(uncertainty, test_size, changes, tmp_path):
    """The same batches, models and facts as of an exploration that was not killed, and no label twice."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(KILLS_AN_EXPLORATION.format(folder=site))
    small = {"kind": "gmnn", **uncertainty, "hidden": [16, 8], "epochs": 40, "learning_rate": 0.02}
    growth, explore = {"points": 2, "gain": 0.99}, {"trajectories": 12, "length_fs": 40.0, **changes}
    settings = {
        "name": "toy",
        "pool": {
            "source": "dynamics",
            "modes_file": "modes.json",
            "initial_size": 28 + test_size,
            "growth": growth,
            "explore": explore,
        },
        "labeling": {"engine": "function", "function": "stand_in:morse", "retries": 0, "structures_per_job": 12},
        "model": {**small, "batch_size": 8, "schedule": "cosine"},
        "query": {"strategy": "random", "initial": 12, "batch": {"schedule": "constant", "size": 12}},
        "test": {"size": test_size},
        "stop": {"rrmse": None, "min_new_points": 2, "max_iterations": 2},
    }
    folder = CampaignFolder.create(tmp_path / "campaign", settings)
    water_modes().write(folder.path / "modes.json")
    folder.environment = {"PYTHONPATH": str(site)}
    process = folder.start()
    assert process.wait(timeout=600) == -signal.SIGKILL
    state = list(folder.results.glob("main/iter_*/trajectories/*.state.npz"))
    assert len(state) == 1 and not state[0].with_name("000.h5").exists()
    known, before = folder.stored(), len(folder.calls())
    outcome = folder.run()
    assert outcome.code == 0, outcome.text[-3000:]
    assert not known & set(folder.calls()[before:])
    assert len(folder.calls()) == len(set(folder.calls())) == len(folder.stored())
    last = state[0].parent.parent
    assert not state[0].exists()
    again = folder.copy(tmp_path / "again").unpack()
    shutil.rmtree(again.path / last.relative_to(folder.path))
    calls = again.calls()
    outcome = again.run()
    assert outcome.code == 0, outcome.text[-3000:]
    assert again.calls() == calls
    # Which jobs labels are in depends on which of them are known.
    expected, found = (
        {k: v for k, v in one.products().items() if not k.endswith("batch.csv")} for one in (folder, again)
    )
    assert expected.keys() == found.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
