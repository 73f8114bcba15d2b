"""Feature maps of the potential's energies, whose inner products say how alike two structures are to it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from quarry.models.gmnn.atomic_network import BIAS
from quarry.models.gmnn.potential import Trace
from quarry.models.network_features import DIMENSION


def last_layer_features(trace: Trace, n: int) -> Tensor:
    """Return the gradient of energies by the weights and the bias of the last layer, shape (n, n_hidden + 1).

    Sum over the atoms of the scale of their element times (a / sqrt(n_hidden), 0.1), a being the last hidden layer.
    """
    last = trace.passed.inputs[-1]
    return _over_atoms(trace, n, trace.seeds[:, None] * _with_bias(last))


def gradient_features(trace: Trace, n: int, seed: int) -> Tensor:
    """Return a random projection of the gradient of energies by the weights and biases of all layers, shape (n, 512).

    As ``quarry.models.network_features.gradient_features``, summed over the atoms: the projections of a layer are products of
    one of its inputs and one of its outputs. The same seed gives the same projections.
    """
    generator = torch.Generator().manual_seed(seed)
    _, by_sums = trace.network.backward(trace.passed, trace.seeds)
    result = torch.zeros((len(trace.seeds), DIMENSION), dtype=trace.seeds.dtype, device=trace.seeds.device)
    for inputs, outputs in zip(trace.passed.inputs, [*by_sums, trace.seeds[:, None]], strict=True):
        pair = [_with_bias(inputs), outputs]
        left, right = (torch.randn((t.shape[1], DIMENSION), generator=generator).to(result) for t in pair)
        result += (pair[0] @ left) * (pair[1] @ right)
    return _over_atoms(trace, n, result / math.sqrt(DIMENSION))


def _with_bias(inputs: Tensor) -> Tensor:
    """Return by what weights and bias of a layer are multiplied."""
    ones = inputs.new_full((len(inputs), 1), BIAS)
    return torch.cat([inputs / math.sqrt(inputs.shape[1]), ones], dim=1)


def _over_atoms(trace: Trace, n: int, values: Tensor) -> Tensor:
    total = torch.zeros((n, values.shape[1]), dtype=values.dtype, device=values.device)
    return total.index_add_(0, trace.batch.owners, values)
