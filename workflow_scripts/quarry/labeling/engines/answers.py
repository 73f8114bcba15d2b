"""From what a calculator, program or table answers to the properties of a label: names, units, shapes, real numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quarry.config.units import UNITS_OF, unit_factor
from quarry.labeling.engines.base import PROPERTIES
from quarry.labeling.plain import OPTIONAL_VALUES, PER_STATE, check_count, check_numbers
from quarry.structures import Structure
from quarry.written_numbers import meant_by

SAME_PLACE_A = 1e-3
"""How far an atom of the answer may be from the structure's: programs print rounded positions, in bohr perhaps."""


def plain_properties(answer: Any, n_atoms: int) -> dict[str, Any]:
    """Return the properties of an answer in Quarry's units as plain numbers and lists.

    Raises ValueError for what is no valid answer: no dictionary, unknown names, wrong shapes, and what is no finite real
    number of a sane size (see ``real_numbers`` and ``check_numbers``).
    """
    if not isinstance(answer, Mapping) or not answer:
        raise ValueError(f"must return a dictionary with some of {', '.join(PROPERTIES)}, not {type(answer).__name__}")
    unknown = sorted(str(key) for key in answer if key not in PROPERTIES)
    if unknown:
        raise ValueError(f"returned unknown properties: {', '.join(unknown)}; known are {', '.join(PROPERTIES)}")
    shapes = {"forces": (n_atoms, 3), "dipole": (3,)}
    properties: dict[str, Any] = {}
    for key, value in answer.items():
        if value is None and key in OPTIONAL_VALUES:
            properties[key] = None
            continue
        array = real_numbers(value, key)
        shape = (array.size,) if key in PER_STATE else shapes.get(key, ())
        if array.size == 1 and shape == ():
            array = array.reshape(())
        if array.shape != shape:
            raise ValueError(f"{key} has the shape {array.shape} instead of {shape}")
        properties[key] = array.tolist()
        check_numbers({key: properties[key]})
        if key == "class" and (array < 0 or array != np.floor(array)):
            raise ValueError(f"class is {array:g}; it must be a whole number, counted from 0")
    if len({len(properties[key]) for key in PER_STATE if key in properties}) > 1:
        raise ValueError(f"{' and '.join(PER_STATE)} are of different lengths")
    return properties


def real_numbers(value: Any, name: str) -> NDArray[np.float64]:
    """Return a number, list or array as float64. name: of the property, for messages.

    Raises ValueError for everything that numpy would make a number of in silence: complex numbers (it drops the imaginary
    part), True and False, text, dates, masked entries, quantities with a unit, bytes, ranges; and for objects of any other
    kind than numbers, lists, tuples and arrays (what has ``__array__``).
    """
    check_count(name, len(value) if isinstance(value, (list, tuple)) else 1)
    for item in _parts(value):
        problem = _no_real_number(item)
        if problem:
            raise ValueError(f"{name} is no real number: {problem}")
    try:
        array = np.asarray(np.ma.getdata(value))
        check_count(name, array.size)
        if array.dtype.kind not in "iuf":
            raise ValueError(f"{type(value).__name__} of {array.dtype}")
        with np.errstate(over="ignore"):
            return array.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name} is no real number or array of them ({' '.join(str(error).split())})") from error


def _parts(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _parts(item)
    else:
        yield value


def _no_real_number(value: Any) -> str:
    """Return what an item is in place of a real number or an array of these, or nothing."""
    if isinstance(value, str) and meant_by(value):
        return f"{value!r:.40}, a text; give the number {meant_by(value)}"
    if value is None or isinstance(value, (str, bytes, bool)):
        return f"{value!r:.40}"
    if np.ma.is_masked(value):
        return "some of its entries are masked"
    if hasattr(value, "unit") or hasattr(value, "units"):
        return f"a {type(value).__name__} with a unit of its own; give plain numbers"
    kind = getattr(getattr(value, "dtype", None), "kind", "c" if isinstance(value, complex) else "")
    kinds = {"c": "it is complex", "b": "it is True or False", "U": "text", "S": "text", "M": "a date", "m": "a time"}
    if kind == "" and not isinstance(value, (int, float)) and not hasattr(value, "__array__"):
        return f"of type {type(value).__name__}; give a number, a list of numbers or a numpy array"
    return kinds.get(kind, "")


def converted(answer: Mapping[str, Any], units: Mapping[str, str]) -> dict[str, Any]:
    """Return an answer in Quarry's units, a gradient as forces. units: unit by property; Quarry's own where not given.

    Raises ValueError for what is no number.
    """
    result: dict[str, Any] = {}
    for name, value in answer.items():
        if value is None or name not in UNITS_OF:
            result[name] = value
            continue
        factor = unit_factor(name, units[name]) if name in units else 1.0
        array = real_numbers(value, name)
        if name == "gradient":
            if "forces" in answer:
                raise ValueError("gives both forces and gradient")
            name, factor = "forces", -factor
        result[name] = array * factor if factor != 1.0 else array
    return result


def check_same_structure(
    structure: Structure,
    numbers: NDArray[np.integer] | list[int],
    positions_A: NDArray[np.floating] | list[list[float]],
) -> None:
    """Raise ValueError if an answer belongs to other atoms, another order of them or another geometry.

    positions_A: shape (n_atoms, 3). A label of another geometry would be a wrong label.
    """
    if not np.array_equal(np.asarray(numbers), structure.numbers):
        raise ValueError("the answer is about other atoms than the structure's, or in another order")
    moved = np.abs(np.asarray(positions_A, dtype=np.float64).reshape(-1, 3) - structure.positions).max(initial=0.0)
    if not moved <= SAME_PLACE_A:
        raise ValueError(f"the answer is about another geometry: an atom is {moved:.4f} Angstrom off")
