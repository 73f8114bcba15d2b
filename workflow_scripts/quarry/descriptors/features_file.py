"""``features.h5``: the descriptor of every structure of a pool, written and read in blocks."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from quarry.descriptors.compute import PreparedDescriptor
from quarry.hdf5_files import new_hdf5
from quarry.structures import StructureSet
from quarry.structures.files import write_copies
from quarry.structures.structure import ID_LENGTH

BLOCK_BYTES = 8_000_000
"""Stored features that are read at a time where only some rows are wanted."""


def write_features(
    path: str, pool: StructureSet, copies: NDArray[np.int64] | None, descriptor: PreparedDescriptor, kind: str
) -> list[str]:
    """Compute and write the features of a pool; return the ids of structures in which the descriptor sees no geometry.

    copies: as ``structures.files.read_copies`` gives them. kind: of the descriptor.
    """
    unseen: list[str] = []
    with new_hdf5(path) as handle:
        handle.attrs["kind"] = kind
        handle.attrs.update(descriptor.settled)
        handle.create_dataset("ids", data=pool.ids.astype(f"S{ID_LENGTH}"))
        write_copies(handle, pool.ids, copies)
        data = handle.create_dataset("features", (len(pool), descriptor.width), dtype=descriptor.dtype)
        for start, block in descriptor.blocks(pool):
            data[start : start + len(block)] = block
            part = pool.subset(np.arange(start, start + len(block)))
            unseen += part.ids[descriptor.beyond_reach(part, block)].tolist()
    return unseen


def read_settled(path: str) -> dict[str, Any]:
    """Return what a descriptor took from the pool (``PreparedDescriptor.settled``), and the number of features."""
    with h5py.File(path, "r") as handle:
        found = {name: value.tolist() for name, value in handle.attrs.items() if name != "kind"}
        return {**found, "width": int(handle["features"].shape[1])}


def read_features(path: str, rows: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
    """Return the features of a pool, or of some rows of it, shape (m,), in their order; shape (n or m, n_features), float64."""
    with h5py.File(path, "r") as handle:
        data = handle["features"]
        if rows is None:
            return data.astype(np.float64)[()]
        # Whole blocks and not data[rows]: h5py's own choice of rows takes a minute for 60,000 of them.
        picked = np.empty((len(rows), data.shape[1]))
        order = np.argsort(rows, kind="stable")
        count = max(1, BLOCK_BYTES // max(1, data.dtype.itemsize * data.shape[1]))
        bounds = np.searchsorted(rows[order], np.arange(0, data.shape[0] + count, count))
        for number in np.flatnonzero(np.diff(bounds)):
            wanted = order[bounds[number] : bounds[number + 1]]
            first, last = int(rows[wanted[0]]), int(rows[wanted[-1]])
            picked[wanted] = data[first : last + 1][rows[wanted] - first]
        return picked
