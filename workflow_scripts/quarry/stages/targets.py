"""From labels to what a model learns: the targets of labelled structures, and the split that validates a model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quarry.config.campaign import Configuration
from quarry.config.spectrum import TARGET as EXCITATIONS
from quarry.errors import QuarryError
from quarry.models.base import TrainingData
from quarry.models.classes import classes_of
from quarry.models.splits import held_share, last_share
from quarry.stages.pool import pool_rows, read_features
from quarry.structures.files import read_copies
from quarry.structures.labelled import LabelledSet

ENERGY_FORCES = "energy_forces"
LINES = ("excitation_energies", "oscillator_strengths")
"""What is learnt of the excited states, in this order."""


def training_data(dataset: LabelledSet, role: str, features: str, configuration: Configuration) -> TrainingData:
    """Return the labelled structures of a role that have the target.

    For target class the targets are the numbers of the classes. Raises QuarryError if no label at all has the target.
    """
    classification = configuration.classification
    values = _values(dataset, configuration)
    finite = np.flatnonzero(np.isfinite(values.reshape(len(dataset), -1)).all(axis=1))
    chosen = np.intersect1d(dataset.indices(role), finite)
    structures = dataset.structures.subset(chosen)
    places = pool_rows(features, structures.ids)
    rows, copies = read_features(features, places), read_copies(features)
    groups = None if copies is None else copies[places]
    if classification is not None:
        names = tuple(classification.names)
        return TrainingData(structures, rows, classes_of(values[chosen], classification), names, groups=groups)
    forces = None
    if configuration.target == ENERGY_FORCES:
        forces = dataset.properties["forces"][dataset.structures.atoms_of(chosen)]
    return TrainingData(structures, rows, values[chosen], forces=forces, groups=groups)


def _values(dataset: LabelledSet, configuration: Configuration) -> NDArray[np.float64]:
    """Return the targets of all labels, NaN where a label lacks them; shape (n,), for excitations (n, 2 n_states)."""
    target, classification = configuration.target, configuration.classification
    if target == EXCITATIONS:
        return excitation_targets(dataset, configuration)
    if target == ENERGY_FORCES:
        _require(dataset, "energy", "forces")
        owner = np.repeat(np.arange(len(dataset)), np.diff(dataset.structures.offsets))
        energies = dataset.properties["energy"].copy()
        energies[owner[~np.isfinite(dataset.properties["forces"]).all(axis=1)]] = np.nan
        return energies
    wanted = classification.property if classification else str(target)
    _require(dataset, wanted)
    return dataset.targets(wanted)


def _require(dataset: LabelledSet, *properties: str) -> None:
    missing = [name for name in properties if name not in dataset.properties]
    if missing:
        raise QuarryError(f"target: the labels hold no {missing[0]}; they hold {', '.join(dataset.properties)}")


def excitation_targets(dataset: LabelledSet, configuration: Configuration) -> NDArray[np.float64]:
    """Return the excitation energies (eV) of the lowest states of every label, then their oscillator strengths.

    Shape (n, 2 n_states); NaN where a label has fewer states. With ``spectrum.order: overlap`` state k is the one that
    was followed as state k (``state_order``), and not the k-th lowest.
    """
    assert configuration.spectrum is not None
    n_states = configuration.n_states
    _require(dataset, *LINES)
    columns = []
    for name in LINES:
        values = dataset.properties[name]
        if configuration.spectrum.order == "overlap":
            _require(dataset, "state_order")
            order = dataset.properties["state_order"]
            known = np.isfinite(order)
            values = np.take_along_axis(values, np.where(known, order, 0).astype(np.int64), axis=1)
            values = np.where(known, values, np.nan)
        lacking = np.full((len(dataset), max(0, n_states - values.shape[1])), np.nan)
        columns.append(np.concatenate([values[:, :n_states], lacking], axis=1))
    return np.concatenate(columns, axis=1)


def split(
    n: int, configuration: Configuration, rng: np.random.Generator, groups: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return which of n training labels a model learns, and which validate it (``validation.fraction`` of them).

    Order sequence is that of ML-NEA (peer and paper): the first int((1 - fraction) n) labels, as they were labelled, are
    learnt, the rest validates. Order random draws them; at least one validates. rng: not used by order sequence.
    groups: shape (n,), equal numbers (copies of one structure) stay on one side; None: no two belong together.
    """
    settings = configuration.validation
    if settings.order == "sequence":
        learnt = min(max(1, int((1 - settings.fraction) * n)), n - 1) if n > 1 else n
        held = last_share(learnt, groups, n)
    else:
        held = held_share(rng.permutation(n), max(1, round(settings.fraction * n)), groups)
    return np.setdiff1d(np.arange(n), held), held
