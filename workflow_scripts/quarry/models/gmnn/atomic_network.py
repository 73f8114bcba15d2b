"""The network that maps the invariants of an atom to a number, and its derivatives in closed form.

z_l = a_l W_l / sqrt(d_l) + 0.1 b_l, a_{l+1} = s(z_l), with s a swish scaled to keep the variance of normal numbers, W of
standard normal numbers and b zero at the start (the parametrisation of A. Jacot, F. Gabriel, C. Hongler, NeurIPS 2018).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

SWISH = 1.6765324703310907
"""Factor of x sigmoid(x) that keeps the second moment of standard normal numbers."""
BIAS = 0.1
"""Factor of the biases."""


@dataclass
class Passed:
    """What went through the network: inputs of each layer; slopes and curvatures of each hidden layer's swish."""

    inputs: list[Tensor]
    slopes: list[Tensor]
    curvatures: list[Tensor]


class AtomicFunction(Protocol):
    """A function of the invariants of atoms."""

    def forward(self, inputs: Tensor, curved: bool = False) -> tuple[Tensor, Passed]:
        """Return its values, shape (n,), and what went through, the inputs first."""
        ...

    def backward(self, passed: Passed, outputs: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return the gradients of the sum of outputs (shape (n,)) times its values, that by the inputs first."""
        ...


class AtomicNetwork:
    """A network with weights of shape (n_in, n_out) and biases of shape (n_out,) of each layer, the last with one output."""

    def __init__(self, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> None:
        self._scales = [1.0 / math.sqrt(w.shape[0]) for w in weights]
        self._weights = [w * scale for w, scale in zip(weights, self._scales, strict=True)]
        self._biases = [b * BIAS for b in biases]

    def forward(self, inputs: Tensor, curved: bool = False) -> tuple[Tensor, Passed]:
        """Return the outputs, shape (n,), and what went through. curved: with the curvatures too."""
        passed = Passed([inputs], [], [])
        for weights, biases in zip(self._weights[:-1], self._biases[:-1], strict=True):
            z = torch.addmm(biases, passed.inputs[-1], weights)
            gate = torch.sigmoid(z)
            value = z * gate
            rest = 1.0 - gate
            slope = torch.addcmul(gate, value, rest)
            if curved:
                # With g the sigmoid and u = z g: u' = g + u (1 - g), and u'' = (1 - g) (g + u' - u g).
                passed.curvatures.append(rest.mul_(gate + slope - value * gate).mul_(SWISH))
            passed.slopes.append(slope.mul_(SWISH))
            passed.inputs.append(value.mul_(SWISH))
        out = torch.addmm(self._biases[-1], passed.inputs[-1], self._weights[-1])
        return out[:, 0], passed

    def backward(self, passed: Passed, outputs: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return the gradients of the sum of outputs (shape (n,)) times the network's, by each a_l and by each hidden z_l."""
        by_inputs = [outputs[:, None] * self._weights[-1][:, 0]]
        by_sums: list[Tensor] = []
        for layer in reversed(range(len(self._weights) - 1)):
            by_sums.insert(0, by_inputs[0] * passed.slopes[layer])
            by_inputs.insert(0, by_sums[0] @ self._weights[layer].T)
        return by_inputs, by_sums

    def tangent(self, passed: Passed, inputs: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Return how the outputs, each a_l and each hidden z_l change with the inputs."""
        moved, sums = [inputs], []
        for weights, slope in zip(self._weights[:-1], passed.slopes, strict=True):
            sums.append(moved[-1] @ weights)
            moved.append(sums[-1] * slope)
        return (moved[-1] @ self._weights[-1])[:, 0], moved, sums

    def backward_tangent(
        self,
        passed: Passed,
        backward: tuple[list[Tensor], list[Tensor]],
        tangent: tuple[Tensor, list[Tensor], list[Tensor]],
    ) -> list[Tensor]:
        """Return how the gradients by each hidden z_l of ``backward`` change along a tangent; passed: with curvatures."""
        _, _, moved_sums = tangent
        by_inputs, by_sums = backward
        changes: list[Tensor] = []
        change = torch.zeros_like(by_inputs[-1])
        for layer in reversed(range(len(by_sums))):
            curved = by_inputs[layer + 1] * moved_sums[layer]
            change = torch.addcmul(change * passed.slopes[layer], curved, passed.curvatures[layer])
            changes.insert(0, change)
            change = change @ self._weights[layer].T
        return changes

    def energy_gradients(self, passed: Passed, outputs: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Return the gradients of the sum of outputs (shape (n,)) times the network's, by weights, biases and inputs."""
        by_inputs, by_sums = self.backward(passed, outputs)
        sums = [*by_sums, outputs[:, None]]
        layers = zip(passed.inputs, sums, self._scales, strict=True)
        return [(a.T @ z).mul_(scale) for a, z, scale in layers], [z.sum(0) * BIAS for z in sums], by_inputs[0]

    def parameter_gradients(
        self,
        passed: Passed,
        outputs: Tensor,
        backward: tuple[list[Tensor], list[Tensor]],
        shares: Tensor,
        tangent: tuple[Tensor, list[Tensor], list[Tensor]],
    ) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Return the gradients of S by weights, biases and inputs.

        S = sum_i outputs_i (shares_i E_i + dE_i), with E_i the network's outputs and dE_i their tangent. outputs: the weights
        of ``backward``. The adjoint of a tangent is the gradient that ``backward`` found.
        """
        _, moved, moved_sums = tangent
        by_inputs, by_sums = backward
        both = outputs * shares
        adjoint = by_inputs[-1] * shares[:, None]
        last = passed.inputs[-1].T @ both + moved[-1].T @ outputs
        weights, biases = [last[:, None] * self._scales[-1]], [both.sum()[None] * BIAS]
        for layer in reversed(range(len(self._weights) - 1)):
            curved = by_inputs[layer + 1] * moved_sums[layer]
            adjoint = torch.addcmul(adjoint * passed.slopes[layer], curved, passed.curvatures[layer])
            gradient = passed.inputs[layer].T @ adjoint
            gradient.addmm_(moved[layer].T, by_sums[layer])
            weights.insert(0, gradient.mul_(self._scales[layer]))
            biases.insert(0, adjoint.sum(0) * BIAS)
            adjoint = adjoint @ self._weights[layer].T
        return weights, biases, adjoint
