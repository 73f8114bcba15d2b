"""A campaign that learns a potential: energies and forces, no descriptor, batches by the network's last layer."""

from __future__ import annotations

import csv
import json

import h5py
import numpy as np

from quarry.calculator import QuarryCalculator
from quarry.config import load_configuration
from quarry.models.registry import load_model
from quarry.structures import Structure, StructureSet
from support.campaigns import CampaignFolder, stand_in_configuration
from support.stand_in import morse

MODEL = {"kind": "gmnn", "hidden": [16, 8], "epochs": 25, "learning_rate": 0.02, "batch_size": 8}


def test_a_potential_goes_through_the_loop(tmp_path):
    configuration = stand_in_configuration(
        target="energy_forces",
        model={**MODEL, "start": "last"},
        query={"strategy": "lcmd", "initial": 10, "batch": {"schedule": "constant", "size": 4}},
        arms={
            "fresh": {"model": {"start": "fresh"}, "query": {"strategy": "random"}},
            "committee": {
                "model": {"uncertainty": "committee", "members": 2},
                "query": {"strategy": "oed_energy", "min_informativeness": 1e15},
            },
        },
        test={"size": 6},
        stop={"rrmse": None, "max_iterations": 1},
    )
    del configuration["descriptor"]
    folder = CampaignFolder.create(tmp_path / "campaign", configuration)
    outcome = folder.run()
    assert outcome.code == 0, outcome.text[-3000:]
    assert folder.run().nothing_to_do
    main, settings = folder.results / "main", load_configuration(configuration, "config.yaml")
    with open(main / "history.csv", newline="") as handle:
        history = list(csv.DictReader(handle))
    assert [int(row["n_train"]) for row in history] == [10, 14]
    facts = json.loads((main / "iter_001" / "facts.json").read_text())
    assert facts["errors"]["test"]["forces_rmse_over_std"] < 1
    # What users get is the last model: it predicts forces that point as those of the labels.
    model = load_model(main / "model/model.h5", settings.arm("main").model, settings.goal)
    rng = np.random.default_rng(1)
    water = np.array([[0.0, 0.0, 0.117], [0.0, 0.757, -0.469], [0.0, -0.757, -0.469]])
    unseen = [Structure.create([8, 1, 1], water + rng.normal(0, 0.05, (3, 3))) for _ in range(10)]
    found = model.predict(StructureSet.from_structures(unseen), frozenset({"energy", "forces"}))
    wanted = np.concatenate([morse(s.to_atoms(), calls="")["forces"] for s in unseen])
    assert np.corrcoef(found.mean["forces"].ravel(), wanted.ravel())[0, 1] > 0.5
    # The published folder is that model, each arm has its own.
    atoms = unseen[0].to_atoms()
    for place in (folder.results / "model", main):
        atoms.calc = QuarryCalculator(place)
        assert np.abs(atoms.get_forces() - found.mean["forces"][:3]).max() < 1e-4
    other = QuarryCalculator(folder.results / "fresh" / "model").get_property("forces", atoms)
    assert np.abs(other - atoms.get_forces()).max() > 1e-3
    # Both arms learnt the same in iteration 0. In iteration 1 one began where it had ended.
    weights = {}
    for arm in ("main", "fresh"):
        for iteration in (0, 1):
            with h5py.File(folder.results / f"{arm}/iter_{iteration:03d}/model/model.h5") as handle:
                weights[arm, iteration] = handle["layers/00/weights"][()]
    assert np.array_equal(weights["main", 0], weights["fresh", 0])
    near, far = (np.abs(weights[arm, 1] - weights[arm, 0]).max() for arm in ("main", "fresh"))
    assert near < 0.9 * far
    # Two members, each trained by a job, and no candidate that tells them enough: the batch is empty, and the arm ends.
    assert (
        "have an informativeness of 1e+15 or less and are left out (query.min_informativeness); 0 of 4" in outcome.text
    )
    committee = folder.results / "committee"
    members = [committee / f"iter_{t:03d}/model/members/{n:03d}.h5" for t in (0, 1) for n in (0, 1)]
    assert all(path.exists() for path in members)
    with open(committee / "history.csv", newline="") as handle:
        history = list(csv.DictReader(handle))
    assert [int(row["n_train"]) for row in history] == [10, 10]
    assert "none of" in history[-1]["stop_reason"] and "query.min_informativeness" in history[-1]["stop_reason"]
    assert 0 <= float(history[-1]["forces_coverage_95"]) <= 1 and history[-1]["forces_std_factor"] == ""
    assert history[-1]["forces_calibration"] == "not calibrated: too few (1 labels)"
    model = load_model(committee / "model/model.h5", settings.arm("committee").model, settings.goal)
    found = model.predict(StructureSet.from_structures(unseen), frozenset({"energy", "forces", "std"}))
    assert (found.std["energy"] > 0).all() and found.std["forces"].shape == (30, 3)
