"""What every test relies on."""

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import settings

# Before any library reads it: workers that take all cores each wait for each other, sixty times as long for small networks.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Tests read what Snakemake says of its jobs.
os.environ.setdefault("QUARRY_TERMINAL", "snakemake")

# A shell lets what it starts in the background ignore Ctrl-C, and all that is started from there inherits it.
with suppress(ValueError):
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A pause of a busy machine in one of hundreds of examples is no fault.
settings.register_profile("quarry", deadline=None)
settings.load_profile("quarry")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spread the files that wait for a real Slurm among those that compute: side by side they would leave the cores idle.

    Workers take whole files in this order (see ``addopts``), the long ones first.
    """
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    waiting = [path for path in files if path.parent.name == "cluster"]
    order = [path for path in files if path not in waiting]
    for number, path in enumerate(waiting):
        order.insert(3 * number, path)
    items[:] = [item for path in order for item in files[path]]
