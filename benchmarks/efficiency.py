"""How much of the cores' time do the labels get, beside a plain process pool that does the same labels?

Labels burn a given time of one core. Efficiency is the CPU time of the labels over cores x wall time. The campaign's wall
time runs from the start of Snakemake to the merged data set of one iteration: pool, descriptors, selection and merging are
in it. The pool starts its processes and does the same labels; the two take turns.
"""

import argparse
import multiprocessing
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from common import SNAKEMAKE, machine, print_table

from support.campaigns import CampaignFolder, stand_in_configuration

BURN = """
import time
def burn(atoms, seconds, version=1):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return {"energy": float(atoms.positions.sum())}
"""


def campaign_wall(labels: int, seconds: float, cores: int) -> float:
    """Return the wall time of a campaign that labels `labels` structures."""
    with tempfile.TemporaryDirectory() as temporary:
        configuration = stand_in_configuration(
            labeling={"engine": "function", "function": "burn:burn", "arguments": {"seconds": seconds}},
            test={"size": 2},
            query={"strategy": "random", "initial": labels - 2, "batch": {"schedule": "constant", "size": 1}},
        )
        folder = CampaignFolder.create(Path(temporary), configuration, labels + 5)
        (folder.path / "burn.py").write_text(BURN)
        start = time.monotonic()
        command = [*SNAKEMAKE, "--cores", str(cores), "--", "results/toy/main/iter_000/dataset.h5"]
        subprocess.run(command, cwd=folder.path, env=folder.env(), capture_output=True, check=True)
        return time.monotonic() - start


def _burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def pool_wall(labels: int, seconds: float, cores: int) -> float:
    """Return the wall time of a process pool on the same labels."""
    start = time.monotonic()
    with multiprocessing.Pool(cores) as pool:
        pool.map(_burn, [seconds] * labels, chunksize=1)
    return time.monotonic() - start


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--labels", default="60x1,12x10,4x60", help="comma-separated NUMBERxSECONDS")
    arguments = parser.parse_args()
    rows: list[list[object]] = []
    for case in arguments.labels.split(","):
        labels, seconds = int(case.split("x")[0]), float(case.split("x")[1])
        ideal = labels * seconds / arguments.cores
        ours, theirs = [], []
        for _ in range(arguments.repeats):
            ours.append(ideal / campaign_wall(labels, seconds, arguments.cores))
            theirs.append(ideal / pool_wall(labels, seconds, arguments.cores))
        ratio = [a / b for a, b in zip(ours, theirs, strict=True)]
        rows.append(
            [
                labels,
                seconds,
                *(f"{statistics.median(x):.2f} ({min(x):.2f}-{max(x):.2f})" for x in (ours, theirs, ratio)),
            ]
        )
    print(machine())
    print_table(
        f"Efficiency on {arguments.cores} cores, median (range) of {arguments.repeats}",
        ["labels", "CPU-s each", "campaign", "process pool", "ratio"],
        rows,
    )
