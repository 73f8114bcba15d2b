"""The file of what the trajectories of a job have found, and what candidates say of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from quarry.config.samplers import SAMPLERS
from quarry.hdf5_files import new_hdf5
from quarry.imports import named
from quarry.structures import StructureSet
from quarry.structures.files import read_structure_group, write_structure_group

EXPLORATION = "exploration"
"""Attribute of a file of candidates: how they were found, as JSON."""
NEW = "new"
"""In place of a fate: a geometry that was drawn to let the initial data grow; no trajectory was run."""
GROWTH = "growth"
"""In an account: why the initial data grow, or, of the first trajectories, why they do so no longer."""
NEAR_DUPLICATES = "near_duplicates"
"""In an account: how many uncertain frames are left out, since one before them is nearly the same."""
CANDIDATES = (NEW, "uncertain")
"""Fates whose frames are candidates."""

SURE = ("complete", "reactants", "products")
"""Fates of trajectories that met no uncertain frame."""


@dataclass(frozen=True, eq=False)
class Trajectories:
    """How trajectories ended; arrays have an entry for each.

    structures: their last frames. fates: new, uncertain, unphysical, complete, reactants or products. faults: why one is
    unphysical, or empty. ends: the step of the last frame. uncertainty: of it. trace: shape (n_points, 3): a step, the largest
    uncertainty of the trajectories that were running, and the median. facts: threshold, unit, and what else is the same for all.
    """

    structures: StructureSet
    fates: tuple[str, ...]
    faults: tuple[str, ...]
    ends: NDArray[np.int64]
    uncertainty: NDArray[np.float64]
    trace: NDArray[np.float64]
    facts: dict[str, Any]

    def write(self, path: str | Path) -> None:
        """Write the file, whole or not at all; the same trajectories give the same bytes."""
        with new_hdf5(path) as handle:
            write_structure_group(handle, self.structures)
            handle.attrs["facts"] = json.dumps(self.facts, sort_keys=True)
            for name in ("fates", "faults"):
                handle.create_dataset(
                    name, data=list(getattr(self, name)), dtype=h5py.string_dtype(), shape=(len(self.fates),)
                )
            for name in ("ends", "uncertainty", "trace"):
                handle.create_dataset(name, data=getattr(self, name))

    @staticmethod
    def read(path: str | Path) -> Trajectories:
        """Read what ``write`` wrote."""
        with h5py.File(path, "r") as handle:
            fates, faults = (tuple(handle[name].asstr()[()].tolist()) for name in ("fates", "faults"))
            ends, uncertainty, trace = (handle[name][()] for name in ("ends", "uncertainty", "trace"))
            facts = json.loads(str(handle.attrs["facts"]))
            return Trajectories(read_structure_group(handle), fates, faults, ends, uncertainty, trace, facts)


def account_of(parts: Sequence[Trajectories]) -> dict[str, Any]:
    """Return what the trajectories of all jobs of an iteration have found: how many by fate and by fault, and steps."""
    fates = Counter(fate for part in parts for fate in part.fates)
    faults = Counter(fault for part in parts for fault in part.faults if fault)
    if fates[NEW]:
        return {**parts[0].facts, NEW: fates[NEW]}
    section = SAMPLERS.get(parts[0].facts.get("sampler", ""))
    return {
        **parts[0].facts,
        "trajectories": sum(fates.values()),
        **{fate: fates[fate] for fate in ("uncertain", "unphysical")},
        "complete": sum(fates[fate] for fate in SURE),
        **({"found": named(section.summary)(parts)} if section is not None and section.summary else {}),
        "steps": int(sum(part.ends.sum() for part in parts)),
        "faults": dict(sorted(faults.items())),
    }


def words_of(account: dict[str, Any]) -> str:
    """Return an account in words."""
    if NEW in account:
        why = f" ({account[GROWTH]})" if GROWTH in account else ""
        return f"{account[NEW]} geometries drawn to let the initial data grow{why}"
    faults = ", ".join(f"{count} x {fault}" for fault, count in account["faults"].items())
    thrown = f"{account['unphysical']} were thrown away ({faults})" if account["unphysical"] else "none was thrown away"
    alike = f" ({account[NEAR_DUPLICATES]} near-duplicates dropped)" if account.get(NEAR_DUPLICATES) else ""
    found = "".join(f", {count} {name.replace('_', ' ')}" for name, count in account.get("found", {}).items())
    begun = f"; the initial data have grown enough: {account[GROWTH]}" if GROWTH in account else ""
    return (
        f"{account['trajectories']} {account.get('noun', 'trajectories')}, {account['steps']} steps: {account['uncertain']} met "
        f"a frame whose uncertainty is beyond {threshold_words(account)}{alike}, {account['complete']} met none, {thrown}{found}"
        f"{begun}"
    )


def threshold_words(account: Mapping[str, Any]) -> str:
    """Return the threshold of an account with its unit."""
    return f"{account['threshold']:.3g} {account['unit']}".rstrip()


def read_exploration(path: str | Path) -> dict[str, Any] | None:
    """Return how the candidates of a file were found; None where no trajectories were run."""
    with h5py.File(path, "r") as handle:
        found = handle.attrs.get(EXPLORATION)
    return None if found is None else dict(json.loads(str(found)))
