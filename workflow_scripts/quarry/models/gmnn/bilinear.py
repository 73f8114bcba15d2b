"""Sparse bilinear functions of the numbers of many atoms: the same sums of products for every atom.

The numbers of an atom are a column, so that the innermost loop runs over atoms that lie side by side in memory. On a CPU the
loops are compiled by numba (the first time on a machine, into its cache); elsewhere they are torch's own operations.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from functools import cache
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Terms = dict[tuple[int, int, int], float]
"""Factors of the products x_left y_right in a sum, by (sum, left, right)."""


def joined(*parts: Terms) -> Terms:
    """Return the terms of the sum of several functions of the same x and y."""
    result: Terms = defaultdict(float)
    for part in parts:
        for key, factor in part.items():
            result[key] += factor
    return dict(result)


def swapped(terms: Terms) -> Terms:
    """Return the terms of the same function with x and y exchanged."""
    return {(k, right, left): factor for (k, left, right), factor in terms.items()}


def by_left(terms: Terms) -> Terms:
    """Return the terms of the gradient by x, a function of the adjoint and y."""
    return {(left, k, right): factor for (k, left, right), factor in terms.items()}


def by_right(terms: Terms) -> Terms:
    """Return the terms of the gradient by y, a function of the adjoint and x."""
    return by_left(swapped(terms))


class Sums(Protocol):
    """out_k = sum of factor x_left y_right over the terms (k, left, right), for each atom."""

    def __call__(self, x: Tensor, y: Tensor, out: Tensor | None = None) -> Tensor:
        """Return the sums, shape (n_blocks, count, width), added to ``out`` if it is given.

        x, y: shapes (n_blocks, n_left, width) and (n_blocks, n_right, width), contiguous.
        """
        ...


def sums_of(terms: Terms, count: int, dtype: torch.dtype, device: torch.device) -> Sums:
    """Return the function of terms. count: of sums; terms of later ones are left out."""
    return (CompiledSums if device.type == "cpu" else TorchSums)(terms, count, dtype, device)


class CompiledSums:
    """``Sums`` in compiled loops, for a CPU."""

    def __init__(self, terms: Terms, count: int, dtype: torch.dtype, device: torch.device) -> None:
        starts, left, right, factors = _table(terms, count)
        kind = torch.empty(0, dtype=dtype).numpy().dtype
        self._table = starts, left, right, factors.astype(kind)

    def __call__(self, x: Tensor, y: Tensor, out: Tensor | None = None) -> Tensor:
        """See ``Sums``."""
        if out is None:
            out = x.new_zeros((len(x), len(self._table[0]) - 1, x.shape[2]))
        _add_products()(*self._table, x.numpy(), y.numpy(), out.numpy())
        return out


class TorchSums:
    """``Sums`` in torch's operations, for any device: each sum has as many terms as the longest, so that their order is fixed."""

    def __init__(self, terms: Terms, count: int, dtype: torch.dtype, device: torch.device) -> None:
        starts, left, right, factors = _table(terms, count)
        sizes = np.diff(starts)
        places = np.arange(max(1, sizes.max(initial=1))) + starts[:-1, None]
        there = np.arange(places.shape[1]) < sizes[:, None]
        places = np.where(there, places, 0)
        self._left, self._right = (torch.from_numpy(part[places]).to(device) for part in (left, right))
        self._factors = torch.from_numpy(np.where(there, factors[places], 0.0)).to(device, dtype)[..., None]

    def __call__(self, x: Tensor, y: Tensor, out: Tensor | None = None) -> Tensor:
        """See ``Sums``."""
        sums = (x[:, self._left] * y[:, self._right]).mul_(self._factors).sum(2)
        return sums if out is None else out.add_(sums)


def _table(
    terms: Terms, count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return where each sum's terms start, shape (count + 1,), and left, right and factor of each term."""
    keys = sorted(key for key in terms if key[0] < count)
    sums, left, right = np.array(keys, dtype=np.int64).reshape(-1, 3).T.copy()
    return np.searchsorted(sums, np.arange(count + 1)), left, right, np.array([terms[key] for key in keys])


@cache
def _add_products() -> Any:
    """Return the loops, compiled when they are called first; read from numba's cache where a folder can hold one.

    numba is imported here: most jobs of a campaign need none of its memory and none of its half a second.
    """
    import numba

    options: dict[str, Any] = {"nogil": True, "fastmath": {"contract"}, "error_model": "numpy"}
    with suppress(RuntimeError):
        return numba.njit(_loops, cache=True, **options)
    return numba.njit(_loops, **options)


def _loops(starts: Any, left: Any, right: Any, factors: Any, x: Any, y: Any, out: Any) -> None:
    for block in range(x.shape[0]):
        for k in range(len(starts) - 1):
            total = out[block, k]
            for term in range(starts[k], starts[k + 1]):
                one, other, factor = x[block, left[term]], y[block, right[term]], factors[term]
                for atom in range(len(total)):
                    total[atom] += factor * one[atom] * other[atom]


def in_blocks(rows: Tensor, width: int) -> Tensor:
    """Return the numbers of atoms, shape (n, count), as columns in blocks, (n_blocks, count, width), filled up with zeros."""
    n, count = rows.shape
    missing = -n % width
    if missing:
        rows = torch.cat([rows, rows.new_zeros((missing, count))])
    return rows.view(-1, width, count).transpose(1, 2).contiguous()


def from_blocks(blocks: Tensor, n: int) -> Tensor:
    """Return the numbers of n atoms, shape (n, count), from columns in blocks."""
    return blocks.transpose(1, 2).reshape(-1, blocks.shape[1])[:n]


def width_for(n: int, most: int = 384) -> int:
    """Return how many atoms a block has, so that those of n atoms are about equal and stay near the processor."""
    return max(1, -(-n // max(1, -(-n // most))))
