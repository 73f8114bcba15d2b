"""The potential: energies, forces and stresses of structures, and the gradient of a loss by the parameters.

All derivatives are written out. A loss that sees forces needs derivatives of second order: with l = dL/dE of each structure
and v = dL/d(dE/dR), its gradient is that of sum(l E) + (the derivative of E along v), with l and v constant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quarry.models.gmnn.atomic_network import AtomicFunction, AtomicNetwork, Passed
from quarry.models.gmnn.contractions import Contractions, Gradient, Products
from quarry.models.gmnn.moments import Geometry, Moments, Tangent
from quarry.models.gmnn.neighbours import Batch

N_RADIAL = 5
N_BASIS = 7


@dataclass
class Parameters:
    """What is learnt. embedding: shape (n_pairs_of_elements, n_radial, n_basis). scale, shift: eV, of each element.

    spread: of a shallow ensemble, how the weights and biases of its read-outs differ from those of the last layer
    (``quarry.models.gmnn.readouts``), shapes (n_hidden, n_readouts) and (n_readouts,); else empty.
    """

    weights: list[Tensor]
    biases: list[Tensor]
    embedding: Tensor
    scale: Tensor
    shift: Tensor
    spread: list[Tensor] = field(default_factory=list)

    @property
    def of_network(self) -> list[Tensor]:
        """All but the spread, in a fixed order."""
        return [*self.weights, *self.biases, self.embedding, self.scale, self.shift]

    @property
    def tensors(self) -> list[Tensor]:
        """All parameters, in a fixed order."""
        return [*self.of_network, *self.spread]

    def map(self, function: Callable[[Tensor], Tensor]) -> Parameters:
        """Return the parameters, each changed by a function."""
        weights, biases, spread = ([function(t) for t in part] for part in (self.weights, self.biases, self.spread))
        return Parameters(weights, biases, function(self.embedding), function(self.scale), function(self.shift), spread)


def initial_parameters(n_elements: int, hidden: Sequence[int], scale_eV: float, rng: np.random.Generator) -> Parameters:
    """Return random weights (standard normal) and embedding (uniform from -1 to 1), and scales and shifts of elements."""
    inputs = Contractions(N_RADIAL, torch.float32, torch.device("cpu")).count
    sizes = [inputs, *hidden, 1]
    weights = [_single(rng.standard_normal(shape)) for shape in pairwise(sizes)]
    biases = [torch.zeros(size) for size in sizes[1:]]
    embedding = _single(rng.uniform(-1.0, 1.0, (n_elements**2, N_RADIAL, N_BASIS)))
    return Parameters(weights, biases, embedding, torch.full((n_elements,), scale_eV), torch.zeros(n_elements))


def _single(values: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))


@dataclass
class Result:
    """Of n structures: energies (eV, double, without atomic references), gradient by the atoms' positions (eV/Angstrom,
    shape (n_atoms, 3)), derivative by the strain (eV, shape (n, 3, 3)); what the loss's gradient needs.
    """

    energies: Tensor
    gradient: Tensor
    strain: Tensor
    trace: Trace


@dataclass
class Trace:
    """What a forward and a backward pass computed."""

    batch: Batch
    elements: Tensor
    types: Tensor
    weights: Tensor
    geometry: Geometry
    radial: Tensor
    radial_slopes: Tensor
    products: Products
    function: AtomicFunction
    passed: Passed
    outputs: Tensor
    seeds: Tensor
    backward: tuple[list[Tensor], list[Tensor]] = field(default_factory=lambda: ([], []))
    contracted: Gradient | None = None
    by_moments: Tensor | None = None
    by_radial: Tensor | None = None

    @property
    def network(self) -> AtomicNetwork:
        """The function, where it is a network."""
        assert isinstance(self.function, AtomicNetwork)
        return self.function


class Potential:
    """The function of structures that parameters describe. Parameters and all tensors share dtype and device."""

    def __init__(self, cutoff_A: float, n_elements: int, dtype: torch.dtype, device: torch.device) -> None:
        self.dtype, self.device = dtype, device
        self.cutoff_A, self.n_elements = cutoff_A, n_elements
        self.moments = Moments(cutoff_A, N_BASIS, dtype, device)
        self.contractions = Contractions(N_RADIAL, dtype, device)

    def atoms(
        self,
        parameters: Parameters,
        batch: Batch,
        elements: Tensor,
        curved: bool = False,
        function: AtomicFunction | None = None,
    ) -> Trace:
        """Pass atoms through the network, or through another function. elements: number of each atom's, from 0.

        curved: ``gradient`` will be asked for.
        """
        function = function or AtomicNetwork(parameters.weights, parameters.biases)
        types = elements[:, None] * self.n_elements + elements[batch.neighbours]
        table = parameters.embedding.reshape(self.n_elements**2, -1).T.contiguous()
        weights = table.index_select(1, types.reshape(-1)).view(N_RADIAL, N_BASIS, *types.shape)
        geometry = self.moments.geometry(batch.vectors)
        radial = self.moments.radial(weights, geometry.basis)
        slopes = self.moments.radial(weights, geometry.slopes)
        moments = self.moments.sum(radial, geometry.monomials)
        products = self.contractions.products(moments)
        outputs, passed = function.forward(self.contractions.features(products, len(elements)), curved)
        seeds = parameters.scale[elements]
        return Trace(
            batch, elements, types, weights, geometry, radial, slopes, products, function, passed, outputs, seeds
        )

    def energies(self, parameters: Parameters, trace: Trace) -> Tensor:
        """Return energies (eV, double) of structures, shape (n,), without atomic references."""
        each = trace.seeds.double() * trace.outputs.double() + parameters.shift.double()[trace.elements]
        total = torch.zeros(len(trace.batch.volumes), dtype=torch.float64, device=self.device)
        return total.index_add_(0, trace.batch.owners, each)

    def evaluate(self, parameters: Parameters, batch: Batch, elements: Tensor, curved: bool = False) -> Result:
        """Return energies, forces and derivatives by the strain."""
        trace = self.atoms(parameters, batch, elements, curved)
        gradient, strain = self.derivatives(trace, trace.function)
        return Result(self.energies(parameters, trace), gradient, strain, trace)

    def derivatives(self, trace: Trace, function: AtomicFunction) -> tuple[Tensor, Tensor]:
        """Return the energies' gradient by the positions and derivatives by the strain, as a result has them.

        What it finds on the way stays in the trace. function: that of the trace, or a network with another last layer.
        """
        batch = trace.batch
        trace.backward = function.backward(trace.passed, trace.seeds)
        trace.by_moments, trace.contracted = self.contractions.gradient(trace.products, trace.backward[0][0])
        by_vectors, trace.by_radial = self.moments.by_vectors(
            trace.geometry, trace.by_moments, trace.radial, trace.radial_slopes
        )
        gradient = -by_vectors.sum(2).T
        gradient = gradient.index_add(0, batch.neighbours.reshape(-1), by_vectors.reshape(3, -1).T)
        by_atoms = (batch.vectors[:, None] * by_vectors[None]).sum(3)
        strain = torch.zeros((len(batch.volumes), 9), dtype=self.dtype, device=self.device)
        strain.index_add_(0, batch.owners, by_atoms.reshape(9, -1).T)
        return gradient, strain.view(-1, 3, 3)

    def moved(self, trace: Trace, moving: Tensor) -> tuple[Tangent, Products, Tensor]:
        """Return how geometry, products and features of the atoms change when the vectors of pairs do (shape (3, n, n_slots))."""
        tangent = self.moments.tangent(trace.geometry, moving)
        radial = trace.radial_slopes * tangent.distances
        moments = self.moments.sum(
            torch.cat([radial, trace.radial], 2), torch.cat([trace.geometry.monomials, tangent.monomials], 2)
        )
        products = self.contractions.products_tangent(trace.products, moments)
        return tangent, products, self.contractions.features_tangent(trace.products, products, len(moments))

    def energy_gradient(self, parameters: Parameters, trace: Trace, energies: Tensor) -> Parameters:
        """Return the gradient of a loss of energies alone by the parameters. energies: its derivatives by them."""
        shares = energies.to(self.dtype)[trace.batch.owners]
        weights, biases, by_features = trace.network.energy_gradients(trace.passed, shares * trace.seeds)
        by_moments, _ = self.contractions.gradient(trace.products, by_features)
        by_radial = self.moments.by_radial(by_moments, trace.geometry.monomials)
        return self._collected(
            parameters,
            trace,
            weights,
            biases,
            by_radial[:, None] * trace.geometry.basis,
            shares * trace.outputs,
            shares,
        )

    def gradient(
        self, parameters: Parameters, result: Result, energies: Tensor, atoms: Tensor, strain: Tensor | None
    ) -> Parameters:
        """Return the gradient of a loss by the parameters.

        energies, atoms, strain: derivatives of the loss by energies, ``gradient`` and ``strain`` of a result (that was
        evaluated with ``curved``).
        """
        trace, batch = result.trace, result.trace.batch
        assert trace.contracted is not None and trace.by_moments is not None and trace.by_radial is not None
        along = atoms.T
        moving = along[:, batch.neighbours] - along[:, :, None]
        if strain is not None:
            moving = moving + (strain.permute(1, 2, 0)[:, :, batch.owners, None] * batch.vectors[None]).sum(1)
        shares = energies.to(self.dtype)[batch.owners]
        geometry = trace.geometry
        tangent, products, features = self.moved(trace, moving)
        moved = trace.network.tangent(trace.passed, features)
        weights, biases, by_features = trace.network.parameter_gradients(
            trace.passed, trace.seeds, trace.backward, shares, moved
        )
        by_moments = self.contractions.gradient_tangent(trace.products, products, trace.contracted, by_features)
        by_radial = self.moments.by_radial(by_moments, geometry.monomials)
        by_radial += self.moments.by_radial(trace.by_moments, tangent.monomials)
        functions = geometry.slopes * tangent.distances
        pairs = by_radial[:, None] * geometry.basis
        pairs.addcmul_(trace.by_radial[:, None], functions)
        scales = shares * trace.outputs + moved[0]
        return self._collected(parameters, trace, weights, biases, pairs, scales, shares)

    def _collected(
        self,
        parameters: Parameters,
        trace: Trace,
        weights: list[Tensor],
        biases: list[Tensor],
        pairs: Tensor,
        scales: Tensor,
        shifts: Tensor,
    ) -> Parameters:
        """Return a gradient, from those by the embeddings of each pair, and by scale and shift of each atom."""
        flat = pairs.reshape(N_RADIAL * N_BASIS, -1)
        embedding = self._summed(flat, trace.types.reshape(-1), self.n_elements**2)
        scale, shift = self._summed(torch.stack([scales, shifts]), trace.elements, self.n_elements)
        shape = parameters.embedding.shape
        return Parameters(weights, biases, embedding.T.reshape(shape), scale.contiguous(), shift.contiguous())

    def _summed(self, values: Tensor, groups: Tensor, count: int) -> Tensor:
        """Return sums over groups, shape (n, count), of values of shape (n, m): always in the same order."""
        chosen = torch.nn.functional.one_hot(groups, count).to(self.dtype)
        return values @ chosen


@lru_cache(maxsize=4)
def potential_of(cutoff_A: float, n_elements: int, dtype: torch.dtype, device: torch.device) -> Potential:
    """Return a potential (cutoff: Angstrom), whose tables take longer to make than the energy of a molecule."""
    return Potential(cutoff_A, n_elements, dtype, device)
