"""Feature maps of the potential's energies, whose inner products say how alike two structures are to it, and the
sensitivities of its forces to the last layer.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from quarry.models.gmnn.atomic_network import BIAS, AtomicNetwork
from quarry.models.gmnn.potential import Parameters, Potential, Trace
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


def force_sensitivities(potential: Potential, parameters: Parameters, trace: Trace) -> Tensor:
    """Return the derivatives of the forces by the weights of the last layer, shape (3 n_atoms, n_hidden), atom by atom.

    Forces are linear in these weights, so that a derivative is the force with one weight of 1 and no others. Where structures
    have few atoms, it is quicker to move one atom of each of them at a time.
    """
    sizes = torch.bincount(trace.batch.owners)
    if 3 * int(sizes.max()) < len(parameters.weights[-1]):
        return _by_moving_atoms(potential, trace, sizes)
    return _by_weights(potential, parameters, trace)


def _by_weights(potential: Potential, parameters: Parameters, trace: Trace) -> Tensor:
    columns = []
    for one in torch.eye(len(parameters.weights[-1]), dtype=trace.seeds.dtype, device=trace.seeds.device):
        alone = AtomicNetwork([*parameters.weights[:-1], one[:, None]], parameters.biases)
        columns.append(-potential.derivatives(trace, alone)[0].reshape(-1))
    return torch.stack(columns, dim=1)


def _by_moving_atoms(potential: Potential, trace: Trace, sizes: Tensor) -> Tensor:
    batch, width, firsts = trace.batch, trace.passed.inputs[-1].shape[1], torch.cumsum(sizes, 0) - sizes
    found = trace.seeds.new_zeros((len(trace.seeds), 3, width))
    for number in range(int(sizes.max())):
        there = torch.nonzero(sizes > number)[:, 0]
        for axis in range(3):
            along = trace.seeds.new_zeros((3, len(trace.seeds)))
            along[axis, firsts[there] + number] = 1.0
            _, _, features = potential.moved(trace, along[:, batch.neighbours] - along[:, :, None])
            last = trace.network.tangent(trace.passed, features)[1][-1]
            slopes = _over_atoms(trace, len(sizes), trace.seeds[:, None] * last / math.sqrt(width))
            found[firsts[there] + number, axis] = -slopes[there]
    return found.reshape(-1, width)


def _with_bias(inputs: Tensor) -> Tensor:
    """Return by what weights and bias of a layer are multiplied."""
    ones = inputs.new_full((len(inputs), 1), BIAS)
    return torch.cat([inputs / math.sqrt(inputs.shape[1]), ones], dim=1)


def _over_atoms(trace: Trace, n: int, values: Tensor) -> Tensor:
    total = torch.zeros((n, values.shape[1]), dtype=values.dtype, device=values.device)
    return total.index_add_(0, trace.batch.owners, values)
