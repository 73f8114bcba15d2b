"""Classes of labels: from a property to the number of its class, and classes that no label is of."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quarry.config.classification import Classification
from quarry.config.targets import CLASS
from quarry.errors import QuarryError
from quarry.models.base import TrainingData


def classes_of(values: NDArray[np.float64], settings: Classification) -> NDArray[np.float64]:
    """Return the numbers of the classes, counted from 0, of property values (all finite), shape (n,).

    Raises QuarryError if a label that is a class already is none of those that the configuration names.
    """
    if settings.boundaries is not None:
        return np.digitize(values, settings.numbers()).astype(np.float64)
    wrong = values[~np.isin(values, np.arange(len(settings.names)))]
    if len(wrong):
        raise QuarryError(
            f"classification.names: a label is class {wrong[0]:g}, but only 0 to {len(settings.names) - 1} have names; "
            "name every class, counted from 0"
        )
    return values


def check_classes(data: TrainingData) -> list[str]:
    """Return one line about classes without a training example, nothing if all have one.

    Raises QuarryError if all labels are of one class: then there is nothing to learn.
    """
    counts = np.bincount(data.targets[CLASS].astype(np.int64), minlength=len(data.classes))
    absent = [name for name, count in zip(data.classes, counts, strict=True) if not count]
    if len(absent) == len(data.classes) - 1:
        raise QuarryError(
            f"classification: all {len(data)} training labels are of class '{data.classes[int(np.argmax(counts))]}', none "
            f"of {_quoted(absent)}; raise query.initial, or divide the property elsewhere (classification.boundaries)"
        )
    return [f"no training label is of class {_quoted(absent)}: the model cannot predict it yet"] if absent else []


def _quoted(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
