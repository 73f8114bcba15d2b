"""gmnn on a processor and on a GPU: steps of training, predictions and trajectories, and how far the answers differ.

    python benchmarks/potential_devices.py [--batches 32 256] [--walkers 10 100 1000]

The potential is that of ``dynamics_speed.py``: ethanol, labels of effective medium theory; a step takes as long whatever the
weights are. One thread of the processor. Times are wall clock, since a GPU's work is no processor time; the least of repeats,
after one that does not count. "differs by": the largest difference of the answers of the same weights, or, of training, the
relative one of the loss after the same steps. Needs a GPU.
"""

import argparse
import time
from collections.abc import Callable
from copy import copy
from functools import partial
from typing import Any

import numpy as np
import torch
from common import machine, print_table
from dynamics_speed import STEPS, batched, trained

REPEATS, TRAINED_STEPS = 3, 40
DEVICES = ("cpu", "cuda")


def least_s(run: Callable[[], object]) -> float:
    """Return the least wall time of a run, seconds, with all that it started on a GPU."""
    times = []
    for _ in range(REPEATS + 1):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        run()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return min(times[1:])


def on(model: Any, device: str) -> Any:
    """Return the model with predictions on a device."""
    other = copy(model)
    other.settings = model.settings.model_copy(update={"device": device})
    return other


def training(size: int, device: str) -> tuple[float, float]:
    """Return the time of a training step of so many ethanols (seconds), and the loss after some steps."""
    from quarry.config.gmnn import Gmnn
    from quarry.models.gmnn.neighbours import Neighbourhoods
    from quarry.models.gmnn.potential import initial_parameters, potential_of
    from quarry.models.gmnn.training import Examples, labelled, loss_and_gradient, optimisers_of, step
    from quarry.structures import StructureSet

    frames = made_up(size)
    structures = StructureSet.from_structures(frames)
    rng, settings = np.random.default_rng(1), Gmnn(kind="gmnn")
    elements = np.unique(structures.numbers, return_inverse=True)[1]
    energies, forces = rng.normal(0, 0.3, size), rng.normal(0, 1.0, (len(structures.numbers), 3))
    examples = Examples(Neighbourhoods.of(structures, settings.cutoff_A), elements, energies, forces, None)
    potential = potential_of(settings.cutoff_A, 3, torch.float32, torch.device(device))
    parameters = initial_parameters(3, settings.hidden, 1.0, rng).map(lambda t: t.to(device))
    optimisers, rows = optimisers_of(parameters, settings), np.arange(size)

    def steps() -> None:
        with torch.inference_mode():
            for _ in range(TRAINED_STEPS):
                step(potential, parameters, optimisers, labelled(examples, rows, potential), settings, 1e-3)

    steps()
    with torch.inference_mode():
        loss = float(loss_and_gradient(potential, parameters, labelled(examples, rows, potential), settings, False)[0])
    return least_s(steps) / TRAINED_STEPS, loss / size


def made_up(count: int) -> list[Any]:
    """Return displaced ethanols."""
    from ase import Atoms
    from ase.io import read
    from common import REPOSITORY

    from quarry.structures import Structure

    atoms, rng = read(REPOSITORY / "config/molecules/ethanol.xyz"), np.random.default_rng(0)
    assert isinstance(atoms, Atoms)
    at = atoms.positions + rng.normal(0, 0.03, (count, *atoms.positions.shape))
    return [Structure.create(atoms.numbers, one) for one in at]


def main(options: argparse.Namespace) -> None:
    """Print the tables."""
    from quarry.structures import StructureSet

    rows = []
    for size in options.batches:
        (slow, loss), (quick, other) = (training(size, device) for device in DEVICES)
        rows.append(
            [size, f"{1e3 * slow:.2f}", f"{1e3 * quick:.2f}", f"{slow / quick:.2f}", f"{abs(loss - other) / loss:.1e}"]
        )
    print_table("A step of training", ["ethanols", "CPU (ms)", "GPU (ms)", "ratio", "loss differs by"], rows)
    model, frames = trained()
    models, rows = {device: on(model, device) for device in DEVICES}, []
    for size in options.pool:
        structures = StructureSet.from_structures(made_up(size))
        wants = frozenset({"energy", "forces"})
        slow, quick = (least_s(partial(m.predict, structures, wants)) for m in models.values())
        said, other = (m.predict(structures, wants).mean for m in models.values())
        off = [f"{np.abs(said[name] - other[name]).max():.1e}" for name in ("energy", "forces")]
        rows.append([size, f"{slow:.3f}", f"{quick:.3f}", f"{slow / quick:.2f}", *off])
    columns = ["ethanols", "CPU (s)", "GPU (s)", "ratio", "energies differ by (eV)", "forces (eV/Angstrom)"]
    print_table("Energies and forces", columns, rows)
    rows = []
    for walkers in options.walkers:
        slow, quick = (least_s(batched(m, frames, walkers, True)) for m in models.values())
        each = [f"{walkers * STEPS / value:.0f}" for value in (slow, quick)]
        rows.append([walkers, *each, f"{slow / quick:.2f}"])
    print_table(
        "Dynamics with uncertainty, steps a second x trajectories", ["trajectories", "CPU", "GPU", "ratio"], rows
    )
    print(f"\n{machine()}; {torch.cuda.get_device_name()}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 256, 1024])
    parser.add_argument("--pool", type=int, nargs="+", default=[100, 10_000])
    parser.add_argument("--walkers", type=int, nargs="+", default=[10, 100, 1000])
    torch.set_num_threads(1)
    main(parser.parse_args())
