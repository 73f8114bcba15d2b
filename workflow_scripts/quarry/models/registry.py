"""Models by the section of the configuration that describes them. Imports are lazy: no model imports another's."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quarry.config.installed import require_extras
from quarry.config.models import Model as ModelSettings
from quarry.config.models import OwnModel
from quarry.config.networks import NetworkPotential
from quarry.config.targets import TARGETS, Target
from quarry.errors import QuarryError
from quarry.models.base import Model
from quarry.models.baseline_cache import BaselineCache
from quarry.models.delta import DeltaModel
from quarry.models.model_file import intact
from quarry.models.regression import Regression

if TYPE_CHECKING:
    from quarry.descriptors.cache import FeatureCache

REGRESSIONS = {
    "gpr": "quarry.models.gpr:GaussianProcessRegression",
    "kreg": "quarry.models.kreg:KernelRidgeRegression",
    "mlp": "quarry.models.mlp:MultilayerPerceptron",
}
"""Models that learn from the descriptor: what ``model.kind`` may name, and where its class is."""
POTENTIALS = {"gmnn": "quarry.models.gmnn.model:GaussianMomentModel"}
"""Models that learn from structures themselves, likewise."""


def make_model(
    settings: ModelSettings,
    target: Target,
    cache: FeatureCache | None = None,
    base: Path | None = None,
    baseline: str | None = None,
) -> Model:
    """Return an untrained model.

    settings: section model of the configuration. cache: the descriptor of structures. base: folder of the campaign file.
    baseline: ``pool/baseline.h5``; None: what a baseline says is computed where it is needed.
    """
    require_extras(settings, "model")
    model = _make(settings, target, cache, base)
    return model if settings.baseline is None else DeltaModel(model, BaselineCache(settings.baseline, base, baseline))


def _make(settings: ModelSettings, target: Target, cache: FeatureCache | None, base: Path | None) -> Model:
    if not target.each_state or settings.is_user_defined:
        return _make_model(settings, target, cache, base)
    from quarry.models.states import StatesModel

    return StatesModel(lambda: _make_model(settings, TARGETS[target.each_state], cache, base))


def _make_model(settings: ModelSettings, target: Target, cache: FeatureCache | None, base: Path | None) -> Model:
    if isinstance(settings, OwnModel):
        from quarry.models.own import UserModel

        return UserModel.make(settings, base, target.n_states)
    if isinstance(settings, NetworkPotential):
        from quarry.models.network_potential import NetworkModel

        return NetworkModel(settings, target.learnt, base)
    if settings.kind in POTENTIALS:
        potential: Model = _class_of(settings.kind)(settings, target.learnt)
        return potential
    from quarry.models.descriptor_model import DescriptorModel

    assert cache is not None
    return DescriptorModel(make_regression(settings, target), target, cache)


def load_model(
    path: str | Path,
    settings: ModelSettings,
    target: Target,
    cache: FeatureCache | None = None,
    base: Path | None = None,
    baseline: str | None = None,
) -> Model:
    """Read a model. Arguments as of ``make_model``; without a cache the descriptor in the file computes the features.

    It runs where ``settings`` says, wherever it was trained. Nothing in the file is run as code (a user's class reads its own).
    Raises QuarryError if the file is damaged or of another kind than the section says.
    """
    require_extras(settings, "model")
    model = _load(path, settings, target, cache, base)
    if settings.baseline is None:
        return model
    delta = DeltaModel(model, BaselineCache(settings.baseline, base, baseline))
    delta.check_file(path)
    return delta


def _load(
    path: str | Path, settings: ModelSettings, target: Target, cache: FeatureCache | None, base: Path | None
) -> Model:
    if not target.each_state or settings.is_user_defined:
        return _load_model(path, settings, target, cache, base)
    from quarry.models.states import StatesModel

    check_kind(path, settings.kind)
    one = TARGETS[target.each_state]
    with intact(path):
        return StatesModel.load(
            path,
            lambda: _make_model(settings, one, cache, base),
            lambda part: _load_model(part, settings, one, cache, base),
        )


def _load_model(
    path: str | Path, settings: ModelSettings, target: Target, cache: FeatureCache | None, base: Path | None
) -> Model:
    if isinstance(settings, OwnModel):
        from quarry.models.own import UserModel

        return UserModel.load(path, settings, base, target.n_states)
    where = settings.model_dump(include={"device"})
    if isinstance(settings, NetworkPotential):
        from quarry.models.network_potential import NetworkModel

        check_kind(path, settings.kind)
        return NetworkModel.load(path, **where)
    if settings.kind in POTENTIALS:
        potential: Model = _loaded(path, settings.kind, **where)
        return potential
    from quarry.models.descriptor_model import DescriptorModel

    regression: Regression = _loaded(path, settings.kind, **where)
    return DescriptorModel(
        regression, target, cache if cache is not None else DescriptorModel.descriptor_in(path, base)
    )


def make_regression(settings: ModelSettings, target: Target) -> Regression:
    """Return an untrained regression on a descriptor: gpr, kreg or mlp."""
    regression: Regression = _class_of(settings.kind).from_settings(settings, target.name)
    return regression


def load_regression(path: str | Path, kind: str) -> Regression:
    """Read a regression of a kind. Raises QuarryError as ``load_model`` does."""
    regression: Regression = _loaded(path, kind)
    return regression


def _loaded(path: str | Path, kind: str, **where: str) -> Any:
    check_kind(path, kind)
    with intact(path):
        return _class_of(kind).load(path, **where)


def check_kind(path: str | Path, kind: str) -> None:
    """Raise QuarryError if a file is damaged or holds a model of another kind."""
    import h5py

    with intact(path), h5py.File(path, "r") as handle:
        found = str(handle.attrs["kind"])
    if found != kind:
        raise QuarryError(f"{path}: this is a model of kind '{found}', but model.kind is {kind}")


def _class_of(kind: str) -> Any:
    module, _, name = (REGRESSIONS | POTENTIALS)[kind].partition(":")
    return getattr(importlib.import_module(module), name)
