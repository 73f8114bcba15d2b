"""Spectra through Snakemake: ML-NEA on real labels, from existing data, resumed, and drawn anew."""

import csv
import json
import shutil

import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.io import write

from quarry.spectra.cross_section import nuclear_ensemble
from quarry.spectra.files import read_dat
from quarry.structures.labelled import LabelledSet
from support.campaigns import REPOSITORY, WATER, CampaignFolder, stand_in_configuration
from support.stand_in import lines

METHOD = {"xc": "hf", "basis": "sto-3g", "forces": False}
STATES = {"n_states": 3, "kind": "tda", "characters": True}
ML_NEA = {
    "target": "excitations",
    "model": {"kind": "kreg"},
    "validation": {"order": "sequence"},
    "test": {"size": 0},
}


def rows_of(path):
    with open(path, newline="") as handle:
        return list(csv.DictReader(handle))


def test_ml_nea_on_real_labels(tmp_path):
    """Optimisation, Hessian, ensemble, labels by TDA, KREG, stop, spectra; a broadening changed afterwards."""
    folder = CampaignFolder.create(tmp_path / "nea")
    shutil.copy(REPOSITORY / "config/molecules/water.xyz", folder.path)
    configuration = stand_in_configuration(
        **ML_NEA,
        pool={"source": "wigner", "molecule": "water.xyz", "size": 40, "temperature_K": 300},
        spectrum={"delta_eV": 0.1, "delta_qc_eV": 0.1},
        labeling={"engine": "pyscf", "method": {**METHOD, "excitations": STATES}, "structures_per_job": "auto"},
        query={"strategy": "sequence", "initial": 10, "batch": {"schedule": "constant", "size": 5}},
        stop={"metric": "validation", "rrmse": 1e-6, "patience": 1, "max_labels": 15},
    )
    folder.configure(configuration)
    outcome = folder.run()
    assert outcome.code == 0, outcome.text[-3000:]
    results = folder.results
    labelled = LabelledSet.read(results / "dataset.h5")
    with h5py.File(results / "pool/structures.h5") as pool:
        ids = pool["ids"][()].astype(str)
    # The equilibrium, and the ensemble in its own order.
    assert len(ids) == 41 and labelled.structures.ids.tolist() == ids[:15].tolist()
    history = rows_of(results / "history.csv")
    assert [int(row["n_train"]) for row in history] == [10, 15]
    told = "\n".join(outcome.lines)
    assert f"ML-NEA iteration 1: train_number = 10; RMSE_geom = {float(history[0]['rmse']):.6g} (" in told
    assert "rRMSE = 1.0; " in told and f"rRMSE = {float(history[1]['rrmse']):.6g} (" in told
    assert "labels with swapped states" in told
    # The spectra are those of the ensemble file, and its labels are the labels.
    with h5py.File(results / "ensemble.h5") as file:
        energies, strengths = file["excitation_energies"][()], file["oscillator_strengths"][()]
        known = file["labelled"][()]
    assert energies.shape == (40, 3) and known.tolist() == [True] * 14 + [False] * 26
    assert np.array_equal(energies[:14], labelled.properties["excitation_energies"][1:])
    written = read_dat(results / "cross-section/cross-section_ml-nea.dat")
    again = nuclear_ensemble(energies, strengths, 0.1, 0.002)
    assert np.abs(written.sigma - again.sigma).max() < 1e-8 + 1e-8
    quantum = nuclear_ensemble(energies[:14], strengths[:14], 0.1, 0.002)
    assert np.abs(read_dat(results / "cross-section/cross-section_qc-nea.dat").sigma - quantum.sigma).max() < 2e-8
    summary = json.loads((results / "cross-section/summary.json").read_text())
    assert summary["n_ensemble"] == 40 and summary["n_labelled"] == 14
    assert "QC-NEA" in (results / "figures/spectrum.svg").read_text()
    assert folder.run().nothing_to_do
    # Another broadening, and nothing but the spectra is made anew.
    folder.configure({**configuration, "spectrum": {"delta_eV": 0.2, "delta_qc_eV": 0.1}})
    before = folder.products()
    outcome = folder.run()
    assert outcome.code == 0 and "computing spectra" in outcome.text, outcome.text[-3000:]
    assert not any(rule in outcome.text for rule in ("label_structure", "train_model", "evaluate_model"))
    assert folder.products() == before
    wider = read_dat(results / "cross-section/cross-section_ml-nea.dat")
    assert np.abs(wider.sigma - nuclear_ensemble(energies, strengths, 0.2, 0.002).sigma).max() < 2e-8
    # What is learnt cannot change under a campaign.
    folder.configure({**configuration, "spectrum": {"n_states": 2}})
    outcome = folder.run()
    assert outcome.code != 0 and "spectrum.n_states" in outcome.text


def test_existing_data_as_the_lecture_has_them(tmp_path):
    """Text files of one state each beside the geometries of the ensemble, as the published task has; active selection."""
    folder = CampaignFolder.create(tmp_path / "files")
    rng = np.random.default_rng(4)
    frames = [Atoms("OHH", WATER + (n > 0) * rng.normal(0, 0.05, (3, 3))) for n in range(50)]
    write(folder.path / "ensemble.xyz", frames)
    answers = []
    for atoms in frames:
        atoms.info["structure_id"] = ""
        answers.append(lines(atoms, states=2, calls=None))
    for name, letter in (("excitation_energies", "E"), ("oscillator_strengths", "f")):
        for state in range(2):
            text = "".join(f"{answer[name][state]:.10f}\n" for answer in answers)
            (folder.path / f"{letter}{state + 1}.dat").write_text(text)
    text = {"excitation_energies": ["E1.dat", "E2.dat"], "oscillator_strengths": ["f1.dat", "f2.dat"]}
    folder.configure(
        stand_in_configuration(
            **ML_NEA,
            pool={"source": "file", "files": ["ensemble.xyz"]},
            spectrum={"n_states": 2, "equilibrium": True, "delta_eV": 0.05},
            labeling={"engine": "replay", "text": text, "match": "row", "structures": ["ensemble.xyz"]},
            query={"strategy": "uncertainty", "initial": 10, "batch": {"schedule": "constant", "size": 10}},
            stop={"metric": "validation", "rrmse": 1e-9, "max_labels": 30},
        )
    )
    outcome = folder.run()
    assert outcome.code == 0, outcome.text[-3000:]
    results = folder.results
    with h5py.File(results / "ensemble.h5") as file:
        energies, known = file["excitation_energies"][()], file["labelled"][()]
    truth = np.array([answer["excitation_energies"] for answer in answers])[1:]
    assert known.sum() == 29 and energies[known] == pytest.approx(truth[known], abs=1e-9)
    # The others are predictions: near, and not the same.
    assert 0 < np.abs(energies[~known] - truth[~known]).max() < 0.1
    summary = json.loads((results / "cross-section/summary.json").read_text())
    assert summary["labels"]["qc_nea_biased"] is True
    proposal = rows_of(results / "main/iter_001/proposal.csv")
    scores = [float(row["score"]) for row in proposal]
    assert len(scores) == 10 and scores == sorted(scores, reverse=True)
