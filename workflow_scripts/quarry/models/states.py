"""Potentials of several electronic states: a model of energy and forces for each.

States are adiabatic: sorted by energy at each geometry, of labels and of predictions alike. Where two meet, a smooth model of
each rounds the cusp off or crosses the other one; sorting makes a crossing a touch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from quarry.hdf5_files import new_hdf5
from quarry.models.base import STD, Committee, HasFeatureMaps, HasReach, Model, Prediction, TrainingData, Validated
from quarry.structures import StructureSet

OF_STATES = {"energy": "state_energies", "forces": "state_forces"}
"""What a model of one state predicts, and the property of all states that it is a part of."""
GROUP = "state_{}"
"""Group of a file that is the model of a state."""


class StatesModel:
    """Models of all states; how many there are, the labels say.

    Learns and predicts state_energies, shape (n, n_states), and state_forces, shape (n_atoms_total, n_states, 3).
    """

    def __init__(self, make: Callable[[], Model], models: Sequence[Model] = ()) -> None:
        """make: returns an untrained model of energy and forces. models: trained ones, of each state."""
        self._make = make
        self.models = list(models)
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
        """Train a model of each state."""
        for model, labels, stream, begin in self._begun(data, validation, rng, start, checkpoint):
            model.fit(*labels, stream, **begin)

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
        """Train member number ``member`` of the committee of each state."""
        for model, labels, stream, begin in self._begun(data, validation, rng, start, checkpoint):
            assert isinstance(model, Committee)
            model.fit_member(member, *labels, stream, **begin)

    def join(self, members: Sequence[StatesModel]) -> None:
        """Become the committees of members that were trained one by one, in their order."""
        self.models = [self._make() for _ in members[0].models]
        for state, model in enumerate(self.models):
            assert isinstance(model, Committee)
            model.join([member.models[state] for member in members])

    def predict(self, structures: StructureSet, want: frozenset[str]) -> Prediction:
        """Predict energies and forces of all states, ascending by energy; energy and forces are those of the ground state."""
        asked = {name for name, of_all in OF_STATES.items() if {name, of_all} & want} | {"energy"} | (want & {STD})
        found = _together([model.predict(structures, frozenset(asked)) for model in self.models], structures)
        for name in want & OF_STATES.keys() & asked:
            found.mean[name] = found.mean[OF_STATES[name]][:, 0]
        return found

    def features(self, structures: StructureSet, kind: str, rng: np.random.Generator) -> NDArray[np.floating]:
        """Return the feature maps of all states side by side: inner products are the mean of theirs."""
        streams, maps = rng.spawn(len(self.models)), []
        for model, stream in zip(self.models, streams, strict=True):
            assert isinstance(model, HasFeatureMaps)
            maps.append(model.features(structures, kind, stream))
        return np.concatenate(maps, axis=1) / np.sqrt(len(maps))

    def beyond_reach(self, structures: StructureSet) -> NDArray[np.bool_]:
        """Return which structures have no two atoms within reach, see ``HasReach``."""
        first = self.models[0]
        return first.beyond_reach(structures) if isinstance(first, HasReach) else np.zeros(len(structures), dtype=bool)

    @property
    def validation(self) -> Prediction:
        """What the models of the sub-training data say of the validation data."""
        assert self._validation is not None
        return _together([model.validation for model in self.models if isinstance(model, Validated)], self._validation)

    @property
    def hyperparameters(self) -> Mapping[str, Any]:
        """Return what training chose for each state, a list of values from the ground state on."""
        found = [model.hyperparameters for model in self.models]
        return {name: [one.get(name) for one in found] for name in found[0]} if found else {}

    @property
    def warnings(self) -> Sequence[str]:
        """Return what is doubtful about the training, with the state."""
        return [f"state {state}: {line}" for state, model in enumerate(self.models) for line in model.warnings]

    def save(self, path: str | Path) -> None:
        """Write all models into one file, each as a group that is its own file; the same models give the same bytes."""
        with TemporaryDirectory() as folder, new_hdf5(path) as handle:
            handle.attrs["states"] = len(self.models)
            for state, model in enumerate(self.models):
                part = Path(folder) / "model.h5"
                model.save(part)
                with h5py.File(part, "r") as own:
                    handle.attrs["kind"] = own.attrs["kind"]
                    group = handle.create_group(GROUP.format(state))
                    group.attrs.update(own.attrs)
                    for name in own:
                        own.copy(own[name], group)

    @staticmethod
    def load(path: str | Path, make: Callable[[], Model], read: Callable[[Path], Model]) -> StatesModel:
        """Read what ``save`` wrote. read: reads the file of a model of one state. Raises KeyError for another file."""
        models = []
        with TemporaryDirectory() as folder, h5py.File(path, "r") as handle:
            for state in range(int(handle.attrs["states"])):
                part = Path(folder) / f"{state}.h5"
                with new_hdf5(part) as own:
                    group = handle[GROUP.format(state)]
                    own.attrs.update(group.attrs)
                    for name in group:
                        group.copy(group[name], own)
                models.append(read(part))
        return StatesModel(make, models)

    def _begun(
        self,
        data: TrainingData,
        validation: TrainingData | None,
        rng: np.random.Generator,
        start: Model | None,
        checkpoint: Path | None,
    ) -> Iterator[tuple[Model, tuple[TrainingData, TrainingData | None], np.random.Generator, dict[str, Any]]]:
        """Begin with new models; yield each with its labels, its chance, and what it goes on from."""
        self.models = [self._make() for _ in range(data.targets["state_energies"].shape[1])]
        self._validation = None if validation is None else validation.structures
        for state, (model, stream) in enumerate(zip(self.models, rng.spawn(len(self.models)), strict=True)):
            yield model, _of_state(state, data, validation), stream, _resumed(state, start, checkpoint)


def _of_state(
    state: int, data: TrainingData, validation: TrainingData | None
) -> tuple[TrainingData, TrainingData | None]:
    """Return the labels of one state."""

    def of(part: TrainingData) -> TrainingData:
        targets = {name: part.targets[of_all][:, state] for name, of_all in OF_STATES.items()}
        return replace(part, targets=targets)

    return of(data), None if validation is None else of(validation)


def _resumed(state: int, start: Model | None, checkpoint: Path | None) -> dict[str, Any]:
    begin = start.models[state] if isinstance(start, StatesModel) and state < len(start.models) else None
    return {"start": begin, "checkpoint": None if checkpoint is None else checkpoint / GROUP.format(state)}


def _together(found: Sequence[Prediction], structures: StructureSet) -> Prediction:
    """Return the predictions of all states in one, sorted by energy at each structure."""
    order = np.argsort(np.stack([part.mean["energy"] for part in found], axis=1), axis=1, kind="stable")
    of_atoms = np.repeat(order, np.diff(structures.offsets), axis=0)

    def sorted_by_energy(parts: Sequence[Mapping[str, NDArray[np.float64]]]) -> dict[str, NDArray[np.float64]]:
        together = {}
        for name, of_all in OF_STATES.items():
            if all(name in part for part in parts):
                values = np.stack([part[name] for part in parts], axis=1)
                places = order if name == "energy" else of_atoms[:, :, None]
                together[of_all] = np.take_along_axis(values, places, axis=1)
        return together

    noise = {
        OF_STATES[name]: float(np.mean([part.noise_variance[name] for part in found]))
        for name in OF_STATES
        if all(name in part.noise_variance for part in found)
    }
    return Prediction(
        sorted_by_energy([part.mean for part in found]),
        sorted_by_energy([part.std for part in found]),
        noise_variance=noise,
    )
