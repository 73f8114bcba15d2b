"""Gaussian moments of neighbourhoods: radial functions times the monomials of the direction, summed over the neighbours.

V. Zaverkin, J. Kaestner, J. Chem. Theory Comput. 16, 5410 (2020), equations 6 to 10; the radial functions as in apax:

    R_r(r_ij) = f_c(r_ij) sum_k w[Z_i, Z_j, r, k] phi_k(r_ij) / sqrt(n_basis),   f_c(r) = (cos(pi r / r_c) + 1) / 2
    phi_k(r) = (2 beta / pi)^(1/4) exp(-beta (r - mu_k)^2),  beta = n_basis^2 / r_c^2,  mu_k = r_min + k (r_c - r_min) / n_basis
    M_l,r = sum_j R_r(r_ij) n_ij x ... x n_ij   (l times),   l = 0 to 3

Pairs of atoms are in a grid of n atoms and n_slots neighbours, numbers of a pair in the first axis: shape (.., n, n_slots).
Vectors of empty places are as long as the cutoff, where radial functions and their derivatives vanish.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from quarry.models.gmnn.contractions import COMPONENTS, SECOND, THIRD

R_MIN_A = 0.5
"""Centre of the first Gaussian (Angstrom)."""


@dataclass
class Geometry:
    """What pairs are, apart from parameters: shapes (.., n, n_slots).

    vectors: from the atom to its neighbour, Angstrom, (3, ..). inverse: 1 / distance. directions: unit vectors, (3, ..).
    monomials: of these, in the order of the moments' components, (20, ..). basis, slopes: Gaussians times the cutoff function
    over sqrt(n_basis), and their derivatives by the distance, (n_basis, ..).
    """

    vectors: Tensor
    inverse: Tensor
    directions: Tensor
    monomials: Tensor
    basis: Tensor
    slopes: Tensor


@dataclass
class Tangent:
    """How a geometry changes: distances (n, n_slots), and monomials (20, n, n_slots)."""

    distances: Tensor
    monomials: Tensor


class Moments:
    """Gaussian moments within a cutoff (Angstrom), of ``n_basis`` Gaussians."""

    def __init__(self, cutoff_A: float, n_basis: int, dtype: torch.dtype, device: torch.device) -> None:
        self.cutoff_A = cutoff_A
        self._beta = n_basis**2 / cutoff_A**2
        self._norm = (2 * self._beta / math.pi) ** 0.25 / math.sqrt(n_basis)
        steps = torch.arange(n_basis, dtype=dtype, device=device) / n_basis
        self._centres = (R_MIN_A + steps * (cutoff_A - R_MIN_A))[:, None, None]
        # A component of rank 2 is that of two directions; of rank 3 that of a component of rank 2 and a direction.
        pairs = [(SECOND.index((a, b)), c) for a, b, c in THIRD]
        self._left, self._right = (torch.tensor(part, device=device) for part in zip(*SECOND, strict=True))
        self._pair, self._third = (torch.tensor(part, device=device) for part in zip(*pairs, strict=True))

        def sums(size: int, places: Tensor) -> Tensor:
            matrix = torch.zeros((size, len(places)), dtype=dtype, device=device)
            matrix[places, torch.arange(len(places), device=device)] = 1.0
            return matrix

        self._to_left, self._to_right = sums(3, self._left), sums(3, self._right)
        self._to_pair, self._to_third = sums(len(SECOND), self._pair), sums(3, self._third)

    def geometry(self, vectors: Tensor) -> Geometry:
        """Return the geometry of pairs. vectors: Angstrom, shape (3, n, n_slots)."""
        distances = (vectors * vectors).sum(0).sqrt_()
        inverse = distances.reciprocal()
        directions = vectors * inverse
        monomials = vectors.new_empty((COMPONENTS, *distances.shape))
        monomials[0] = 1.0
        monomials[1:4] = directions
        torch.mul(directions.index_select(0, self._left), directions.index_select(0, self._right), out=monomials[4:10])
        torch.mul(
            monomials[4:10].index_select(0, self._pair), directions.index_select(0, self._third), out=monomials[10:]
        )
        angle = distances * (math.pi / self.cutoff_A)
        inside = distances < self.cutoff_A
        cut = torch.cos(angle).add_(1.0).mul_(0.5 * self._norm).mul_(inside)
        cut_slope = torch.sin(angle).mul_(-0.5 * self._norm * math.pi / self.cutoff_A).mul_(inside)
        off = distances - self._centres
        gaussians = torch.exp(off * off * -self._beta)
        slopes = torch.addcmul(gaussians * cut_slope, gaussians * cut, off, value=-2.0 * self._beta)
        return Geometry(vectors, inverse, directions, monomials, gaussians * cut, slopes)

    @staticmethod
    def radial(weights: Tensor, functions: Tensor) -> Tensor:
        """Return radial functions, shape (n_radial, n, n_slots). weights: of each pair, (n_radial, n_basis, n, n_slots)."""
        return (weights * functions).sum(1)

    @staticmethod
    def sum(radial: Tensor, monomials: Tensor) -> Tensor:
        """Return moments, shape (n, n_radial, 20): products of both summed over the neighbours."""
        return radial.transpose(0, 1) @ monomials.permute(1, 2, 0)

    @staticmethod
    def by_radial(moments: Tensor, monomials: Tensor) -> Tensor:
        """Return the gradient by the radial functions, shape (n_radial, n, n_slots), from that by the moments."""
        return (moments @ monomials.transpose(0, 1)).transpose(0, 1).contiguous()

    def by_vectors(self, at: Geometry, moments: Tensor, radial: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradient by the vectors, shape (3, n, n_slots), and by the radial functions.

        moments: the gradient by the moments. radial, slopes: the radial functions and their derivatives by the distance.
        """
        by_radial = self.by_radial(moments, at.monomials)
        by_monomials = (moments.transpose(1, 2) @ radial.transpose(0, 1)).transpose(0, 1).contiguous()
        by_distance = (by_radial * slopes).sum(0)
        shape, directions = by_monomials.shape[1:], at.directions
        third, second = by_monomials[10:], by_monomials[4:10]
        second += self._summed(self._to_pair, third * directions.index_select(0, self._third))
        by_direction = by_monomials[1:4].reshape(3, -1)
        by_direction += self._to_third @ (third * at.monomials[4:10].index_select(0, self._pair)).reshape(
            len(THIRD), -1
        )
        by_direction += self._to_left @ (second * directions.index_select(0, self._right)).reshape(len(SECOND), -1)
        by_direction += self._to_right @ (second * directions.index_select(0, self._left)).reshape(len(SECOND), -1)
        across = by_direction.view(3, *shape) * at.inverse
        along = by_distance - (across * directions).sum(0)
        return across.addcmul_(directions, along), by_radial

    @staticmethod
    def _summed(matrix: Tensor, values: Tensor) -> Tensor:
        return (matrix @ values.reshape(len(values), -1)).view(len(matrix), *values.shape[1:])

    def tangent(self, at: Geometry, vectors: Tensor) -> Tangent:
        """Return how the geometry changes with the vectors. vectors: their change, shape (3, n, n_slots)."""
        directions = at.directions
        distances = (directions * vectors).sum(0)
        turn = torch.addcmul(vectors, directions, distances, value=-1.0).mul_(at.inverse)
        monomials = torch.empty_like(at.monomials)
        monomials[0] = 0.0
        monomials[1:4] = turn
        second, third = monomials[4:10], monomials[10:]
        torch.mul(directions.index_select(0, self._left), turn.index_select(0, self._right), out=second)
        second.addcmul_(turn.index_select(0, self._left), directions.index_select(0, self._right))
        torch.mul(second.index_select(0, self._pair), directions.index_select(0, self._third), out=third)
        third.addcmul_(at.monomials[4:10].index_select(0, self._pair), turn.index_select(0, self._third))
        return Tangent(distances, monomials)
