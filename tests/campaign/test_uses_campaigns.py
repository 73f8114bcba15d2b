"""`snakemake frequencies` and `md` of a campaign that has not been run yet, and again."""

import json

from support.campaigns import CampaignFolder, stand_in_configuration

SETTINGS = {
    "md": {"length_ps": 0.1, "equilibration_ps": 0.05, "frame_fs": 1.0, "reference_frames": 2},
    "optimise": {"force_limit_eV_A": 0.02},
    "reference_jobs": 2,
}


def campaign(**changes):
    return stand_in_configuration(
        target="energy_forces",
        model={"kind": "kreg"},
        labeling={"engine": "function", "function": "stand_in:morse", "retries": 0, "structures_per_job": 10},
        query={"strategy": "random", "initial": 30, "batch": {"schedule": "constant", "size": 3}},
        stop={"rrmse": None, "max_labels": 33},
        uses={**SETTINGS, **changes},
    )


def test_uses_run_the_campaign_first_and_pay_no_label_twice(tmp_path):
    folder = CampaignFolder.create(tmp_path / "campaign", campaign())
    outcome = folder.run("frequencies", "md", timeout=900)
    assert outcome.code == 0, outcome.text[-3000:]
    uses = folder.results / "uses"
    vibrations, trajectory = (json.loads((uses / f"{name}.json").read_text()) for name in ("frequencies", "md"))
    assert len(vibrations["model"]["frequencies_cm"]) == 3 and vibrations["reference"]["labels"] == 18
    assert vibrations["difference"]["mean_absolute_cm"] < 100
    assert trajectory["reference"]["labels"] == 2 and trajectory["difference"]["forces_rmse_eV_A"] < 0.5
    assert (uses / "md.extxyz").exists() and (uses / "frequencies.svg").exists()
    labelled = folder.calls()
    assert len(labelled) == len(set(labelled)) >= 33 + 18 + 2
    assert folder.run("frequencies", "md", timeout=900).nothing_to_do

    # What was lost is put together from the store.
    for file in [*uses.glob("steps/reference_*.json"), uses / "frequencies.json"]:
        file.unlink()
    assert folder.run("frequencies", "md", timeout=900).code == 0
    assert folder.calls() == labelled
    assert json.loads((uses / "frequencies.json").read_text()) == vibrations

    # Another temperature is another trajectory, and no other vibrations; the report shows what is there.
    kept = (uses / "steps/model_displaced.json").stat().st_mtime_ns
    folder.configure(campaign(md={**SETTINGS["md"], "temperature_K": 100.0}))
    assert folder.run("md", timeout=900).code == 0
    colder = json.loads((uses / "md.json").read_text())
    assert colder["model"]["temperature_K"] < trajectory["model"]["temperature_K"]
    assert (uses / "steps/model_displaced.json").stat().st_mtime_ns == kept
    graph = folder.run("--dag").text
    assert "frequencies" in graph and "infrared" not in graph


def test_a_campaign_without_a_potential_refuses_in_one_line(tmp_path):
    folder = CampaignFolder.create(tmp_path / "campaign", stand_in_configuration(target="gap"))
    outcome = folder.run("-n", "frequencies")
    assert outcome.code == 1 and len(outcome.lines) == 1
    assert "frequencies: a potential is wanted, and target: gap has no energies" in outcome.lines[0]
    assert not folder.results.exists()
