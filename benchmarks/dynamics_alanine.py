"""Alanine dipeptide in vacuum: what biased trajectories find, beside unbiased and hot ones, with equal labels.

Needs OpenMM: pip install openmm (8.6), in an environment of its own with Quarry's packages. The protocol is that of V. Zaverkin
et al., npj Comput. Mater. 10, 83 (2024), and shorter: 8 trajectories of a batch from training structures at 300 K, each to its
first frame whose largest force uncertainty is beyond 1.5 eV/Angstrom; all last frames that are chemistry are labelled. Candidates
come from the library's own exploration; nothing of a campaign is run, which would take longer than labels that cost nothing.

Arms: plain; biased (strength 0.25, not on hydrogen); hot (plain at 600 K); uncalibrated (biased, thresholds of standard
deviations as they are). Coverage: share of the bins of 20 degrees that the reference visits at 600 K which trajectories (every
10th frame) and labels have visited. Errors: of a potential trained longer on the labels (task errors), on frames of the
reference, evenly from its bins. Each arm and seed is a run of its own: start as many side by side as there are cores.

.venv/bin/python benchmarks/dynamics_alanine.py reference alanine/
.venv/bin/python benchmarks/dynamics_alanine.py explore alanine/ --arms biased --seeds 0
.venv/bin/python benchmarks/dynamics_alanine.py errors alanine/ --arms biased --seeds 0
.venv/bin/python benchmarks/dynamics_alanine.py tables alanine/
"""

import argparse
import json
import time
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from common import machine, print_table
from numpy.typing import NDArray

BINS, HELD, MOST_COLD = 18, 40, 400
STARTS = ((-150.0, 150.0), (-80.0, 80.0), (60.0, -60.0), (60.0, 45.0))
"""Dihedral angles from which the reference starts, degrees: the minima lie near them."""
ARMS = {
    "plain": {"temperature_K": 300.0, "strength": 0.0, "calibrated": True},
    "biased": {"temperature_K": 300.0, "strength": 0.25, "calibrated": True},
    "hot": {"temperature_K": 600.0, "strength": 0.0, "calibrated": True},
    "uncalibrated": {"temperature_K": 300.0, "strength": 0.25, "calibrated": False},
}
THRESHOLD_EV_A, EVERY = 1.5, 10
RESUMED = 5
"""Steps of the first training of an arm that is gone on with, in those of another."""


def bins_of(angles: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the bin of the map of each pair of angles (degrees), shape (n,)."""
    where = np.floor((angles + 180.0) / (360.0 / BINS)).astype(np.int64) % BINS
    return np.asarray(where[:, 0] * BINS + where[:, 1])


@dataclass
class Reference:
    """Bins of the map that the force field visits; frames to test by, that arms start from, and that calibrate (Angstrom)."""

    visited: NDArray[np.int64]
    test: NDArray[np.float64]
    start: NDArray[np.float64]
    held: NDArray[np.float64]

    @staticmethod
    def of(path: Path, steps: int, n_test: int) -> "Reference":
        """Return what is in a file; if there is none, run the force field and write it. steps: of each of the runs at 600 K."""
        from alanine_dipeptide import dihedrals, trajectory

        if not path.exists():
            frames = np.concatenate(
                [trajectory(600.0, steps, 50, 10 + k, start=angles) for k, angles in enumerate(STARTS)]
            )
            cold = trajectory(300.0, 50 * MOST_COLD, 50, 3)
            where = bins_of(dihedrals(frames))
            visited = np.unique(where)
            rng = np.random.default_rng(0)
            order = rng.permutation(len(frames))
            by_bin = [order[where[order] == one].tolist() for one in visited]
            chosen: list[int] = []
            while len(chosen) < n_test:
                chosen += [rows.pop() for rows in by_bin if rows]
            cold = cold[rng.permutation(len(cold))]
            np.savez(path, visited=visited, test=frames[chosen[:n_test]], start=cold[HELD:], held=cold[:HELD])
        with np.load(path) as data:
            return Reference(data["visited"], data["test"], data["start"], data["held"])


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


def trained(
    frames: NDArray[np.float64],
    steps: int,
    seed: int,
    members: int,
    hidden: tuple[int, int] = (128, 64),
    start: Any = None,
) -> Any:
    """Return a potential that made about so many steps on the labels of frames. start: whose weights it begins with."""
    from quarry.config.gmnn import Gmnn
    from quarry.models.gmnn.model import GaussianMomentModel
    from quarry.randomness import generator

    epochs = max(1, round(steps / (len(frames) / 8)))
    several = {"uncertainty": "committee", "members": members} if members > 1 else {}
    settings = Gmnn.model_validate(
        {"kind": "gmnn", "hidden": list(hidden), "epochs": epochs, "batch_size": 8, "device": "cpu"}
        | {"learning_rate": 0.01 if start is None else 0.005, "schedule": "linear", "cutoff_A": 5.0, **several}
    )
    model = GaussianMomentModel(settings, ("energy", "forces"))
    model.fit(labelled(frames), None, generator(seed, "train", len(frames)), start=start)
    return model


def errors_of(model: Any, test: Any) -> dict[str, float]:
    """Return the root mean square errors of energies (less their mean, meV/atom) and of components of forces (eV/Angstrom)."""
    said = model.predict(test.structures, frozenset({"energy", "forces"}))
    off = said.mean["energy"] - test.targets["energy"]
    return {
        "energy_rmse_meV_atom": float(1e3 * np.sqrt(np.mean((off - off.mean()) ** 2)) / 22),
        "forces_rmse_eV_A": float(np.sqrt(np.mean((said.mean["forces"] - test.targets["forces"]) ** 2))),
    }


def explored(
    model: Any,
    frames: NDArray[np.float64],
    arm: str,
    reference: Reference,
    seed: int,
    iteration: int,
    options: "Options",
) -> Any:
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

    walkers = options.walkers_of(len(frames))
    rngs = [generator(seed, arm, iteration, "trajectory", k) for k in range(walkers)]
    rows = [int(rng.integers(len(frames))) for rng in rngs]
    start = heated(Walkers.at_rest(labelled(frames[rows]).structures), temperature, rngs)
    course = Course(options.steps, (temperature, temperature), THRESHOLD_EV_A, 50.0, certain_steps=options.certain)
    watched = Measure(measure.wants, noted, measure.unit, measure.words)
    state = explore(
        model, start, integrator_of(settings), course, watched, rngs, None, bias_of(settings, start.structures)
    )
    return state, seen.bins, factor


@dataclass(frozen=True)
class Options:
    """How long and how often. labels: where an arm ends. steps: of a trajectory. certain: first steps that end no trajectory.
    train: steps of training in an iteration. warm: it begins with the last iteration's weights. networks: of the committee.
    """

    start: int
    labels: int
    walkers: int
    most_walkers: int
    time_step_fs: float
    steps: int
    certain: int
    train: int
    warm: bool
    networks: int

    def walkers_of(self, labels: int) -> int:
        """Return the number of trajectories of an iteration: a quarter of the labels, within bounds."""
        return min(max(self.walkers, min(labels // 4, self.most_walkers)), self.labels - labels)


def run(arm: str, seed: int, reference: Reference, options: Options, folder: Path) -> None:
    """Run an arm to its number of labels, or go on with it; leave what is known of each iteration, and all frames, in files."""
    from alanine_dipeptide import dihedrals

    frames, test = reference.start[seed * options.start : (seed + 1) * options.start], labelled(reference.test)
    known = set(reference.visited.tolist())
    rows: list[dict[str, Any]] = []
    unphysical, begin, model = 0, time.process_time(), None
    place = folder / f"{arm}_{seed}.npz"
    seen: set[int] = set()
    if place.exists():
        with np.load(place) as data:
            frames, seen = data["frames"], set(data["seen"].tolist() if "seen" in data else [])
        rows = json.loads(place.with_suffix(".json").read_text())[:-1]
        unphysical, begin = (rows[-1]["unphysical"], begin - rows[-1]["cpu_s"]) if rows else (0, begin)
    seen |= set(bins_of(dihedrals(frames)).tolist())
    while True:
        row = {"arm": arm, "seed": seed, "labels": len(frames)}
        row |= {"coverage": len(seen & known) / len(known), "unphysical": unphysical}
        row["coverage_of_labels"] = len(set(bins_of(dihedrals(frames)).tolist()) & known) / len(known)
        if len(frames) < options.labels:
            steps, before = max(options.train, 3 * len(frames)), model if options.warm else None
            if (
                rows and options.warm and before is None
            ):  # Gone on with: the weights of the last iteration are not there.
                steps *= RESUMED
            model = trained(frames, steps, seed, options.networks, start=before)
            trained_s = time.process_time() - begin
            row |= errors_of(model, test)
            state, bins, factor = explored(model, frames, arm, reference, seed, len(rows), options)
            seen |= bins
            kept = np.array([k for k, fate in enumerate(state.fates) if fate != "unphysical"], dtype=np.int64)
            unphysical += len(state.fates) - len(kept)
            new = state.walkers.structures.positions.reshape(-1, 22, 3)[kept]
            row |= {"factor": factor, "steps": int(state.ends.sum()), "uncertain": state.fates.count("uncertain")}
            row |= {"trained_s": trained_s}
        rows.append(row | {"cpu_s": time.process_time() - begin})
        print(json.dumps(rows[-1]), flush=True)
        np.savez(place, frames=frames, seen=np.array(sorted(seen)))
        place.with_suffix(".json").write_text(json.dumps(rows, indent=1))
        if len(frames) >= options.labels:
            return
        frames = np.concatenate([frames, new])


def final_errors(path: Path, reference: Reference, labels: list[int], steps: int, members: int) -> list[dict[str, Any]]:
    """Return the errors of potentials that are trained for longer on the first labels of an arm; keep them beside its frames."""
    kept = path.with_name(path.stem + "_errors.json")
    rows: list[dict[str, Any]] = json.loads(kept.read_text()) if kept.exists() else []
    with np.load(path) as data:
        frames = data["frames"]
    for n in labels:
        if n > len(frames) or any(row["labels"] == n for row in rows):
            continue
        begin = time.process_time()
        model = trained(frames[:n], steps, 0, members, (256, 128))
        row = {"labels": n, "steps": steps, "members": members, **errors_of(model, labelled(reference.test))}
        rows.append(row | {"cpu_s": time.process_time() - begin})
        print(path.stem, json.dumps(rows[-1]), flush=True)
        kept.write_text(json.dumps(rows, indent=1))
    return rows


def tables(folder: Path, labels: list[int]) -> None:
    """Print what the arms of a folder found, and how good potentials of their labels are."""
    table, errors = [], []
    for path in sorted(folder.glob("*_*.npz")):
        rows = json.loads(path.with_suffix(".json").read_text())
        for n in labels:
            row = next((row for row in rows if row["labels"] == n), None)
            if row is not None:
                where = [row["arm"], row["seed"], n, f"{row['coverage']:.3f}", f"{row['coverage_of_labels']:.3f}"]
                table.append([*where, row["unphysical"], f"{row['cpu_s']:.0f}"])
        kept = path.with_name(path.stem + "_errors.json")
        for row in json.loads(kept.read_text()) if kept.exists() else []:
            numbers = [f"{row['energy_rmse_meV_atom']:.2f}", f"{row['forces_rmse_eV_A']:.3f}", f"{row['cpu_s']:.0f}"]
            errors.append([path.stem, row["labels"], row["members"], *numbers])
    print_table(
        "Alanine dipeptide: what trajectories and labels have visited",
        ["arm", "seed", "labels", "coverage", "of labels", "thrown away", "CPU-s"],
        table,
    )
    print_table(
        "Errors of potentials trained longer",
        ["arm", "labels", "networks", "energy RMSE (meV/atom)", "forces RMSE (eV/Angstrom)", "CPU-s"],
        errors,
    )
    print(f"\n{machine()}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=["reference", "explore", "errors", "tables"])
    parser.add_argument("folder", type=Path, help="where rows, frames and reference are kept")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--start", type=int, default=8, help="labels of the first model: of the force field at 300 K")
    parser.add_argument("--labels", type=int, default=512)
    parser.add_argument("--walkers", type=int, default=8, help="trajectories of an iteration")
    parser.add_argument("--most-walkers", type=int, default=8, help="trajectories of a late iteration")
    parser.add_argument("--time-step-fs", type=float, default=0.5)
    parser.add_argument("--steps", type=int, default=20_000, help="of a trajectory")
    parser.add_argument("--networks", type=int, default=2, help="of the committee whose spread ends trajectories")
    parser.add_argument("--certain", type=int, default=100, help="first steps that end no trajectory")
    parser.add_argument(
        "--train", type=int, default=2000, help="steps of training in an iteration, at least; 24 epochs at least"
    )
    parser.add_argument("--warm", action="store_true", help="train from the weights of the last iteration")
    parser.add_argument("--final", type=int, default=60_000, help="steps of a training for errors")
    parser.add_argument("--members", type=int, default=1, help="networks of a potential for errors")
    parser.add_argument("--at", type=int, nargs="+", default=[128, 256, 512], help="labels of tables and errors")
    parser.add_argument("--reference", type=int, default=1_000_000, help="steps of each of the four reference runs")
    parser.add_argument("--test", type=int, default=300, help="structures of the test set")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    found = Reference.of(arguments.folder / "reference.npz", arguments.reference, arguments.test)
    print(f"the reference visits {len(found.visited)} of {BINS**2} bins", flush=True)
    wanted = Options(**{one.name: getattr(arguments, one.name) for one in fields(Options)})
    for arm in arguments.arms:
        for number in arguments.seeds:
            place = arguments.folder / f"{arm}_{number}.npz"
            if arguments.task == "explore":
                run(arm, number, found, wanted, arguments.folder)
            if arguments.task == "errors" and place.exists():
                final_errors(place, found, arguments.at, arguments.final, arguments.members)
    if arguments.task == "tables":
        tables(arguments.folder, arguments.at)
