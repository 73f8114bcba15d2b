"""The Gaussian kernel between values and gradients of a function of r_eq / r of all atom pairs: numbers in, numbers out.

With x the features, J = dx / dR their Jacobian, d = x - x' and k = exp(-|d|^2 / (2 sigma^2)), the kernel of a value and a
gradient is its derivative: dk / dR' = k / sigma^2 d^T J', and of two gradients d2k / dR dR' =
k / sigma^2 (J^T J' - J^T d d^T J' / sigma^2). So energies and their gradients are learnt together (P. O. Dral, M. Barbatti,
W. Thiel, J. Phys. Chem. Lett. 9, 5660 (2018); C. E. Rasmussen, C. K. I. Williams, Gaussian Processes for Machine Learning
(2006), section 9.4). Gradients are in the unit of values per Angstrom; forces are negative gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular

from quarry.descriptors.distances import pair_slopes
from quarry.models.hyperparameters import squared_distances
from quarry.models.kernel_ridge import root_mean_squares
from quarry.structures import StructureSet

BLOCK_ELEMENTS = 4_000_000
"""Numbers per work array (32 MB); kernels and predictions are made in blocks of rows that fit."""

NEGLIGIBLE_SINGULAR = 1e-9
"""Motions of the atoms of which the features change by less than this share of the fastest do not change them at all."""


@dataclass(frozen=True)
class Points:
    """Where values and gradients are known: features, shape (n, d), and their Jacobians, shape (n, d, 3 n_atoms)."""

    features: NDArray[np.float64]
    jacobians: NDArray[np.float64]

    def __len__(self) -> int:
        """Return the number of values and gradient components."""
        return len(self.features) * (1 + self.jacobians.shape[2])


def points_of(structures: StructureSet, features: NDArray[np.float64]) -> Points:
    """Return the points of structures of one molecule with their features r_eq / r, as ``inverse_distances`` gives them.

    The derivative of x = r_eq / r with respect to the position of atom i of a pair i, j is -(x / r^2) (R_i - R_j).
    """
    slopes, first, second = pair_slopes(structures, features)
    n, pairs = features.shape
    jacobians = np.zeros((n, pairs, len(structures.positions) // n, 3))
    every = np.arange(pairs)
    jacobians[:, every, first] = slopes
    jacobians[:, every, second] = -slopes
    return Points(np.asarray(features, dtype=np.float64), jacobians.reshape(n, pairs, -1))


def internal_gradients(
    jacobians: NDArray[np.float64], gradients: NDArray[np.float64]
) -> tuple[NDArray[np.float64], int]:
    """Return gradients, shape (n, 3 n_atoms), without translations and rotations, and how many numbers that leaves in all.

    jacobians: dx / dR, shape (n, d, 3 n_atoms). gradients: dE / dR, as what is returned.
    No function of distances has a net force or torque. Those of labels, the errors of their integration grid, cannot be
    learnt, but divided by a small regularisation they would make the amplitude (see ``kernel_model.Learnt``).
    """
    _, singular, directions = np.linalg.svd(jacobians, full_matrices=False)
    directions[singular < NEGLIGIBLE_SINGULAR * singular.max(axis=1, keepdims=True)] = 0.0
    along = np.einsum("nkb,nb->nk", directions, gradients)
    return np.einsum("nk,nkb->nb", along, directions), int(np.count_nonzero(directions.any(axis=2)))


def kernel_of_values(
    features: NDArray[np.float64], points: Points, sigma: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the kernel of values with ``points``, shape (n, len(points)), and that with their values alone, (n, n_points).

    features: shape (n, d). sigma: width of the kernel. Order of the columns: the values of all points, then the gradients,
    point after point.
    """
    origin = points.features.mean(axis=0)
    rows, columns = features - origin, points.features - origin
    kernel = np.exp(-0.5 / sigma**2 * squared_distances(rows, columns))
    count = len(columns)
    full = np.empty((len(rows), len(points)))
    full[:, :count] = kernel
    gradients = full[:, count:].reshape(len(rows), count, -1)
    gradients[...] = _projections(rows, columns, points.jacobians)
    gradients *= kernel[:, :, None] / sigma**2
    return full, kernel


def _projections(
    rows: NDArray[np.float64], columns: NDArray[np.float64], jacobians: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return (x_i - x_j)^T J_j for the rows i, columns j and the Jacobians of the columns, shape (n, m, 3 n_atoms)."""
    products = np.tensordot(rows, jacobians, axes=(1, 1))
    products -= np.einsum("jp,jpb->jb", columns, jacobians)
    return products


def kernel_of_points(rows: Points, columns: Points, sigma: float) -> NDArray[np.float64]:
    """Return the kernel between the values and gradients of two sets of points, shape (len(rows), len(columns)).

    Order: the values of all points, then the gradients, point after point.
    """
    n, m = len(rows.features), len(columns.features)
    own, other = rows.jacobians.shape[2], columns.jacobians.shape[2]
    origin = columns.features.mean(axis=0)
    result = np.empty((len(rows), len(columns)))
    result[:n], kernel = kernel_of_values(rows.features, columns, sigma)
    # J_i^T (x_i - x_j), shape (m, n, own), and (x_i - x_j)^T J_j, shape (n, m, other)
    of_rows = -_projections(columns.features - origin, rows.features - origin, rows.jacobians)
    of_columns = _projections(rows.features - origin, columns.features - origin, columns.jacobians)
    right = columns.jacobians.transpose(1, 0, 2).reshape(columns.jacobians.shape[1], -1)
    step = max(1, BLOCK_ELEMENTS // (own * m * other))
    for begin in range(0, n, step):
        part = slice(begin, min(begin + step, n))
        count = part.stop - begin
        left = rows.jacobians[part].transpose(0, 2, 1).reshape(count * own, -1)
        block = (left @ right).reshape(count, own, m, other)
        u = of_rows[:, part].transpose(1, 2, 0)
        block -= u[:, :, :, None] * (of_columns[part, None] / sigma**2)
        block *= (kernel[part] / sigma**2)[:, None, :, None]
        lines = slice(n + begin * own, n + part.stop * own)
        result[lines, m:] = block.reshape(count * own, m * other)
        result[lines, :m] = (u * (-kernel[part] / sigma**2)[:, None, :]).reshape(count * own, m)
    return result


class DerivativeKernels:
    """Kernel matrices between values and gradients, for ``kernel_ridge.search_grid``."""

    rounding_share = 1e-4
    """Forces are derivatives: energies of geometries 0.001 Angstrom apart must differ by more than rounding."""

    def __init__(self, training: Points, validation: Points) -> None:
        """training, validation: of one molecule."""
        self._training, self._validation = training, validation
        self.n_values = len(validation.features)

    def matrices(self, sigma: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return K of the training points, shape (m, m), and of validation (rows) with training points, (n, m)."""
        return (
            kernel_of_points(self._training, self._training, sigma),
            kernel_of_points(self._validation, self._training, sigma),
        )


def joint_errors(errors: NDArray[np.float64], n_values: int) -> NDArray[np.float64]:
    """Return the geometric mean of the RMSE of values and of gradients, of each column, shape (n_columns,).

    errors: shape (n, n_columns), the first ``n_values`` rows of values, the others of gradients.
    """
    return np.sqrt(root_mean_squares(errors[:n_values]) * root_mean_squares(errors[n_values:]))


def values_and_slopes(
    features: NDArray[np.float64],
    points: NDArray[np.float64],
    sigma: float,
    weights: NDArray[np.float64],
    directions: NDArray[np.float64] | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return values, shape (n,), and their derivatives by the features, shape (n, d), of a kernel model.

    features, points: of structures and training points, shapes (n, d) and (m, d). weights: of the training values, shape
    (m,). directions: J_j times the weights of the gradient of point j, shape (m, d); None: no gradients were learnt.
    The model is the sum over j of k(x, x_j) (weights_j + (x - x_j)^T directions_j / sigma^2).
    """
    origin = points.mean(axis=0)
    columns = points - origin
    values, slopes = np.empty(len(features)), np.empty(features.shape)
    step = max(1, BLOCK_ELEMENTS // len(points))
    for begin in range(0, len(features), step):
        rows = features[begin : begin + step] - origin
        kernel = np.exp(-0.5 / sigma**2 * squared_distances(rows, columns))
        factors = weights
        if directions is not None:
            along = rows @ directions.T - np.einsum("jp,jp->j", columns, directions)
            factors = weights + along / sigma**2
        shares = kernel * factors
        totals = shares.sum(axis=1)
        values[begin : begin + step] = totals
        slope = shares @ columns - totals[:, None] * rows
        if directions is not None:
            slope += kernel @ directions
        slopes[begin : begin + step] = slope / sigma**2
    return values, slopes


class DerivativeProcess:
    """A Gaussian process of zero mean and unit signal variance, conditioned on values and gradients."""

    def __init__(
        self,
        points: Points,
        targets: NDArray[np.float64],
        sigma: float,
        regularisation: float,
        weights: NDArray[np.float64] | None = None,
    ) -> None:
        """targets: values and gradients in the order of ``kernel_of_points``, shape (m,). regularisation: what is added
        to the diagonal. weights: (K + regularisation)^-1 targets, where they are known already: then the matrix is
        factorised only when a standard deviation is asked for.

        Raises scipy.linalg.LinAlgError if the kernel matrix is not positive definite in double precision.
        """
        self._points, self._sigma, self._regularisation = points, sigma, regularisation
        self._factor: NDArray[np.float64] | None = None
        if weights is None:
            half = solve_triangular(self._factorised(), targets, lower=True, check_finite=False)
            weights = solve_triangular(self._factorised(), half, lower=True, trans="T", check_finite=False)
        self.weights: NDArray[np.float64] = weights

    def predict(
        self, features: NDArray[np.float64], with_std: bool = True
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64] | None]:
        """Return values, shape (n,), their derivatives by the features, (n, d), and the values' standard deviations, (n,).

        features: shape (n, d). Without ``with_std`` the last is None. Variances that rounding makes negative are set to zero.
        """
        points = self._points
        count = len(points.features)
        of_gradients = self.weights[count:].reshape(count, -1)
        directions = np.einsum("jpb,jb->jp", points.jacobians, of_gradients)
        values, slopes = values_and_slopes(features, points.features, self._sigma, self.weights[:count], directions)
        if not with_std:
            return values, slopes, None
        std = np.empty(len(features))
        step = max(1, BLOCK_ELEMENTS // len(points))
        for begin in range(0, len(features), step):
            kernel, _ = kernel_of_values(features[begin : begin + step], points, self._sigma)
            half = solve_triangular(self._factorised(), kernel.T, lower=True, check_finite=False)
            explained = np.einsum("ij,ij->j", half, half)
            std[begin : begin + step] = np.sqrt(np.maximum(1.0 - explained, 0.0))
        return values, slopes, std

    def std_slopes(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the derivatives of the values' standard deviations by the features, shape (n, d); 0 where nothing is unknown.

        std^2 = 1 - k(x, X) K^-1 k(X, x), whose derivative is -2 times that of a kernel model with the weights K^-1 k(X, x).
        """
        points, factor, slopes = self._points, self._factorised(), np.zeros(features.shape)
        count = len(points.features)
        for number in range(len(features)):
            row = features[number : number + 1]
            kernel = kernel_of_values(row, points, self._sigma)[0][0]
            half = solve_triangular(factor, kernel, lower=True, check_finite=False)
            weights = solve_triangular(factor, half, lower=True, trans="T", check_finite=False)
            variance = 1.0 - float(half @ half)
            if variance > 0:
                directions = np.einsum("jpb,jb->jp", points.jacobians, weights[count:].reshape(count, -1))
                _, found = values_and_slopes(row, points.features, self._sigma, weights[:count], directions)
                slopes[number] = -found[0] / np.sqrt(variance)
        return slopes

    def leave_out(self, blocks: Sequence[NDArray[np.int64]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return target minus prediction of the value of the first structure of each block, whose structures are all left
        out with their gradients, and its variance with the noise, both of shape (n_blocks,).

        In closed form: with B the block of the inverse that belongs to a structure, the residuals are B^-1 weights and their
        covariance is B^-1 (C. E. Rasmussen, C. K. I. Williams, Gaussian Processes for Machine Learning (2006), section 5.4.2,
        for blocks).
        """
        count, total = len(self._points.features), len(self.weights)
        per_structure = (total - count) // count
        residuals, variances = np.empty(len(blocks)), np.empty(len(blocks))
        for number, structures in enumerate(blocks):
            gradients = count + per_structure * structures[:, None] + np.arange(per_structure)
            block = np.concatenate([structures, gradients.ravel()])
            columns = np.zeros((total, len(block)), order="F")
            columns[block, np.arange(len(block))] = 1.0
            half = solve_triangular(self._factorised(), columns, lower=True, overwrite_b=True, check_finite=False)
            covariance = np.linalg.inv(half.T @ half)
            residuals[number] = covariance[0] @ self.weights[block]
            variances[number] = covariance[0, 0]
        return residuals, variances

    def _factorised(self) -> NDArray[np.float64]:
        """Return the Cholesky factor of the kernel matrix, lower triangle; computed once, in its place."""
        if self._factor is None:
            matrix = kernel_of_points(self._points, self._points, self._sigma).T
            np.fill_diagonal(matrix, matrix.diagonal() + self._regularisation)
            self._factor = cholesky(matrix, lower=True, overwrite_a=True, check_finite=False)
        return self._factor
