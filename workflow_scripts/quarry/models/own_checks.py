"""What the class of a user-defined model takes and says: its methods, its predictions, what goes into the facts."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quarry.errors import QuarryError, reason_of
from quarry.models.base import (
    NO_PROPERTIES,
    STD_GRADIENT,
    Informativeness,
    Prediction,
    UncertaintyGradient,
    has_rows_of_atoms,
)
from quarry.properties import PROPERTIES
from quarry.structures import StructureSet

METHODS: dict[str, tuple[int, tuple[str, ...], str]] = {
    "fit": (3, ("start", "checkpoint"), "fit(self, data, validation, rng, start=None, checkpoint=None)"),
    "predict": (2, (), "predict(self, structures, want)"),
    "save": (1, (), "save(self, path)"),
    "load": (1, (), "load(cls, path)"),
    "features": (3, (), "features(self, structures, kind, rng)"),
    "informativeness": (3, (), "informativeness(self, structures, known, want)"),
    "informativeness_gradient": (2, (), "informativeness_gradient(self, structures, known)"),
}
"""Methods of a class: how many arguments they are called with by place, which by name, and how they are to be defined."""


def check_methods(made: Any, kind: str, names: Sequence[str]) -> None:
    """Raise QuarryError if a class lacks one of some methods, or if one cannot be called as Quarry does."""
    missing = [name for name in names if not callable(getattr(made, name, None))]
    if missing:
        raise QuarryError(f"model.kind: {kind} has no method {missing[0]}; add it (docs/models.md)")
    for name in names:
        by_place, by_name, definition = METHODS[name]
        found = getattr(made, name)
        own = inspect.getattr_static(made, name, None)
        if name == "load":
            if inspect.isfunction(own):
                raise QuarryError(f"model.kind: {kind}: load is called on the class; write @classmethod above it")
        elif hasattr(own, "__get__"):
            found = own.__get__(object(), made)
        try:
            signature = inspect.signature(found)
        except (TypeError, ValueError):
            continue
        try:
            signature.bind(*[None] * by_place, **dict.fromkeys(by_name))
        except TypeError as error:
            raise QuarryError(f"model.kind: {kind}: its {name} has {error}; define it as {definition}") from error


def checked_prediction(
    found: Any, want: frozenset[str], structures: StructureSet | None, kind: str, n_states: int
) -> Prediction:
    """Return what predict gave for the wanted properties, as arrays of floating-point numbers.

    structures: None: which they are is not known, any number of rows is right. n_states: excited states of a label. Raises
    QuarryError for what is no Prediction, and for an array of another shape or that holds anything but finite real numbers.
    """
    where = f"model.kind: {kind}"
    if not isinstance(found, Prediction):
        raise QuarryError(f"{where}: predict must return a Prediction, not {type(found).__name__}")
    for part in ("mean", "std", "noise_variance"):
        if not isinstance(getattr(found, part), Mapping):
            raise QuarryError(
                f"{where}: {part} of a Prediction must be a dictionary by property, not {type(getattr(found, part)).__name__}"
            )
    mean, std = {}, {}
    for name in sorted(want - NO_PROPERTIES):
        if name not in found.mean:
            raise QuarryError(f"{where}: predict must give {name}, got {', '.join(map(str, found.mean)) or 'nothing'}")
        shape = _shape_of(name, structures, n_states)
        mean[name] = _numbers(found.mean[name], shape, name, where)
        if name in found.std:
            std[name] = _numbers(found.std[name], shape, f"std of {name}", where)
            if (std[name] < 0).any():
                raise QuarryError(f"{where}: a std of {name} is negative; give standard deviations")
    rows = None if structures is None else len(structures)
    shares = {
        name: None if getattr(found, name) is None else _numbers(getattr(found, name), (rows, None), name, where)
        for name in ("probabilities", "votes")
    }
    noise = {
        name: float(_numbers(found.noise_variance[name], (), f"noise_variance of {name}", where))
        for name in mean
        if name in found.noise_variance
    }
    factors = {
        name: float(_numbers(found.std_factor[name], (), f"std_factor of {name}", where))
        for name in std
        if name in found.std_factor
    }
    if min(factors.values(), default=1.0) <= 0:
        raise QuarryError(f"{where}: a std_factor of a Prediction is not above 0; leave it out where std is not scaled")
    gradient = None
    if STD_GRADIENT in want:
        gradient = checked_gradient(found.std_gradient, structures, f"{where}: std_gradient of a Prediction")
    return Prediction(
        mean,
        std,
        shares["probabilities"],
        shares["votes"],
        noise,
        gradient,
        factors,
    )


def checked_gradient(found: Any, structures: StructureSet | None, where: str) -> UncertaintyGradient:
    """Return a gradient, NaN of molecules' strains as 0. where: what gave it. Raises QuarryError as ``checked_prediction``."""
    if not isinstance(found, UncertaintyGradient):
        raise QuarryError(
            f"{where} must be an UncertaintyGradient, as its uncertainty_gradients promise, not {type(found).__name__}"
        )
    atoms = None if structures is None else len(structures.numbers)
    by_positions = _numbers(found.by_positions, (atoms, 3), "by_positions", where)
    if found.by_strain is None:
        return UncertaintyGradient(by_positions)
    rows = None if structures is None else len(structures)
    # Molecules have none: NaN.
    whole = np.nan_to_num(np.asarray(found.by_strain, dtype=np.float64))
    return UncertaintyGradient(by_positions, _numbers(whole, (rows, 3, 3), "by_strain", where))


def checked_features(values: Any, structures: StructureSet, kind: str) -> NDArray[np.floating]:
    """Return a feature map, shape (n, p), in the precision in which it was given.

    Raises QuarryError as ``checked_prediction``.
    """
    return _array(values, (len(structures), None), "features", f"model.kind: {kind}")


def checked_informativeness(
    found: Any, want: frozenset[str], counts: tuple[int, int], kind: str
) -> dict[str, Informativeness]:
    """Return the informativeness of labels of the wanted properties.

    counts: numbers of structures and of training structures. Raises QuarryError for what is no ``Informativeness``, and for
    an array of another shape or with anything but finite real numbers.
    """
    where, checked = f"model.kind: {kind}", {}
    for name in sorted(want):
        said = found.get(name) if isinstance(found, Mapping) else None
        shapes = [np.shape(v) for v in (said.values, said.known)] if isinstance(said, Informativeness) else []
        if not isinstance(said, Informativeness) or shapes != [(count,) for count in counts]:
            raise QuarryError(
                f"{where}: informativeness must give {counts[0]} values of {name} and {counts[1]} known, got "
                f"{shapes or 'nothing'}"
            )
        checked[name] = Informativeness(
            _numbers(said.values, counts[:1], f"values of the informativeness of {name}", where),
            _numbers(said.known, counts[1:], f"known of the informativeness of {name}", where),
        )
    return checked


def _shape_of(name: str, structures: StructureSet | None, n_states: int) -> tuple[int | None, ...]:
    """Return the shape of a property's array; None: any length."""
    rows = None
    if structures is not None:
        rows = len(structures.numbers) if has_rows_of_atoms(name) else len(structures)
    if name not in PROPERTIES:
        return (rows,)
    known = PROPERTIES[name]
    of_one = known.dimensions(1, n_states)
    return (rows, *(of_one[1:] if known.of_atoms else of_one))


def _array(values: Any, shape: tuple[int | None, ...], what: str, where: str) -> NDArray[np.floating]:
    words = f"({', '.join('any' if n is None else str(n) for n in shape)}{',' if len(shape) == 1 else ''})"
    wanted = f"expected are real numbers of shape {words}"
    try:
        array = np.asarray(values)
    except Exception as error:
        raise QuarryError(
            f"{where}: {what} is no array but {type(values).__name__} ({reason_of(error)}); {wanted}"
        ) from error
    if isinstance(values, np.ma.MaskedArray):
        raise QuarryError(f"{where}: {what} is a masked array; {wanted}")
    if array.dtype.kind not in "iuf":
        got = type(values).__name__ if array.ndim == 0 else f"an array of {array.dtype}"
        raise QuarryError(f"{where}: {what} is {got}; {wanted}")
    if len(array.shape) != len(shape) or any(n not in (None, m) for n, m in zip(shape, array.shape, strict=True)):
        raise QuarryError(f"{where}: {what} has shape {array.shape}; {wanted}")
    if not np.isfinite(array).all():
        raise QuarryError(f"{where}: {what} is not finite everywhere; {wanted}")
    return array


def _numbers(values: Any, shape: tuple[int | None, ...], what: str, where: str) -> NDArray[np.float64]:
    return _array(values, shape, what, where).astype(np.float64)


def checked_hyperparameters(found: Any, kind: str) -> dict[str, Any]:
    """Return a dictionary as JSON can hold it, numbers and arrays of numpy as Python's. Raises QuarryError for others."""
    if not isinstance(found, Mapping):
        raise QuarryError(f"model.kind: {kind}: hyperparameters must be a dictionary, not {type(found).__name__}")
    plain = {}
    for name, value in found.items():
        plain[str(name)] = _plain(value)
        try:
            json.dumps(plain[str(name)], allow_nan=False, sort_keys=True)
        except (TypeError, ValueError, RecursionError) as error:
            raise QuarryError(
                f"model.kind: {kind}: the hyperparameter {name} is a {type(value).__name__} that JSON cannot hold; give "
                "numbers, texts, lists or dictionaries"
            ) from error
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    # JSON has no such numbers: a bound of infinity, a value that was not found.
    return None if isinstance(value, float) and not math.isfinite(value) else value


def checked_warnings(found: Any, kind: str) -> list[str]:
    """Return sentences, a line each; one text is one sentence. Raises QuarryError for others."""
    sentences = [found] if isinstance(found, str) else found
    if not isinstance(sentences, (list, tuple)) or not all(isinstance(sentence, str) for sentence in sentences):
        raise QuarryError(f"model.kind: {kind}: warnings must be a list of sentences, not {type(found).__name__}")
    return [" ".join(sentence.split()) for sentence in sentences]
