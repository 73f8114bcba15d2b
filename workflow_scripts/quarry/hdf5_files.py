"""HDF5 files that are written whole or not at all, also on a full disk."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from quarry.files import atomic_path


@contextmanager
def new_hdf5(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    """Yield an empty HDF5 file, which is at ``path`` when all of it is written: intact, or absent.

    Raises OSError if the disk does not take it.
    """
    with atomic_path(path) as temporary, _written(temporary, "w") as handle:
        yield handle


@contextmanager
def added_to_hdf5(temporary: Path) -> Iterator[h5py.File]:
    """Yield a file of ``atomic_path`` that is an HDF5 file already, to add to it.

    Raises OSError if the disk does not take it.
    """
    with _written(temporary, "r+") as handle:
        yield handle


def checksum_of(handle: h5py.File, names: Iterable[str]) -> str:
    """Return the SHA-256 of arrays, and of those in groups, with their names, types and shapes; absent ones are left out."""
    found = hashlib.sha256()

    def add(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Group):
            for inner in sorted(item):
                add(f"{name}/{inner}", item[inner])
            return
        values = np.ascontiguousarray(item[()])
        found.update(f"{name} {values.dtype.str} {values.shape}\n".encode())
        found.update(values.tobytes())

    for name in sorted(names):
        if name in handle:
            add(name, handle[name])
    return found.hexdigest()


@contextmanager
def _written(path: Path, mode: str) -> Iterator[h5py.File]:
    with _TakesAll(path, "w+" if mode == "w" else mode) as disk:
        try:
            with h5py.File(disk, mode) as handle:
                yield handle
                handle.flush()
        except Exception as error:
            if disk.error is None:
                raise
            # What h5py makes of it says less.
            raise disk.error from error
        if disk.error is not None:
            raise disk.error


class _TakesAll(io.FileIO):
    """A file that keeps the first error of its disk, and from then on takes everything.

    The HDF5 library cannot take back what a disk does not take: it tries again for each object, at the end of the process too,
    and that ends with a segmentation fault. So it hears of the error once, which ends what is being written, and can close.
    """

    error: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Write all of ``data``."""
        rest = memoryview(data).cast("B")
        try:
            while len(rest) and self.error is None:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.error = error
            raise
        return len(memoryview(data).cast("B"))

    def truncate(self, size: int | None = None, /) -> int:
        """Set the length."""
        try:
            return super().truncate(size) if self.error is None else 0
        except OSError as error:
            self.error = error
            raise
