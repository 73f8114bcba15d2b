"""A campaign whose model learns the difference to a calculator of the user's, beside an arm that learns the labels themselves."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from ase import Atoms

from quarry.calculator import QuarryCalculator
from support.campaigns import WATER, CampaignFolder, stand_in_configuration
from support.stand_in import morse

SHIFTED = """
from pathlib import Path
import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from stand_in import morse
ASKED = Path(__file__).with_name("asked.log")
class Shifted(Calculator):
    '''The labels, and 7 eV for each atom.'''
    implemented_properties = ["energy", "forces"]
    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        with ASKED.open("a") as log:
            log.write(f"{len(atoms)}\\n")
        copy = atoms.copy()
        copy.info["structure_id"] = "x"
        said = morse(copy, calls="")
        self.results = {"energy": said["energy"] + 7.0 * len(atoms), "forces": said["forces"]}
"""


def test_an_arm_with_a_baseline_beside_one_without(tmp_path):
    """The baseline lacks nothing but atomic references: its arm is right at once, and it is asked once for each candidate."""
    configuration = stand_in_configuration(
        model={"kind": "gpr", "baseline": {"kind": "ase", "calculator": "shifted:Shifted"}},
        arms={"plain": {"model": {"kind": "gpr", "baseline": None}}},
        stop={"rrmse": None, "max_iterations": 1},
    )
    folder = CampaignFolder.create(tmp_path / "campaign", configuration, size=30)
    (folder.path / "shifted.py").write_text(SHIFTED)
    outcome = folder.run()
    assert outcome.code == 0, outcome.text[-3000:]
    assert folder.run().nothing_to_do
    # One structure more, before the start.
    assert len((folder.path / "asked.log").read_text().split()) == 30 + 1
    errors = {}
    for arm in ("main", "plain"):
        with open(folder.results / arm / "history.csv", newline="") as handle:
            errors[arm] = [float(row["rmse"]) for row in csv.DictReader(handle)]
    assert max(errors["main"]) < 1e-6 < min(errors["plain"])
    atoms = Atoms("OHH", WATER + np.random.default_rng(5).normal(0, 0.05, (3, 3)))
    atoms.calc = QuarryCalculator(folder.results / "model", base=folder.path)
    before = len((folder.path / "asked.log").read_text().split())
    labelled = atoms.copy()
    labelled.info["structure_id"] = "x"
    assert atoms.get_potential_energy() == pytest.approx(morse(labelled, calls="")["energy"], abs=1e-6)
    assert len((folder.path / "asked.log").read_text().split()) == before + 1
