"""Feed-forward networks in torch: initial weights, training with early stopping, outputs, neurons left out.

Single precision. The same data, seed, device and number of threads give the same weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from quarry.config.models import Mlp
from quarry.devices import device_of
from quarry.errors import QuarryError
from quarry.models.adam import Adam

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": functional.silu,
    "relu": torch.relu,
    "tanh": torch.tanh,
}
GAINS = {"silu": math.sqrt(2.0), "relu": math.sqrt(2.0), "tanh": 1.0}
"""Standard deviation of the initial weights times the square root of the number of inputs (He et al., ICCV 2015)."""

BLOCK_ELEMENTS = 16_000_000
"""Numbers of the widest layer at a time in a prediction (64 MB)."""

SHRINK = 0.5
"""Factor of the learning rate where the held-out loss stays."""


def check_members(count: int, trained: Sequence[int], fingerprints: Sequence[object]) -> None:
    """Raise QuarryError if models are not the members of one committee.

    count: of its members. trained: number of networks in each model. fingerprints: of what each was trained on.
    """
    same = all(fingerprint == fingerprints[0] for fingerprint in fingerprints)
    if len(trained) != count or any(number != 1 for number in trained) or not same:
        raise QuarryError(
            f"model.members: these are not {count} members trained on the same data; remove the iteration's model folder and "
            "start again"
        )


@dataclass(frozen=True)
class Network:
    """A network: weights of layer l of shape (n_in, n_out), biases of shape (n_out,); the last layer is linear."""

    weights: list[Tensor]
    biases: list[Tensor]
    activation: str

    @property
    def parameters(self) -> list[Tensor]:
        """All weights and biases."""
        return [*self.weights, *self.biases]

    @property
    def width(self) -> int:
        """Size of the widest layer, the input included."""
        return max(max(w.shape) for w in self.weights)

    def on(self, device: torch.device) -> Network:
        """Return the network on a device."""
        moved = [[t.to(device) for t in tensors] for tensors in (self.weights, self.biases)]
        return Network(moved[0], moved[1], self.activation)

    def first(self, x: Tensor) -> Tensor:
        """Return the activations of the first hidden layer, shape (n, n_hidden), for inputs of shape (n, d)."""
        return ACTIVATIONS[self.activation](x @ self.weights[0] + self.biases[0])

    def last_hidden(self, first: Tensor, masks: Sequence[Tensor] | None = None) -> Tensor:
        """Return the activations before the output layer, from those of the first hidden layer, shapes (n, n_hidden).

        masks: what each hidden layer's activations are multiplied with, shape (n or 1, n_hidden), e.g. 0 for a neuron that is
        left out.
        """
        hidden = first if masks is None else first * masks[0]
        for layer in range(1, len(self.weights) - 1):
            hidden = ACTIVATIONS[self.activation](hidden @ self.weights[layer] + self.biases[layer])
            if masks is not None:
                hidden = hidden * masks[layer]
        return hidden

    def output(self, first: Tensor, masks: Sequence[Tensor] | None = None) -> Tensor:
        """Return the outputs, shape (n, n_outputs), from the activations of the first hidden layer."""
        return self.last_hidden(first, masks) @ self.weights[-1] + self.biases[-1]

    def masks(self, rows: int, probability: float, generator: torch.Generator) -> list[Tensor]:
        """Draw what dropout multiplies the hidden layers with: 0, or 1 / (1 - probability); shapes (rows, n_hidden).

        N. Srivastava et al., JMLR 15 (2014) 1929, with the scaling done in training.
        """
        device = generator.device
        drawn = [torch.rand((rows, len(b)), generator=generator, device=device) for b in self.biases[:-1]]
        return [(values >= probability).to(torch.float32) / (1.0 - probability) for values in drawn]


@dataclass(frozen=True)
class Training:
    """A trained network (on the CPU), its best epoch and its loss on the held-out data then (NaN without such data)."""

    network: Network
    epoch: int
    held_out_loss: float


def seeded(rng: np.random.Generator, device: torch.device) -> torch.Generator:
    """Return a torch generator on a device with a seed from ``rng``."""
    return torch.Generator(device).manual_seed(int(rng.integers(2**63 - 1)))


def initial_network(sizes: Sequence[int], activation: str, rng: np.random.Generator) -> Network:
    """Return a network with random weights. sizes: of the input, every hidden layer and the output."""
    weights, biases = [], []
    for layer, (n_in, n_out) in enumerate(pairwise(sizes)):
        last = layer == len(sizes) - 2
        scale = (1.0 if last else GAINS[activation]) / math.sqrt(max(1, n_in))
        weights.append(torch.from_numpy((scale * rng.standard_normal((n_in, n_out))).astype(np.float32)))
        bound = 0.0 if last else 1.0 / math.sqrt(max(1, n_in))
        biases.append(torch.from_numpy(rng.uniform(-bound, bound, n_out).astype(np.float32)))
    return Network(weights, biases, activation)


def train_network(
    inputs: NDArray[np.float32],
    targets: NDArray[np.float32] | NDArray[np.int64],
    held_inputs: NDArray[np.float32],
    held_targets: NDArray[np.float32] | NDArray[np.int64],
    n_outputs: int,
    settings: Mlp,
    rng: np.random.Generator,
) -> Training:
    """Train a network from random weights and return that of the best epoch.

    inputs: shape (n, d), standardised. targets: shape (n,), standardised numbers (float), or classes (int) of which
    there are ``n_outputs``. held_inputs, held_targets: what early stopping looks at, shaped alike; without any, the network
    trains for all epochs. Raises QuarryError if training diverges.
    """
    device = device_of(settings.device)
    network = initial_network([inputs.shape[1], *settings.hidden, n_outputs], settings.activation, rng).on(device)
    generator = seeded(rng, device)
    order = seeded(rng, torch.device("cpu"))
    x, y, held_x, held_y = (torch.from_numpy(a).to(device) for a in (inputs, targets, held_inputs, held_targets))
    loss = _loss_of(targets)
    for parameter in network.parameters:
        parameter.requires_grad_(True)
    optimiser = Adam(network.weights, network.biases, settings.learning_rate, settings.weight_decay)
    wait = max(1, settings.patience // 4)
    best, best_epoch, best_loss, since_shrunk = _copy(network), 0, math.inf, 0
    for epoch in range(1, settings.epochs + 1):
        for rows in torch.randperm(len(x), generator=order).to(device).split(settings.batch_size):
            masks = None
            if settings.dropout_probability > 0:
                masks = network.masks(len(rows), settings.dropout_probability, generator)
            value = loss(network.output(network.first(x[rows]), masks), y[rows])
            optimiser.step(torch.autograd.grad(value, optimiser.parameters))
        if not len(held_x):
            continue
        with torch.no_grad():
            now = float(loss(network.output(network.first(held_x)), held_y))
        since_shrunk += 1
        if now < best_loss:
            best, best_epoch, best_loss, since_shrunk = _copy(network), epoch, now, 0
        elif epoch - best_epoch >= settings.patience:
            break
        elif since_shrunk >= wait:
            since_shrunk = 0
            optimiser.rate *= SHRINK
    if not len(held_x):
        return Training(_copy(network), settings.epochs, math.nan)
    if not best_epoch:
        raise QuarryError("model.learning_rate: the network's loss is not a finite number; lower the learning rate")
    return Training(best, best_epoch, best_loss)


def _loss_of(targets: NDArray[np.float32] | NDArray[np.int64]) -> Callable[[Tensor, Tensor], Tensor]:
    if targets.dtype == np.int64:
        return functional.cross_entropy
    return lambda output, wanted: functional.mse_loss(output[:, 0], wanted)


def _copy(network: Network) -> Network:
    weights, biases = ([t.detach().cpu().clone() for t in tensors] for tensors in (network.weights, network.biases))
    return Network(weights, biases, network.activation)


def blocks(rows: int, width: int) -> Iterator[slice]:
    """Yield slices of all rows; the rows of a block times ``width`` (numbers in a row) are bounded."""
    size = max(1, BLOCK_ELEMENTS // max(1, width))
    return (slice(begin, min(begin + size, rows)) for begin in range(0, rows, size))
