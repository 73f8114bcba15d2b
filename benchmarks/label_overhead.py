"""What does a label cost beside a bare PySCF script that does the same calculation?

A campaign of one molecule's distorted geometries is labelled locally, one job per structure. What each job used in all
(start of Python, Snakemake's preamble, imports, calculation, record) stands in its log; what the calculation used stands
in its record. The bare script starts Python, imports PySCF and computes energy and gradient with the same settings; it is
run for the same geometries, turn by turn, on one thread.
"""

import argparse
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import ase.build
import ase.io
import numpy as np
from common import SNAKEMAKE, machine, print_table

from quarry.labeling.record import read_records
from support.campaigns import CampaignFolder

MOLECULES = {"water": "H2O", "ethanol": "CH3CH2OH", "benzene": "C6H6"}

BARE = """
import sys
import ase.io
from pyscf import dft, gto
atoms = ase.io.read(sys.argv[1])
molecule = gto.M(atom=[(s, tuple(p)) for s, p in zip(atoms.symbols, atoms.positions)], basis="6-31g*", verbose=0)
calculation = dft.RKS(molecule, xc="b3lyp")
if sys.argv[2] == "True":
    calculation = calculation.density_fit()
energy = calculation.kernel()
calculation.nuc_grad_method().kernel()
print(energy)
"""


def geometries(molecule: str, count: int, seed: int) -> list[ase.Atoms]:
    """Return distorted geometries."""
    rng, start = np.random.default_rng(seed), ase.build.molecule(MOLECULES[molecule])
    frames = [start.copy() for _ in range(count)]
    for frame in frames:
        frame.positions += rng.normal(0, 0.03, frame.positions.shape)
    return frames


def bare(folder: Path, atoms: ase.Atoms, density_fitting: bool) -> tuple[float, float]:
    """Return (CPU-s of the whole process, energy in hartree)."""
    ase.io.write(folder / "bare.xyz", atoms, plain=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", BARE, "bare.xyz", str(density_fitting)]
    done = subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, float(done.stdout)


def campaign(folder: CampaignFolder, frames: list[ase.Atoms], density_fitting: bool) -> list[dict[str, float]]:
    """Return per label: CPU-s of the job and of the calculation in it, energy in eV."""
    ase.io.write(folder.path / "pool.extxyz", frames)
    folder.configure(
        {
            "name": "overhead",
            "pool": {"source": "file", "files": ["pool.extxyz"]},
            "labeling": {
                "engine": "pyscf",
                "method": {"xc": "b3lyp", "basis": "6-31g*", "density_fitting": density_fitting},
            },
            "descriptor": {"kind": "inverse_distances"},
            "query": {"strategy": "random", "initial": len(frames) - 2, "batch": {"schedule": "constant", "size": 1}},
            "test": {"size": 2},
            "stop": {"max_labels": len(frames)},
        }
    )
    command = [*SNAKEMAKE, "--cores", "1", "--", "results/overhead/main/iter_000/dataset.h5"]
    subprocess.run(command, cwd=folder.path, env=folder.env(), check=True, capture_output=True)
    found = []
    for label in sorted(folder.results.glob("main/iter_000/labels/*.json")):
        [record] = read_records(label)
        log = label.parents[1] / "logs" / "labels" / f"{label.stem}.log"
        used = re.search(r"used ([0-9.]+) CPU-s", log.read_text())
        assert used and record.ok
        energy = record.properties["energy"]
        found.append({"job": float(used[1]), "calculation": record.cost["cpu_s"], "energy": energy})
    return found


def summary(values: list[float]) -> str:
    """Return median and range."""
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=int, default=5, help="at least 3")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--molecules", default=",".join(MOLECULES))
    arguments = parser.parse_args()
    rows: list[list[object]] = []
    for molecule in arguments.molecules.split(","):
        for density_fitting in (False, True):
            frames = geometries(molecule, arguments.labels, arguments.seed)
            with tempfile.TemporaryDirectory() as temporary:
                folder = CampaignFolder.create(Path(temporary))
                scripts = [bare(folder.path, frame, density_fitting) for frame in frames]
                labels = campaign(folder, frames, density_fitting)
            ours, theirs = (
                sorted(e) for e in ([x["energy"] for x in labels], [x[1] * 27.211386245988 for x in scripts])
            )
            jobs, scripts_s = [x["job"] for x in labels], [x[0] for x in scripts]
            rows.append(
                [
                    molecule,
                    "yes" if density_fitting else "no",
                    summary(jobs),
                    summary([x["calculation"] for x in labels]),
                    summary([x["job"] - x["calculation"] for x in labels]),
                    summary(scripts_s),
                    statistics.median(jobs) / statistics.median(scripts_s),
                    f"{max(abs(a - b) for a, b in zip(ours, theirs, strict=True)):.1e}",
                ]
            )
    print(machine())
    print_table(
        f"CPU-s per label, B3LYP/6-31G*, energy and forces, one thread; {arguments.labels} labels, seed {arguments.seed}",
        [
            "molecule",
            "density fitting",
            "job in all",
            "calculation",
            "rest of the job",
            "bare script",
            "job / script",
            "largest difference, eV",
        ],
        rows,
    )
