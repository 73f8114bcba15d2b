"""A shallow ensemble: several read-outs on one trunk, whose spread is a standard deviation at the cost of one network.

M. Kellner, M. Ceriotti, Mach. Learn.: Sci. Technol. 5, 035006 (2024): networks that share all but the last layer, each with
initial weights of its own, trained by the negative logarithm of the likelihood of a normal distribution with their mean and
variance. Here a read-out k is the last layer and a deviation from it, W + V_k - mean(V):

* The mean is the network alone, which learns by the loss of equation 4 as it would without the ensemble, to the last digit.
* The deviations learn from the energies, by sg(v)^(1/2) (d^2 / v + ln v) with d an energy's error, v the variance of the
  read-outs (and ``FLOOR_EV`` squared), and sg(v) its value taken for a constant, which keeps structures of small v from
  outweighing all others (M. Seitzer et al., ICLR 2022, beta = 1/2). So the spread becomes as large as the errors. d and the trunk
  are constants there. What the labels do not fix stays as different as it was at the start.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quarry.models.calibration import mirrored
from quarry.models.gmnn.atomic_network import BIAS, AtomicFunction, AtomicNetwork
from quarry.models.gmnn.neighbours import Batch
from quarry.models.gmnn.potential import Parameters, Potential, Trace

Said = dict[str, NDArray[np.float64]]
"""What is said of structures, by property."""
FLOOR_EV = 1e-4
"""Smallest standard deviation of a structure's energy in the likelihood."""


def initial_spread(n_hidden: int, readouts: int, rng: np.random.Generator) -> list[Tensor]:
    """Return random deviations of the weights (standard normal), shape (n_hidden, readouts), and of the biases (zero)."""
    weights = rng.standard_normal((n_hidden, readouts)).astype(np.float32)
    return [torch.from_numpy(weights), torch.zeros(readouts)]


def deviations(parameters: Parameters, trace: Trace) -> Tensor:
    """Return by how much each read-out's energies differ from their mean, eV, double, shape (n_structures, n_readouts)."""
    total = torch.zeros(
        (len(trace.batch.volumes), parameters.spread[0].shape[1]), dtype=torch.float64, device=trace.seeds.device
    )
    return total.index_add_(0, trace.batch.owners, (trace.seeds[:, None] * _outputs(parameters, trace)).double())


def spread_gradient(parameters: Parameters, trace: Trace, errors: Tensor) -> list[Tensor]:
    """Return the gradient of the deviations' mean loss by them. errors: of the energies, eV, shape (n_structures,)."""
    away = deviations(parameters, trace)
    variance = (away * away).mean(1) + FLOOR_EV**2
    by_variance = (1.0 - errors * errors / variance) / variance.sqrt()
    by_energies = by_variance[:, None] * away * (2.0 / away.shape[1] / len(errors))
    by_outputs = (by_energies[trace.batch.owners] * trace.seeds[:, None]).to(trace.seeds.dtype)
    last = trace.passed.inputs[-1]
    return [last.T @ by_outputs / math.sqrt(last.shape[1]), BIAS * by_outputs.sum(0)]


def readout_networks(parameters: Parameters) -> list[AtomicNetwork]:
    """Return the network of each read-out."""
    weights, biases = (_centred(part) for part in parameters.spread)
    return [
        AtomicNetwork(
            [*parameters.weights[:-1], parameters.weights[-1] + weights[:, k : k + 1]],
            [*parameters.biases[:-1], parameters.biases[-1] + biases[k : k + 1]],
        )
        for k in range(len(biases))
    ]


def said_by(
    potential: Potential,
    parameters: Parameters,
    batch: Batch,
    elements: Tensor,
    derivatives: bool,
    spread_of: frozenset[str],
) -> tuple[Said, Said]:
    """Return what a network says of structures, and the same of each of its read-outs, with a first axis for these.

    energy (eV, without atomic references), and with derivatives forces (eV/Angstrom, shape (n_atoms, 3)) and stress
    (eV/Angstrom^3, (n, 3, 3)). spread_of: which of them are wanted of read-outs. Without any the network is the only read-out.
    """
    trace = potential.atoms(parameters, batch, elements)
    energies = potential.energies(parameters, trace)
    mean = {"energy": energies.cpu().numpy()}
    if derivatives:
        mean |= derivatives_of(potential, trace, trace.function)
    if not parameters.spread or not spread_of:
        return mean, {name: values[None] for name, values in mean.items()}
    each = {"energy": (energies + deviations(parameters, trace).T).cpu().numpy()}
    if spread_of - {"energy"}:
        parts = [derivatives_of(potential, trace, network) for network in readout_networks(parameters)]
        each |= {name: np.stack([part[name] for part in parts]) for name in parts[0]}
    return mean, each


def said_together(found: Sequence[tuple[Said, Said]], has_auxiliary: bool) -> tuple[Said, Said]:
    """Return the mean of networks, and what each of them (of one: each of its read-outs) says, from ``said_by`` of each.

    has_auxiliary: whether the second of two only says how far off the first one may be.
    """
    means = [mean for mean, _ in found]
    each = {name: np.concatenate([spread[name] for _, spread in found]) for name in found[-1][1]}
    if len(found) == 1:
        return means[0], each
    if has_auxiliary:
        return means[0], {name: mirrored(values) for name, values in each.items()}
    return {name: np.mean([mean[name] for mean in means], axis=0) for name in means[0]}, each


def std_gradient(
    each: Said, owners: NDArray[np.int64], factor: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the derivatives of the energies' standard deviation by the positions, and by the strain over the volume.

    each: energy, forces and stress of each member or read-out. owners: structure of each atom. factor: of the standard deviation.
    With d_k the deviation of member k from the mean, std' = sum_k d_k E_k' / (m std), as the d_k sum up to zero; 0 without any.
    """
    away = each["energy"] - each["energy"].mean(axis=0)
    std = away.std(axis=0)
    shares = factor * np.divide(away, len(away) * std, out=np.zeros_like(away), where=std > 0)
    by_positions = -np.einsum("ka,kai->ai", shares[:, owners], each["forces"])
    return by_positions, np.einsum("kn,knij->nij", shares, each["stress"])


def derivatives_of(potential: Potential, trace: Trace, function: AtomicFunction) -> Said:
    """Return forces and stress by the function of a trace, or by a network with another last layer."""
    gradient, strain = potential.derivatives(trace, function)
    stress = (strain / trace.batch.volumes[:, None, None]).double().cpu().numpy()
    return {"forces": -gradient.double().cpu().numpy(), "stress": 0.5 * (stress + stress.transpose(0, 2, 1))}


def _outputs(parameters: Parameters, trace: Trace) -> Tensor:
    weights, biases = (_centred(part) for part in parameters.spread)
    last = trace.passed.inputs[-1]
    return torch.addmm(BIAS * biases, last, weights / math.sqrt(last.shape[1]))


def _centred(values: Tensor) -> Tensor:
    return values - values.mean(-1, keepdim=True)
