"""Regressions on a descriptor: they learn one target from a feature matrix. ``DescriptorModel`` makes models of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from quarry.errors import QuarryError
from quarry.structures import StructureSet


@dataclass
class RegressionData:
    """Labelled structures with their features.

    features: shape (n, d). targets: shape (n,), in the target's unit (eV, e*Angstrom); for target class the number of
    the class, counted from 0; for target excitations shape (n, 2 n_states): the excitation energies (eV) of all states,
    then their oscillator strengths. classes: the names of all classes, those without an example too; empty for numbers.
    forces: eV/Angstrom, shape (n_atoms_total, 3), for target energy_forces, else None. groups: shape (n,), equal for
    copies of one structure, which stay on one side of every split; None: there are none.
    """

    structures: StructureSet
    features: NDArray[np.float64]
    targets: NDArray[np.float64]
    classes: tuple[str, ...] = ()
    forces: NDArray[np.float64] | None = None
    groups: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def subset(self, indices: Sequence[int] | NDArray[np.int64]) -> RegressionData:
        """Return the entries at ``indices``, shape (m,), in that order."""
        where = np.asarray(indices, dtype=np.int64)
        forces = None if self.forces is None else self.forces[self.structures.atoms_of(where)]
        groups = None if self.groups is None else self.groups[where]
        return RegressionData(
            self.structures.subset(where), self.features[where], self.targets[where], self.classes, forces, groups
        )

    def check(self, target: str) -> None:
        """Raise QuarryError, one line, if there is nothing to learn or a label or feature is not a finite number."""
        if len(self) == 0:
            raise QuarryError(
                "query.initial: there is no label to train on; all labels of the first batch may have failed: see failures.csv"
            )
        finite = np.isfinite(self.targets.reshape(len(self), -1)).all(axis=1)
        if not finite.all():
            bad = self.structures.ids[int(np.argmin(finite))]
            raise QuarryError(f"target: the label '{target}' of structure {bad} is not a finite number; check labeling")
        check_features(self.structures, self.features)


def check_features(structures: StructureSet, features: NDArray[np.floating]) -> None:
    """Raise QuarryError, one line, if one of the features, shape (n, d), is not a finite number."""
    if not np.all(np.isfinite(features)):
        bad = structures.ids[int(np.argmin(np.isfinite(features).all(axis=1)))]
        raise QuarryError(f"descriptor.kind: a feature of structure {bad} is not a finite number; remove the structure")


@dataclass
class RegressionPrediction:
    """What a regression says of n structures.

    mean, std: shape (n,), in the target's unit; std is None for a model without uncertainties. For target class: mean is
    the most probable class, probabilities those of each class (mean over members or passes, equation 6 of the lecture),
    votes the share of members that choose it, both of shape (n, n_classes). For target excitations mean and std are of
    shape (n, 2 n_states), in the order of ``RegressionData.targets``. forces: eV/Angstrom, shape (n_atoms_total, 3), of a
    model that has learnt them. noise_variance: what the model takes for noise of a label, in the unit squared; errors from
    labels are to be compared with std^2 and this together. std and noise_variance are calibrated where the model is,
    by std_factor.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64] | None
    probabilities: NDArray[np.float64] | None = None
    votes: NDArray[np.float64] | None = None
    forces: NDArray[np.float64] | None = None
    noise_variance: float = 0.0
    std_factor: float = 1.0


class Regression(Protocol):
    """A regression of one target, or of all quantities of target excitations."""

    kind: str

    @classmethod
    def from_settings(cls, settings: Any, target: str) -> Regression:
        """Make an untrained model of ``target`` (energy, homo ...); settings: its section of the configuration."""
        ...

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """Return what training chose, by name, as JSON-able data."""
        ...

    @property
    def warnings(self) -> list[str]:
        """Return what is doubtful about the training, a line each: hyperparameters at a bound, a fit that is ill-conditioned."""
        ...

    def fit(self, data: RegressionData, validation: RegressionData | None, rng: np.random.Generator) -> None:
        """Train; the same data, in whatever order, and generator state give the same model up to rounding.

        validation: for models that are ``Validated``.
        """
        ...

    def predict(
        self, structures: StructureSet, features: NDArray[np.float64], with_std: bool = True
    ) -> RegressionPrediction:
        """Predict the target of structures with their features, shape (n, d).

        with_std: False if nobody wants a standard deviation (std may be None then), which some models save work by.

        Raises QuarryError if there are other features than the model was trained on, or one is not a finite number.
        """
        ...

    def save(self, path: str | Path) -> None:
        """Write the trained model, whole or not at all; the same model gives the same bytes."""
        ...

    @classmethod
    def load(cls, path: str | Path) -> Regression:
        """Read what ``save`` wrote."""
        ...


@runtime_checkable
class Validated(Protocol):
    """A model that chooses its hyperparameters by the errors on validation data, and then learns these data too.

    ``fit`` is given the sub-training data and the validation data; the final model has learnt both.
    """

    @property
    def validation(self) -> RegressionPrediction:
        """What the model of the sub-training data alone, with the chosen hyperparameters, says of the validation data."""
        ...


@runtime_checkable
class Embeds(Protocol):
    """A model with feature maps, whose inner products say how alike two structures are to it."""

    def embed(
        self, structures: StructureSet, features: NDArray[np.float64], kind: str, rng: np.random.Generator
    ) -> NDArray[np.floating]:
        """Return the feature map ``kind`` of structures, shape (n, p): last_layer, gradient or kernel.

        Maps are comparable within a call (pass pool and training set together): a kernel's landmarks are among them.
        Raises QuarryError for a kind that the model does not have.
        """
        ...


@runtime_checkable
class Committee(Protocol):
    """A model of members that are trained one by one, each perhaps by a job of its own."""

    def fit_member(
        self, member: int, data: RegressionData, validation: RegressionData | None, rng: np.random.Generator
    ) -> None:
        """Train member number ``member`` alone, as ``fit`` with the same generator state trains it."""
        ...

    def join(self, members: Sequence[Any]) -> None:
        """Become the committee of models of the same settings that hold a member each, in their order."""
        ...


@runtime_checkable
class HasStdSlopes(Protocol):
    """A regression whose standard deviation can be differentiated."""

    def std_slopes(self, structures: StructureSet, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the derivatives of the standard deviation, of one number, by the features, shape (n, d).

        0 where it is 0. Raises QuarryError as ``predict`` does.
        """
        ...


@runtime_checkable
class HasSlopes(Protocol):
    """A regression that can be differentiated."""

    def slopes(self, structures: StructureSet, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the derivatives of the predicted mean, of one number, by the features, shape (n, d).

        Raises QuarryError as ``predict`` does.
        """
        ...
