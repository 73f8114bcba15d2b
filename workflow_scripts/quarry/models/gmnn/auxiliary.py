"""The auxiliary model: a Gaussian process that learns energies alone, from the Gaussian moments of the atoms.

    E(A) = sum_i sum_c w_c k(x_i, x_c),   k(x, x') = exp(-|x - x'|^2 / (2 l^2))

over the atoms i of a structure and the centres c of the same element. x are the invariants of ``contractions`` for random radial
functions, less their mean over the training set and over the square root of their summed variance. Kernels of structures are
sums of atomic ones (A. P. Bartok, M. C. Payne, R. Kondor, G. Csanyi, Phys. Rev. Lett. 104, 136403 (2010)), so that energies are
the same for equal atoms in another order and grow with the structure. The centres are training atoms that are far apart, and the
weights those of the subset of regressors (J. Quinonero-Candela, C. E. Rasmussen, J. Mach. Learn. Res. 6, 1939 (2005), equation
16). Length and noise have the largest marginal likelihood.

It learns few energies far better than a network does, and in seconds: what it is off is small beside what the network is off.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular
from torch import Tensor

from quarry.models.gmnn.atomic_network import Passed
from quarry.models.gmnn.neighbours import Batch
from quarry.models.gmnn.potential import Parameters, Potential, initial_parameters, potential_of
from quarry.models.gmnn.readouts import Said, derivatives_of
from quarry.models.gmnn.training import Examples, blocks
from quarry.models.hyperparameters import squared_distances
from quarry.points.furthest_first import furthest_first

CENTRES = 1000
"""Atoms whose kernels the energy is a sum of, at most (one of each element at least)."""
ATOMS = 65_536
"""Atoms of the training structures that it looks at, at most: a random share of larger sets."""
SEARCHED = 1000
"""Structures whose marginal likelihood is looked at, at most."""
LENGTHS = (1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0, 30.0)
NOISES = (1e-12, 1e-10, 1e-8, 1e-6, 1e-4, 1e-2)
"""Lengths that are tried, and variances of the noise over the mean prior variance of a structure."""
SAME = 1e-5
"""Invariants that spread by less than this share of their size are equal but for the rounding of positions."""
ROUNDING = 1e-10
"""Added to the diagonal of the centres' kernel, which is one."""


class _Choice(NamedTuple):
    likelihood: float
    length: float
    noise: float


@dataclass(frozen=True, eq=False)
class AuxiliaryProcess:
    """A trained process. embedding: of the radial functions. means (n_elements, p) and spreads (n_elements,): of the invariants.

    centres: of each element, shape (m, p), scaled. weights: of them, eV, shape (m,). length, noise: what was chosen.
    """

    cutoff_A: float
    embedding: Tensor
    means: Tensor
    spreads: Tensor
    centres: list[Tensor]
    weights: list[Tensor]
    length: float
    noise: float

    @staticmethod
    def fit(learn: Examples, n_elements: int, cutoff_A: float, rng: np.random.Generator) -> AuxiliaryProcess:
        """Learn energies (less atomic references) of structures."""
        empty = AuxiliaryProcess._empty(n_elements, cutoff_A, rng)
        rows = _share(learn.neighbourhoods.offsets, rng)
        invariants, elements, owners = empty._invariants(learn, rows)
        means, spreads, centres = [], [], []
        for element in range(n_elements):
            own = invariants[elements == element]
            mean = own.mean(axis=0) if len(own) else np.zeros(invariants.shape[1])
            spread = float(np.sqrt(own.var(axis=0).sum())) if len(own) else 0.0
            size = float(np.linalg.norm(mean))
            means.append(mean)
            spreads.append(spread if spread > SAME * size else max(size, SAME))
            invariants[elements == element] = (own - mean) / spreads[-1]
            count = max(1, round(CENTRES * len(own) / len(invariants)))
            centres.append(_centres(invariants[elements == element], count))
        squares = [
            (owners[elements == element], squared_distances(invariants[elements == element], centres[element]))
            for element in range(n_elements)
        ]
        between = [squared_distances(one, one) for one in centres]
        energies = learn.energies[rows]
        searched = np.sort(rng.permutation(len(rows))[:SEARCHED])
        looked_at = [_of(searched, *part) for part in squares]
        choice = max(
            (
                _best_noise(_kernel(looked_at, len(searched), length), between, length, energies[searched])
                for length in LENGTHS
            ),
            key=lambda one: one.likelihood,
        )
        weights = _weights(_kernel(squares, len(rows), choice.length), between, choice, energies)
        parts = np.split(weights, np.cumsum([len(one) for one in centres])[:-1])
        return replace(
            empty,
            means=torch.from_numpy(np.array(means)),
            spreads=torch.tensor(spreads, dtype=torch.float64),
            centres=[torch.from_numpy(one) for one in centres],
            weights=[torch.from_numpy(one) for one in parts],
            length=choice.length,
            noise=choice.noise,
        )

    @staticmethod
    def _empty(n_elements: int, cutoff_A: float, rng: np.random.Generator) -> AuxiliaryProcess:
        """Return a process without centres, which says zero of everything."""
        drawn = initial_parameters(n_elements, (), 1.0, rng)
        means = torch.zeros((n_elements, len(drawn.weights[0])), dtype=torch.float64)
        centres, weights = [means[:0]] * n_elements, [means[:0, 0]] * n_elements
        return AuxiliaryProcess(
            cutoff_A, drawn.embedding.double(), means, torch.ones_like(means[:, 0]), centres, weights, 1.0, 0.0
        )

    def _invariants(
        self, learn: Examples, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
        """Return the invariants of the atoms of some examples, the atoms' elements, and the structures (from 0) they are of."""
        parts, elements = [], []
        sizes = np.diff(learn.neighbourhoods.offsets)[rows]
        potential = self._potential(torch.device("cpu"))
        for part in blocks(np.concatenate([[0], np.cumsum(sizes)])):
            batch = learn.neighbourhoods.batch(rows[part], self.cutoff_A, torch.float64, torch.device("cpu"))
            own = torch.from_numpy(learn.elements[batch.atoms])
            trace = potential.atoms(self._parameters(torch.device("cpu")), batch, own, function=_Kernels(self, own))
            parts.append(trace.passed.inputs[0].numpy())
            elements.append(learn.elements[batch.atoms])
        return np.concatenate(parts), np.concatenate(elements), np.repeat(np.arange(len(rows)), sizes)

    @property
    def n_elements(self) -> int:
        """Number of elements."""
        return len(self.centres)

    def said(self, batch: Batch, elements: Tensor, spread_of: frozenset[str]) -> tuple[Said, Said]:
        """Return what it says of structures, and the same with a first axis, as ``readouts.said_by`` of a network."""
        device = elements.device
        double = replace(batch, vectors=batch.vectors.double(), volumes=batch.volumes.double())
        potential, parameters = self._potential(device), self._parameters(device)
        trace = potential.atoms(parameters, double, elements, function=_Kernels(self, elements))
        said = {"energy": potential.energies(parameters, trace).cpu().numpy()}
        if spread_of - {"energy"}:
            said |= derivatives_of(potential, trace, trace.function)
        return said, {name: values[None] for name, values in said.items()}

    def _potential(self, device: torch.device) -> Potential:
        return potential_of(self.cutoff_A, self.n_elements, torch.float64, device)

    def _parameters(self, device: torch.device) -> Parameters:
        ones = torch.ones(self.n_elements, dtype=torch.float64, device=device)
        return Parameters([], [], self.embedding.to(device), ones, torch.zeros_like(ones))

    def account(self) -> dict[str, float | int]:
        """Return what the hyperparameters of a model say of it."""
        count = sum(len(one) for one in self.centres)
        return {"auxiliary_length": self.length, "auxiliary_noise": self.noise, "auxiliary_centres": count}

    def write(self, group: Any) -> None:
        """Write it into an HDF5 group."""
        group.attrs.update(cutoff_A=self.cutoff_A, length=self.length, noise=self.noise)
        for name in ("embedding", "means", "spreads"):
            group.create_dataset(name, data=getattr(self, name).numpy())
        for number, (centres, weights) in enumerate(zip(self.centres, self.weights, strict=True)):
            group.create_dataset(f"centres/{number:03d}", data=centres.numpy().astype(np.float32))
            group.create_dataset(f"weights/{number:03d}", data=weights.numpy())

    @staticmethod
    def read(group: Any) -> AuxiliaryProcess:
        """Read what ``write`` wrote. Raises KeyError if something is missing."""
        embedding, means, spreads = (torch.from_numpy(group[name][()]) for name in ("embedding", "means", "spreads"))
        centres, weights = (
            [torch.from_numpy(group[part][name][()].astype(np.float64)) for name in sorted(group[part])]
            for part in ("centres", "weights")
        )
        length, noise, cutoff_A = (float(group.attrs[name]) for name in ("length", "noise", "cutoff_A"))
        return AuxiliaryProcess(cutoff_A, embedding, means, spreads, centres, weights, length, noise)


class _Kernels:
    """The sum of the kernels, as a function of the invariants of atoms of given elements."""

    def __init__(self, process: AuxiliaryProcess, elements: Tensor) -> None:
        self._process, self._elements = process, elements

    def _parts(self, inputs: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor, Tensor]]:
        """Yield of each element its atoms, their scaled invariants, the centres, the weighted kernels, the spread."""
        process, device = self._process, inputs.device
        for element in range(process.n_elements):
            atoms = torch.nonzero(self._elements == element)[:, 0]
            spread = process.spreads[element].to(device)
            scaled = (inputs[atoms] - process.means[element].to(device)) / spread
            centres, weights = process.centres[element].to(device), process.weights[element].to(device)
            squares = (scaled * scaled).sum(1)[:, None] + (centres * centres).sum(1)
            squares = torch.addmm(squares, scaled, centres.T, alpha=-2.0).clamp_(min=0.0)
            kernels = squares.mul_(-0.5 / process.length**2).exp_().mul_(weights)
            yield atoms, scaled, centres, kernels, spread

    def forward(self, inputs: Tensor, curved: bool = False) -> tuple[Tensor, Passed]:
        """Return the sums, eV, shape (n,), and the inputs."""
        outputs = torch.zeros(len(inputs), dtype=inputs.dtype, device=inputs.device)
        for atoms, _, _, kernels, _ in self._parts(inputs):
            outputs[atoms] = kernels.sum(1)
        return outputs, Passed([inputs], [], [])

    def backward(self, passed: Passed, outputs: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return the gradient of the sum of outputs (shape (n,)) times the function's, by the inputs."""
        gradient = torch.zeros_like(passed.inputs[0])
        for atoms, scaled, centres, kernels, spread in self._parts(passed.inputs[0]):
            pull = kernels @ centres - kernels.sum(1)[:, None] * scaled
            gradient[atoms] = outputs[atoms][:, None] * pull / (self._process.length**2 * spread)
        return [gradient], []


def _share(offsets: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the structures that are looked at, in rising order: as many as have ``ATOMS`` atoms together, and one at least."""
    order = rng.permutation(len(offsets) - 1)
    fit = int(np.searchsorted(np.cumsum(np.diff(offsets)[order]), ATOMS, side="right"))
    return np.sort(order[: max(1, fit)])


def _centres(points: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Return so many of the points, far apart, or all, shape (m, p), in single precision, as they are kept."""
    chosen = points if count >= len(points) else points[furthest_first(points, None, count)]
    return chosen.astype(np.float32).astype(np.float64)


Squares = list[tuple[NDArray[np.int64], NDArray[np.float64]]]
"""Of each element: the structures of its atoms, and these atoms' squared distances from the centres."""


def _of(
    chosen: NDArray[np.int64], owners: NDArray[np.int64], values: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the part of squares that is of chosen structures (rising), which are numbered from 0 then."""
    part = np.isin(owners, chosen)
    return np.searchsorted(chosen, owners[part]), values[part]


def _kernel(squares: Squares, n: int, length: float) -> NDArray[np.float64]:
    """Return the kernel between n structures and the centres, shape (n, m)."""
    parts = []
    for owners, values in squares:
        part = np.zeros((n, values.shape[1]))
        np.add.at(part, owners, np.exp(values * (-0.5 / length**2)))
        parts.append(part)
    return np.hstack(parts)


def _factor(between: list[NDArray[np.float64]], length: float) -> NDArray[np.float64]:
    """Return the lower Cholesky factor of the kernel of the centres, of which those of two elements have none in common."""
    sizes = [len(one) for one in between]
    whole, begin = np.zeros((sum(sizes), sum(sizes))), 0
    for one, size in zip(between, sizes, strict=True):
        part = np.exp(one * (-0.5 / length**2)) + ROUNDING * np.eye(size)
        whole[begin : begin + size, begin : begin + size] = cholesky(part, lower=True) if size else part
        begin += size
    return whole


def _best_noise(
    kernel: NDArray[np.float64], between: list[NDArray[np.float64]], length: float, energies: NDArray[np.float64]
) -> _Choice:
    """Return the noise of the largest marginal likelihood for a length; the scale of the prior is its best one."""
    root = solve_triangular(_factor(between, length), kernel.T, lower=True)
    values, vectors = np.linalg.eigh(root.T @ root)
    parts, scale = (vectors.T @ energies) ** 2, float(np.maximum(values, 0.0).mean())
    found = []
    for noise in NOISES:
        variances = np.maximum(values, 0.0) + noise * scale
        prior = max(float((parts / variances).mean()), np.finfo(float).tiny)
        likelihood = -0.5 * len(energies) * np.log(prior) - 0.5 * float(np.log(variances).sum())
        found.append(_Choice(likelihood, length, noise))
    return max(found, key=lambda one: one.likelihood)


def _weights(
    kernel: NDArray[np.float64], between: list[NDArray[np.float64]], choice: _Choice, energies: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the weights of the centres, eV, by a factorisation that does not square the kernel's condition."""
    factor = _factor(between, choice.length)
    root = np.asarray(solve_triangular(factor, kernel.T, lower=True)).T
    ridge = np.sqrt(choice.noise * float(np.einsum("ij,ij->", root, root)) / len(root))
    stacked: NDArray[np.float64] = np.concatenate([root, ridge * np.eye(root.shape[1])])
    q, r = np.linalg.qr(stacked)
    inner = solve_triangular(r, q[: len(root)].T @ energies)
    return np.asarray(solve_triangular(factor, inner, lower=True, trans="T"))
