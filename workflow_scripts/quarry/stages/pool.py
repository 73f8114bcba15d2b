"""Building the pool of candidates and their features."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from quarry.config.campaign import Configuration
from quarry.config.methods import PyscfMethod
from quarry.config.pool import FilePool, WignerPool
from quarry.errors import QuarryError
from quarry.files import atomic_path
from quarry.randomness import generator
from quarry.structures import Structure, StructureSet
from quarry.structures.files import read_files, read_leaf, read_pool, write_leaf, write_pool
from quarry.structures.structure import ID_LENGTH


def read_molecule(path: Path, charge: int, multiplicity: int, key: str = "pool.molecule") -> Structure:
    """Read one structure. Raises QuarryError, naming the configuration's key, if the file does not hold exactly one."""
    structures = read_files([(path, ":")], charge, multiplicity, key)
    if len(structures) != 1:
        raise QuarryError(f"{key}: {path}: expected one structure, found {len(structures)}")
    return structures[0]


def read_file_pool(pool: FilePool, base: Path) -> tuple[StructureSet, int]:
    """Return the distinct structures of a file pool and the number of duplicates dropped."""
    files = [(base / s.path, s.index) for s in pool.files]
    return read_files(files, pool.charge, pool.multiplicity).without_duplicates()


def geometry_method(configuration: Configuration) -> PyscfMethod:
    """Return the method of the optimisation and Hessian of a wigner pool."""
    pool = configuration.pool
    assert isinstance(pool, WignerPool)
    if pool.geometry_method is not None:
        return pool.geometry_method
    assert configuration.labeling.engine == "pyscf"
    return configuration.labeling.method


def compute_modes(
    configuration: Configuration, base: Path, output: str, threads: int, log: Callable[[str], None]
) -> None:
    """Optimise the molecule of a wigner pool and compute its normal modes."""
    from quarry.sampling.normal_modes import compute_normal_modes

    pool = configuration.pool
    assert isinstance(pool, WignerPool)
    start = read_molecule(base / pool.molecule, pool.charge, pool.multiplicity)
    compute_normal_modes(start, geometry_method(configuration), threads, log).write(output)


def build_pool(configuration: Configuration, base: Path, modes: str | None, structures: str, reference: str) -> str:
    """Write all candidates and the reference geometry of the descriptor; return a line about them."""
    pool = configuration.pool
    if isinstance(pool, WignerPool):
        from quarry.sampling.normal_modes import NormalModes
        from quarry.sampling.wigner import sample_wigner

        assert modes is not None
        normal_modes = NormalModes.read(modes)
        rng = generator(configuration.seed, "pool")
        candidates, dropped = sample_wigner(normal_modes, pool.temperature_K, pool.size, rng).without_duplicates()
        equilibrium = normal_modes.equilibrium
    else:
        candidates, dropped = read_file_pool(pool, base)
        equilibrium = candidates[0]
    if configuration.descriptor.reference:
        equilibrium = read_molecule(
            base / configuration.descriptor.reference, pool.charge, pool.multiplicity, "descriptor.reference"
        )
    write_pool(structures, candidates, {"duplicates_dropped": dropped})
    write_leaf(reference, [equilibrium])
    return f"pool: {len(candidates)} structures, {dropped} duplicates dropped"


def build_features(structures: str, reference: str, kind: str, output: str) -> None:
    """Compute the descriptor of every candidate."""
    from quarry.descriptors.compute import compute_features

    pool = read_pool(structures)
    features = compute_features(pool, kind, read_leaf(reference)[0])
    with atomic_path(output) as temporary, h5py.File(temporary, "w") as handle:
        handle.attrs["kind"] = kind
        handle.create_dataset("ids", data=pool.ids.astype(f"S{ID_LENGTH}"))
        handle.create_dataset("features", data=features)


def read_features(path: str, rows: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
    """Read the features of the pool, or of some rows of it in their order; shape (n, n_features)."""
    with h5py.File(path, "r") as handle:
        data = handle["features"]
        if rows is None:
            return data[()]
        order = np.argsort(rows)
        picked = np.empty((len(rows), data.shape[1]))
        picked[order] = data[rows[order]] if len(rows) else picked
        return picked


def pool_rows(features: str, ids: NDArray[np.str_]) -> NDArray[np.int64]:
    """Return the rows of structures in the pool. Raises QuarryError if one is not in it (the pool was made anew)."""
    with h5py.File(features, "r") as handle:
        where = {structure_id.decode(): row for row, structure_id in enumerate(handle["ids"][()])}
    try:
        return np.array([where[str(structure_id)] for structure_id in ids], dtype=np.int64)
    except KeyError as error:
        raise QuarryError(
            f"{features}: labelled structure {error} is not in the pool; the pool was made from other input"
        ) from error
