"""Blocked factorisation and solves against LAPACK, with numpy and with torch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import LinAlgError
from scipy.spatial.distance import cdist

from quarry.errors import QuarryError
from quarry.models import linear_algebra
from quarry.models.linear_algebra import (
    NumpyArrays,
    TorchArrays,
    choose_arrays,
    factorise,
    half_squares,
    kernel_panel,
    solve_with_factor,
)


@pytest.fixture(params=["numpy", "torch"])
def arrays(request):
    return NumpyArrays() if request.param == "numpy" else TorchArrays("cpu")


def positive_definite(n, seed):
    matrix = np.random.default_rng(seed).normal(size=(n, n))
    return matrix @ matrix.T + n * np.eye(n)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 23), st.integers(1, 25), st.integers(1, 3), st.sampled_from([NumpyArrays(), TorchArrays("cpu")]))
def test_factor_and_solution_equal_lapack_for_any_panels(n, panel, k, arrays):
    matrix = positive_definite(n, n)
    right = np.random.default_rng(k).normal(size=(n, k))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear_algebra, "PANEL", panel)
        # The upper triangle is not read.
        factor = arrays.array(np.where(np.tri(n, dtype=bool), matrix, np.nan))
        factorise(arrays, factor)
        np.testing.assert_allclose(np.tril(arrays.numpy(factor)), np.linalg.cholesky(matrix), rtol=1e-10, atol=1e-11)
        solution = arrays.array(right.copy())
        solve_with_factor(arrays, factor, solution)
    np.testing.assert_allclose(arrays.numpy(solution), np.linalg.solve(matrix, right), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("bad", [1, 11])
def test_a_matrix_that_is_not_positive_definite_is_an_error(arrays, bad, monkeypatch):
    monkeypatch.setattr(linear_algebra, "PANEL", 5)
    matrix = positive_definite(14, 0)
    matrix[bad, bad] = -1.0
    with pytest.raises(LinAlgError):
        factorise(arrays, arrays.array(matrix))


def test_the_kernel_is_that_of_the_distances_in_any_tiles(arrays, monkeypatch):
    rng = np.random.default_rng(1)
    rows, columns = rng.normal(size=(9, 4)), rng.normal(size=(7, 4))
    monkeypatch.setattr(linear_algebra, "TILE_ELEMENTS", 20)
    a, b, out = arrays.array(rows), arrays.array(columns), arrays.empty(9, 7)
    kernel_panel(arrays, a, b, half_squares(arrays, a), half_squares(arrays, b), 2.5, out)
    expected = 2.5 * np.exp(-0.5 * cdist(rows, columns, "sqeuclidean"))
    np.testing.assert_allclose(arrays.numpy(out), expected, rtol=1e-12)


def test_few_rows_stay_with_numpy_and_a_gpu_that_is_not_there_is_named():
    import torch

    assert isinstance(choose_arrays("auto", 10), NumpyArrays)
    assert isinstance(choose_arrays("cpu", linear_algebra.TORCH_FROM), TorchArrays)
    if not torch.cuda.is_available():
        assert choose_arrays("auto", linear_algebra.TORCH_FROM).device == "cpu"
        with pytest.raises(QuarryError, match=r"model\.device.*no GPU"):
            choose_arrays("cuda", 10)
