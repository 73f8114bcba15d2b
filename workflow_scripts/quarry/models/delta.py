"""Delta learning: a model of the difference between labels and a baseline, which is added to what it predicts.

R. Ramakrishnan, P. O. Dral, M. Rupp, O. A. von Lilienfeld, J. Chem. Theory Comput. 11, 2087 (2015).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from quarry.config.baselines import OF_BASELINES
from quarry.errors import QuarryError
from quarry.files import atomic_path
from quarry.hdf5_files import added_to_hdf5
from quarry.models.base import (
    Committee,
    HasFeatureMaps,
    HasInformativeness,
    HasInformativenessGradient,
    HasReach,
    Informativeness,
    Model,
    Prediction,
    TrainingData,
    UncertaintyGradient,
    Validated,
)
from quarry.models.baseline_cache import DERIVATIVES, BaselineCache
from quarry.networks.baselines import KEY
from quarry.structures import StructureSet

GROUP = "delta"
"""Group of a model's file that says which baseline it is."""


class DeltaModel:
    """A model of what a baseline lacks. Energies differ by atomic references too, which the model's own prior mean takes."""

    def __init__(self, model: Model, baseline: BaselineCache) -> None:
        """model: learns the difference. baseline: what is added."""
        self.model = model
        self.baseline = baseline
        self._validation: StructureSet | None = None

    def fit(
        self,
        data: TrainingData,
        validation: TrainingData | None,
        rng: np.random.Generator,
        *,
        start: Model | None = None,
        checkpoint: Path | None = None,
    ) -> None:
        """Train on the difference. Raises QuarryError for a structure that the baseline cannot judge."""
        held = None if validation is None else self._difference(validation)
        self._validation = None if validation is None else validation.structures
        self.model.fit(self._difference(data), held, rng, start=_difference_in(start), checkpoint=checkpoint)

    def fit_member(
        self,
        member: int,
        data: TrainingData,
        validation: TrainingData | None,
        rng: np.random.Generator,
        *,
        start: Model | None = None,
        checkpoint: Path | None = None,
    ) -> None:
        """Train member number ``member`` of a committee."""
        assert isinstance(self.model, Committee)
        held, begin = None if validation is None else self._difference(validation), _difference_in(start)
        self.model.fit_member(member, self._difference(data), held, rng, start=begin, checkpoint=checkpoint)

    def join(self, members: Sequence[DeltaModel]) -> None:
        """Become the committee of members that were trained one by one, in their order."""
        assert isinstance(self.model, Committee)
        self.model.join([member.model for member in members])

    def predict(self, structures: StructureSet, want: frozenset[str]) -> Prediction:
        """Predict what is wanted of the properties that were learnt; standard deviations are those of the difference."""
        return self._with_baseline(self.model.predict(structures, want), structures, want)

    def features(self, structures: StructureSet, kind: str, rng: np.random.Generator) -> NDArray[np.floating]:
        """Return a feature map of the model of the difference."""
        assert isinstance(self.model, HasFeatureMaps)
        return self.model.features(structures, kind, rng)

    def informativeness(
        self, structures: StructureSet, known: StructureSet, want: frozenset[str]
    ) -> dict[str, Informativeness]:
        """Return how much labels would tell the model of the difference."""
        assert isinstance(self.model, HasInformativeness)
        return self.model.informativeness(structures, known, want)

    def informativeness_gradient(self, structures: StructureSet, known: StructureSet) -> UncertaintyGradient:
        """Return the gradient of the informativeness to the model of the difference."""
        assert isinstance(self.model, HasInformativenessGradient)
        return self.model.informativeness_gradient(structures, known)

    def beyond_reach(self, structures: StructureSet) -> NDArray[np.bool_]:
        """Return which structures have no two atoms within the reach of the model of the difference, see ``HasReach``."""
        if isinstance(self.model, HasReach):
            return self.model.beyond_reach(structures)
        return np.zeros(len(structures), dtype=bool)

    @property
    def validation(self) -> Prediction:
        """What the model of the sub-training data says of the validation data."""
        assert isinstance(self.model, Validated) and self._validation is not None
        said = self.model.validation
        return self._with_baseline(said, self._validation, frozenset(said.mean))

    @property
    def hyperparameters(self) -> Mapping[str, Any]:
        """Return what training chose."""
        return self.model.hyperparameters

    @property
    def warnings(self) -> Sequence[str]:
        """Return what is doubtful about the training."""
        return self.model.warnings

    def save(self, path: str | Path) -> None:
        """Write the model's file with the name of the baseline in it."""
        with atomic_path(path) as temporary:
            self.model.save(temporary)
            with added_to_hdf5(temporary) as handle:
                self.baseline.write(handle.create_group(GROUP))

    def check_file(self, path: str | Path) -> None:
        """Raise QuarryError if a model's file was trained without a baseline, or with another file of it."""
        with h5py.File(path, "r") as handle:
            if GROUP not in handle:
                raise QuarryError(f"{path}: this model was trained without {KEY}; remove it and start again")
            self.baseline.check(handle[GROUP], path)

    def _difference(self, data: TrainingData) -> TrainingData:
        said = self.baseline.of(data.structures, any(name in data.targets for name in DERIVATIVES))
        targets = dict(data.targets)
        for name in OF_BASELINES:
            if name in targets:
                targets[name] = targets[name] - said[name]
        if "stress" in targets:
            lacks = data.structures.pbc.all(axis=1) & ~np.isfinite(said["stress"]).all(axis=(1, 2))
            if lacks.any():
                raise QuarryError(f"{KEY}: it gives no stress, which target asks for; use another baseline")
        return replace(data, targets=targets)

    def _with_baseline(self, found: Prediction, structures: StructureSet, want: frozenset[str]) -> Prediction:
        # A model may say more than it is asked: that is not worth the baseline's forces.
        derivatives = [name for name in DERIVATIVES if name in want and name in found.mean]
        said = self.baseline.of(structures, bool(derivatives))
        mean = {name: values for name, values in found.mean.items() if name not in OF_BASELINES or name in said}
        mean |= {name: mean[name] + said[name] for name in OF_BASELINES if name in mean and name in said}
        return replace(found, mean=mean)


def _difference_in(model: Model | None) -> Model | None:
    return model.model if isinstance(model, DeltaModel) else model
