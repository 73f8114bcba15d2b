"""Whole configurations, and a way to change single keys of them."""

from __future__ import annotations

import copy
from typing import Any

from quarry.config import Configuration, load_configuration

ABSENT = object()

WIGNER: dict[str, Any] = {
    "name": "water",
    "pool": {"source": "wigner", "molecule": "water.xyz", "size": 100},
    "labeling": {"engine": "pyscf", "method": {"xc": "pbe", "basis": "sto-3g"}},
    "descriptor": {"kind": "inverse_distances"},
    "query": {"strategy": "uncertainty_clusters", "initial": 10, "batch": {"schedule": "constant", "size": 5}},
    "test": {"size": 20},
    "stop": {"max_labels": 60},
}


def changed(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration with values at dotted keys replaced, or taken out where the value is ABSENT."""
    data = copy.deepcopy(base)
    for dotted, value in changes.items():
        *path, last = dotted.split(".")
        node = data
        for key in path:
            node = node.setdefault(key, {})
        if value is ABSENT:
            del node[last]
        else:
            node[last] = value
    return data


FILES: dict[str, Any] = {
    **WIGNER,
    "pool": {"source": "file", "files": ["a.xyz", {"path": "b.xyz", "index": ":5"}]},
    "labeling": {"engine": "function", "function": "stand_in:morse", "arguments": {"version": 2}},
}


def load(base: dict[str, Any] = WIGNER, **changes: Any) -> Configuration:
    """Return a configuration with values at keys, a__b for a.b, replaced."""
    return load_configuration(changed(base, {k.replace("__", "."): v for k, v in changes.items()}), "mine.yaml")
