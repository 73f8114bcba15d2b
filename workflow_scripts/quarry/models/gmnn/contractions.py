"""Contractions of the Gaussian moments to invariants, and their derivatives in closed form.

V. Zaverkin, J. Kaestner, J. Chem. Theory Comput. 16, 5410 (2020). With the moments M0 to M3 of n radial functions r, s, t and
Cartesian indices a, b, c, d (summed):

    M0_r;  M1_ra M1_sa,  M2_rab M2_sab,  M3_rabc M3_sabc (r <= s);  M2_rab M2_sac M2_tbc (r <= s <= t);
    M1_ra M1_sb M2_tab,  M3_rabc M3_sabd M2_tcd (r <= s);  M3_rabc M2_sab M1_tc (all r, s, t)

which are 360 numbers for n = 5. They are found in two steps, each of them bilinear (``quarry.models.gmnn.bilinear``): products of
two moments, namely the symmetric matrices X_rs = M1_r M1_s^T, M2_r M2_s^T and M3_r M3_s^T (over two of the indices) and the
vectors M3_rabc M2_sab; then these products times a moment, or times one. So all derivatives are bilinear too.

Components are in the order of ``SECOND`` and ``THIRD``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement, product

import torch
from torch import Tensor

from quarry.models.gmnn.bilinear import (
    Sums,
    Terms,
    by_left,
    by_right,
    from_blocks,
    in_blocks,
    joined,
    sums_of,
    swapped,
    width_for,
)

SECOND = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
"""Components of a symmetric tensor of rank 2."""
THIRD = tuple(combinations_with_replacement(range(3), 3))
"""Components of a symmetric tensor of rank 3."""
COMPONENTS = 1 + 3 + len(SECOND) + len(THIRD)
"""Components of the moments of one radial function."""


@dataclass
class Products:
    """Moments (and a one) of atoms, and the products of two of them, as columns in blocks; or how both change."""

    moments: Tensor
    products: Tensor


@dataclass
class Gradient:
    """The adjoint of the features and the gradient by the products, as columns in blocks."""

    adjoint: Tensor
    by_products: Tensor


class Contractions:
    """The contractions of the moments of ``n_radial`` functions."""

    def __init__(self, n_radial: int, dtype: torch.dtype, device: torch.device) -> None:
        self.n_radial = n_radial
        self._one = n_radial * COMPONENTS
        places: dict[tuple[int, ...], int] = {}
        quadratic, cubic = self._quadratic(places), self._features(places)
        self.count = 1 + max(k for k, _, _ in cubic)

        def table(terms: Terms, count: int) -> Sums:
            return sums_of(terms, count, dtype, device)

        n_moments, n_products = self._one, len(places)
        both = joined(quadratic, swapped(quadratic))
        self._products = table(quadratic, n_products)
        self._products_change = table(both, n_products)
        self._products_back = table(by_left(both), n_moments)
        self._contract = table(cubic, self.count)
        self._by_products = table(by_left(cubic), n_products)
        self._by_moments = table(by_right(cubic), n_moments)

    def _place(self, radial: int, *indices: int) -> int:
        """Return where a component of a moment is."""
        kinds: Sequence[tuple[int, ...]] = ((), ((0,), (1,), (2,)), SECOND, THIRD)[len(indices)]
        at = list(kinds).index(tuple(sorted(indices))) if indices else 0
        return radial * COMPONENTS + (0, 1, 4, 10)[len(indices)] + at

    def _pairs(self) -> Iterator[tuple[int, int]]:
        return combinations_with_replacement(range(self.n_radial), 2)

    def _quadratic(self, places: dict[tuple[int, ...], int]) -> Terms:
        """Return the products' terms, and where each is: M0 by (0, r), X by (rank, r, s, a, b), M3 M2 by (4, r, s, c)."""
        terms: Terms = {}

        def add(name: tuple[int, ...], left: int, right: int, factor: float) -> None:
            key = places.setdefault(name, len(places)), left, right
            terms[key] = terms.get(key, 0.0) + factor

        for r in range(self.n_radial):
            add((0, r), self._place(r), self._one, 1.0)
        for rank in (1, 2, 3):
            inner: Sequence[tuple[int, ...]] = (((),), ((0,), (1,), (2,)), SECOND)[rank - 1]
            for (r, s), (a, b), rest in product(self._pairs(), SECOND, inner):
                # Both X_ab and X_ba where a and b differ.
                for first, second in {(a, b), (b, a)}:
                    left, right = self._place(r, *rest, first), self._place(s, *rest, second)
                    add((rank, r, s, a, b), left, right, _count(rest))
        for r, s, c, ab in product(range(self.n_radial), range(self.n_radial), range(3), SECOND):
            add((4, r, s, c), self._place(r, *ab, c), self._place(s, *ab), _count(ab))
        return terms

    def _features(self, places: dict[tuple[int, ...], int]) -> Terms:
        """Return the features' terms: products (left) times moments or one (right)."""
        terms: Terms = {}
        every, number = range(self.n_radial), 0

        def add(*summands: tuple[tuple[int, ...], int]) -> None:
            nonlocal number
            terms.update({(number, places[name], right): 1.0 for name, right in summands})
            number += 1

        def with_second(rank: int, r: int, s: int, t: int) -> None:
            add(*(((rank, r, s, a, b), self._place(t, a, b)) for a, b in SECOND))

        for r in every:
            add(((0, r), self._one))
        for rank, (r, s) in product((1, 2, 3), self._pairs()):
            add(*(((rank, r, s, a, a), self._one) for a in range(3)))
        for r, s, t in combinations_with_replacement(every, 3):
            with_second(2, r, s, t)
        for rank, (r, s), t in product((1, 3), self._pairs(), every):
            with_second(rank, r, s, t)
        for t, r, s in product(every, every, every):
            add(*(((4, r, s, c), self._place(t, c)) for c in range(3)))
        return terms

    def products(self, moments: Tensor) -> Products:
        """Return the products of moments, shape (n, n_radial, 20)."""
        columns = self._columns(moments, 1.0)
        return Products(columns, self._products(columns, columns))

    def products_tangent(self, at: Products, moments: Tensor) -> Products:
        """Return how the products change with the moments."""
        columns = self._columns(moments, 0.0)
        return Products(columns, self._products_change(columns, at.moments))

    def _columns(self, moments: Tensor, one: float) -> Tensor:
        n = len(moments)
        rows = torch.cat([moments.reshape(n, -1), moments.new_full((n, 1), one)], 1)
        return in_blocks(rows, width_for(n))

    def features(self, at: Products, n: int) -> Tensor:
        """Return the features of n atoms, shape (n, count)."""
        return from_blocks(self._contract(at.products, at.moments), n)

    def features_tangent(self, at: Products, change: Products, n: int) -> Tensor:
        """Return how the features change with moments and products."""
        result = self._contract(change.products, at.moments)
        return from_blocks(self._contract(at.products, change.moments, result), n)

    def gradient(self, at: Products, adjoint: Tensor) -> tuple[Tensor, Gradient]:
        """Return the gradient by the moments, shape (n, n_radial, 20), of the sum of adjoint times features."""
        n = len(adjoint)
        columns = in_blocks(adjoint, width_for(n))
        known = Gradient(columns, self._by_products(columns, at.moments))
        result = self._by_moments(columns, at.products)
        return self._rows(self._products_back(known.by_products, at.moments, result), n), known

    def gradient_tangent(self, at: Products, change: Products, known: Gradient, adjoint: Tensor) -> Tensor:
        """Return how the gradient changes with the moments (``change``) and with its adjoint (by ``adjoint``)."""
        n = len(adjoint)
        columns = in_blocks(adjoint, width_for(n))
        by_products = self._by_products(columns, at.moments)
        self._by_products(known.adjoint, change.moments, by_products)
        result = self._by_moments(columns, at.products)
        self._by_moments(known.adjoint, change.products, result)
        self._products_back(by_products, at.moments, result)
        self._products_back(known.by_products, change.moments, result)
        return self._rows(result, n)

    def _rows(self, blocks: Tensor, n: int) -> Tensor:
        return from_blocks(blocks, n).contiguous().view(n, self.n_radial, COMPONENTS)


def _count(indices: tuple[int, ...]) -> float:
    """Return how many components of a symmetric tensor of rank 2 or less are equal to this one."""
    return 2.0 if len(indices) == 2 and indices[0] != indices[1] else 1.0
