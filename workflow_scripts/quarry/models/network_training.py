"""Training of a network of another package on energies and forces, with early stopping and a state to go on from."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quarry.config.networks import NetworkPotential
from quarry.errors import QuarryError
from quarry.files import write_bytes
from quarry.models.network import seeded
from quarry.networks.base import Network
from quarry.structures.structure import atoms_of

CHECKPOINT_S = 60.0
"""Seconds between two states that are written."""
STATE = "training.pt"
"""File of the state in the checkpoint's folder."""
LARGEST_GRADIENT = 10.0
"""Norm to which the gradient by all weights is cut, as these packages do."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Structures with labels: their graphs, offsets of their atoms (n + 1,), numbers of each element (n, n_elements), energies
    (eV, (n,)), forces (eV/Angstrom, (n_atoms, 3)), None where they are not learnt.
    """

    graphs: list[Any]
    offsets: NDArray[np.int64]
    counts: NDArray[np.float64]
    energies: NDArray[np.float64]
    forces: NDArray[np.float64] | None

    def __len__(self) -> int:
        return len(self.graphs)


@dataclass
class Trained:
    """Atomic references (eV, (n_elements,)) with the weights of the best epoch, that epoch, and the held-out loss then (NaN
    without held-out data).
    """

    references: NDArray[np.float64]
    epoch: int
    held_out_loss: float


@dataclass
class Progress:
    """How far a training is, its best epoch, and the atomic references (eV) now and then."""

    references: list[float]
    epoch: int = 0
    best_epoch: int = 0
    best_loss: float = math.inf
    best_references: list[float] = field(default_factory=list)


def train(
    network: Network,
    learn: Examples,
    held: Examples,
    settings: NetworkPotential,
    rng: np.random.Generator,
    checkpoint: Path | None,
) -> Trained:
    """Train a network in place.

    The atomic references are those of least squares, with the network as it was at the start, and after each epoch what its steps
    found is fitted again. checkpoint: folder for the state, where that of an earlier attempt at the same training is looked for.
    Raises QuarryError if the loss is never a finite number.
    """
    module, order = network.module, seeded(rng, torch.device("cpu"))
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    optimiser = torch.optim.Adam(weights, lr=settings.learning_rate, amsgrad=True)
    rest: NDArray[np.float64] = learn.energies - _energies(network, learn, settings.batch_size)
    best, progress, written = _copy(module), Progress(_least_squares(learn, rest).tolist()), time.monotonic()
    if checkpoint is not None and (checkpoint / STATE).exists():
        best, progress = _resume(checkpoint / STATE, module, optimiser, order) or (best, progress)
    while progress.epoch < settings.epochs:
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * (1.0 - progress.epoch / settings.epochs)
        progress.epoch += 1
        rest, references = np.zeros(len(learn)), np.array(progress.references, dtype=np.float64)
        for rows in torch.randperm(len(learn), generator=order).split(settings.batch_size):
            optimiser.zero_grad()
            loss, rest[rows.numpy()] = _loss(network, learn, rows.numpy(), settings, references, True)
            (loss / len(rows)).backward()
            torch.nn.utils.clip_grad_norm_(weights, LARGEST_GRADIENT)
            optimiser.step()
        if np.isfinite(rest).all():
            references += _least_squares(learn, rest)
            progress.references = references.tolist()
        if len(held):
            parts = _blocks(len(held), settings.batch_size)
            losses = [_loss(network, held, rows, settings, references, False)[0].item() for rows in parts]
            now = sum(losses) / len(held)
            if now < progress.best_loss:
                best, progress.best_epoch, progress.best_loss = _copy(module), progress.epoch, now
                progress.best_references = progress.references
            elif progress.epoch - progress.best_epoch >= settings.patience:
                break
        if checkpoint is not None and time.monotonic() - written >= CHECKPOINT_S:
            _write(checkpoint / STATE, module, best, optimiser, order, progress)
            written = time.monotonic()
    finite = all(bool(torch.isfinite(weight).all()) for weight in weights)
    if (not len(held) and not finite) or (len(held) and not progress.best_epoch):
        raise QuarryError("model.learning_rate: the potential's loss is not a finite number; lower the learning rate")
    if not len(held):
        return Trained(np.array(progress.references), progress.epoch, math.nan)
    module.load_state_dict(best)
    return Trained(np.array(progress.best_references), progress.best_epoch, progress.best_loss)


def _least_squares(examples: Examples, energies: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.linalg.lstsq(examples.counts, energies, rcond=None)[0].astype(np.float64)


def _energies(network: Network, examples: Examples, size: int) -> NDArray[np.float64]:
    network.module.eval()
    parts = [[examples.graphs[row] for row in rows] for rows in _blocks(len(examples), size)]
    return np.concatenate([network.evaluate(part, False, False).energies.detach().cpu().numpy() for part in parts])


def _loss(
    network: Network,
    examples: Examples,
    rows: NDArray[np.int64],
    settings: NetworkPotential,
    references: NDArray[np.float64],
    learn: bool,
) -> tuple[Tensor, NDArray[np.float64]]:
    """Return the sum of the structures' losses, and what their energies (eV) are more than is said."""
    network.module.train(learn)
    with_forces = examples.forces is not None and settings.forces_weight > 0
    output = network.evaluate([examples.graphs[row] for row in rows], with_forces, learn)
    wanted = examples.energies[rows] - examples.counts[rows] @ references
    off = torch.from_numpy(wanted).to(output.energies) - output.energies
    loss, rest = settings.energy_weight * (off * off).sum(), off.detach().cpu().numpy()
    if not with_forces:
        return loss, rest
    assert examples.forces is not None and output.forces is not None
    sizes, atoms = np.diff(examples.offsets)[rows], atoms_of(examples.offsets, rows)
    wrong = output.forces - torch.from_numpy(examples.forces[atoms]).to(output.forces)
    shares = torch.from_numpy(np.repeat(settings.forces_weight / (3.0 * sizes), sizes)).to(wrong)
    return loss + (shares[:, None] * wrong * wrong).sum(), rest


def _blocks(count: int, size: int) -> Iterator[NDArray[np.int64]]:
    for begin in range(0, count, size):
        yield np.arange(begin, min(begin + size, count))


def _copy(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def _write(
    path: Path,
    module: torch.nn.Module,
    best: dict[str, Tensor],
    optimiser: torch.optim.Optimizer,
    order: torch.Generator,
    progress: Progress,
) -> None:
    state = {
        "module": module.state_dict(),
        "best": best,
        "optimiser": optimiser.state_dict(),
        "order": order.get_state(),
        "progress": vars(progress),
    }
    # Into memory: of a full disk torch says that a position is unexpected.
    content = io.BytesIO()
    torch.save(state, content)
    write_bytes(path, content.getvalue())


def _resume(
    path: Path,
    module: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    order: torch.Generator,
) -> tuple[dict[str, Tensor], Progress] | None:
    """Take up a state; None if it is damaged."""
    try:
        state = torch.load(path, weights_only=True)
        module.load_state_dict(state["module"])
        optimiser.load_state_dict(state["optimiser"])
        order.set_state(state["order"])
        return state["best"], Progress(**state["progress"])
    except (OSError, KeyError, RuntimeError, ValueError, EOFError, UnpicklingError):
        return None
