"""Alanine dipeptide in vacuum: what biased trajectories find, beside unbiased and hot ones, with equal labels.

Needs OpenMM: pip install openmm (8.6), in an environment of its own with Quarry's packages. The protocol is that of V. Zaverkin
et al., npj Comput. Mater. 10, 83 (2024), and shorter: 8 trajectories of a batch from training structures at 300 K, each to its
first frame whose largest force uncertainty is beyond 1.5 eV/Angstrom; all last frames that are chemistry are labelled. Candidates
come from the library's own exploration; nothing of a campaign is run, which would take longer than labels that cost nothing.

Arms: plain; biased (strength 0.25, not on hydrogen); hot (plain at 600 K); uncalibrated (biased, thresholds of standard
deviations as they are). Coverage: share of the bins of 20 degrees that the reference visits at 600 K which trajectories (every
10th frame) and labels have visited. Errors: of a potential trained longer on the labels, on frames of the reference, evenly from
its bins. Rows are written as they come, and an arm that is there is not done again.

.venv/bin/python benchmarks/dynamics_alanine.py alanine/
"""

import argparse
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from common import machine, print_table
from numpy.typing import NDArray

BINS, WALKERS, HELD = 18, 8, 20
STARTS = ((-150.0, 150.0), (-80.0, 80.0), (60.0, -60.0), (60.0, 45.0))
"""Dihedral angles from which the reference starts, degrees: the minima lie near them."""
ARMS = {
    "plain": {"temperature_K": 300.0, "strength": 0.0, "calibrated": True},
    "biased": {"temperature_K": 300.0, "strength": 0.25, "calibrated": True},
    "hot": {"temperature_K": 600.0, "strength": 0.0, "calibrated": True},
    "uncalibrated": {"temperature_K": 300.0, "strength": 0.25, "calibrated": False},
}
THRESHOLD_EV_A, EVERY = 1.5, 10


def bins_of(angles: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the bin of the map of each pair of angles (degrees), shape (n,)."""
    where = np.floor((angles + 180.0) / (360.0 / BINS)).astype(np.int64) % BINS
    return np.asarray(where[:, 0] * BINS + where[:, 1])


@dataclass
class Reference:
    """The map that the force field visits, frames to test by, the frames that arms start from and calibrate by (Angstrom)."""

    visited: NDArray[np.int64]
    test: NDArray[np.float64]
    start: NDArray[np.float64]
    held: NDArray[np.float64]

    @staticmethod
    def of(path: Path, steps: int, n_test: int, n_start: int) -> "Reference":
        """Return what is in a file; if there is none, run the force field and write it. n_start: labels that arms start from."""
        from alanine_dipeptide import dihedrals, trajectory

        if not path.exists():
            runs = [trajectory(600.0, steps, 50, 10 + k, start=angles) for k, angles in enumerate(STARTS)]
            np.savez(path, frames=np.concatenate(runs))
        with np.load(path) as data:
            frames = data["frames"]
        cold = trajectory(300.0, 50 * (n_start + HELD), 50, 3)
        where = bins_of(dihedrals(frames))
        visited = np.unique(where)
        rng = np.random.default_rng(0)
        chosen: list[int] = []
        order = rng.permutation(len(frames))
        by_bin = [order[where[order] == one].tolist() for one in visited]
        while len(chosen) < n_test:
            chosen += [rows.pop() for rows in by_bin if rows]
        order = rng.permutation(len(cold))
        return Reference(visited, frames[chosen[:n_test]], cold[order[:n_start]], cold[order[n_start:]])


@dataclass
class Seen:
    """Where trajectories were: bins of the map."""

    bins: set[int] = field(default_factory=set)
    calls: int = 0


def labelled(frames: NDArray[np.float64]) -> Any:
    """Return frames (Angstrom, shape (n, 22, 3)) with labels of the force field."""
    from alanine_dipeptide import NUMBERS, energy_and_forces

    from quarry.models.base import TrainingData
    from quarry.structures import Structure, StructureSet

    answers = [energy_and_forces(frame) for frame in frames]
    made = StructureSet.from_structures([Structure.create(NUMBERS, frame) for frame in frames])
    energies, forces = np.array([e for e, _ in answers]), np.concatenate([f for _, f in answers])
    return TrainingData(made, {"energy": energies, "forces": forces})


def trained(frames: NDArray[np.float64], steps: int, seed: int, members: int) -> Any:
    """Return a potential that made about so many steps on the labels of frames."""
    from quarry.config.gmnn import Gmnn
    from quarry.models.gmnn.model import GaussianMomentModel
    from quarry.randomness import generator

    epochs = max(1, round(steps / (len(frames) / 8)))
    several = {"uncertainty": "committee", "members": members} if members > 1 else {}
    settings = Gmnn.model_validate(
        {"kind": "gmnn", "hidden": [128, 64], "epochs": epochs, "patience": epochs, "batch_size": 8}
        | {"learning_rate": 0.01, "schedule": "linear", **several}
    )
    model = GaussianMomentModel(settings, ("energy", "forces"))
    model.fit(labelled(frames), None, generator(seed, "train", len(frames)))
    return model


def explored(model: Any, frames: NDArray[np.float64], arm: str, reference: Reference, seed: int, options: Any) -> Any:
    """Run the trajectories of an iteration; return what became of them, where they were, and the calibration's factor."""
    from alanine_dipeptide import dihedrals

    from quarry.config.dynamics import Explore
    from quarry.dynamics.exploration import Course, explore
    from quarry.dynamics.uncertainty import MEASURES, Measure
    from quarry.dynamics.walkers import Walkers, heated
    from quarry.models.base import Model, Prediction
    from quarry.randomness import generator
    from quarry.stages.exploring import bias_of, integrator_of
    from quarry.structures import StructureSet

    given, seen = ARMS[arm], Seen()
    temperature = float(given["temperature_K"])
    settings = Explore.model_validate(
        {
            "ensemble": "langevin",
            "temperature_K": temperature,
            "time_step_fs": options.time_step_fs,
            "friction_per_ps": 10.0,
        }
        | {"uncertainty": "forces", "bias": {"strength": given["strength"], "skip_elements": ["H"]}}
    )
    measure, factor = MEASURES["forces"], 1.0
    if given["calibrated"]:
        held = labelled(reference.held)
        measure, factor = measure.calibrated(model, held.structures, held.targets)

    def noted(said_by: Model, structures: StructureSet, prediction: Prediction) -> NDArray[np.float64]:
        if seen.calls % EVERY == 0:
            seen.bins |= set(bins_of(dihedrals(structures.positions.reshape(-1, 22, 3))).tolist())
        seen.calls += 1
        return measure.of(said_by, structures, prediction)

    rngs = [generator(seed, arm, len(frames), "trajectory", k) for k in range(WALKERS)]
    rows = [int(rng.integers(len(frames))) for rng in rngs]
    start = heated(Walkers.at_rest(labelled(frames[rows]).structures), temperature, rngs)
    course = Course(options.steps, (temperature, temperature), THRESHOLD_EV_A, 50.0, certain_steps=options.certain)
    watched = Measure(measure.wants, noted, measure.unit, measure.words)
    state = explore(
        model, start, integrator_of(settings), course, watched, rngs, None, bias_of(settings, start.structures)
    )
    return state, seen.bins, factor


def run(arm: str, seed: int, reference: Reference, options: Any, first: Any) -> list[dict[str, Any]]:
    """Run an arm to its number of labels; return what is known after each iteration. first: the model that all begin with."""
    from alanine_dipeptide import dihedrals

    known, frames, test = set(reference.visited.tolist()), reference.start, labelled(reference.test)
    seen: set[int] = set(bins_of(dihedrals(frames)).tolist())
    rows: list[dict[str, Any]] = []
    unphysical, begin = 0, time.process_time()
    while True:
        last = len(frames) >= options.labels
        model = trained(frames, options.final if last else options.train, seed, 1 if last else 2) if rows else first
        said = model.predict(test.structures, frozenset({"energy", "forces"}))
        off = said.mean["energy"] - test.targets["energy"]
        row = {
            "arm": arm,
            "seed": seed,
            "labels": len(frames),
            "coverage": len(seen & known) / len(known),
            "coverage_of_labels": len(set(bins_of(dihedrals(frames)).tolist()) & known) / len(known),
            "energy_rmse_meV_atom": float(1e3 * np.sqrt(np.mean((off - off.mean()) ** 2)) / 22),
            "forces_rmse_eV_A": float(np.sqrt(np.mean((said.mean["forces"] - test.targets["forces"]) ** 2))),
            "unphysical": unphysical,
        }
        if not last:
            state, bins, factor = explored(model, frames, arm, reference, seed, options)
            seen |= bins
            met = [fate for fate in state.fates if fate == "unphysical"]
            unphysical += len(met)
            kept = np.array([k for k, fate in enumerate(state.fates) if fate != "unphysical"], dtype=np.int64)
            kept = kept[: options.labels - len(frames)]
            new = state.walkers.structures.positions.reshape(-1, 22, 3)[kept]
            row |= {"factor": factor, "steps": int(state.ends.sum()), "uncertain": state.fates.count("uncertain")}
            frames = np.concatenate([frames, new])
        rows.append(row | {"cpu_s": time.process_time() - begin})
        print(json.dumps(rows[-1]), flush=True)
        if last:
            return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where rows and reference are kept")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--start", type=int, default=8, help="labels of the first model: frames of the force field at 300 K"
    )
    parser.add_argument("--labels", type=int, default=512)
    parser.add_argument("--time-step-fs", type=float, default=0.5)
    parser.add_argument("--steps", type=int, default=20_000, help="of a trajectory")
    parser.add_argument("--certain", type=int, default=100, help="first steps that end no trajectory")
    parser.add_argument("--train", type=int, default=2000, help="steps of training in an iteration")
    parser.add_argument("--final", type=int, default=20_000, help="steps of the last training")
    parser.add_argument("--reference", type=int, default=1_000_000, help="steps of each of the four reference runs")
    parser.add_argument("--test", type=int, default=300, help="structures of the test set")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    found = Reference.of(arguments.folder / "reference.npz", arguments.reference, arguments.test, arguments.start)
    print(f"the reference visits {len(found.visited)} of {BINS**2} bins", flush=True)
    table = []
    for number in arguments.seeds:
        first: Any = None
        for name in arguments.arms:
            path = arguments.folder / f"{name}_{number}.json"
            if not path.exists():
                first = first or trained(found.start, arguments.train, number, 2)
                path.write_text(json.dumps(run(name, number, found, arguments, first), indent=1))
            end = json.loads(path.read_text())[-1]
            columns = (
                "labels",
                "coverage",
                "coverage_of_labels",
                "energy_rmse_meV_atom",
                "forces_rmse_eV_A",
                "unphysical",
            )
            table.append([name, number, *(f"{end[column]:.3g}" for column in columns), f"{end['cpu_s']:.0f}"])
    print_table(
        "Alanine dipeptide",
        [
            *("arm", "seed", "labels", "coverage", "of labels", "energy RMSE (meV/atom)", "forces RMSE (eV/Angstrom)"),
            *("thrown away", "CPU-s"),
        ],
        table,
    )
    print(f"\n{machine()}")
