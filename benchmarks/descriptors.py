"""Pool and features of a large set of molecules: seconds, memory and size in HDF5.

The data is a table of geometries (npz or HDF5 with Z, R and offsets, as pool.files takes it), e.g. QM9. The stages are the
library's own; each runs in a process of its own with one thread.
"""

import argparse
import importlib.metadata
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from common import machine, print_table

from quarry.config import Configuration, load_configuration
from quarry.descriptors.features_file import read_features
from quarry.stages.pool import build_features, build_pool, pool_rows
from quarry.structures.files import read_pool

DESCRIPTORS: dict[str, dict[str, object]] = {
    "MBTR k2, 200 points": {"kind": "mbtr"},
    "MBTR k2, 100 points": {
        "kind": "mbtr",
        "k2": {"grid": {"minimum": 0.0, "maximum": 1.1, "points": 100, "sigma": 0.02}},
    },
    "Coulomb matrix": {"kind": "coulomb_matrix"},
    "SOAP, n_max 6, l_max 4": {"kind": "soap"},
}
FORK = multiprocessing.get_context("fork")


def configuration(data: Path, descriptor: dict[str, object]) -> Configuration:
    """Return a campaign whose pool is the data."""
    raw = {
        "name": "benchmark",
        "pool": {"source": "file", "files": [data.name]},
        "labeling": {"engine": "function", "function": "support.stand_in:label"},
        "descriptor": descriptor,
        "query": {"strategy": "random", "initial": 10, "batch": {"schedule": "constant", "size": 10}},
        "test": {"size": 10},
        "stop": {"max_iterations": 1},
    }
    return load_configuration(raw, "benchmark")


def measured(work: Callable[[], object]) -> tuple[float, float, float]:
    """Do some work in a process of its own; return wall seconds, CPU seconds and peak memory in MB."""

    def run() -> None:
        start = time.perf_counter()
        work()
        used = resource.getrusage(resource.RUSAGE_SELF)
        queue.put((time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024))

    queue = FORK.SimpleQueue()
    process = FORK.Process(target=run)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit("the work failed")
    result: tuple[float, float, float] = queue.get()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="npz or HDF5 with Z, R and offsets")
    parser.add_argument("--folder", type=Path, help="where the features go; default: a temporary folder")
    arguments = parser.parse_args()
    data = arguments.data.resolve()
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("scipy", "h5py", "dscribe"))
    print(f"{machine()}, {versions}; load {os.getloadavg()[0]:.1f} at the start")
    rows: list[list[object]] = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        structures, reference, filtered = (
            str(folder / n) for n in ("structures.h5", "reference.extxyz", "filtered.csv")
        )
        settings = configuration(data, DESCRIPTORS["MBTR k2, 200 points"])
        spent = measured(lambda: build_pool(settings, data.parent, None, structures, reference, filtered))
        rows.append(["pool", "", *spent, Path(structures).stat().st_size / 1e6])
        ids = read_pool(structures).ids
        for title, keys in DESCRIPTORS.items():
            section, features = configuration(data, keys).descriptor, str(folder / "features.h5")
            assert section is not None
            spent = measured(partial(build_features, structures, reference, section, features))
            width = read_features(features, pool_rows(features, ids[:1])).shape[1]
            rows.append([title, width, *spent, Path(features).stat().st_size / 1e6])
            if keys == {"kind": "mbtr"}:
                # Every second row, in an order of its own: what a shard of the pool asks for.
                some = pool_rows(features, ids[::-2])
                spent = measured(partial(read_features, features, some))
                rows.append(["reading half of these", width, *spent, 0])
    head = ["what", "features", "wall s", "CPU-s", "peak MB", "file MB"]
    print_table(f"Pool and features of {len(ids):,} molecules ({data.name})", head, rows)


if __name__ == "__main__":
    main()
