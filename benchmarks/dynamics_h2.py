"""H2 by dynamics (docs/dynamics.md): labels and CPU-seconds to what error on a dense grid of bond lengths, beside MLatom's al.

python benchmarks/dynamics_h2.py FOLDER [--seeds 1 2 3]

runs config/campaigns/h2_dynamics.yaml with each seed in FOLDER, where it has not come to its end yet, and measures the processor
time of all its processes, Snakemake's among them.

MLatom 3.25.5 (al, KREG, the same method, Wigner at 300 K, 100 trajectories of 100 fs) on two EPYC cores: 250 initial labels, then
3 uncertain points; 319 CPU-s, 285 of them labels.
"""

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

from common import machine, print_table

PROJECT = Path(__file__).parents[1]
MLATOM = ["MLatom 3.25.5", 253, 285.0, 319.0, "", "", ""]


def run(folder: Path, seed: int) -> float:
    """Run the campaign to its end; return the CPU-seconds of all processes, those of earlier attempts too."""
    measured = folder / "cpu_s.json"
    spent = json.loads(measured.read_text()) if measured.exists() else {"cpu_s": 0.0, "finished": False}
    if not spent["finished"]:
        folder.mkdir(parents=True, exist_ok=True)
        campaign = PROJECT / "config/campaigns/h2_dynamics.yaml"
        command = [sys.executable, "-m", "snakemake", "-s", str(PROJECT / "Snakefile"), "--directory", str(folder)]
        command += ["--configfile", str(campaign), "--config", f"seed={seed}", "--cores", "2"]
        before = children_cpu_s()
        done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
        spent["cpu_s"] += children_cpu_s() - before
        spent["finished"] = done.returncode == 0
        measured.write_text(json.dumps(spent))
        done.check_returncode()
    return float(spent["cpu_s"])


def children_cpu_s() -> float:
    """Return the CPU-seconds of all processes that have ended below this one."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the campaigns run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument(
        "--lengths", type=float, nargs=2, default=[0.55, 1.05], help="bond lengths of the grid, Angstrom"
    )
    parser.add_argument("--points", type=int, default=101)
    arguments = parser.parse_args()

    import numpy as np
    from ase import Atoms

    from quarry.calculator import QuarryCalculator
    from quarry.config.methods import PyscfMethod
    from quarry.labeling.engines.pyscf_engine import PyscfEngine
    from quarry.structures import Structure

    engine = PyscfEngine(PyscfMethod(xc="b3lyp", basis="6-31g*", forces=True))
    lengths = np.linspace(arguments.lengths[0], arguments.lengths[1], arguments.points)
    labels = [engine.label(Structure.create([1, 1], np.array([[0, 0, 0], [0, 0, r]])), 1) for r in lengths]
    energies = np.array([label.properties["energy"] for label in labels])
    forces = np.array([label.properties["forces"][1][2] for label in labels])
    rows = [MLATOM]
    for seed in arguments.seeds:
        in_all = run(arguments.folder / f"seed_{seed}", seed)
        folder = arguments.folder / f"seed_{seed}" / "results/h2_dynamics"
        costs = [json.loads(path.read_text()) for path in sorted(folder.glob("main/iter_*/cost.json"))]
        with open(folder / "history.csv", newline="") as handle:
            last = list(csv.DictReader(handle))[-1]
        predicted, pulls = [], []
        for r in lengths:
            atoms = Atoms("H2", [[0, 0, 0], [0, 0, r]])
            atoms.calc = QuarryCalculator(folder / "model")
            predicted.append(atoms.get_potential_energy())
            pulls.append(atoms.get_forces()[1, 2])
        of_labels = sum(cost["label_cpu_s"] for cost in costs)
        errors = 1e3 * (np.array(predicted) - energies)
        rows.append(
            [
                f"seed {seed}",
                int(last["n_labels"]),
                of_labels,
                in_all,
                f"{np.sqrt(np.mean(errors**2)):.2g}",
                f"{np.abs(errors).max():.2g}",
                f"{1e3 * np.sqrt(np.mean((np.array(pulls) - forces) ** 2)):.2g}",
            ]
        )
    print_table(
        f"H2, B3LYP/6-31G*, {arguments.points} bond lengths of {lengths[0]:g} to {lengths[-1]:g} Angstrom",
        [
            "",
            "labels",
            "CPU-s of labels",
            "CPU-s in all",
            "RMSE (meV)",
            "largest error (meV)",
            "RMSE of forces (meV/Angstrom)",
        ],
        rows,
    )
    print(f"\n{machine()}")
