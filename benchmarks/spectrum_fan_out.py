"""ML-NEA's labels one after another, as the peer computes them, and as jobs on the available cores: wall time.

The same geometries (Wigner ensemble at 300 K), the same method, one thread per label. Serial: one process that labels in a
loop. Fan-out: a campaign of one iteration, from the start of Snakemake to the merged data set, with one job per label and
with several. The ways take turns. FILE: an ensemble (extended XYZ).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml
from ase.io import iread, write
from common import SNAKEMAKE, machine, print_table

METHOD = {
    "xc": "b3lyp",
    "basis": "6-31g*",
    "forces": False,
    "excitations": {"n_states": 6, "kind": "tda", "grid_level": 1},
}
SERIAL = """
import json, sys
from ase.io import read
from quarry.config.methods import PyscfMethod
from quarry.labeling.engines.pyscf_engine import PyscfEngine
from quarry.structures import Structure
engine = PyscfEngine(PyscfMethod.model_validate(json.loads(sys.argv[2])))
for atoms in read(sys.argv[1], ":"):
    answer = engine.label(Structure.from_atoms(atoms, 0, 1), 1)
    assert answer.status == "ok", answer.message
"""


def environment() -> dict[str, str]:
    """Return this process's environment with one thread."""
    folder = str(Path(__file__).parents[1] / "workflow_scripts")
    return {**os.environ, "PYTHONPATH": folder, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}


def serial(frames: list, folder: Path) -> float:
    """Return the wall time of a loop in one process."""
    write(folder / "pool.extxyz", frames)
    start = time.monotonic()
    command = [sys.executable, "-c", SERIAL, str(folder / "pool.extxyz"), json.dumps(METHOD)]
    subprocess.run(command, env=environment(), check=True)
    return time.monotonic() - start


def campaign(frames: list, folder: Path, cores: int, per_job: int) -> float:
    """Return the wall time of a campaign that labels all frames."""
    write(folder / "pool.extxyz", frames)
    configuration = {
        "name": "fan",
        "pool": {"source": "file", "files": ["pool.extxyz"]},
        "target": "gap",
        "labeling": {"engine": "pyscf", "method": METHOD, "structures_per_job": per_job},
        "descriptor": {"kind": "inverse_distances"},
        "query": {"strategy": "sequence", "initial": len(frames), "batch": {"schedule": "constant", "size": 1}},
        "test": {"size": 0},
        "stop": {"metric": "cross_validation", "rrmse": None, "max_labels": len(frames)},
    }
    (folder / "campaign.yaml").write_text(yaml.safe_dump(configuration))
    start = time.monotonic()
    command = [*SNAKEMAKE, "--cores", str(cores), "--", "results/fan/main/iter_000/dataset.h5"]
    subprocess.run(command, cwd=folder, env=environment(), capture_output=True, check=True)
    return time.monotonic() - start


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--labels", type=int, default=24)
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    parser.add_argument("--per-job", type=int, nargs="+", default=[1, 6])
    parser.add_argument("--repeats", type=int, default=1)
    arguments = parser.parse_args()
    frames = list(iread(arguments.file, f":{arguments.labels}"))
    print(machine())
    for repeat in range(arguments.repeats):
        rows: list[list[object]] = []
        with tempfile.TemporaryDirectory() as temporary:
            alone = serial(frames, Path(temporary))
            rows.append(["serial loop, one process", alone, 1.0])
            for per_job in arguments.per_job:
                folder = Path(temporary) / str(per_job)
                folder.mkdir()
                wall = campaign(frames, folder, arguments.cores, per_job)
                rows.append([f"jobs of {per_job} on {arguments.cores} cores", wall, alone / wall])
        print_table(f"{arguments.labels} labels, repeat {repeat}", ["way", "wall time s", "times faster"], rows)
