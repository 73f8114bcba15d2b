"""From what a calculator, program or table answers to the properties of a label: names, units, shapes, real numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quarry.config.units import unit_factor
from quarry.labeling.plain import check_count, check_numbers
from quarry.properties import PROPERTIES, Property, answerable, groups_of_states, statable
from quarry.structures import Structure
from quarry.written_numbers import meant_by

SKEW, TINY = 1e-2, 1e-6
"""Share of the largest component, and size, by which transposed components may differ: programs print rounded numbers."""
SAME_PLACE_A = 1e-3
"""How far an atom of the answer may be from the structure's: programs print rounded positions, in bohr perhaps."""


def plain_properties(answer: Any, n_atoms: int) -> dict[str, Any]:
    """Return the properties of an answer in Quarry's units as plain numbers and nested lists (``quarry.properties``).

    Symmetric tensors may be of shape (3, 3), (9,), or (6,) in the order xx, yy, zz, yz, xz, xy (Voigt), and become (3, 3).
    Raises ValueError for what is no valid answer: no dictionary, unknown names, wrong shapes, and what is no finite real
    number of a sane size (see ``real_numbers`` and ``check_numbers``).
    """
    if not isinstance(answer, Mapping) or not answer:
        raise ValueError(
            f"must return a dictionary with some of {', '.join(answerable())}, not {type(answer).__name__}"
        )
    unknown = sorted(str(key) for key in answer if key not in answerable())
    if unknown:
        raise ValueError(f"returned unknown properties: {', '.join(unknown)}; known are {', '.join(answerable())}")
    properties: dict[str, Any] = {}
    for key, value in answer.items():
        entry = PROPERTIES[key]
        if value is None and entry.optional:
            properties[key] = None
            continue
        array = _in_shape(real_numbers(value, key), entry, n_atoms)
        properties[key] = array.tolist()
        check_numbers({key: properties[key]})
        if key == "state_energies" and (np.diff(array) < 0).any():
            raise ValueError(f"{key} are not ascending; sort the states by energy, their forces with them")
        if entry.whole and (array < 0 or array != np.floor(array)):
            raise ValueError(f"{key} is {array:g}; it must be a whole number, counted from 0")
    for states in groups_of_states(properties):
        if len({np.shape(properties[name])[PROPERTIES[name].state_axis or 0] for name in states}) > 1:
            raise ValueError(f"{' and '.join(states)} are of different numbers of states")
    return properties


def has(structure: Structure, name: str) -> bool:
    """Return whether a structure can have a property (by any name of it), so that an answer without it lacks something."""
    entry = statable().get(name)
    return entry is None or not entry.periodic or all(structure.pbc)


def of_structure(answer: Mapping[str, Any], structure: Structure) -> dict[str, Any]:
    """Return an answer without what the structure cannot have, whatever a program says of it.

    Raises ValueError if nothing is left.
    """
    left = {name: value for name, value in answer.items() if has(structure, name)}
    if answer and not left:
        raise ValueError(f"the structure is not periodic in three directions: it has no {', '.join(answer)}")
    return left


def _in_shape(array: NDArray[np.float64], entry: Property, n_atoms: int) -> NDArray[np.float64]:
    """Return numbers in the property's shape. Raises ValueError if they have another, and for a tensor that is not symmetric."""
    if entry.shape == "per_atom_state_vector" and array.ndim == 2 and array.shape[1] % 3 == 0:
        # As extended XYZ has it: rows of atoms, the numbers of all states one after another.
        array = array.reshape(len(array), -1, 3)
    n_states = array.size if entry.of_states else array.shape[entry.state_axis or 0] if array.ndim > 1 else 0
    shape = entry.dimensions(n_atoms, n_states)
    if array.size == 1 and shape == ():
        array = array.reshape(())
    if entry.rank == 2:
        if array.shape == (6,):
            from ase.stress import voigt_6_to_full_3x3_stress

            array = voigt_6_to_full_3x3_stress(array)
        elif array.shape == (9,):
            array = array.reshape(3, 3)
    if array.shape != shape:
        raise ValueError(f"{entry.name} has the shape {array.shape} instead of {shape}")
    if entry.rank == 2:
        skew = float(np.abs(array - array.T).max())
        if skew > SKEW * float(np.abs(array).max()) + TINY:
            raise ValueError(f"{entry.name} is not symmetric: components differ by {skew:.3g} {entry.unit}")
        array = (array + array.T) / 2
    return array


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
    """Return an answer in Quarry's units, a negative (a gradient) as its property. units: by property; ours where not given.

    Raises ValueError for what is no number.
    """
    result: dict[str, Any] = {}
    known = statable()
    for name, value in answer.items():
        if value is None or name not in known:
            result[name] = value
            continue
        factor = unit_factor(name, units[name]) if name in units else 1.0
        array = real_numbers(value, name)
        if name != known[name].name:
            negative, name, factor = name, known[name].name, -factor
            if name in answer:
                raise ValueError(f"gives both {name} and {negative}")
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
