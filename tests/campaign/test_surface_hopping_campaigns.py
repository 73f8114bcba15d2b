"""A campaign of two states to its end, and `snakemake surface_hopping` on its model, with trajectories by labels beside it."""

import json

import numpy as np
import pandas
import pytest

from support.campaigns import CampaignFolder, stand_in_configuration

HOPPING = {
    "trajectories": 12,
    "length_fs": 12.0,
    "time_step_fs": 0.5,
    "reference_trajectories": 1,
    "energy_tolerance_eV": 2.0,
}


def campaign(**hopping):
    return stand_in_configuration(
        target="state_energies_forces",
        model={"kind": "kreg"},
        labeling={"engine": "function", "function": "stand_in:two_states", "retries": 0, "structures_per_job": 50},
        query={"strategy": "random", "initial": 40, "batch": {"schedule": "constant", "size": 5}},
        stop={"rrmse": None, "max_labels": 45},
        uses={"optimise": {"force_limit_eV_A": 0.02}, "surface_hopping": {**HOPPING, **hopping}},
    )


def test_surface_hopping_of_a_campaign(tmp_path):
    folder = CampaignFolder.create(tmp_path / "campaign", campaign())
    outcome = folder.run(timeout=900)
    assert outcome.code == 0, outcome.text[-3000:]
    outcome = folder.run("surface_hopping", timeout=900)
    assert outcome.code == 0, outcome.text[-3000:]
    result = json.loads((folder.results / "uses/surface_hopping.json").read_text())
    model, reference = result["model"], result["reference"]
    assert model["trajectories"] == 12 == sum(model["fates"].values()) and reference["trajectories"] == 1
    assert model["populations"][0] == [0.0, 1.0] == reference["populations"][0]
    assert len(model["times_fs"]) == 25 and model["times_fs"][-1] == 12.0
    for share, low, high in zip(model["populations"], model["populations_low"], model["populations_high"], strict=True):
        assert sum(share) == pytest.approx(1.0)
        assert all(a <= b <= c for a, b, c in zip(low, share, high, strict=True))
    with np.load(folder.results / "uses/surface_hopping.npz") as found:
        assert found["positions_A"].shape == (12, 25, 3, 3) and found["energies_eV"].shape == (12, 25, 2)
    assert (folder.results / "uses/surface_hopping.svg").exists()

    # Errors of each state stand in history and facts as those of other targets do.
    last = pandas.read_csv(folder.results / "history.csv").iloc[-1]
    assert np.isfinite(last["rmse"]) and np.isfinite(last["state_forces_rmse"])

    # Another length: the labels of the trajectory that were paid are not asked for again, and nothing else is made anew.
    labelled = folder.calls()
    assert len(labelled) == len(set(labelled))
    minimum = (folder.results / "uses/steps/model_minimum.json").stat().st_mtime_ns
    folder.configure(campaign(length_fs=9.0))
    assert folder.run("surface_hopping", timeout=900).code == 0
    assert folder.calls() == labelled
    assert (folder.results / "uses/steps/model_minimum.json").stat().st_mtime_ns == minimum


def test_one_state_is_refused_in_one_line(tmp_path):
    folder = CampaignFolder.create(
        tmp_path / "campaign", stand_in_configuration(target="energy_forces", model={"kind": "kreg"})
    )
    outcome = folder.run("-n", "surface_hopping")
    assert outcome.code == 1 and len(outcome.lines) == 1
    assert "energies and forces of several states are wanted" in outcome.lines[0]
