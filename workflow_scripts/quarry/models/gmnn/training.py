"""Training of a potential: loss, steps, early stopping, and a state that a killed training goes on from."""

from __future__ import annotations

import ctypes
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quarry.config.gmnn import Gmnn
from quarry.errors import QuarryError
from quarry.hdf5_files import new_hdf5
from quarry.models.adam import Adam
from quarry.models.gmnn.neighbours import Batch, Neighbourhoods
from quarry.models.gmnn.potential import Parameters, Potential, Trace
from quarry.models.gmnn.readouts import spread_gradient
from quarry.models.network import SHRINK, seeded
from quarry.structures.structure import blocks_of

CHECKPOINT_S = 60.0
"""Seconds between two states that are written."""
STATE = "training.h5"
"""File of the state in the checkpoint's folder."""
TOGETHER = 4096
"""Atoms of a block in a pass without parameters' gradients."""
AVERAGED = (9, 1000)
"""Steps of the running average of the parameters: the last so many-th of all so far, and at most so many."""
SPOILED = 10.0
"""Times as high as in the best epoch is the loss in the last one of a training that has gone wrong."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of mallopt in glibc's malloc.h."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Structures with labels: energies less atomic references (eV, shape (n,)), forces (eV/Angstrom, (n_atoms, 3)) and
    stresses (eV/Angstrom^3, (n, 3, 3), NaN where there is none), None where they are not learnt. elements: from 0.
    """

    neighbourhoods: Neighbourhoods
    elements: NDArray[np.int64]
    energies: NDArray[np.float64]
    forces: NDArray[np.float64] | None
    stresses: NDArray[np.float64] | None

    def __len__(self) -> int:
        return len(self.energies)


@dataclass
class Labelled:
    """A batch with its labels: forces (n_atoms, 3), virials (stress times volume, eV, (n, 3, 3)), atoms of each structure."""

    batch: Batch
    elements: Tensor
    energies: Tensor
    forces: Tensor | None
    virials: Tensor | None
    sizes: Tensor


def labelled(examples: Examples, rows: NDArray[np.int64], potential: Potential) -> Labelled:
    """Return examples as tensors."""
    device, dtype = potential.device, potential.dtype
    batch = examples.neighbourhoods.batch(rows, potential.cutoff_A, dtype, device)

    def tensor(values: NDArray[np.float64]) -> Tensor:
        return torch.from_numpy(values).to(device, dtype)

    forces = None if examples.forces is None else tensor(examples.forces[batch.atoms])
    virials = None
    if examples.stresses is not None:
        virials = tensor(examples.stresses[rows] * examples.neighbourhoods.volumes[rows, None, None])
    sizes = tensor(np.diff(examples.neighbourhoods.offsets)[rows].astype(np.float64))
    elements = torch.from_numpy(examples.elements[batch.atoms]).to(device)
    energies = torch.from_numpy(examples.energies[rows]).to(device)
    return Labelled(batch, elements, energies, forces, virials, sizes)


def loss_and_gradient(
    potential: Potential, parameters: Parameters, data: Labelled, settings: Gmnn, learn: bool
) -> tuple[Tensor, Parameters | None]:
    """Return the sum of the structures' losses, and the gradient of their mean by the parameters if ``learn``.

    The loss of a structure is w_E dE^2 + w_F / (3 n_atoms) |dF|^2 + w_S / 9 |d(V stress)|^2 (equation 4 of V. Zaverkin,
    J. Kaestner, Mach. Learn.: Sci. Technol. 2, 035009 (2021), which has no stress). The gradient has that of the read-outs' own
    loss too (``quarry.models.gmnn.readouts``).
    """
    if data.forces is None and data.virials is None:
        trace = potential.atoms(parameters, data.batch, data.elements)
        off = potential.energies(parameters, trace) - data.energies
        loss = settings.energy_weight * (off * off).sum()
        if not learn:
            return loss, None
        gradient = potential.energy_gradient(parameters, trace, off * (2.0 * settings.energy_weight / len(off)))
        return loss, _with_spread(gradient, parameters, trace, off)
    result = potential.evaluate(parameters, data.batch, data.elements, curved=learn)
    off = result.energies - data.energies
    loss, n = settings.energy_weight * (off * off).sum(), len(off)
    by_atoms, by_strain = torch.zeros_like(result.gradient), None
    if data.forces is not None:
        wrong = result.gradient + data.forces
        shares = (settings.forces_weight / 3.0 / data.sizes)[data.batch.owners, None] * wrong
        loss = loss + (shares * wrong).sum().double()
        by_atoms = shares * (2.0 / n)
    if data.virials is not None:
        wrong = torch.nan_to_num(result.strain - data.virials, nan=0.0)
        loss = loss + settings.stress_weight / 9.0 * (wrong * wrong).sum().double()
        by_strain = wrong * (2.0 / 9.0 * settings.stress_weight / n)
    if not learn:
        return loss, None
    by_energy = off * (2.0 * settings.energy_weight / n)
    gradient = potential.gradient(parameters, result, by_energy, by_atoms, by_strain)
    return loss, _with_spread(gradient, parameters, result.trace, off)


def mean_loss(potential: Potential, parameters: Parameters, batches: Sequence[Labelled], settings: Gmnn) -> float:
    """Return the mean of the structures' losses."""
    losses = sum(float(loss_and_gradient(potential, parameters, batch, settings, False)[0]) for batch in batches)
    return losses / sum(len(batch.energies) for batch in batches)


def _with_spread(gradient: Parameters, parameters: Parameters, trace: Trace, off: Tensor) -> Parameters:
    """Return a gradient with that of the read-outs' own loss, where there are several of them."""
    if parameters.spread:
        gradient.spread = spread_gradient(parameters, trace, off)
    return gradient


def optimisers_of(parameters: Parameters, settings: Gmnn) -> list[Adam]:
    """Return what changes the parameters: of the network, and of the spread if there is one.

    AMSGrad keeps the largest gradient, which is one of the start, and its steps stay small for good. A constant rate needs
    that; one that falls to zero is small in the end by itself, and errors are smaller with Adam. That goes wrong for good, now
    and then, when gradients grow after they have long been small: its steps are bounded.
    """
    constant, rate = settings.stops_early, settings.learning_rate
    optimisers = [Adam([], parameters.of_network, rate, 0.0, amsgrad=constant, bounded=not constant)]
    if parameters.spread:
        # Not AMSGrad, which keeps the step that large deviations at the start would have.
        optimisers.append(Adam([], parameters.spread, rate, 0.0, bounded=not constant))
    return optimisers


def step(
    potential: Potential,
    parameters: Parameters,
    optimisers: Sequence[Adam],
    data: Labelled,
    settings: Gmnn,
    rate: float,
) -> Tensor:
    """Change the parameters by one step; return the sum of the structures' losses before it.

    data: a mini-batch. rate: learning rate.
    """
    loss, gradient = loss_and_gradient(potential, parameters, data, settings, True)
    assert gradient is not None
    for optimiser, part in zip(optimisers, (gradient.of_network, gradient.spread), strict=False):
        optimiser.rate = rate
        optimiser.step(part)
    return loss


def take_up(average: Parameters, parameters: Parameters, steps: int) -> None:
    """Let a running average take up the parameters after so many steps (1, 2, ...), the newer the more.

    That is polynomial-decay averaging (O. Shamir, T. Zhang, Proc. 30th Int. Conf. Mach. Learn., PMLR 28(1), 71 (2013)), later
    an exponential one.

    While the learning rate is high, a step moves all energies by the same few meV. The loss hardly feels that, as it is made
    of forces for the most part; the parameters of one step, even of the best epoch, are off by it, and their average is not.
    """
    share, most = AVERAGED
    torch._foreach_lerp_(average.tensors, parameters.tensors, max(share / (steps + share - 1), 1.0 / most))


@dataclass
class Trained:
    """Averaged parameters at the best epoch, that epoch, and its loss on the held-out data (NaN without such data)."""

    parameters: Parameters
    epoch: int
    held_out_loss: float


def doubtful(networks: Sequence[Trained], settings: Gmnn) -> list[str]:
    """Return a line where the last epoch was the best one of networks that stop early, or not nearly of those that do not."""
    last = [one for one in networks if one.epoch == settings.epochs and not math.isnan(one.held_out_loss)]
    early = [
        one
        for one in networks
        if one.epoch < settings.epochs and (not settings.stops_early or math.isnan(one.held_out_loss))
    ]
    several, of = settings.networks > 1, f"of {settings.networks} members of gmnn"
    if settings.stops_early and last and settings.epochs > 1:
        which = f"{len(last)} {of} were best in their" if several else "gmnn was best in its"
        return [f"{which} last epoch: it may not have converged (model.epochs)"]
    if early:
        which = f"the training of {len(early)} {of}" if several else "the training of gmnn"
        epochs = ", ".join(str(one.epoch) for one in early)
        return [f"{which} went wrong after epoch {epochs}, whose weights were kept: lower model.learning_rate"]
    return []


@dataclass
class Progress:
    """How far a training is. waited: epochs since the best one or the last fall of the learning rate. last_loss: of the last
    epoch, by which also the best one is told.
    """

    epoch: int = 0
    steps: int = 0
    best_epoch: int = 0
    best_loss: float = math.inf
    last_loss: float = math.inf
    waited: int = 0
    factor: float = 1.0


def train(
    potential: Potential,
    parameters: Parameters,
    learn: Examples,
    held: Examples | None,
    settings: Gmnn,
    rng: np.random.Generator,
    checkpoint: Path | None = None,
) -> Trained:
    """Train from given parameters and return their running average (``take_up``) at its best epoch, or at the last one: without
    held-out data, and where the learning rate falls to zero. The loss of few held-out structures is for the most part that of
    the strangest of them, and says less about weights than a high rate harms them. Such a training that has gone wrong by its
    own loss (``SPOILED``) returns the epoch before the one in which that was lowest.

    checkpoint: folder for the state, where that of an earlier attempt at the same training is looked for.
    Raises QuarryError if the loss is never a finite number.
    """
    _keep_freed_memory()
    # No step needs torch's own derivatives, and not to prepare for them saves a twelfth of its time.
    with torch.inference_mode():
        trained = _train(potential, parameters, learn, held, settings, rng, checkpoint)
    return replace(trained, parameters=trained.parameters.map(torch.clone))


def _train(
    potential: Potential,
    parameters: Parameters,
    learn: Examples,
    held: Examples | None,
    settings: Gmnn,
    rng: np.random.Generator,
    checkpoint: Path | None,
) -> Trained:
    order = seeded(rng, torch.device("cpu"))
    parameters = parameters.map(lambda t: t.to(potential.device, potential.dtype).clone())
    average, best = parameters.map(torch.clone), parameters.map(torch.clone)
    optimisers = optimisers_of(parameters, settings)
    progress = Progress()
    if checkpoint is not None and (checkpoint / STATE).exists():
        progress = _resume(checkpoint / STATE, (parameters, average, best), optimisers, order) or progress
    held_out = [] if held is None else [labelled(held, rows, potential) for rows in blocks(held.neighbourhoods.offsets)]
    stops, written = settings.stops_early and held is not None, time.monotonic()
    while progress.epoch < settings.epochs:
        progress.epoch += 1
        before = average if stops else average.map(torch.clone)
        rate = settings.learning_rate * progress.factor * settings.share_of_rate(progress.epoch)
        learnt = torch.zeros((), dtype=torch.float64, device=potential.device)
        for rows in torch.randperm(len(learn), generator=order).split(settings.batch_size):
            learnt += step(potential, parameters, optimisers, labelled(learn, rows.numpy(), potential), settings, rate)
            progress.steps += 1
            take_up(average, parameters, progress.steps)
        progress.last_loss = mean_loss(potential, average, held_out, settings) if stops else float(learnt) / len(learn)
        progress.waited += 1
        if progress.last_loss < progress.best_loss:
            # A loss of training is of weights before its steps, and says nothing about what the last of them has done.
            torch._foreach_copy_(best.tensors, before.tensors)
            progress.best_epoch, progress.best_loss = progress.epoch - (not stops), progress.last_loss
            progress.waited = 0
        elif stops and progress.epoch - progress.best_epoch >= settings.patience:
            break
        elif stops and settings.schedule == "plateau" and progress.waited >= max(1, settings.patience // 4):
            progress.waited, progress.factor = 0, progress.factor * SHRINK
        if checkpoint is not None and time.monotonic() - written >= CHECKPOINT_S:
            _write(checkpoint / STATE, progress, (parameters, average, best), optimisers, order)
            written = time.monotonic()
    chosen, epoch = best, progress.best_epoch
    if not stops and progress.last_loss <= SPOILED * progress.best_loss:
        chosen, epoch = average, progress.epoch
    if math.isinf(progress.best_loss) or not all(bool(torch.isfinite(tensor).all()) for tensor in chosen.tensors):
        raise QuarryError("model.learning_rate: the potential's loss is not a finite number; lower the learning rate")
    loss = mean_loss(potential, chosen, held_out, settings) if held_out else math.nan
    return Trained(chosen.map(Tensor.cpu), epoch, loss)


def _keep_freed_memory() -> None:
    """Let the process keep memory that it frees, where it has glibc: every step takes the same again, and pages that are new
    to it cost a tenth of a step.
    """
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(M_TRIM_THRESHOLD, 2**29)
        library.mallopt(M_MMAP_THRESHOLD, 2**25)


def blocks(offsets: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Yield the numbers of all structures in blocks of bounded size, each of neighbours. offsets: of their atoms, (n + 1,)."""
    return blocks_of(offsets, TOGETHER)


def _write(
    path: Path, progress: Progress, known: Sequence[Parameters], optimisers: Sequence[Adam], order: torch.Generator
) -> None:
    moved = [tensor for optimiser in optimisers for tensor in optimiser.state[1]]
    with new_hdf5(path) as handle:
        handle.attrs.update(vars(progress))
        handle.create_dataset("order", data=order.get_state().numpy())
        for number, tensor in enumerate([*_tensors(known), *moved]):
            handle.create_dataset(f"tensors/{number:03d}", data=tensor.cpu().numpy())


def _resume(
    path: Path, known: Sequence[Parameters], optimisers: Sequence[Adam], order: torch.Generator
) -> Progress | None:
    """Take up a state; None if it is damaged, or of a version that kept no average."""
    try:
        with h5py.File(path, "r") as handle:
            tensors = [torch.from_numpy(handle["tensors"][name][()]) for name in sorted(handle["tensors"])]
            state = torch.from_numpy(handle["order"][()])
            values = {name: handle.attrs[name].item() for name in vars(Progress())}
    except (OSError, KeyError):
        return None
    known_tensors = _tensors(known)
    counts = [len(known_tensors), *(len(optimiser.state[1]) for optimiser in optimisers)]
    if len(tensors) != sum(counts):
        return None
    torch._foreach_copy_(known_tensors, tensors[: counts[0]])
    rest = tensors[counts[0] :]
    for optimiser, count in zip(optimisers, counts[1:], strict=True):
        optimiser.resume(values["steps"], rest[:count])
        rest = rest[count:]
    order.set_state(state)
    return Progress(**values)


def _tensors(known: Sequence[Parameters]) -> list[Tensor]:
    return [tensor for parameters in known for tensor in parameters.tensors]
