"""Feature maps of a network, whose inner products are kernels: last layer and full gradient.

D. Holzmueller, V. Zaverkin, J. Kaestner, I. Steinwart, JMLR 24 (2023) 164: sections 3.1 and 3.2 (kernels of gradients),
and the sketch of a gradient's outer products, which costs no more than a pass through the network.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from quarry.models.network import ACTIVATIONS, Network

DIMENSION = 512
"""Length of the random projection of the gradient."""


def last_layer_features(network: Network, inputs: Tensor) -> Tensor:
    """Return the activations before the output layer and a 1, shape (n, n_hidden + 1), for inputs of shape (n, d).

    That is the gradient of an output with respect to the weights and the bias of the last layer.
    """
    with torch.no_grad():
        return _with_one(network.last_hidden(network.first(inputs)))


def gradient_factors(network: Network, inputs: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return a and d of every layer: its gradient is outer(a, d), the bias being the last row of a.

    inputs: shape (n, d). a: shape (n, n_in + 1), d: shape (n, n_out). With one output, the gradient is that of the
    output. With an output per class, it is that of the cross-entropy with the predicted class as the label, so that it
    vanishes where the network is certain (J. T. Ash et al., ICLR 2020).
    """
    activation = ACTIVATIONS[network.activation]
    with torch.no_grad():
        hidden, before = [inputs], []
        for weights, biases in zip(network.weights[:-1], network.biases[:-1], strict=True):
            before.append(hidden[-1] @ weights + biases)
            hidden.append(activation(before[-1]))
        outputs = hidden[-1] @ network.weights[-1] + network.biases[-1]
        if outputs.shape[1] == 1:
            delta = torch.ones_like(outputs)
        else:
            probabilities = torch.softmax(outputs, dim=1)
            delta = probabilities - torch.nn.functional.one_hot(outputs.argmax(dim=1), outputs.shape[1])
    factors = [(_with_one(hidden[-1]), delta)]
    for layer in range(len(before) - 1, -1, -1):
        with torch.no_grad():
            delta = (delta @ network.weights[layer + 1].T) * _slope(activation, before[layer])
            factors.append((_with_one(hidden[layer]), delta))
    return factors[::-1]


def gradient_features(network: Network, inputs: Tensor, seed: int, dimension: int = DIMENSION) -> Tensor:
    """Return a random projection of the gradient with respect to all parameters, shape (n, dimension).

    inputs: shape (n, d).
    A component is the sum over the layers of (p . a)(q . d) / sqrt(dimension), with p and q of independent standard
    normal numbers: a random projection of outer(a, d) whose matrix is a product. So the mean over the projections of an
    inner product of two such features is that of the two gradients. The same seed gives the same projections.
    """
    generator = torch.Generator().manual_seed(seed)
    result = torch.zeros((len(inputs), dimension), device=inputs.device)
    for a, d in gradient_factors(network, inputs):
        left, right = (torch.randn((t.shape[1], dimension), generator=generator).to(inputs.device) for t in (a, d))
        result += (a @ left) * (d @ right)
    return result / math.sqrt(dimension)


def input_gradients(network: Network, inputs: Tensor, masks: Sequence[Tensor] | None = None) -> Tensor:
    """Return the gradient of the first output by the inputs, shape (n, d). masks: see ``Network.last_hidden``."""
    with torch.enable_grad():
        x = inputs.detach().requires_grad_(True)
        return torch.autograd.grad(network.output(network.first(x), masks)[:, 0].sum(), x)[0]


def _slope(activation: object, before: Tensor) -> Tensor:
    """Return the derivative of an activation, element by element."""
    with torch.enable_grad():
        point = before.detach().requires_grad_(True)
        value = activation(point).sum()  # type: ignore[operator]
        return torch.autograd.grad(value, point)[0]


def _with_one(activations: Tensor) -> Tensor:
    return torch.cat([activations, torch.ones((len(activations), 1), device=activations.device)], dim=1)
