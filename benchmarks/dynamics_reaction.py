"""HCN to HNC, or proton transfer in malonaldehyde: reactive pairs of trajectories by the model and by the reference.

The reference is GFN2-xTB (tblite), which labels in milliseconds. First
python benchmarks/dynamics_reaction.py prepare FOLDER [--molecule malonaldehyde]
writes the transition state, its normal modes and a campaign (docs/samplers.md); then, in FOLDER, run the campaign (snakemake
--configfile campaign.yaml), and
python benchmarks/dynamics_reaction.py compare FOLDER FOLDER/results/NAME
runs pairs of trajectories from the same starts by the model and by the reference, all of them to an end.
"""

import argparse
import time
from pathlib import Path
from typing import Any

from common import machine, print_table

CAMPAIGN = """name: {name}
pool:
  source: dynamics
  initial: {{source: file, files: [start.extxyz]}}
  explore:
    sampler: {{kind: reaction, transition_state: ts.json, forming: [{forming}], breaking: [{breaking}]}}
    trajectories: 60
    length_fs: 100
labeling:
  engine: ase
  calculator: tblite.ase:TBLite
  arguments: {{method: GFN2-xTB, verbosity: 0}}
  structures_per_job: 50
descriptor: {{kind: inverse_distances}}
model: {{kind: kreg}}
query: {{strategy: random, initial: 60, batch: {{schedule: constant, size: 25}}}}
test: {{size: 30}}
stop: {{rrmse: null, min_new_points: 5, max_iterations: 12}}
"""
MALONALDEHYDE_A = [
    *([-1.18, 0.0, 0.0], [-1.16, 1.28, 0.0], [0.0, 2.05, 0.0], [1.16, 1.28, 0.0], [1.18, 0.0, 0.0]),
    *([0.0, -0.2, 0.0], [-2.1, 1.85, 0.0], [0.0, 3.14, 0.0], [2.1, 1.85, 0.0]),
]
MOLECULES: dict[str, Any] = {
    "hcn": ("HCN", [[0.3, 1.15, 0.0], [0.0, 0.0, 0.0], [1.19, 0.0, 0.0]], [0, 2], [0, 1]),
    "malonaldehyde": ("OCCCOHHHH", MALONALDEHYDE_A, [4, 5], [0, 5]),
}
"""Atoms, a guess of the transition state (Angstrom), the bond that forms and the one that breaks."""
FRAMES, TEMPERATURE_K = 150, 500.0


def reference() -> Any:
    """Return a calculator of GFN2-xTB."""
    from tblite.ase import TBLite

    return TBLite(method="GFN2-xTB", verbosity=0)


def saddle_of(atoms: Any) -> Any:
    """Follow the lowest mode uphill and all others downhill to the transition state; return its normal modes."""
    import numpy as np

    from quarry.dynamics.walkers import ACCELERATION
    from quarry.sampling.hessian import modes_of

    for _ in range(30):
        modes = modes_of(atoms)
        forces = atoms.get_forces()
        if np.linalg.norm(forces, axis=1).max() < 1e-3:
            return modes
        # Newton's step for each mode, in mass-weighted coordinates; curvature in eV/(Angstrom^2 u).
        curvature = (2.0 * np.pi * 2.99792458e-5 * modes.frequencies_cm) ** 2 / ACCELERATION
        along = np.einsum("ax,kax->k", forces, modes.modes) / np.maximum(np.abs(curvature), 0.05)
        along[0] *= -1.0
        step = np.tensordot(along, modes.modes, axes=1)
        atoms.positions += step * min(1.0, 0.1 / np.linalg.norm(step, axis=1).max())
    raise SystemExit("no transition state was found")


def prepare(folder: Path, name: str) -> None:
    """Write the transition state, its modes, geometries between it and both minima, and the campaign."""
    from dataclasses import replace

    import numpy as np
    from ase import Atoms
    from ase.io import write
    from ase.optimize import BFGS

    from quarry.sampling.wigner import LOW_CM, sample_wigner

    folder.mkdir(parents=True, exist_ok=True)
    symbols, guess, forming, breaking = MOLECULES[name]
    saddle = Atoms(symbols, guess)
    saddle.calc = reference()
    modes = saddle_of(saddle)
    print("wavenumbers (1/cm):", " ".join(f"{value:.0f}" for value in modes.frequencies_cm))
    modes.write(folder / "ts.json")
    push = 0.2 * modes.modes[0] / np.linalg.norm(modes.modes[0], axis=1).max()
    paths = []
    for sign in (1.0, -1.0):
        minimum = saddle.copy()
        minimum.calc = reference()
        minimum.positions += sign * push
        frames = [minimum.positions.copy() for _ in BFGS(minimum, logfile=None).irun(fmax=0.01, steps=200)]
        paths.append(np.array(frames))
        barrier = saddle.get_potential_energy() - minimum.get_potential_energy()
        print(f"barrier from {minimum.get_distance(*breaking):.2f} Angstrom: {1e3 * barrier:.0f} meV")
    rng = np.random.default_rng(0)
    rest = replace(modes, frequencies_cm=np.maximum(modes.frequencies_cm[1:], LOW_CM), modes=modes.modes[1:])
    drawn = sample_wigner(rest, TEMPERATURE_K, FRAMES, rng)
    frames = []
    for structure in drawn:
        # Vibrations of the transition state, about a place on the way down to one of the minima.
        path = paths[int(rng.integers(2))]
        place = path[int(rng.integers(len(path)))] if rng.uniform() < 0.8 else saddle.positions
        frames.append(Atoms(symbols, place + structure.positions - saddle.positions))
    write(folder / "start.extxyz", frames)
    (folder / "campaign.yaml").write_text(CAMPAIGN.format(name=name, forming=forming, breaking=breaking))


def interval(count: int, total: int) -> str:
    """Return the 95 % interval of a share (E. B. Wilson, J. Am. Stat. Assoc. 22, 209 (1927))."""
    from scipy.stats import binomtest

    found = binomtest(count, total).proportion_ci(0.95, "wilson")
    return f"{count / total:.3f} ({found.low:.3f} to {found.high:.3f})"


def compare(folder: Path, results: Path, pairs: int) -> None:
    """Run pairs of trajectories by the model and by the reference from the same starts."""
    import numpy as np
    import yaml

    from quarry.config import load_configuration
    from quarry.config.pool import DynamicsPool
    from quarry.dynamics.exploration import Course, Fate, explore
    from quarry.dynamics.integrators import VelocityVerlet
    from quarry.dynamics.samplers.base import Origin
    from quarry.dynamics.samplers.registry import make_sampler
    from quarry.dynamics.uncertainty import Measure
    from quarry.models.base import Prediction
    from quarry.models.folder import ModelFolder
    from quarry.randomness import generator

    class Reference:
        def predict(self, structures: Any, want: frozenset[str]) -> Prediction:
            energies, forces = [], []
            for structure in structures:
                atoms = structure.to_atoms()
                atoms.calc = calculator
                energies.append(atoms.get_potential_energy())
                forces.append(atoms.get_forces())
            return Prediction({"energy": np.array(energies), "forces": np.concatenate(forces)})

    calculator = reference()
    pool = load_configuration(yaml.safe_load((folder / "campaign.yaml").read_text()), "campaign.yaml").pool
    assert isinstance(pool, DynamicsPool) and pool.explore.sampler is not None
    settings, section = pool.explore, pool.explore.sampler
    sampler = make_sampler(section, Origin(folder))
    model = ModelFolder.open(results / "model").load("cpu", None)
    rngs = [generator(99, "benchmark", k) for k in range(2 * pairs)]
    start = sampler.starts(model, settings.temperature_K[0], rngs)
    # Nothing ends a trajectory but its goal and its length.
    sure = Measure(frozenset({"energy"}), lambda model, structures, prediction: np.zeros(len(structures)), "eV", "none")
    course = Course(2 * settings.steps, (300.0, 300.0), np.inf, 1e3, goal=sampler.goal)
    rows, ends = [], {}
    potentials: dict[str, Any] = {"model": model, "reference": Reference()}
    for name, potential in potentials.items():
        began = time.process_time()
        state = explore(potential, start, VelocityVerlet(settings.time_step_fs), course, sure, rngs)
        cpu_s = time.process_time() - began
        halves = list(zip(state.fates[::2], state.fates[1::2], strict=True))
        ends[name] = halves
        reactive = sum(set(pair) == {Fate.REACTANTS, Fate.PRODUCTS} for pair in halves)
        unfinished = sum(not set(pair) <= {Fate.REACTANTS, Fate.PRODUCTS} for pair in halves)
        steps = int(state.ends.sum())
        print(f"{name}: {reactive} of {pairs} reactive, {unfinished} unfinished", flush=True)
        rows.append([name, interval(reactive, pairs), unfinished, steps, f"{cpu_s:.0f}", f"{1e3 * cpu_s / steps:.2g}"])
    same = sum(one == two for one, two in zip(ends["model"], ends["reference"], strict=True))
    print_table(
        f"{folder.name}, GFN2-xTB, {pairs} pairs of trajectories at {settings.temperature_K[0]:g} K",
        ["", "reactive pairs (95 %)", "unfinished", "steps", "CPU-s", "CPU-ms a step"],
        rows,
    )
    print(f"\nBoth halves end alike by model and reference: {interval(same, pairs)} of the pairs")
    print(f"\n{machine()}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["prepare", "compare"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("results", type=Path, nargs="?", help="folder of the finished campaign")
    parser.add_argument("--molecule", choices=sorted(MOLECULES), default="hcn")
    parser.add_argument("--pairs", type=int, default=200)
    arguments = parser.parse_args()
    if arguments.step == "prepare":
        prepare(arguments.folder, arguments.molecule)
    else:
        compare(arguments.folder, arguments.results, arguments.pairs)
