"""HDF5 files that are made in memory and written as a whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import h5py

from quarry.files import write_bytes


@contextmanager
def new_hdf5(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    """Yield an empty HDF5 file, which is at ``path`` when all of it is made: intact, or absent.

    The HDF5 library cannot take back what a full disk does not take: it prints an error for each object, and the process ends
    with a segmentation fault. So it never sees the disk; a full one is an OSError. Memory holds the file: this is for data sets,
    not for features of large pools.
    """
    with h5py.File(os.fspath(path), "w", driver="core", backing_store=False) as handle:
        yield handle
        handle.flush()
        image = handle.id.get_file_image()
    write_bytes(path, image)
