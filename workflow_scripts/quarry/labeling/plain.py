"""What a number of a label may be, wherever it comes from: an engine's answer, a table, a record of the store.

Standard library only: records are read while Snakemake reads its rules.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from quarry.properties import LARGEST, PROPERTIES

MOST_STATES = 10_000
"""Excited states of one label; more are a matrix or a spectrum in their place."""


def check_numbers(properties: Mapping[str, Any]) -> None:
    """Raise ValueError unless every property is a real number of a sane size, or a list of a sane number of these."""
    for name, value in properties.items():
        entry = PROPERTIES.get(name)
        if value is None and entry is not None and entry.optional:
            continue
        check_count(name, len(value) if isinstance(value, list) else 1)
        bound = LARGEST if entry is None else entry.largest
        for number in _leaves(value):
            if isinstance(number, bool) or not isinstance(number, (int, float)):
                raise ValueError(f"{name} is {_shown(number)}, which is no real number")
            if not math.isfinite(number):
                raise ValueError(f"{name} is not finite")
            if abs(number) > bound:
                raise ValueError(f"{name} is {number:.3g}, beyond {bound:g}: no label is that large")


def check_count(name: str, count: int) -> None:
    """Raise ValueError if a property of each excited state has more numbers than any molecule has states of interest."""
    if name in PROPERTIES and PROPERTIES[name].of_states and count > MOST_STATES:
        raise ValueError(f"{name} has {count} numbers, more than {MOST_STATES}; give one for each excited state")


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
