"""Feature maps of the potential's energies and forces, whose inner products say how alike two structures are to it, and the
sensitivities of its forces to the last layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quarry.models.gmnn.atomic_network import BIAS, AtomicNetwork
from quarry.models.gmnn.neighbours import Batch
from quarry.models.gmnn.potential import Parameters, Potential, Trace
from quarry.models.network_features import DIMENSION
from quarry.models.optimal_design import Sensitivities


def feature_map(potential: Potential, parameters: Parameters, trace: Trace, n: int, kind: str, seed: int) -> Tensor:
    """Return a feature map by its name, shape (n, p). trace: of n structures, with curvatures. seed: of projections."""
    if kind == "last_layer":
        return last_layer_features(trace, n)
    if kind == "gradient":
        return gradient_features(trace, n, seed)
    if kind == "last_layer_forces":
        return last_layer_force_features(potential, parameters, trace, n, seed)
    return gradient_force_features(potential, trace, n, seed)


def sensitivities(
    potential: Potential, parameters: Parameters, batch: Batch, elements: Tensor, n: int, criterion: str
) -> Sensitivities:
    """Return the derivatives of the energies or forces (criterion) of n structures by the last layer's weights."""
    trace = potential.atoms(parameters, batch, elements)
    if criterion == "energy":
        return Sensitivities(last_layer_features(trace, n)[:, :-1].cpu().numpy(), np.ones(n, dtype=np.int64))
    found = force_sensitivities(potential, parameters, trace)
    counts = 3 * torch.bincount(batch.owners, minlength=n).cpu().numpy()
    return Sensitivities(found.cpu().numpy(), counts, 3)


def change_gradient(
    potential: Potential,
    parameters: Parameters,
    batch: Batch,
    elements: Tensor,
    slopes: Callable[[Sensitivities], NDArray[np.float64]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the derivatives of a function of the energies' sensitivities by the positions, and by the strain over the volume.

    slopes: its derivatives by the sensitivities of each structure. With these as weights of the last layer, of each structure
    its own, they are the derivatives of the energy.
    """
    n, trace = len(batch.volumes), potential.atoms(parameters, batch, elements)
    rows = last_layer_features(trace, n)[:, :-1].cpu().numpy()
    last = torch.from_numpy(slopes(Sensitivities(rows, np.ones(n, dtype=np.int64)))).to(trace.seeds)
    gradient, strain = potential.derivatives(trace, _OwnReadouts(parameters, last[batch.owners]))
    by_strain = (strain / batch.volumes[:, None, None]).double().cpu().numpy()
    return gradient.double().cpu().numpy(), 0.5 * (by_strain + by_strain.transpose(0, 2, 1))


class _OwnReadouts(AtomicNetwork):
    """A network whose last layer differs from atom to atom, for ``backward``. last: its weights, shape (n_atoms, n_hidden)."""

    def __init__(self, parameters: Parameters, last: Tensor) -> None:
        super().__init__(parameters.weights, parameters.biases)
        self._weights[-1] = last[:, None] / math.sqrt(last.shape[1])


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
    return _over_atoms(trace, n, _Projection(trace, seed).energies())


def last_layer_force_features(potential: Potential, parameters: Parameters, trace: Trace, n: int, seed: int) -> Tensor:
    """Return ``second_moments`` of the forces' sensitivities to the last layer's weights, shape (n, 512)."""
    return second_moments(force_sensitivities(potential, parameters, trace), trace, n, seed)


def gradient_force_features(potential: Potential, trace: Trace, n: int, seed: int) -> Tensor:
    """Return ``second_moments`` of the projected gradients of the forces by the weights and biases of all layers, (n, 512).

    trace: with curvatures. Each coordinate of each atom is moved, in all structures at once, so that the cost grows with the
    square of a structure's atoms.
    """
    projection = _Projection(trace, seed)
    found = _by_moving_atoms(potential, trace, DIMENSION, projection.tangent)
    return second_moments(found, trace, n, seed + 1)


def second_moments(rows: Tensor, trace: Trace, n: int, seed: int) -> Tensor:
    """Return a random projection of the sum of g g^T over the force components g of each structure, shape (n, 512).

    rows: g of each component, atom by atom, shape (3 n_atoms, p). With u and v of independent standard normal numbers, a feature
    is the sum of (u . g)(v . g) over the components, over sqrt(512). So the inner product of two structures is on the average
    the sum of (g . g')^2 over their components: that of what they add to the information matrix (equation 20 of V. Zaverkin,
    J. Kaestner, Mach. Learn.: Sci. Technol. 2, 035009 (2021)). It does not depend on how structures lie, as nothing does that is
    linear in g.
    """
    generator = torch.Generator().manual_seed(seed)
    left, right = (torch.randn((rows.shape[1], DIMENSION), generator=generator).to(rows) for _ in range(2))
    products = ((rows @ left) * (rows @ right)).view(-1, 3, DIMENSION).sum(1)
    return _over_atoms(trace, n, products / math.sqrt(DIMENSION))


class _Projection:
    """Random projections of the gradient of each atom's energy by weights and biases, and their tangents."""

    def __init__(self, trace: Trace, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self._trace = trace
        self._backward = trace.network.backward(trace.passed, trace.seeds)
        pairs = zip(trace.passed.inputs, [*self._backward[1], trace.seeds[:, None]], strict=True)
        self._factors, self._projected = [], []
        for inputs, outputs in pairs:
            pair = [_with_bias(inputs), outputs]
            factors = [torch.randn((t.shape[1], DIMENSION), generator=generator).to(outputs) for t in pair]
            self._factors.append(factors)
            self._projected.append([t @ factor for t, factor in zip(pair, factors, strict=True)])

    def energies(self) -> Tensor:
        """Return the projections of each atom, shape (n_atoms, 512)."""
        result = torch.zeros_like(self._projected[0][0])
        for left, right in self._projected:
            result += left * right
        return result / math.sqrt(DIMENSION)

    def tangent(self, features: Tensor) -> Tensor:
        """Return how these change when the network's inputs do, shape (n_atoms, 512)."""
        trace, network = self._trace, self._trace.network
        tangent = network.tangent(trace.passed, features)
        changes = network.backward_tangent(trace.passed, self._backward, tangent)
        result = torch.zeros_like(self._projected[0][0])
        for layer, moved in enumerate(tangent[1]):
            # The bias's 1 does not change, nor does the gradient by the output.
            weights = self._factors[layer][0][:-1]
            result += (moved @ weights) * self._projected[layer][1] / math.sqrt(moved.shape[1])
            if layer < len(changes):
                result += self._projected[layer][0] * (changes[layer] @ self._factors[layer][1])
        return result / math.sqrt(DIMENSION)


def force_sensitivities(potential: Potential, parameters: Parameters, trace: Trace) -> Tensor:
    """Return the derivatives of the forces by the weights of the last layer, shape (3 n_atoms, n_hidden), atom by atom.

    Forces are linear in these weights, so that a derivative is the force with one weight of 1 and no others. Where structures
    have few atoms, it is quicker to move one atom of each of them at a time.
    """
    sizes, width = torch.bincount(trace.batch.owners), len(parameters.weights[-1])
    if 3 * int(sizes.max()) < width:
        return _by_moving_atoms(potential, trace, width, partial(_last_layer_slopes, trace))
    return _by_weights(potential, parameters, trace)


def _by_weights(potential: Potential, parameters: Parameters, trace: Trace) -> Tensor:
    columns = []
    for one in torch.eye(len(parameters.weights[-1]), dtype=trace.seeds.dtype, device=trace.seeds.device):
        alone = AtomicNetwork([*parameters.weights[:-1], one[:, None]], parameters.biases)
        columns.append(-potential.derivatives(trace, alone)[0].reshape(-1))
    return torch.stack(columns, dim=1)


def _last_layer_slopes(trace: Trace, features: Tensor) -> Tensor:
    """Return how the derivatives by the last layer's weights change along a change of the network's inputs, of each atom."""
    last = trace.network.tangent(trace.passed, features)[1][-1]
    return trace.seeds[:, None] * last / math.sqrt(last.shape[1])


def _by_moving_atoms(potential: Potential, trace: Trace, width: int, slopes: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the forces' derivatives by parameters, shape (3 n_atoms, width), from how those of the energy change.

    slopes: returns how the derivatives of each atom's output change along a change of the network's inputs, shape
    (n_atoms, width).
    """
    batch = trace.batch
    sizes = torch.bincount(batch.owners)
    firsts = torch.cumsum(sizes, 0) - sizes
    found = trace.seeds.new_zeros((len(trace.seeds), 3, width))
    for number in range(int(sizes.max())):
        there = torch.nonzero(sizes > number)[:, 0]
        for axis in range(3):
            along = trace.seeds.new_zeros((3, len(trace.seeds)))
            along[axis, firsts[there] + number] = 1.0
            _, _, features = potential.moved(trace, along[:, batch.neighbours] - along[:, :, None])
            change = _over_atoms(trace, len(sizes), slopes(features))
            found[firsts[there] + number, axis] = -change[there]
    return found.reshape(-1, width)


def _with_bias(inputs: Tensor) -> Tensor:
    """Return by what weights and bias of a layer are multiplied."""
    ones = inputs.new_full((len(inputs), 1), BIAS)
    return torch.cat([inputs / math.sqrt(inputs.shape[1]), ones], dim=1)


def _over_atoms(trace: Trace, n: int, values: Tensor) -> Tensor:
    total = torch.zeros((n, values.shape[1]), dtype=values.dtype, device=values.device)
    return total.index_add_(0, trace.batch.owners, values)
