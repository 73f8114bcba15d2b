"""Contractions of the Gaussian moments to invariants, and their derivatives in closed form.

V. Zaverkin, J. Kaestner, J. Chem. Theory Comput. 16, 5410 (2020). With the moments M0 to M3 of n radial functions r, s, t and
Cartesian indices a, b, c, d (summed):

    M0_r;  M1_ra M1_sa,  M2_rab M2_sab,  M3_rabc M3_sabc (r <= s);  M2_rab M2_sac M2_tbc (r <= s <= t);
    M1_ra M1_sb M2_tab,  M3_rabc M3_sabd M2_tcd (r <= s);  M3_rabc M2_sab M1_tc (all r, s, t)

which are 360 numbers for n = 5. All but M0 and the last are found at once: the matrices X_rs = M1_r M1_s^T, M2_r M2_s^T and
M3_r M3_s^T (over two of the indices) are contracted with M2_t, and with the unit tensor, which gives the quadratic ones.

Components are in the order of ``SECOND`` and ``THIRD``. Derivatives are written out, since those of second order (how a
gradient of forces depends on the parameters) cost half of what automatic differentiation takes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import torch
from torch import Tensor

SECOND = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
"""Components of a symmetric tensor of rank 2."""
THIRD = tuple(combinations_with_replacement(range(3), 3))
"""Components of a symmetric tensor of rank 3."""
COMPONENTS = 1 + 3 + len(SECOND) + len(THIRD)
"""Components of the moments of one radial function."""
PADDED = 4
"""Cartesian indices are padded to so many with zeros: products of small matrices are quicker then."""


@dataclass
class Products:
    """Products of moments of n atoms. The zeros of padding are where the first Cartesian index is 3.

    first: M1, shape (n, n_r, 4). second: M2 and the unit tensor, (n, n_r + 1, 6). ones, twos, threes: M1, M2 and M3, of shapes
    (n, 1, 4 n_r), (n, 3, 4 n_r) and (n, 6, 4 n_r): a row is an index or two that are contracted, a column c, r. squares: the
    matrices X, (n, 6, 3 n_pairs). mixed: M3_rabc M2_sab, (n, 4, n_r^2), a column r, s.
    """

    first: Tensor
    second: Tensor
    weighted: Tensor
    ones: Tensor
    twos: Tensor
    threes: Tensor
    squares: Tensor
    mixed: Tensor


class Contractions:
    """The contractions of the moments of ``n_radial`` functions."""

    def __init__(self, n_radial: int, dtype: torch.dtype, device: torch.device) -> None:
        n = self.n_radial = n_radial
        pairs = self._pairs = list(combinations_with_replacement(range(n), 2))
        width = PADDED * n
        expand = [self._place(r, c) for c in range(PADDED) for r in range(n)]
        expand += [self._place(r, k, c) for k in range(3) for c in range(PADDED) for r in range(n)]
        expand += [self._place(r, *ab, c) for ab in SECOND for c in range(PADDED) for r in range(n)]
        factors = [1.0] * (width * 4) + [math.sqrt(_count(ab)) for ab in SECOND for _ in range(width)]
        factors = [0.0 if at < 0 else factor for at, factor in zip(expand, factors, strict=True)]
        self._expand = torch.tensor([max(at, 0) for at in expand], device=device)
        self._factors = torch.tensor(factors, dtype=dtype, device=device)
        self._collect = torch.zeros((len(expand), n * COMPONENTS), dtype=dtype, device=device)
        self._collect[torch.arange(len(expand), device=device), self._expand] = self._factors
        self._weights = torch.tensor([math.sqrt(_count(ab)) for ab in SECOND], dtype=dtype, device=device)
        self._unit = torch.tensor([float(a == b) for a, b in SECOND], dtype=dtype, device=device)

        def entry(kind: int, r: int, a: int, s: int, b: int) -> int:
            return kind * width**2 + (a * n + r) * width + b * n + s

        kinds = range(3)
        self._squares = torch.tensor(
            [entry(k, r, a, s, b) for a, b in SECOND for k in kinds for r, s in pairs], device=device
        )
        self._mirrored = torch.tensor(
            [entry(k, r, b, s, a) for a, b in SECOND[3:] for k in kinds for r, s in pairs], device=device
        )
        # The other way: from the derivatives by X to the three matrices that rows (without padding) are multiplied with; any
        # number where their columns are padded.
        number = {pair: i for i, pair in enumerate(pairs)}
        second = {ab: u for u, ab in enumerate(SECOND)}
        columns = len(pairs) * 3
        self._spread = torch.tensor(
            [
                second[_sorted(a, b % 3)] * columns + k * len(pairs) + number[_sorted(r, s)]
                for k in kinds
                for a in range(3)
                for r in range(n)
                for b in range(PADDED)
                for s in range(n)
            ],
            device=device,
        )
        self._twice = torch.tensor([2.0 if r == s else 1.0 for r, s in pairs] * 3, dtype=dtype, device=device)
        self._chosen = torch.tensor(self._features_of_squares(number), device=device)
        # The place of each product among the features, whose first are M0; any place for those that are none.
        inverse = torch.zeros((n + 1) * columns, dtype=torch.int64, device=device)
        inverse[self._chosen] = torch.arange(len(self._chosen), device=device) + n
        self._inverse = inverse
        self._used = torch.zeros((n + 1) * columns, dtype=dtype, device=device)
        self._used[self._chosen] = 1.0
        self.count = n + len(self._chosen) + n**3

    def _place(self, radial: int, *indices: int) -> int:
        """Return where a component of a moment is, -1 for padding."""
        if max(indices) > 2:
            return -1
        kinds: Sequence[tuple[int, ...]] = ((), ((0,), (1,), (2,)), SECOND, THIRD)[len(indices)]
        return radial * COMPONENTS + (0, 1, 4, 10)[len(indices)] + list(kinds).index(tuple(sorted(indices)))

    def _features_of_squares(self, number: dict[tuple[int, int], int]) -> list[int]:
        """Return which products of M2_t (the last one: unit tensor) and X are features: row t, column of X."""
        n, pairs = self.n_radial, self._pairs
        columns = 3 * len(pairs)
        quadratic = [n * columns + kind * len(pairs) + p for kind in (0, 1, 2) for p in range(len(pairs))]
        symmetric = [
            t * columns + len(pairs) + number[(r, s)] for r, s, t in combinations_with_replacement(range(n), 3)
        ]
        rest = [t * columns + kind * len(pairs) + p for kind in (0, 2) for p in range(len(pairs)) for t in range(n)]
        return quadratic + symmetric + rest

    def _rows(self, moments: Tensor, unit: bool) -> tuple[Tensor, ...]:
        """Return first, second, weighted, ones, twos, threes of moments; the unit tensor has no tangent."""
        n_atoms, n, width = len(moments), self.n_radial, PADDED * self.n_radial
        wide = moments.reshape(n_atoms, -1).index_select(1, self._expand).mul_(self._factors)
        first = wide[:, :width].view(n_atoms, PADDED, n).transpose(1, 2)
        last = self._unit if unit else torch.zeros_like(self._unit)
        second = torch.cat([moments[:, :, 4:10], last.expand(n_atoms, 1, 6)], 1)
        weighted = moments[:, :, 4:10] * self._weights
        ones = wide[:, :width].view(n_atoms, 1, width)
        twos = wide[:, width : 4 * width].view(n_atoms, 3, width)
        return first, second, weighted, ones, twos, wide[:, 4 * width :].view(n_atoms, 6, width)

    def _squares_of(self, grams: Sequence[Tensor]) -> Tensor:
        """Return X of the matrices M1 M1^T, M2 M2^T and M3 M3^T, symmetric in its Cartesian indices."""
        n_atoms = len(grams[0])
        flat = torch.cat([gram.reshape(n_atoms, -1) for gram in grams], 1)
        squares = flat.index_select(1, self._squares).view(n_atoms, 6, -1)
        squares[:, 3:] += flat.index_select(1, self._mirrored).view(n_atoms, 3, -1)
        return squares

    def products(self, moments: Tensor) -> Products:
        """Return the products of moments, shape (n, n_radial, 20)."""
        first, second, weighted, ones, twos, threes = self._rows(moments, True)
        grams = [ones.transpose(1, 2) * ones, *(part.transpose(1, 2) @ part for part in (twos, threes))]
        mixed = (threes.transpose(1, 2) @ weighted.transpose(1, 2)).view(len(moments), PADDED, -1)
        return Products(first, second, weighted, ones, twos, threes, self._squares_of(grams), mixed)

    def products_tangent(self, at: Products, moments: Tensor) -> Products:
        """Return how the products change with the moments."""
        first, second, weighted, ones, twos, threes = self._rows(moments, False)
        grams = []
        for part, change in ((at.ones, ones), (at.twos, twos), (at.threes, threes)):
            both = torch.cat([part, change], 1).transpose(1, 2)
            grams.append(both @ torch.cat([change, part], 1))
        mixed = threes.transpose(1, 2) @ at.weighted.transpose(1, 2)
        mixed.baddbmm_(at.threes.transpose(1, 2), weighted.transpose(1, 2))
        squares = self._squares_of(grams)
        return Products(first, second, weighted, ones, twos, threes, squares, mixed.view(len(moments), PADDED, -1))

    def features(self, moments: Tensor, at: Products) -> Tensor:
        """Return the features, shape (n, count)."""
        return self._joined(moments, at.second @ at.squares, at.first @ at.mixed)

    def features_tangent(self, moments: Tensor, at: Products, change: Products) -> Tensor:
        """Return how the features change; moments: how these do."""
        cubic = torch.baddbmm(at.second @ change.squares, change.second, at.squares)
        mixed = torch.baddbmm(at.first @ change.mixed, change.first, at.mixed)
        return self._joined(moments, cubic, mixed)

    def _joined(self, moments: Tensor, squares: Tensor, mixed: Tensor) -> Tensor:
        n_atoms = len(moments)
        chosen = squares.reshape(n_atoms, -1).index_select(1, self._chosen)
        return torch.cat([moments[:, :, 0], chosen, mixed.reshape(n_atoms, -1)], 1)

    def split(self, adjoint: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return an adjoint of the features, shape (n, count), for M0, for M2 X and for M1 (M3 M2)."""
        n_atoms, n = len(adjoint), self.n_radial
        middle = len(self._chosen)
        squares = adjoint.index_select(1, self._inverse).mul_(self._used)
        return adjoint[:, :n], squares.view(n_atoms, n + 1, -1), adjoint[:, n + middle :].reshape(n_atoms, n, -1)

    def gradient(self, at: Products, adjoint: Tensor) -> tuple[Tensor, Gradient]:
        """Return the gradient by the moments, shape (n, n_radial, 20), of the sum of adjoint times features."""
        scalars, squares, mixed = self.split(adjoint)
        matrices = self._matrices(at.second.transpose(1, 2) @ squares)
        inner = at.first.transpose(1, 2) @ mixed
        by_second = squares @ at.squares.transpose(1, 2)
        by_first = mixed @ at.mixed.transpose(1, 2)
        by_weighted, by_threes = self._mixed_gradient(inner, at)
        real = 3 * self.n_radial
        rows = [
            part[:, :, :real] @ matrix for part, matrix in zip((at.ones, at.twos, at.threes), matrices, strict=True)
        ]
        rows[2] += by_threes
        rows[0] += by_first.transpose(1, 2).reshape(len(adjoint), 1, -1)
        result = self._gathered(scalars, by_second, by_weighted, rows)
        return result, Gradient(squares, mixed, matrices, inner)

    def gradient_tangent(self, at: Products, change: Products, known: Gradient, adjoint: Tensor) -> Tensor:
        """Return how the gradient changes with the moments (``change``) and with its adjoint (by ``adjoint``)."""
        scalars, squares, mixed = self.split(adjoint)
        moved = at.second.transpose(1, 2) @ squares
        moved.baddbmm_(change.second.transpose(1, 2), known.squares)
        matrices = self._matrices(moved)
        inner = torch.baddbmm(at.first.transpose(1, 2) @ mixed, change.first.transpose(1, 2), known.mixed)
        by_second = squares @ at.squares.transpose(1, 2)
        by_second.baddbmm_(known.squares, change.squares.transpose(1, 2))
        by_first = mixed @ at.mixed.transpose(1, 2)
        by_first.baddbmm_(known.mixed, change.mixed.transpose(1, 2))
        by_weighted, by_threes = self._mixed_gradient(inner, at)
        more_weighted, more_threes = self._mixed_gradient(known.inner, change)
        real = 3 * self.n_radial
        rows = []
        for part, moving, matrix, before in zip(
            (at.ones, at.twos, at.threes), (change.ones, change.twos, change.threes), matrices, known.matrices,
            strict=True,
        ):  # fmt: skip
            rows.append(torch.baddbmm(part[:, :, :real] @ matrix, moving[:, :, :real], before))
        rows[2] += by_threes
        rows[2] += more_threes
        rows[0] += by_first.transpose(1, 2).reshape(len(adjoint), 1, -1)
        return self._gathered(scalars, by_second, by_weighted + more_weighted, rows)

    def _matrices(self, by_squares: Tensor) -> list[Tensor]:
        """Return the three matrices that the rows are multiplied with, from the derivatives by X."""
        n_atoms, width = len(by_squares), PADDED * self.n_radial
        spread = (by_squares * self._twice).view(n_atoms, -1).index_select(1, self._spread)
        return list(spread.view(n_atoms, 3, width - self.n_radial, width).unbind(1))

    def _mixed_gradient(self, inner: Tensor, at: Products) -> tuple[Tensor, Tensor]:
        """Return the gradients by the weighted M2, shape (n, 6, n_r), and by M3's rows, from those by ``mixed``."""
        by_mixed = inner.reshape(len(inner), PADDED * self.n_radial, self.n_radial)
        return at.threes @ by_mixed, at.weighted.transpose(1, 2) @ by_mixed.transpose(1, 2)

    def _gathered(self, scalars: Tensor, by_second: Tensor, by_weighted: Tensor, rows: list[Tensor]) -> Tensor:
        """Return the gradient by the moments from those by their copies."""
        n_atoms, n = len(scalars), self.n_radial
        wide = torch.cat([row.reshape(n_atoms, -1) for row in rows], 1)
        result = (wide @ self._collect).view(n_atoms, n, COMPONENTS)
        result[:, :, 0] += scalars
        result[:, :, 4:10] += by_second[:, :n]
        result[:, :, 4:10] += by_weighted.transpose(1, 2) * self._weights
        return result


@dataclass
class Gradient:
    """What a gradient was made of: the adjoints of M2 X and M1 (M3 M2), the matrices of X, the adjoint of M3 M2."""

    squares: Tensor
    mixed: Tensor
    matrices: list[Tensor]
    inner: Tensor


def _count(indices: tuple[int, ...]) -> int:
    """Return how many components of a symmetric tensor of rank 2 are equal to this one."""
    return 1 if indices[0] == indices[1] else 2


def _sorted(a: int, b: int) -> tuple[int, int]:
    return (a, b) if a <= b else (b, a)
