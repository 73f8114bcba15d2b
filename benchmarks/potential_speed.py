"""How fast does gmnn learn and predict, beside torchani, apax and mace, and how does it grow with pool and atoms?

    python benchmarks/potential_speed.py --data FOLDER --parts step pool trajectories atoms --torchani OTHER/bin/python

step: training steps and predictions of 32 ethanols with energies and forces; the other packages do the same, each in an
environment of its own (--torchani, --apax, --mace: its Python; ``other_potentials.py``). pool: plain energies of the molecules
of QM9, and QS1 of the same. trajectories: Langevin dynamics of one ethanol and of 100 at a time, alone and with QS1 of every
frame. atoms: water boxes of up to 3,000 atoms. CPU time of this process, one thread; the least and the median of repeats, since
other work on a machine can only add to it.
"""

import argparse
import importlib.metadata
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

STEPS, BATCH = 40, 32
OTHERS = ("torchani", "apax", "mace")
"""Packages that ``other_potentials.py`` knows, each in an environment of its own."""


def timed(run: Callable[[], object], repeats: int) -> list[float]:
    """Return CPU seconds of each of some runs, after three that do not count."""
    for _ in range(3):
        run()
    times = []
    for _ in range(repeats):
        began = time.process_time()
        run()
        times.append(time.process_time() - began)
    return times


def in_ms(times: list[float], each: int = 1) -> list[object]:
    """Return the least and the median time, ms."""
    return [f"{1e3 * value / each:.3f}" for value in (min(times), statistics.median(times))]


def step(options: argparse.Namespace) -> None:
    import torch
    from potential_selection import ethanol
    from potentials import trained

    from quarry.models.gmnn.neighbours import Neighbourhoods
    from quarry.models.gmnn.potential import initial_parameters, potential_of
    from quarry.models.gmnn.training import Examples, labelled, optimisers_of
    from quarry.models.gmnn.training import step as training_step

    data = ethanol(options.data).subset(np.arange(2 * BATCH))
    first, second = data.subset(np.arange(BATCH)), data.subset(np.arange(BATCH, 2 * BATCH))
    model = trained(first, second, 3, 1)
    settings, elements = model.settings, model.elements
    examples = Examples(
        Neighbourhoods.of(first.structures, settings.cutoff_A),
        np.searchsorted(elements, first.structures.numbers),
        first.targets["energy"] - first.targets["energy"].mean(),
        first.targets["forces"],
        None,
    )
    potential = potential_of(settings.cutoff_A, len(elements), torch.float32, torch.device("cpu"))
    with torch.inference_mode():
        parameters = initial_parameters(len(elements), settings.hidden, 1.0, np.random.default_rng(1)).map(torch.clone)
        optimisers = optimisers_of(parameters, settings)

        def one() -> None:
            batch = labelled(examples, np.arange(BATCH), potential)
            training_step(potential, parameters, optimisers, batch, settings, 1e-3)

        steps = timed(one, options.repeats)
    count = model.hyperparameters["parameters"]
    want = frozenset({"energy", "forces"})
    predicted = timed(lambda: model.predict(first.structures, want), options.repeats)
    rows: list[list[object]] = [["gmnn", count, *in_ms(steps), *in_ms(predicted, BATCH), ""]]
    file = options.data / "ethanol_zaverkin_1000K.npz"
    for package in OTHERS:
        python = getattr(options, package)
        if python:
            script = Path(__file__).with_name("other_potentials.py")
            command = [python, "-W", "ignore", str(script), package, str(file), str(options.repeats)]
            found = json.loads(
                subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]
            )
            times = [*in_ms(found["step_s"]), *in_ms(found["predict_s"], BATCH)]
            name = f"{package} {found['version']}: {found['network']}"
            rows.append([name, found["parameters"], *times, f"{found['first_s']:.1f}"])
    head = [
        "",
        "parameters",
        "training step, least",
        "median",
        "prediction of one, least",
        "median",
        "first of both, s",
    ]
    table(f"{BATCH} ethanols with energies and forces, CPU-ms", head, rows)


def pool(options: argparse.Namespace) -> None:
    from potential_energies import molecules, qm9
    from potentials import trained

    data = qm9(options.data, options.known + 20)
    known = data.subset(np.arange(options.known))
    model = trained(known, data.subset(np.arange(options.known, options.known + 20)), 20, 1, cutoff_A=3.0)
    table_of_all = np.load(options.data / "qm9_homo_b3lyp_128744.npz")
    count = len(table_of_all["offsets"]) - 1
    others = molecules(table_of_all, np.random.default_rng(0).permutation(count)[: options.molecules])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    energy = frozenset({"energy"})
    plain, qs1 = [], []
    for _ in range(options.pool_repeats):
        began = time.process_time()
        model.predict(others, energy)
        plain.append(time.process_time() - began)
        began = time.process_time()
        model.informativeness(others, known.structures, energy)
        qs1.append(time.process_time() - began)
    n, peak = len(others), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    table(
        f"{n} molecules of QM9 ({count} in all), {options.known} known, CPU-s, the least of {options.pool_repeats}",
        ["", "CPU-s", "ratio", "peak memory GB (before: with the molecules)"],
        [
            ["energies", min(plain), 1.0, f"{before:.2f}"],
            ["QS1", min(qs1), min(qs1) / min(plain), f"{peak:.2f}"],
        ],
    )


def trajectories(options: argparse.Namespace) -> None:
    from potential_selection import ethanol
    from potentials import trained

    from quarry.dynamics.exploration import Course, explore
    from quarry.dynamics.integrators import Langevin
    from quarry.dynamics.uncertainty import Measure, informativeness_of
    from quarry.dynamics.walkers import Walkers, heated
    from quarry.randomness import generator

    data = ethanol(options.data).subset(np.arange(6 * BATCH))
    known, held = data.subset(np.arange(5 * BATCH)), data.subset(np.arange(5 * BATCH, 6 * BATCH))
    model = trained(known, held, 200, 1, learning_rate=0.03)
    learnt = frozenset({"energy"})
    nothing = Measure(frozenset(), lambda model, structures, prediction: np.zeros(len(structures)), "", "nothing")
    rows: list[list[object]] = []
    for words, measure in (("-", nothing), ("QS1", informativeness_of(known.structures, learnt))):
        for number, steps in ((1, options.md_steps), (100, max(2, options.md_steps // 5))):
            generators = [generator(1, "walker", k) for k in range(number)]
            start = heated(Walkers.at_rest(data.structures.subset(np.arange(number))), 300.0, generators)
            course = Course(steps, (300.0, 300.0), np.inf, 1e6)
            times = timed(partial(explore, model, start, Langevin(0.5, 1.0), course, measure, generators), 3)
            days = [f"{number * steps * 86400 * 0.5e-6 / t:.1f}" for t in (min(times), statistics.median(times))]
            rows.append([number, words, *in_ms(times, steps), *days])
    table(
        f"Langevin dynamics of ethanols at 300 K, steps of 0.5 fs ({options.md_steps} steps of one, a fifth of 100)",
        ["trajectories", "judged by", "CPU-ms a step, least", "median", "ns a CPU-day, all together, most", "median"],
        rows,
    )


def atoms(options: argparse.Namespace) -> None:
    from potentials import trained

    from quarry.models.base import TrainingData
    from quarry.structures import Structure, StructureSet

    rng = np.random.default_rng(0)
    water = np.array([[0.0, 0.0, 0.0], [0.757, 0.586, 0.0], [-0.757, 0.586, 0.0]])

    def box(side: int) -> Structure:
        cells = 3.1 * np.array([(i, j, k) for i in range(side) for j in range(side) for k in range(side)], dtype=float)
        positions = (cells[:, None] + water + rng.normal(0.0, 0.05, (len(cells), 3, 3))).reshape(-1, 3)
        return Structure.create([8, 1, 1] * len(cells), positions, cell=3.1 * side * np.eye(3), pbc=(True, True, True))

    small = StructureSet.from_structures([box(2) for _ in range(4)])
    data = TrainingData(small, {"energy": np.zeros(4), "forces": rng.normal(size=(len(small.numbers), 3))})
    model = trained(data.subset(np.arange(2)), data.subset(np.arange(2, 4)), 2, 1)
    rows: list[list[object]] = []
    for side in (3, 5, 7, 10):
        one = StructureSet.from_structures([box(side)])
        times = timed(partial(model.predict, one, frozenset({"energy", "forces", "stress"})), 3)
        rows.append([3 * side**3, *in_ms(times), *in_ms(times, 3 * side**3)])
    table(
        "Periodic boxes of water, energy, forces and stress",
        ["atoms", "CPU-ms, least", "median", "an atom, least", "median"],
        rows,
    )
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GB")


def table(title: str, head: list[str], rows: list[list[object]]) -> None:
    from common import print_table

    print_table(title, head, rows)
    sys.stdout.flush()


PARTS = {"step": step, "pool": pool, "trajectories": trajectories, "atoms": atoms}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--parts", nargs="*", choices=list(PARTS), default=list(PARTS))
    for package in OTHERS:
        parser.add_argument(f"--{package}", default="", help=f"Python of an environment with {package}")
    parser.add_argument("--repeats", type=int, default=STEPS)
    parser.add_argument("--md-steps", type=int, default=200)
    parser.add_argument("--molecules", type=int, default=128744, help="of the pool")
    parser.add_argument("--pool-repeats", type=int, default=1)
    parser.add_argument("--known", type=int, default=300)
    chosen = parser.parse_args()
    from common import machine

    print(f"{machine()}, torch {importlib.metadata.version('torch')}, {platform.processor() or 'CPU'}; one thread")
    import torch as _torch

    _torch.set_num_threads(1)
    for part in chosen.parts:
        PARTS[part](chosen)
