"""Models of the user's own, by import path: their class, and what they predict, checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quarry.config.model_traits import ModelTraits
from quarry.config.models import OwnModel
from quarry.errors import QuarryError, reason_of
from quarry.files import atomic_path
from quarry.imports import check_arguments, load
from quarry.models.base import STD, Informativeness, Model, Prediction, TrainingData, has_rows_of_atoms
from quarry.processes import only_this_process
from quarry.structures import StructureSet

METHODS = ("fit", "predict", "save", "load")


def own_class(settings: OwnModel, base: Path | None) -> Any:
    """Return the class that ``model.kind`` names; base: folder of the campaign file.

    Raises QuarryError if it cannot be imported, has no traits or lacks a method, or does not take ``model.arguments``.
    """
    made = load(settings.kind, "model.kind", base)
    check_arguments(made, settings.arguments, settings.kind, "model.arguments")
    traits = getattr(made, "traits", None)
    if not isinstance(traits, ModelTraits):
        raise QuarryError(f"model.kind: {settings.kind} says nothing of what it can do; add traits = ModelTraits(...)")
    given = {"features": traits.feature_maps, "informativeness": traits.informativeness}
    needed = (*METHODS, *(name for name, kinds in given.items() if kinds))
    missing = [name for name in needed if not callable(getattr(made, name, None))]
    if missing:
        raise QuarryError(f"model.kind: {settings.kind} has no method {missing[0]}; add it (docs/models.md)")
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
    """A model of the user's own: what it says is checked, and what goes wrong in it is one line."""

    def __init__(self, settings: OwnModel, model: Any) -> None:
        """model: an instance of the user's class."""
        self.settings = settings
        self.model = model

    @classmethod
    def make(cls, settings: OwnModel, base: Path | None) -> UserModel:
        """Return an untrained model; base: folder of the campaign file."""
        made = own_class(settings, base)
        return cls(settings, _asked(settings, "model.arguments", lambda: made(**settings.arguments)))

    @classmethod
    def load(cls, path: str | Path, settings: OwnModel, base: Path | None) -> UserModel:
        """Read a trained model."""
        made = own_class(settings, base)
        try:
            with only_this_process():
                return cls(settings, made.load(Path(path)))
        except Exception as error:
            raise QuarryError(
                f"{path}: {settings.kind} cannot read its model ({reason_of(error, named=True)}); remove it and start again"
            ) from error

    def fit(
        self,
        data: TrainingData,
        validation: TrainingData | None,
        rng: np.random.Generator,
        *,
        start: Model | None = None,
        checkpoint: Path | None = None,
    ) -> None:
        """Train."""
        begin = start.model if isinstance(start, UserModel) else None
        self._ask("fit", lambda: self.model.fit(data, validation, rng, start=begin, checkpoint=checkpoint))

    def predict(self, structures: StructureSet, want: frozenset[str]) -> Prediction:
        """Predict, and check what is said."""
        found = self._ask("predict", lambda: self.model.predict(structures, want))
        if not isinstance(found, Prediction):
            raise QuarryError(
                f"model.kind: {self.settings.kind}: predict must return a Prediction, not {type(found).__name__}"
            )
        for name in sorted(want - {STD}):
            self._check(name, found.mean.get(name), structures)
            if STD in want and name in found.std:
                self._check(name, found.std[name], structures)
        return found

    def _check(self, name: str, values: NDArray[np.float64] | None, structures: StructureSet) -> None:
        rows = len(structures.numbers) if has_rows_of_atoms(name) else len(structures)
        if values is None or np.shape(values)[:1] != (rows,):
            raise QuarryError(
                f"model.kind: {self.settings.kind}: predict must give {rows} rows of {name}, got "
                f"{'nothing' if values is None else f'an array of shape {np.shape(values)}'}"
            )
        if not np.isfinite(values).all():
            raise QuarryError(f"model.kind: {self.settings.kind}: a prediction of {name} is not a finite number")

    def features(self, structures: StructureSet, kind: str, rng: np.random.Generator) -> NDArray[np.floating]:
        """Return a feature map, see ``HasFeatureMaps``."""
        found: NDArray[np.floating] = np.asarray(
            self._ask("features", lambda: self.model.features(structures, kind, rng))
        )
        return found

    def informativeness(
        self, structures: StructureSet, known: StructureSet, want: frozenset[str]
    ) -> dict[str, Informativeness]:
        """Return how much labels would tell the model, see ``HasInformativeness``; what it says is checked."""
        found = self._ask("informativeness", lambda: self.model.informativeness(structures, known, want))
        for criterion in sorted(want):
            said = found.get(criterion) if isinstance(found, dict) else None
            shapes = [np.shape(values) for values in (said.values, said.known)] if said is not None else []
            if shapes != [(len(structures),), (len(known),)]:
                raise QuarryError(
                    f"model.kind: {self.settings.kind}: informativeness must give {len(structures)} values of {criterion} and "
                    f"{len(known)} known, got {shapes or 'nothing'}"
                )
        chosen: dict[str, Informativeness] = found
        return chosen

    @property
    def validation(self) -> Prediction:
        """What the model of the sub-training data says of the validation data."""
        found: Prediction = self.model.validation
        return found

    @property
    def hyperparameters(self) -> Mapping[str, Any]:
        """Return what training chose, if the class says it."""
        return getattr(self.model, "hyperparameters", {})

    @property
    def warnings(self) -> Sequence[str]:
        """Return what is doubtful, if the class says it."""
        return getattr(self.model, "warnings", ())

    def save(self, path: str | Path) -> None:
        """Write the model, whole or not at all."""
        with atomic_path(path) as temporary:
            self._ask("save", lambda: self.model.save(Path(temporary)))

    def _ask(self, method: str, call: Callable[[], Any]) -> Any:
        return _asked(self.settings, f"its {method}", call)


def _asked(settings: OwnModel, what: str, call: Callable[[], Any]) -> Any:
    try:
        with only_this_process():
            return call()
    except QuarryError:
        raise
    except Exception as error:
        raise QuarryError(
            f"model.kind: {settings.kind} failed with {what} ({reason_of(error, named=True)}); correct it"
        ) from error
