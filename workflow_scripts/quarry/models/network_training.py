"""Training of a network of another package on energies and forces, with early stopping and a state to go on from."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quarry.config.networks import NetworkPotential
from quarry.errors import QuarryError
from quarry.files import atomic_path
from quarry.models.network import seeded
from quarry.networks.base import Network

CHECKPOINT_S = 60.0
"""Seconds between two states that are written."""
STATE = "training.pt"
"""File of the state in the checkpoint's folder."""
LARGEST_GRADIENT = 10.0
"""Norm to which the gradient by all weights is cut, as these packages do."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Structures with labels: their graphs, numbers of atoms (n,), energies less references (eV, (n,)), forces (eV/Angstrom,
    (n_atoms, 3)), None where they are not learnt.
    """

    graphs: list[Any]
    sizes: NDArray[np.int64]
    energies: NDArray[np.float64]
    forces: NDArray[np.float64] | None

    def __len__(self) -> int:
        return len(self.graphs)


@dataclass
class Progress:
    """How far a training is, and its best epoch."""

    epoch: int = 0
    best_epoch: int = 0
    best_loss: float = math.inf


def train(
    network: Network,
    learn: Examples,
    held: Examples,
    settings: NetworkPotential,
    rng: np.random.Generator,
    checkpoint: Path | None,
) -> tuple[int, float]:
    """Train a network in place; return its best epoch, and the loss of the held-out data then (NaN without such data).

    checkpoint: folder for the state, where that of an earlier attempt at the same training is looked for.
    Raises QuarryError if the loss is never a finite number.
    """
    module, order = network.module, seeded(rng, torch.device("cpu"))
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    optimiser = torch.optim.Adam(weights, lr=settings.learning_rate, amsgrad=True)
    best, progress, written = _copy(module), Progress(), time.monotonic()
    if checkpoint is not None and (checkpoint / STATE).exists():
        best, progress = _resume(checkpoint / STATE, module, optimiser, order, best)
    while progress.epoch < settings.epochs:
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * (1.0 - progress.epoch / settings.epochs)
        progress.epoch += 1
        for rows in torch.randperm(len(learn), generator=order).split(settings.batch_size):
            optimiser.zero_grad()
            loss = _loss(network, learn, rows.numpy(), settings, True) / len(rows)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, LARGEST_GRADIENT)
            optimiser.step()
        if len(held):
            parts = _blocks(len(held), settings.batch_size)
            now = sum(float(_loss(network, held, rows, settings, False)) for rows in parts) / len(held)
            if now < progress.best_loss:
                best, progress.best_epoch, progress.best_loss = _copy(module), progress.epoch, now
            elif progress.epoch - progress.best_epoch >= settings.patience:
                break
        if checkpoint is not None and time.monotonic() - written >= CHECKPOINT_S:
            _write(checkpoint / STATE, module, best, optimiser, order, progress)
            written = time.monotonic()
    finite = all(bool(torch.isfinite(weight).all()) for weight in weights)
    if (not len(held) and not finite) or (len(held) and not progress.best_epoch):
        raise QuarryError("model.learning_rate: the potential's loss is not a finite number; lower the learning rate")
    if not len(held):
        return progress.epoch, math.nan
    module.load_state_dict(best)
    return progress.best_epoch, progress.best_loss


def _loss(
    network: Network, examples: Examples, rows: NDArray[np.int64], settings: NetworkPotential, learn: bool
) -> Tensor:
    """Return the sum of the structures' losses."""
    network.module.train(learn)
    with_forces = examples.forces is not None and settings.forces_weight > 0
    output = network.evaluate([examples.graphs[row] for row in rows], with_forces, learn)
    off = output.energies - torch.from_numpy(examples.energies[rows]).to(output.energies)
    loss = settings.energy_weight * (off * off).sum()
    if not with_forces:
        return loss
    assert examples.forces is not None and output.forces is not None
    begins = np.cumsum(examples.sizes) - examples.sizes
    sizes = examples.sizes[rows]
    atoms = np.concatenate([np.arange(begins[row], begins[row] + examples.sizes[row]) for row in rows])
    wrong = output.forces - torch.from_numpy(examples.forces[atoms]).to(output.forces)
    shares = torch.from_numpy(np.repeat(settings.forces_weight / (3.0 * sizes), sizes)).to(wrong)
    return loss + (shares[:, None] * wrong * wrong).sum()


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
    with atomic_path(path) as temporary:
        torch.save(state, temporary)


def _resume(
    path: Path,
    module: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    order: torch.Generator,
    best: dict[str, Tensor],
) -> tuple[dict[str, Tensor], Progress]:
    """Take up a state; where it is damaged, training begins anew."""
    try:
        state = torch.load(path, weights_only=True)
        module.load_state_dict(state["module"])
        optimiser.load_state_dict(state["optimiser"])
        order.set_state(state["order"])
        return state["best"], Progress(**state["progress"])
    except (OSError, KeyError, RuntimeError, ValueError, EOFError):
        return best, Progress()
