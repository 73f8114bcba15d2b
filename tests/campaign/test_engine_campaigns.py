"""Whole campaigns with the engines beside PySCF: finished labels replayed, and a program that fails for some structures."""

import json
import sys

import ase.io
import numpy as np
import pytest

from quarry.campaign.packed import Folder
from quarry.structures import Structure
from support.campaigns import CampaignFolder, stand_in_configuration
from support.stand_in import morse

TWO_ITERATIONS = {"rrmse": None, "max_iterations": 1}


def test_replayed_campaign_is_the_computed_one(tmp_path):
    """A batch is one job, and data set and decisions are those of the campaign that computed its labels."""
    settings = stand_in_configuration(stop=TWO_ITERATIONS)
    settings["labeling"]["structures_per_job"] = 3
    computed = CampaignFolder.create(tmp_path / "computed", settings)
    assert computed.run().code == 0
    replayed = CampaignFolder.create(tmp_path / "replayed")
    pool = ase.io.read(replayed.path / "pool.extxyz", ":")
    answers = []
    for atoms in pool:
        # The pool's positions: rounded on their way in.
        atoms = Structure.from_atoms(atoms).to_atoms()
        answers.append(morse(atoms, calls=None))
    np.savez(
        replayed.path / "table.npz",
        **{"E/hartree": [a["energy"] / 27.211386245988 for a in answers], "F": [a["forces"] for a in answers]},
        gap=[a["gap"] for a in answers],
        Z=[8, 1, 1],
        R=[atoms.positions for atoms in pool],
    )
    columns = {"energy": "E/hartree", "forces": "F", "gap": "gap"}
    labeling = {"engine": "replay", "file": "table.npz", "columns": columns, "units": {"energy": "hartree"}}
    replayed.configure(stand_in_configuration(labeling=labeling, stop=TWO_ITERATIONS))
    outcome = replayed.run()
    assert outcome.code == 0, outcome.text[-3000:]
    for name in ("main/iter_000/batch.csv", "main/iter_001/batch.csv"):
        ids = [
            [line.split(",")[0] for line in (f.results / name).read_text().splitlines()] for f in (computed, replayed)
        ]
        assert ids[0] == ids[1]
    ours, theirs = (ase.io.read(f.results / "dataset.extxyz", ":") for f in (replayed, computed))
    energies = [[atoms.get_potential_energy() for atoms in frames] for frames in (ours, theirs)]
    assert energies[0] == pytest.approx(energies[1], abs=1e-9)
    assert len(Folder(replayed.results / "main/iter_000/labels").names()) == 1, "a batch is one job"
    assert all(record.ok for record in replayed.labels())


def test_program_of_the_user(tmp_path):
    """A script with a template; where it does not converge the campaign goes on, and the record says why."""
    labeling = {
        "engine": "command",
        "command": f"{sys.executable} $base/program.py job.inp",
        "input": {"job.inp": "job.inp"},
        "output": {"file": "answer.json", "format": "json", "units": {"energy": "kcal/mol"}},
        "failure_patterns": {"NOT CONVERGED": "scf_not_converged"},
        "max_failed_fraction": 0.9,
        "retries": 0,
    }
    settings = stand_in_configuration(labeling=labeling, stop=TWO_ITERATIONS)
    folder = CampaignFolder.create(tmp_path / "campaign", settings)
    (folder.path / "job.inp").write_text("charge $charge, 2S+1 $multiplicity\n$atoms\n")
    (folder.path / "program.py").write_text(
        "import json, sys\n"
        "lines = open(sys.argv[1]).read().splitlines()\n"
        "assert lines[0] == 'charge 0, 2S+1 1', lines[0]\n"
        "x = [float(line.split()[1]) for line in lines[1:]]\n"
        "if x[0] > 0.03:\n"
        "    sys.exit('SCF NOT CONVERGED')\n"
        "json.dump({'energy': 1000 * x[0]}, open('answer.json', 'w'))\n"
    )
    outcome = folder.run()
    assert outcome.code == 0, outcome.text[-3000:]
    records = folder.labels()
    assert {record.status for record in records} == {"ok", "scf_not_converged"}
    structures = {Structure.from_atoms(a).structure_id: a for a in ase.io.read(folder.path / "pool.extxyz", ":")}
    for record in records:
        x = structures[record.structure_id].positions[0, 0]
        assert (record.status == "ok") == (round(x, 6) <= 0.03)
        if record.ok:
            assert record.properties["energy"] == pytest.approx(1000 * x * 0.0433641043, abs=1e-4)
        else:
            assert record.details["exit_code"] == 1
            assert record.details["stderr"] == "SCF NOT CONVERGED"
    failures = (folder.results / "failures.csv").read_text()
    assert "scf_not_converged" in failures
    manifest = json.loads((folder.results / "campaign.json").read_bytes())
    assert set(manifest["inputs"]) == {"pool.extxyz", "job.inp"}
