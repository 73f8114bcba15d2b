"""Models by the name that ``model.kind`` gives, and from their files. Imports are lazy: no model imports another's."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import h5py

from quarry.config.models import Model as ModelSettings
from quarry.errors import QuarryError, reason_of
from quarry.models.base import Model

MODELS = {
    "gpr": "quarry.models.gpr:GaussianProcessRegression",
    "kreg": "quarry.models.kreg:KernelRidgeRegression",
    "mlp": "quarry.models.mlp:MultilayerPerceptron",
}
"""What ``model.kind`` may name, and where its class is."""


def make_model(settings: ModelSettings, target: str) -> Model:
    """Return an untrained model of ``target`` (energy, homo, lumo, gap, dipole, class ...)."""
    model: Model = _class_of(settings.kind).from_settings(settings, target)
    return model


def load_model(path: str | Path) -> Model:
    """Read a model of any kind. Raises QuarryError if the file is damaged or of an unknown kind."""
    try:
        with h5py.File(path, "r") as handle:
            kind = str(handle.attrs["kind"])
    except (OSError, KeyError) as error:
        raise QuarryError(
            f"{path}: this is not a whole model file ({reason_of(error)}); remove it and start again"
        ) from error
    if kind not in MODELS:
        raise QuarryError(f"{path}: unknown kind of model '{kind}'; known are {', '.join(MODELS)}")
    model: Model = _class_of(kind).load(path)
    return model


def _class_of(kind: str) -> Any:
    module, _, name = MODELS[kind].partition(":")
    return getattr(importlib.import_module(module), name)
