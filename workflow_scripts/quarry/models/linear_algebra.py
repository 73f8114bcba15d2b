"""Blocked Cholesky factorisation and triangular solves, in place, on the CPU or a GPU.

Left-looking algorithms on row-major matrices (G. H. Golub, C. F. Van Loan, Matrix Computations, 4th edition, sections
3.1.4 and 4.2.6): nearly all work is products of panels with long inner dimensions, so that they run at the speed of
matrix multiplication in bounded extra memory. They are written once, over the few operations of ``Arrays`` that numpy
and torch spell differently.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, blas, cholesky

from quarry.config.installed import require
from quarry.errors import QuarryError

PANEL = 1024
"""Rows of a panel: products with fewer rows run below the rate of a large one."""

TILE_ELEMENTS = 65_536
"""Numbers that element-wise steps of the CPU treat at a time (512 KB): they stay in a core's cache from one step to the next."""

TORCH_FROM = 2_000
"""Rows from which torch is worth its import (2 s, 200 MB) on the CPU, where its matrix products are up to a third
faster than numpy's."""

Matrix = Any
"""A float64 array of numpy or tensor of torch."""


class Arrays(Protocol):
    """The operations that numpy and torch spell differently; both slice, transpose and add in place alike."""

    device: str

    def array(self, values: NDArray[Any]) -> Matrix:
        """Return a copy of the numbers on the device, of the same shape, float64, row-major."""
        ...

    def numpy(self, values: Matrix) -> NDArray[np.float64]:
        """Return the numbers on the host."""
        ...

    def empty(self, *shape: int) -> Matrix:
        """Return an array that holds anything."""
        ...

    def product(self, a: Matrix, b: Matrix, out: Matrix) -> None:
        """Set ``out`` to a @ b."""
        ...

    def subtract_product(self, target: Matrix, a: Matrix, b: Matrix) -> None:
        """Subtract a @ b from ``target``."""
        ...

    def exp_of_negative(self, values: Matrix) -> None:
        """Replace x by exp(min(x, 0))."""
        ...

    def squares_by_column(self, values: Matrix) -> Matrix:
        """Return the sum of the squares of each column, shape (n,), of values of shape (m, n)."""
        ...

    def factorise(self, block: Matrix) -> None:
        """Replace a positive definite block, given by its lower triangle, by its Cholesky factor, zeros above.

        Raises scipy.linalg.LinAlgError if it is not positive definite in double precision.
        """
        ...

    def solve(self, triangle: Matrix, right: Matrix, transposed: bool = False) -> None:
        """Replace ``right`` by the solution x of triangle @ x = right (or of its transpose) for a lower triangle."""
        ...


class NumpyArrays:
    """On the CPU by numpy and scipy."""

    device = "cpu"

    def array(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Return a copy of the numbers, float64, row by row."""
        return np.array(values, dtype=np.float64, order="C")

    def numpy(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the numbers themselves."""
        return values

    def empty(self, *shape: int) -> NDArray[np.float64]:
        """Return an array that holds anything."""
        return np.empty(shape)

    def product(self, a: NDArray[np.float64], b: NDArray[np.float64], out: NDArray[np.float64]) -> None:
        """Set ``out`` to a @ b."""
        np.matmul(a, b, out=out)

    def subtract_product(self, target: NDArray[np.float64], a: NDArray[np.float64], b: NDArray[np.float64]) -> None:
        """Subtract a @ b from ``target``, through a temporary product."""
        target -= a @ b

    def exp_of_negative(self, values: NDArray[np.float64]) -> None:
        """Replace x by exp(min(x, 0))."""
        np.minimum(values, 0.0, out=values)
        np.exp(values, out=values)

    def squares_by_column(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum of the squares of each column."""
        return np.einsum("ij,ij->j", values, values)

    def factorise(self, block: NDArray[np.float64]) -> None:
        """Replace a block by its Cholesky factor (LAPACK)."""
        block[...] = cholesky(block, lower=True, check_finite=False)

    def solve(self, triangle: NDArray[np.float64], right: NDArray[np.float64], transposed: bool = False) -> None:
        """Replace ``right`` by the solution (BLAS)."""
        # BLAS is column-major: it sees the transposes, of which a contiguous panel is solved where it stands.
        upper = np.ascontiguousarray(triangle).T
        solved = blas.dtrsm(1.0, upper, right.T, side=1, trans_a=int(transposed), overwrite_b=1)
        if not np.may_share_memory(solved, right):
            right[...] = solved.T


class TorchArrays:
    """On the CPU or a GPU by torch."""

    def __init__(self, device: str) -> None:
        """device: cpu or cuda."""
        import torch

        self.device = device
        self._torch = torch

    def array(self, values: NDArray[Any]) -> Matrix:
        """Return a copy in torch's own memory: its alignment, and so the last digits, are the same in every run."""
        return self.empty(*values.shape).copy_(self._torch.from_numpy(np.ascontiguousarray(values)))

    def numpy(self, values: Matrix) -> NDArray[np.float64]:
        """Return the numbers on the host."""
        result: NDArray[np.float64] = values.cpu().numpy()
        return result

    def empty(self, *shape: int) -> Matrix:
        """Return a tensor that holds anything."""
        return self._torch.empty(shape, dtype=self._torch.float64, device=self.device)

    def product(self, a: Matrix, b: Matrix, out: Matrix) -> None:
        """Set ``out`` to a @ b."""
        self._torch.matmul(a, b, out=out)

    def subtract_product(self, target: Matrix, a: Matrix, b: Matrix) -> None:
        """Subtract a @ b from ``target``."""
        target.addmm_(a, b, alpha=-1.0)

    def exp_of_negative(self, values: Matrix) -> None:
        """Replace x by exp(min(x, 0))."""
        values.clamp_(max=0.0).exp_()

    def squares_by_column(self, values: Matrix) -> Matrix:
        """Return the sum of the squares of each column."""
        return values.square().sum(0)

    def factorise(self, block: Matrix) -> None:
        """Replace a block by its Cholesky factor."""
        factor, failed = self._torch.linalg.cholesky_ex(block)
        if int(failed):
            raise LinAlgError(f"the leading minor of order {int(failed)} of a block is not positive definite")
        block.copy_(factor)

    def solve(self, triangle: Matrix, right: Matrix, transposed: bool = False) -> None:
        """Replace ``right`` by the solution."""
        # The transposes, because torch too calls column-major routines, which solve a contiguous panel where it stands.
        matrix = triangle if transposed else triangle.T
        self._torch.linalg.solve_triangular(matrix, right.T, upper=not transposed, left=False, out=right.T)


def choose_arrays(device: str, rows: int) -> Arrays:
    """Return what computes with ``rows`` training points: a GPU or the CPU, by torch where that is quicker.

    device: auto (a GPU where torch finds one), cpu or cuda. Few rows stay with numpy under auto: moving them to a GPU
    costs more than they do, and so do all where torch is not installed. Raises QuarryError if cuda is asked for and there is
    none.
    """
    if device == "cuda":
        require("torch", "model.device: cuda")
    elif rows < TORCH_FROM or find_spec("torch") is None:
        return NumpyArrays()
    if device == "cpu":
        return TorchArrays("cpu")
    import torch

    if torch.cuda.is_available():
        return TorchArrays("cuda")
    if device == "cuda":
        raise QuarryError("model.device: torch finds no GPU for cuda on this machine; set auto or cpu")
    return TorchArrays("cpu")


def panels(rows: int, size: int | None = None) -> Iterator[tuple[int, int]]:
    """Yield beginning and end of the panels of ``rows`` rows."""
    step = size or PANEL
    for begin in range(0, rows, step):
        yield begin, min(begin + step, rows)


def factorise(arrays: Arrays, matrix: Matrix) -> None:
    """Replace a positive definite matrix, shape (n, n), by its Cholesky factor; reads and writes the lower triangle.

    What stands above the diagonal stays undefined. Extra memory: two panels.
    Raises scipy.linalg.LinAlgError if the matrix is not positive definite in double precision.
    """
    for begin, end in panels(len(matrix)):
        if begin:
            arrays.subtract_product(matrix[begin:, begin:end], matrix[begin:, :begin], matrix[begin:end, :begin].T)
        arrays.factorise(matrix[begin:end, begin:end])
        if end < len(matrix):
            arrays.solve(matrix[begin:end, begin:end], matrix[end:, begin:end].T)


def solve_panel(arrays: Arrays, factor: Matrix, right: Matrix, begin: int, end: int) -> None:
    """Go on with a forward substitution in place: rows begin to end of ``right``, when those before are solved.

    factor: Cholesky factor, shape (n, n). right: shape (n, k).
    """
    if begin:
        arrays.subtract_product(right[begin:end], factor[begin:end, :begin], right[:begin])
    arrays.solve(factor[begin:end, begin:end], right[begin:end])


def solve_with_factor(arrays: Arrays, factor: Matrix, right: Matrix) -> None:
    """Replace ``right``, shape (n, k), by the solution x of L L^T x = right for the Cholesky factor L."""
    spans = list(panels(len(right)))
    for begin, end in spans:
        solve_panel(arrays, factor, right, begin, end)
    for begin, end in reversed(spans):
        if end < len(right):
            arrays.subtract_product(right[begin:end], factor[end:, begin:end].T, right[end:])
        arrays.solve(factor[begin:end, begin:end], right[begin:end], transposed=True)


def kernel_panel(
    arrays: Arrays, rows: Matrix, columns: Matrix, row_halves: Matrix, column_halves: Matrix, scale: float, out: Matrix
) -> None:
    """Set ``out``, shape (m, n), to scale * exp(-|r - c|^2 / 2) of rows, shape (m, d), and columns, shape (n, d).

    row_halves, column_halves: half the squared lengths of the rows. By a matrix product: subtract a common origin
    first, because rounding is relative to the lengths.
    """
    arrays.product(rows, columns.T, out)
    # A GPU hides its memory behind many threads: there, few large steps are best.
    rows_of_tile = max(1, TILE_ELEMENTS // max(1, len(columns))) if arrays.device == "cpu" else len(out)
    for begin, end in panels(len(out), rows_of_tile):
        tile = out[begin:end]
        tile -= row_halves[begin:end, None]
        tile -= column_halves
        arrays.exp_of_negative(tile)
        tile *= scale


def half_squares(arrays: Arrays, rows: Matrix) -> Matrix:
    """Return half the squared length of each row, shape (n,). rows: shape (n, d)."""
    return 0.5 * arrays.squares_by_column(rows.T)
