"""A model of the user's own whose training is killed in the middle of a campaign."""

from __future__ import annotations

import csv

from support.campaigns import CampaignFolder, stand_in_configuration

OWN = """
import os, signal
from pathlib import Path
import numpy as np
from quarry.config.model_traits import ModelTraits
from quarry.models.base import Prediction
FITS, KILL = Path("fits.log").absolute(), Path("kill").absolute()
class Mean:
    traits = ModelTraits(learns=["energy"], gpus=1)
    def fit(self, data, validation, rng, start=None, checkpoint=None):
        iteration, state = checkpoint.parents[1].name, checkpoint / "state.txt"
        first = int(state.read_text()) if state.exists() else 0
        with FITS.open("a") as log:
            log.write(f"{iteration} from step {first}\\\\n")
        for step in range(first, 20):
            state.write_text(str(step + 1))
            if iteration == "iter_001" and KILL.exists():
                os.kill(os.getpid(), signal.SIGKILL)
        self.value = float(np.mean(data.targets["energy"]))
    def predict(self, structures, want):
        return Prediction({"energy": np.full(len(structures), self.value)})
    def save(self, path):
        path.write_text(repr(self.value))
    @classmethod
    def load(cls, path):
        model = cls()
        model.value = float(path.read_text())
        return model
""".replace("\\\\n", "\\n")


def test_a_killed_training_goes_on_from_its_state(tmp_path):
    """Each try in iteration 1 is killed with -9 after a step; the same command goes on from there and ends the campaign.

    Its jobs ask for a GPU, which its class says; where no scheduler gives any, that keeps nothing from running.
    """
    query = {"strategy": "random", "initial": 3, "batch": {"schedule": "constant", "size": 3}}
    configuration = stand_in_configuration(model={"kind": "own_mean:Mean"}, query=query)
    del configuration["descriptor"]
    folder = CampaignFolder.create(tmp_path / "campaign", configuration)
    (folder.path / "own_mean.py").write_text(OWN)
    (folder.path / "kill").touch()
    killed = folder.run()
    model = folder.results / "main" / "iter_001" / "model"
    assert killed.code != 0 and not (model / "model.h5").exists()
    assert "died with <Signals.SIGKILL: 9>" in killed.text
    steps, fits = int((model / "checkpoint" / "state.txt").read_text()), folder.path / "fits.log"
    before = [f"iter_001 from step {step}" for step in range(steps)]
    assert fits.read_text().splitlines() == ["iter_000 from step 0", *before]
    labels = folder.calls()
    (folder.path / "kill").unlink()
    finished = folder.run()
    assert finished.code == 0, finished.text[-3000:]
    after = [f"iter_001 from step {steps}", "iter_002 from step 0"]
    assert fits.read_text().splitlines() == ["iter_000 from step 0", *before, *after]
    assert folder.calls()[: len(labels)] == labels and len(set(folder.calls())) == len(folder.calls())
    for iteration in range(3):
        left = folder.results / "main" / f"iter_{iteration:03d}" / "model"
        assert [path.name for path in left.iterdir()] == ["model.h5"]
    with open(folder.results / "history.csv", newline="") as handle:
        assert [int(row["n_train"]) for row in csv.DictReader(handle)] == [3, 6, 9]
    assert folder.run().nothing_to_do
