"""Files that a full disk does not take: one line with the file's name, nothing half, and a process that ends as others do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

WRITERS = {
    "objects": """
def write(path):
    # More than the buffers of the library hold, of many objects.
    with new_hdf5(path) as handle:
        handle.attrs["kind"] = "toy"
        for number in range(40):
            group = handle.create_group(f"network/{number:03d}")
            group.attrs["epoch"] = number
            group.create_dataset("weights", data=np.arange(60.0) + number)
        handle.create_dataset("words", data=["a", "b"], dtype=h5py.string_dtype())
""",
    "blocks": """
def write(path):
    with new_hdf5(path) as handle:
        data = handle.create_dataset("features", (400, 40), dtype=np.float32)
        for start in range(0, 400, 20):
            data[start : start + 20] = start
""",
    "added": """
def write(path):
    with atomic_path(path) as temporary:
        with new_hdf5(temporary) as handle:
            handle["first"] = np.arange(10.0)
        with added_to_hdf5(temporary) as handle:
            group = handle.create_group("more")
            for number in range(40):
                group.create_dataset(str(number), data=np.arange(60.0) + number)
""",
    "state of a network": """
import torch
from torch import nn
from quarry.models import network_training

def write(path):
    module = nn.Linear(60, 60)
    optimiser, order = torch.optim.Adam(module.parameters()), torch.Generator()
    progress = network_training.Progress([0.0])
    network_training._write(path, module, module.state_dict(), optimiser, order, progress)
""",
}
"""Functions that write a file, by name."""

LIMITED = """
import resource
from pathlib import Path
import h5py
import numpy as np
from quarry.files import atomic_path
from quarry.hdf5_files import added_to_hdf5, new_hdf5
{writer}
name = Path("file")
write(name)
size = name.stat().st_size
for limit in sorted({{0, size - 1, *range(99, size, size // 23)}}):
    name.unlink()
    # No file may be longer: a write beyond it fails as on a disk without room.
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        write(name)
    except OSError as error:
        print(error)
    assert not list(Path().iterdir()), list(Path().iterdir())
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    write(name)
    assert name.stat().st_size == size
"""


@pytest.mark.parametrize("name", WRITERS)
def test_nothing_half_is_left_and_the_next_attempt_succeeds(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", LIMITED.format(writer=WRITERS[name])]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, "")
    assert set(found.stdout.splitlines()) == {"[Errno 27] File too large: 'file'"}


JOB = """
import resource
from types import SimpleNamespace
import numpy as np
from quarry.campaign.job import job
from quarry.hdf5_files import new_hdf5

snakemake = SimpleNamespace(
    rule="train_model", threads=1, resources={}, log=["a/logs/train.log"], input=[], output=["a/model.h5"]
)
with job(snakemake) as log:
    log("begun")
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
    with new_hdf5("a/model.h5") as handle:
        handle["weights"] = np.arange(100.0)
"""


def test_a_job_on_a_full_disk_ends_with_one_line(tmp_path: Path) -> None:
    """Its log, which is on that disk, takes nothing more either."""
    found = subprocess.run([sys.executable, "-c", JOB], cwd=tmp_path, capture_output=True, text=True, check=False)
    message = "Quarry: train_model: OSError: [Errno 27] File too large: 'a/model.h5'\n"
    assert (found.returncode, found.stderr) == (1, message)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["logs"]
