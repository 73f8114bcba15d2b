"""A regression on the descriptor as a model of structures: features from a cache, arrays by the names of properties."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from quarry.config.targets import CLASS, Target
from quarry.descriptors.cache import FeatureCache
from quarry.errors import QuarryError
from quarry.files import atomic_path
from quarry.hdf5_files import added_to_hdf5
from quarry.models.base import (
    STD,
    STD_GRADIENT,
    Model,
    Prediction,
    TrainingData,
    UncertaintyGradient,
    by_property,
    main_values,
)
from quarry.models.regression import (
    Committee,
    Embeds,
    HasSlopes,
    HasStdSlopes,
    Regression,
    RegressionData,
    RegressionPrediction,
    Validated,
)
from quarry.structures import StructureSet

GROUP = "descriptor"
"""Group of a model's file that holds the descriptor."""


class DescriptorModel:
    """gpr, kreg or mlp with the descriptor that it learns from."""

    def __init__(self, regression: Regression, target: Target, cache: FeatureCache) -> None:
        self.regression = regression
        self.target = target
        self.cache = cache

    def fit(
        self,
        data: TrainingData,
        validation: TrainingData | None,
        rng: np.random.Generator,
        *,
        start: Model | None = None,
        checkpoint: Path | None = None,
    ) -> None:
        """Train; errors as of the regression's ``fit``.

        start, checkpoint: not used: nothing is begun from another model, and no training is so long that it leaves its state.
        """
        held = None if validation is None else self._regression_data(validation)
        self.regression.fit(self._regression_data(data), held, rng)

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
        """Train member number ``member`` (from 0) alone; start, checkpoint: not used, as by ``fit``."""
        assert isinstance(self.regression, Committee)
        held = None if validation is None else self._regression_data(validation)
        self.regression.fit_member(member, self._regression_data(data), held, rng)

    def join(self, members: Sequence[DescriptorModel]) -> None:
        """Become the committee of members that were trained one by one, in their order."""
        assert isinstance(self.regression, Committee)
        self.regression.join([member.regression for member in members])

    def predict(self, structures: StructureSet, want: frozenset[str]) -> Prediction:
        """Predict what was learnt, and of an energy the forces and the gradient of its std, where they are wanted.

        Raises QuarryError where they are and the descriptor has no derivatives, and as the regression's ``predict``.
        """
        features = self.cache.of(structures)
        found = self._by_property(self.regression.predict(structures, features, with_std=STD in want))
        if "forces" in want and "forces" not in found.mean and isinstance(self.regression, HasSlopes):
            found.mean["forces"] = self.cache.forces(structures, self.regression.slopes(structures, features))
        if STD_GRADIENT in want and isinstance(self.regression, HasStdSlopes):
            slopes = self.regression.std_slopes(structures, features)
            found.std_gradient = UncertaintyGradient(-self.cache.forces(structures, slopes))
        return found

    def features(self, structures: StructureSet, kind: str, rng: np.random.Generator) -> NDArray[np.floating]:
        """Return a feature map, shape (n, p), see ``HasFeatureMaps``."""
        if not isinstance(self.regression, Embeds):
            raise QuarryError(f"query.embedding: model.kind: {self.regression.kind} has none; choose another strategy")
        return self.regression.embed(structures, self.cache.of(structures), kind, rng)

    def beyond_reach(self, structures: StructureSet) -> NDArray[np.bool_]:
        """Return which structures have no two atoms within the descriptor's reach, see ``HasReach``."""
        return self.cache.beyond_reach(structures)

    @property
    def validation(self) -> Prediction:
        """What the model of the sub-training data says of the validation data."""
        assert isinstance(self.regression, Validated)
        return self._by_property(self.regression.validation)

    @property
    def hyperparameters(self) -> Mapping[str, Any]:
        """Return what training chose."""
        return self.regression.hyperparameters

    @property
    def warnings(self) -> Sequence[str]:
        """Return what is doubtful about the training."""
        return self.regression.warnings

    def save(self, path: str | Path) -> None:
        """Write the regression's file with the descriptor in it."""
        with atomic_path(path) as temporary:
            self.regression.save(temporary)
            with added_to_hdf5(temporary) as handle:
                self.cache.write(handle.create_group(GROUP))

    @staticmethod
    def descriptor_in(path: str | Path, base: Path | None = None) -> FeatureCache:
        """Return the descriptor in a model's file; base: folder of the campaign file.

        Raises QuarryError for a file of an earlier version, which has none.
        """
        with h5py.File(path, "r") as handle:
            if GROUP not in handle:
                raise QuarryError(
                    f"{path}: an earlier version wrote this model, without its descriptor; give features.h5 of its pool"
                )
            return FeatureCache.read(handle[GROUP], base)

    def _regression_data(self, data: TrainingData) -> RegressionData:
        features = self.cache.of(data.structures)
        forces = data.targets["forces"] if "forces" in self.target.learnt else None
        targets = main_values(self.target, data.targets)
        return RegressionData(data.structures, features, targets, data.classes, forces, data.groups)

    def _by_property(self, found: RegressionPrediction) -> Prediction:
        mean = by_property(self.target, found.mean)
        if found.forces is not None:
            mean["forces"] = found.forces
        std = {} if found.std is None else by_property(self.target, found.std)
        # Of several quantities none has a noise of its own; classes have none.
        one = self.target.main[0]
        noise = {} if len(self.target.main) > 1 or one == CLASS else {one: found.noise_variance}
        factors = dict.fromkeys(std, found.std_factor)
        return Prediction(mean, std, found.probabilities, found.votes, noise, std_factor=factors)
