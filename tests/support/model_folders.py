"""Folders ``model`` of small campaigns, as the last rules of a run make them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from quarry.models.folder import DESCRIPTION, MODEL, README, TRAINING
from quarry.stages.arm_models import ArmModels
from quarry.stages.describing import describe_model
from quarry.stages.pool import build_features
from quarry.stages.training import train_model
from quarry.structures import Structure, StructureSet
from quarry.structures.files import JobInputEntry, write_job_input, write_pool
from quarry.structures.labelled import LabelledSet
from support.stages import METHOD_ID, configuration, make_facts

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
