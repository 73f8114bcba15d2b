"""H2 by dynamics (docs/dynamics.md): labels and CPU-seconds to what error on a dense grid of bond lengths, beside MLatom's al.

First run the campaign: .venv/bin/snakemake --configfile config/campaigns/h2_dynamics.yaml, then
python benchmarks/dynamics_h2.py results/h2_dynamics [further results of the same molecule and method]

MLatom 3.25.5 (al, KREG, the same method, Wigner at 300 K, 100 trajectories of 100 fs) on two EPYC cores: 250 initial labels, then
3 uncertain points; 319 CPU-s, 285 of them labels.
"""

import argparse
import csv
import json
from pathlib import Path

from common import machine, print_table

MLATOM = ["MLatom 3.25.5", 253, 285.0, 319.0, "", "", ""]

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", help="folder of a finished campaign")
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
    for folder in map(Path, arguments.results):
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
        of_models = 3600.0 * sum(cost["train_core_hours"] for cost in costs)
        errors = 1e3 * (np.array(predicted) - energies)
        rows.append(
            [
                folder.name,
                int(last["n_labels"]),
                of_labels,
                of_labels + of_models,
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
