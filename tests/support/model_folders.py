"""Folders ``model`` of small campaigns, as the last rules of a run make them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from quarry.calculator import QuarryCalculator
from quarry.models.folder import DESCRIPTION, MODEL, README, TRAINING
from quarry.stages.arm_models import ArmModels
from quarry.stages.describing import describe_model
from quarry.stages.pool import build_features
from quarry.stages.training import train_model
from quarry.structures import Structure, StructureSet
from quarry.structures.files import JobInputEntry, write_job_input, write_pool
from quarry.structures.labelled import LabelledSet
from support.stages import METHOD_ID, configuration, make_facts
from support.toys import EQUILIBRIUM, NUMBERS, energy_and_forces

MANIFEST = {"method": {"engine": "function", "function": "toys:morse"}, "method_id": METHOD_ID}


def published(
    folder: Path,
    structures: Sequence[Structure],
    labels: Sequence[dict[str, Any]],
    *,
    reference: Structure | None = None,
    base: Path | None = None,
    **keys: Any,
) -> Path:
    """Train a model on all structures but two, and return its folder. keys: sections of the configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    conf = configuration(**keys)
    pool, features, dataset = (str(folder / name) for name in ("structures.h5", "features.h5", "dataset.h5"))
    write_pool(pool, StructureSet.from_structures(structures))
    if conf.descriptor is not None:
        write_job_input(folder / "reference.extxyz", [JobInputEntry(reference or structures[0])])
        build_features(pool, str(folder / "reference.extxyz"), conf.descriptor, features)
    roles = ["test"] * 2 + ["train"] * (len(structures) - 2)
    LabelledSet.from_records(list(structures), roles, [0] * len(roles), list(labels)).write(dataset, {})
    models = ArmModels(conf, "main", pool, features if conf.descriptor is not None else "", base)
    output = {name: str(folder / "model" / file) for name, file in OUTPUT.items()}
    train_model(models, dataset, str(folder / "model" / MODEL))
    make_facts(errors={"test": {"rmse": 0.25, "forces_rmse": 0.5, "n": 6}}).write(folder / "facts.json")
    describe_model(models, str(folder / "model" / MODEL), dataset, str(folder / "facts.json"), MANIFEST, output)
    return folder / "model"


OUTPUT = {"description": DESCRIPTION, "training": TRAINING, "readme": README}


def rewrite(folder: Path, **changes: Any) -> None:
    """Change entries of ``model.json``."""
    path = folder / DESCRIPTION
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


GMNN = {"kind": "gmnn", "hidden": [16, 8], "epochs": 300, "learning_rate": 0.02, "schedule": "linear", "batch_size": 8}
DISTANCES = {"kind": "inverse_distances"}
LCMD = {"strategy": "random", "initial": 8, "batch": {"schedule": "constant", "size": 5}}


def waters(count: int = 40, spread: float = 0.06, seed: int = 0) -> list[Structure]:
    rng = np.random.default_rng(seed)
    return [Structure.create(NUMBERS, EQUILIBRIUM)] + [
        Structure.create(NUMBERS, EQUILIBRIUM + spread * rng.normal(size=(3, 3))) for _ in range(count - 1)
    ]


def labels_of(structures: list[Structure], *names: str) -> list[dict]:
    found = []
    for structure in structures:
        energy, forces = energy_and_forces(structure.positions)
        given = {"energy": energy, "forces": forces.tolist(), "homo": energy / 100, "gap": 5 + energy / 1000}
        found.append({name: given[name] for name in names})
    return found


def water(moved: float = 0.0) -> Atoms:
    atoms = Atoms(NUMBERS, EQUILIBRIUM)
    atoms.positions[1, 0] += moved
    return atoms


def with_model(atoms: Atoms, folder: Path) -> Atoms:
    atoms.calc = QuarryCalculator(folder)
    return atoms
