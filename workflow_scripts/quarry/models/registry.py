"""Models by the name that ``model.kind`` gives, and from their files."""

from __future__ import annotations

from pathlib import Path

import h5py

from quarry.config.models import Model as ModelSettings
from quarry.errors import QuarryError
from quarry.models.base import Model
from quarry.models.gpr import GaussianProcessRegression

MODELS: dict[str, type[Model]] = {GaussianProcessRegression.kind: GaussianProcessRegression}
"""What ``model.kind`` may name."""


def make_model(settings: ModelSettings, target: str) -> Model:
    """Return an untrained model of ``target`` (energy, homo, lumo, gap or dipole)."""
    return MODELS[settings.kind].from_settings(settings, target)


def load_model(path: str | Path) -> Model:
    """Read a model of any kind. Raises QuarryError if the file is damaged or of an unknown kind."""
    try:
        with h5py.File(path, "r") as handle:
            kind = str(handle.attrs["kind"])
    except (OSError, KeyError) as error:
        raise QuarryError(f"{path}: this is not a whole model file ({error}); remove it and start again") from error
    if kind not in MODELS:
        raise QuarryError(f"{path}: unknown kind of model '{kind}'; known are {', '.join(MODELS)}")
    return MODELS[kind].load(path)
