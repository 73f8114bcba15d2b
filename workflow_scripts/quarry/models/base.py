"""What a model is: it learns properties from labelled structures and predicts them, with standard deviations if it can."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from quarry.config.targets import Target
from quarry.errors import QuarryError
from quarry.properties import PROPERTIES
from quarry.structures import StructureSet

STD = "std"
"""What ``predict`` is asked for beside properties where standard deviations are wanted."""
STD_OF_ENERGY = "std_of_energy"
"""What ``predict`` is asked for beside it where only that of the energy is wanted: a model may leave out others."""
STD_GRADIENT = "std_gradient"
"""What ``predict`` is asked for where the gradient of the energy's standard deviation is wanted too."""
NO_PROPERTIES = frozenset({STD, STD_OF_ENERGY, STD_GRADIENT})
"""What may be wanted that is no property."""


def has_rows_of_atoms(name: str) -> bool:
    """Return whether a property's array has a row for each atom, and not one for each structure."""
    return name in PROPERTIES and PROPERTIES[name].of_atoms


def rows_of_property(name: str, structures: StructureSet, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return which rows of a property's array belong to the structures at ``rows``, shape (m,), in their order."""
    return structures.atoms_of(rows) if has_rows_of_atoms(name) else rows


@dataclass
class TrainingData:
    """Labelled structures.

    targets: arrays by property, in its unit: energy, homo ... of shape (n,); forces (n_atoms_total, 3); dipole (n, 3);
    excitation_energies and oscillator_strengths (n, n_states); class (n,), the number of the class, counted from 0.
    classes: the names of all classes, those without an example too; empty for numbers. groups: shape (n,), equal for
    copies of one structure, which stay on one side of every split; None: there are none.
    """

    structures: StructureSet
    targets: dict[str, NDArray[np.float64]]
    classes: tuple[str, ...] = ()
    groups: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.structures)

    def subset(self, indices: Sequence[int] | NDArray[np.int64]) -> TrainingData:
        """Return the entries at ``indices``, shape (m,), in that order."""
        where = np.asarray(indices, dtype=np.int64)
        targets = {name: v[rows_of_property(name, self.structures, where)] for name, v in self.targets.items()}
        groups = None if self.groups is None else self.groups[where]
        return TrainingData(self.structures.subset(where), targets, self.classes, groups)


def check_labels(kind: str, data: TrainingData, learnt: Sequence[str]) -> None:
    """Raise QuarryError if there is nothing to learn, or a label is not finite. kind: of model. learnt: properties."""
    if not len(data):
        raise QuarryError(f"model.kind: {kind}: there is nothing to train on; raise query.initial")
    periodic = data.structures.pbc.all(axis=1)
    for name in learnt:
        values = data.targets[name]
        judged = values[periodic] if name == "stress" else values
        if not np.isfinite(judged).all():
            raise QuarryError(f"model.kind: {kind}: a training label's {name} is not a finite number; leave it out")


@dataclass(frozen=True, eq=False)
class UncertaintyGradient:
    """How the uncertainty of each structure, in its unit, changes.

    by_positions: with the positions, per Angstrom, shape (n_atoms_total, 3). by_strain: with the strain of the cell over its
    volume, per Angstrom^3, shape (n, 3, 3), NaN of molecules; None: not known.
    """

    by_positions: NDArray[np.float64]
    by_strain: NDArray[np.float64] | None = None


@dataclass
class Prediction:
    """What a model says of n structures.

    mean, std: by property, shaped as ``TrainingData.targets``; std lacks properties without standard deviations. Of a class
    the mean is the most probable one. probabilities: of each class, shape (n, n_classes); votes: share of a committee's
    members that choose it. noise_variance: what the model takes for noise of a label, by property, in the unit squared;
    errors from labels are to be compared with std^2 and this together. std_factor: of a calibration, by property, where it is in
    std and noise_variance. std_gradient: of the energy's standard deviation, where
    ``STD_GRADIENT`` was wanted.
    """

    mean: dict[str, NDArray[np.float64]]
    std: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    probabilities: NDArray[np.float64] | None = None
    votes: NDArray[np.float64] | None = None
    noise_variance: dict[str, float] = field(default_factory=dict)
    std_gradient: UncertaintyGradient | None = None
    std_factor: dict[str, float] = field(default_factory=dict)

    def raw_std(self, name: str) -> NDArray[np.float64]:
        """Return the standard deviation of a property without the factor of a calibration."""
        return self.std[name] / self.std_factor.get(name, 1.0)

    @staticmethod
    def joined(parts: Sequence[Prediction]) -> Prediction:
        """Return predictions of one model one after another; noise is the mean over structures."""

        def both(name: str) -> dict[str, NDArray[np.float64]]:
            return {key: np.concatenate([getattr(p, name)[key] for p in parts]) for key in getattr(parts[0], name)}

        def optional(name: str) -> NDArray[np.float64] | None:
            given = [getattr(p, name) for p in parts]
            return None if given[0] is None else np.concatenate(given)

        noise = {
            name: float(np.average([p.noise_variance[name] for p in parts], weights=[len(p.mean[name]) for p in parts]))
            for name in parts[0].noise_variance
        }
        return Prediction(
            both("mean"),
            both("std"),
            optional("probabilities"),
            optional("votes"),
            noise,
            std_factor=parts[0].std_factor,
        )


def main_values(target: Target, values: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the main properties in one array: shape (n,), of several quantities (n, n_quantities) in their order."""
    if len(target.main) == 1:
        return values[target.main[0]]
    return np.concatenate([values[name] for name in target.main], axis=1)


def main_std(target: Target, prediction: Prediction) -> NDArray[np.float64] | None:
    """Return the standard deviations of the main properties, shaped as ``main_values``, or None if one has none."""
    return main_values(target, prediction.std) if set(target.main) <= prediction.std.keys() else None


def by_property(target: Target, values: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return the arrays of the main properties, by name, that ``main_values`` joined."""
    if len(target.main) == 1:
        return {target.main[0]: values}
    return dict(zip(target.main, np.split(values, len(target.main), axis=1), strict=True))


class Model(Protocol):
    """A model of one or several properties."""

    def fit(
        self,
        data: TrainingData,
        validation: TrainingData | None,
        rng: np.random.Generator,
        *,
        start: Model | None = None,
        checkpoint: Path | None = None,
    ) -> None:
        """Train; the same data, in whatever order, generator state and start give the same model up to rounding.

        validation: for models whose traits say so. start: a trained model of the same kind to begin from. checkpoint: a
        folder where a long training may leave its state; what an earlier, killed attempt at the same training left is there.
        """
        ...

    def predict(self, structures: StructureSet, want: frozenset[str]) -> Prediction:
        """Predict properties of structures.

        want: the properties; ``STD`` where standard deviations of them are wanted, which some models save work without; with that
        ``STD_GRADIENT`` for the gradient of the energy's, of models whose traits say that they have it. More than is wanted may
        be given. Raises QuarryError for structures that the model cannot judge.
        """
        ...

    def save(self, path: str | Path) -> None:
        """Write the trained model with all that prediction needs, whole or not at all; the same model gives the same bytes."""
        ...

    @property
    def hyperparameters(self) -> Mapping[str, Any]:
        """Return what training chose, by name, as JSON-able data."""
        ...

    @property
    def warnings(self) -> Sequence[str]:
        """Return what is doubtful about the training, a line each."""
        ...


@runtime_checkable
class HasFeatureMaps(Protocol):
    """A model with feature maps, whose inner products say how alike two structures are to it."""

    def features(self, structures: StructureSet, kind: str, rng: np.random.Generator) -> NDArray[np.floating]:
        """Return the feature map ``kind`` of structures, shape (n, p): last_layer, gradient, kernel ...

        Maps are comparable within a call (pass candidates and training set together): a kernel's landmarks are among them.
        Raises QuarryError for a kind that the model does not have.
        """
        ...


@dataclass(frozen=True, eq=False)
class Informativeness:
    """How informative the labels of structures would be to a model, the more the higher, without unit.

    values: of each structure, shape (n,). known: of each training structure, shape (n_known,), what ``values`` are compared
    with: their mean or median is where a structure is no more informative than what is learnt already.
    """

    values: NDArray[np.float64]
    known: NDArray[np.float64]

    @staticmethod
    def mean(parts: Sequence[Informativeness]) -> Informativeness:
        """Return the mean over several models of the same structures."""
        return Informativeness(
            np.mean([part.values for part in parts], axis=0), np.mean([part.known for part in parts], axis=0)
        )


@runtime_checkable
class HasInformativeness(Protocol):
    """A model that says itself which structures it would learn most from."""

    def informativeness(
        self, structures: StructureSet, known: StructureSet, want: frozenset[str]
    ) -> dict[str, Informativeness]:
        """Return how informative labels of structures would be, without unit, by the names in ``want``.

        known: all training structures. want: properties whose labels are asked about (energy, forces), of those that its traits
        name.
        """
        ...


@runtime_checkable
class HasInformativenessGradient(Protocol):
    """A model whose informativeness of energies can be differentiated."""

    def informativeness_gradient(self, structures: StructureSet, known: StructureSet) -> UncertaintyGradient:
        """Return the gradient of ``relative_informativeness`` of the energies of structures, without unit.

        known: all training structures.
        """
        ...


def relative_informativeness(
    model: HasInformativeness, structures: StructureSet, known: StructureSet, want: frozenset[str]
) -> NDArray[np.float64]:
    """Return what labels of structures would tell a model, all criteria together, over the mean of the training structures' own.

    Arguments as of ``HasInformativeness.informativeness``. Shape (n,), without unit; 1: as much as a label that is there.
    """
    said = model.informativeness(structures, known, want).values()
    values, own = (np.sum([getattr(part, name) for part in said], axis=0) for name in ("values", "known"))
    return np.asarray(values / np.mean(own), dtype=np.float64)


@runtime_checkable
class HasReach(Protocol):
    """A model that sees atoms up to a distance only."""

    def beyond_reach(self, structures: StructureSet) -> NDArray[np.bool_]:
        """Return which structures have no two atoms within reach, shape (n,): it knows nothing of where these are."""
        ...


@runtime_checkable
class Validated(Protocol):
    """A model that chooses its hyperparameters by the errors on validation data, and then learns these data too."""

    @property
    def validation(self) -> Prediction:
        """What the model of the sub-training data alone, with the chosen hyperparameters, says of the validation data."""
        ...


@runtime_checkable
class Committee(Protocol):
    """A model of members that are trained one by one, each perhaps by a job of its own."""

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
        """Train member number ``member`` (from 0) alone, as ``fit`` with the same generator state trains it.

        start, checkpoint: as of ``Model.fit``; start is a whole committee, checkpoint a folder of this member alone.
        """
        ...

    def join(self, members: Sequence[Any]) -> None:
        """Become the committee of models of the same settings that hold a member each, in their order."""
        ...
