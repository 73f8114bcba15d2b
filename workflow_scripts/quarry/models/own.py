"""User-defined models, by import path: their class, and what they predict, checked."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quarry.config.model_traits import ModelTraits
from quarry.config.models import OwnModel
from quarry.errors import QuarryError
from quarry.files import atomic_path
from quarry.imports import call_user_code, check_arguments, load
from quarry.models.base import STD_OF_ENERGY, Informativeness, Model, Prediction, TrainingData, UncertaintyGradient
from quarry.models.own_checks import (
    METHODS,
    check_methods,
    checked_features,
    checked_gradient,
    checked_hyperparameters,
    checked_informativeness,
    checked_prediction,
    checked_warnings,
)
from quarry.structures import StructureSet


def own_class(settings: OwnModel, base: Path | None) -> Any:
    """Return the class that ``model.kind`` names; base: folder of the campaign file.

    Raises QuarryError if it cannot be imported, has no traits or lacks a method, or does not take ``model.arguments``.
    """
    made = load(settings.kind, "model.kind", base)
    check_arguments(made, settings.arguments, settings.kind, "model.arguments")
    traits = getattr(made, "traits", None)
    if not isinstance(traits, ModelTraits):
        raise QuarryError(f"model.kind: {settings.kind} says nothing of what it can do; add traits = ModelTraits(...)")
    optional: dict[str, object] = {"features": traits.feature_maps, "informativeness": traits.informativeness}
    optional["informativeness_gradient"] = "informativeness" in traits.uncertainty_gradients
    check_methods(made, settings.kind, [name for name in METHODS if optional.get(name, True)])
    if traits.needs_descriptor or traits.member_jobs:
        key = "needs_descriptor" if traits.needs_descriptor else "member_jobs"
        raise QuarryError(
            f"model.kind: {settings.kind} has {key} in its traits, which only models of Quarry can; remove it"
        )
    if settings.start == "last" and not traits.warm_start:
        raise QuarryError(
            f"model.start: last, but {settings.kind} does not begin from another model (warm_start); set fresh"
        )
    return made


class UserModel:
    """A user-defined model. What its methods return is checked, and what they raise becomes a QuarryError of one line."""

    def __init__(self, settings: OwnModel, model: Any, n_states: int = 0) -> None:
        """model: an instance of the user's class. n_states: excited states of a label."""
        self.settings = settings
        self.model = model
        self.n_states = n_states

    @classmethod
    def make(cls, settings: OwnModel, base: Path | None, n_states: int = 0) -> UserModel:
        """Return an untrained model. base: folder of the campaign file. n_states: excited states of a label."""
        made = own_class(settings, base)
        failed = f"model.kind: {settings.kind} failed with model.arguments"
        return cls(settings, call_user_code(lambda: made(**settings.arguments), failed), n_states)

    @classmethod
    def load(cls, path: str | Path, settings: OwnModel, base: Path | None, n_states: int = 0) -> UserModel:
        """Read a trained model that ``save`` wrote; arguments as of ``make``."""
        made = own_class(settings, base)
        failed, remedy = f"{path}: {settings.kind} cannot read its model", "remove it and start again"
        return cls(settings, call_user_code(lambda: made.load(Path(path)), failed, remedy), n_states)

    def fit(
        self,
        data: TrainingData,
        validation: TrainingData | None,
        rng: np.random.Generator,
        *,
        start: Model | None = None,
        checkpoint: Path | None = None,
    ) -> None:
        """Train, see ``Model``."""
        begin = start.model if isinstance(start, UserModel) else None
        self._ask("fit", lambda: self.model.fit(data, validation, rng, start=begin, checkpoint=checkpoint))

    def predict(self, structures: StructureSet, want: frozenset[str]) -> Prediction:
        """Predict, see ``Model``; the prediction is checked."""
        # A hint, which classes need not know.
        want -= {STD_OF_ENERGY}
        found = self._ask("predict", lambda: self.model.predict(structures, want))
        return checked_prediction(found, want, structures, self.settings.kind, self.n_states)

    def features(self, structures: StructureSet, kind: str, rng: np.random.Generator) -> NDArray[np.floating]:
        """Return a feature map, shape (n, p), see ``HasFeatureMaps``."""
        found = self._ask("features", lambda: self.model.features(structures, kind, rng))
        return checked_features(found, structures, self.settings.kind)

    def informativeness(
        self, structures: StructureSet, known: StructureSet, want: frozenset[str]
    ) -> dict[str, Informativeness]:
        """Return how informative labels would be, see ``HasInformativeness``; the numbers are checked."""
        found = self._ask("informativeness", lambda: self.model.informativeness(structures, known, want))
        return checked_informativeness(found, want, (len(structures), len(known)), self.settings.kind)

    def informativeness_gradient(self, structures: StructureSet, known: StructureSet) -> UncertaintyGradient:
        """Return the gradient of the informativeness of energies, see ``HasInformativenessGradient``; it is checked."""
        asked = "informativeness_gradient"
        found = self._ask(asked, lambda: self.model.informativeness_gradient(structures, known))
        return checked_gradient(found, structures, f"model.kind: {self.settings.kind}: {asked}")

    @property
    def validation(self) -> Prediction:
        """What the model of the sub-training data says of the validation data."""
        found = self._ask("validation", lambda: self.model.validation)
        names = (
            frozenset(found.mean) if isinstance(found, Prediction) and isinstance(found.mean, Mapping) else frozenset()
        )
        return checked_prediction(found, names, None, self.settings.kind, self.n_states)

    @property
    def hyperparameters(self) -> Mapping[str, Any]:
        """Return what training chose, if the class says it."""
        found = self._ask("hyperparameters", lambda: getattr(self.model, "hyperparameters", {}))
        return checked_hyperparameters(found, self.settings.kind)

    @property
    def warnings(self) -> Sequence[str]:
        """Return what is doubtful, if the class says it."""
        found = self._ask("warnings", lambda: getattr(self.model, "warnings", ()))
        return checked_warnings(found, self.settings.kind)

    def save(self, path: str | Path) -> None:
        """Write the model, whole or not at all.

        It is written in a folder of its own, which goes with all else that a class may leave there.
        """
        target = Path(path)
        with (
            atomic_path(target) as temporary,
            TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder,
        ):
            written = Path(folder) / target.name
            self._ask("save", lambda: self.model.save(written))
            left = sorted(entry.name for entry in Path(folder).iterdir() if entry != written)
            if left or written.is_symlink() or not written.is_file():
                what = ", ".join(left) or ("no plain file" if os.path.lexists(written) else "nothing")
                raise QuarryError(
                    f"model.kind: {self.settings.kind}: save must write the one file {target.name} that it is given, and wrote "
                    f"{what}; where a library adds an ending, open the file and pass it: with open(path, 'wb') as file"
                )
            os.replace(written, temporary)

    def _ask(self, method: str, call: Callable[[], Any]) -> Any:
        return call_user_code(call, f"model.kind: {self.settings.kind} failed with its {method}")
