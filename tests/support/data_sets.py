"""Labelled structures that tests of the data product share: a molecule, an ion, a crystal with a stress, free atoms."""

from pathlib import Path

import numpy as np

from quarry.campaign.paths import CampaignPaths
from quarry.csv_tables import write_dicts
from quarry.files import write_json, write_text
from quarry.structures.frames import write_extxyz
from quarry.structures.labelled import LabelledSet
from quarry.structures.structure import Structure

WATER = np.array([[0.0, 0.0, 0.1], [0.0, 0.75, -0.4], [0.0, -0.75, -0.4]])


def structures():
    cell = np.array([[3.71, 0.1, 0.1], [0.1, 3.8, 0.1], [0.1, 0.1, 3.6]])
    crystal = np.array([[0.0, 0.0, 0.0], [0.0, 1.8, 1.8], [1.8, 0.0, 1.8], [1.8, 1.8, 0.0]])
    return [
        Structure.create([8, 1, 1], WATER),
        Structure.create([8, 1], WATER[:2], charge=-1),
        Structure.create([29] * 4, crystal, cell=cell, pbc=[True] * 3),
        Structure.create([8], WATER[:1], multiplicity=3),
        Structure.create([1], WATER[:1], multiplicity=2),
        Structure.create([8, 1], WATER[:2], multiplicity=2),
    ]


def label(structure, rng):
    """Return random numbers as a label's properties; a stress of cells alone."""
    stress = rng.normal(size=(3, 3))
    found = {
        "energy": -2078.0 + rng.normal(),
        "homo": -7.25,
        "dipole": rng.normal(size=3).tolist(),
        "forces": rng.normal(size=(len(structure), 3)).round(8).tolist(),
        "charges": rng.normal(size=len(structure)).round(8).tolist(),
    }
    return found | ({"stress": (stress + stress.T).tolist()} if any(structure.pbc) else {})


def of_all_kinds(**changes):
    """Return the labelled structures of all kinds; the last one is a test structure."""
    rng, chosen = np.random.default_rng(0), structures()
    roles = ["train"] * (len(chosen) - 1) + ["test"]
    labels = [label(structure, rng) for structure in chosen]
    return LabelledSet.from_records(chosen, roles, list(range(len(chosen))), labels, **changes)


def campaign_of(folder, labelled, iterations=1, finished=True, settings=None, identity=None):
    """Write a campaign's folder with the labels that a run would have left after some iterations; return its paths."""
    paths = CampaignPaths("mine", str(folder))
    method = {"engine": "pyscf", "method": {"xc": "b3lyp", "basis": "6-31g*"}}
    usual = {
        "seed": 7,
        "pool": {"source": "file", "files": [{"path": "pool.extxyz"}], "charge": 0},
        "labeling": method,
        "model": {"kind": "gpr"},
        "query": {"strategy": "random", "initial": 3, "batch": {"schedule": "constant", "size": 3}},
        "test": {"size": 1},
        "target": "energy",
        "arms": {},
    }
    manifest = {
        "campaign_id": "0123456789abcdef",
        "created": "2026-11-26T14:04:56+0000",
        "format": 1,
        "identity": {**usual, **(identity or {})},
        "inputs": {"pool.extxyz": "ab" * 32},
        "method": method,
        "method_id": "fedcba9876543210",
        "quarry": "0.1.0",
    }
    write_json(paths.manifest, manifest)
    if settings is not None:
        write_json(paths.dataset_settings, settings)
    for iteration in range(iterations):
        _write_labels(paths.iteration(arm="main", iteration=iteration), labelled)
    if finished:
        for place in (paths.arm("main"), paths.root):
            _write_labels(place, labelled)
            write_extxyz(labelled, f"{place}/dataset.extxyz")
            write_text(f"{place}/outliers.csv", "structure_id\n")
            write_text(f"{place}/model/model.h5", "a model")
            rows = [{"iteration": t, "metric": "test", "rmse": "0.1", "r2": "0.9"} for t in range(iterations)]
            rows[-1]["stop_reason"] = "the budget is spent"
            write_dicts(f"{place}/history.csv", ["iteration", "metric", "rmse", "r2", "stop_reason"], rows)
    return paths


def _write_labels(place, labelled):
    labelled.write(Path(place) / "dataset.h5", {"method_id": "fedcba9876543210"})
    audit = [
        {"severity": "warning", "check": "net_force", "words": "0.01 eV/A | too much"},
        {"severity": "note", "check": "copies"},
    ]
    write_dicts(f"{place}/audit.csv", ["severity", "check", "words"], audit)
    failures = [{"status": "out_of_time"}, {"status": "scf_not_converged", "retried": "x"}]
    write_dicts(f"{place}/failures.csv", ["status", "retried"], failures)
