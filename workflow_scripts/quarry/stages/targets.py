"""From labels to what a model learns: the targets of labelled structures, and the split that validates a model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quarry.config.campaign import Configuration
from quarry.config.targets import DIPOLE_NORM
from quarry.errors import QuarryError
from quarry.models.base import TrainingData, by_property, has_rows_of_atoms, rows_of_property
from quarry.models.classes import classes_of
from quarry.models.splits import held_share, last_share
from quarry.structures.files import read_copies, read_pool_ids
from quarry.structures.labelled import LabelledSet


def training_data(dataset: LabelledSet, role: str, pool: str, configuration: Configuration) -> TrainingData:
    """Return the labelled structures of a role that have the target.

    pool: ``structures.h5``, which knows copies. For target class the targets are the numbers of the classes. Raises
    QuarryError if no label at all has the target.
    """
    classification = configuration.classification
    arrays = target_arrays(dataset, configuration)
    finite = np.ones(len(dataset), dtype=bool)
    for name, values in arrays.items():
        known = np.isfinite(values).reshape(len(values), -1).all(axis=1)
        if has_rows_of_atoms(name):
            owner = np.repeat(np.arange(len(dataset)), np.diff(dataset.structures.offsets))
            finite[owner[~known]] = False
        else:
            finite &= known
    chosen = np.intersect1d(dataset.indices(role), np.flatnonzero(finite))
    structures = dataset.structures.subset(chosen)
    groups = _groups(pool, structures.ids)
    targets = {name: v[rows_of_property(name, dataset.structures, chosen)] for name, v in arrays.items()}
    if classification is None:
        return TrainingData(structures, targets, groups=groups)
    name = configuration.goal.main[0]
    targets = {name: classes_of(targets[name], classification)}
    return TrainingData(structures, targets, tuple(classification.names), groups)


def _groups(pool: str, ids: NDArray[np.str_]) -> NDArray[np.int64] | None:
    """Return equal numbers for copies of one structure; one that is not in the pool has none. None: no copies at all."""
    copies = read_copies(pool)
    if copies is None:
        return None
    rows = {structure_id: row for row, structure_id in enumerate(read_pool_ids(pool).tolist())}
    places = [rows.get(structure_id) for structure_id in ids.tolist()]
    return np.array([len(copies) + n if row is None else copies[row] for n, row in enumerate(places)], dtype=np.int64)


def target_arrays(dataset: LabelledSet, configuration: Configuration) -> dict[str, NDArray[np.float64]]:
    """Return the arrays of what is learnt, by property, shaped as ``TrainingData.targets``, NaN where a label lacks one.

    Of classes it is the property that is divided into them.
    Raises QuarryError if no label at all has one of the properties.
    """
    target = configuration.goal
    _require(dataset, *target.labels)
    if target.transitions:
        return by_property(target, excitation_targets(dataset, configuration))
    if target.classes:
        return {target.main[0]: dataset.targets(target.labels[0])}
    return {name: _array(dataset, name) for name in target.learnt}


def _array(dataset: LabelledSet, name: str) -> NDArray[np.float64]:
    return dataset.targets("dipole") if name == DIPOLE_NORM else dataset.properties[name]


def _require(dataset: LabelledSet, *properties: str) -> None:
    missing = [name for name in properties if name not in dataset.properties]
    if missing:
        raise QuarryError(f"target: the labels hold no {missing[0]}; they hold {', '.join(dataset.properties)}")


def excitation_targets(dataset: LabelledSet, configuration: Configuration) -> NDArray[np.float64]:
    """Return the excitation energies (eV) of the lowest states of every label, then their oscillator strengths.

    Shape (n, 2 n_states); NaN where a label has fewer states. With ``spectrum.order: overlap`` state k is the one that
    was tracked as state k (``state_order``), and not the k-th lowest.
    """
    assert configuration.spectrum is not None
    n_states = configuration.n_states
    _require(dataset, *configuration.goal.main)
    columns = []
    for name in configuration.goal.main:
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
