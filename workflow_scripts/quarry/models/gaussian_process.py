"""Exact Gaussian process regression with an RBF kernel: numbers in, numbers out.

Equations 3 to 6 of Ghosh et al., arXiv:2408.11191, for targets of zero prior mean. What is printed there as sigma_f in
equation 6 is the signal variance sigma_f^2 here. Written here rather than taken from scikit-learn because that is three
to six times slower at 1,000 to 8,000 structures, keeps no bound on the memory of a prediction and knows no GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quarry.models.hyperparameters import Hyperparameters, diagonal, likelihood_of_factor
from quarry.models.linear_algebra import (
    Arrays,
    Matrix,
    choose_arrays,
    factorise,
    half_squares,
    kernel_panel,
    panels,
    solve_panel,
    solve_with_factor,
)

BLOCK = 2048
"""Structures at a time in a prediction: their kernel with n training points takes 8 n x BLOCK bytes (0.3 GB for 16,000)."""


class GaussianProcess:
    """A Gaussian process with given hyperparameters, conditioned on training points (targets of zero prior mean)."""

    def __init__(
        self,
        features: NDArray[np.floating],
        targets: NDArray[np.float64],
        hyperparameters: Hyperparameters,
        floor: float = 0.0,
        device: str = "cpu",
        weights: NDArray[np.float64] | None = None,
    ) -> None:
        """features: shape (n, d). targets: shape (n,). floor: see ``quarry.models.hyperparameters.diagonal``.

        device: see ``choose_arrays``. weights: K^-1 targets, where they are known already: then the kernel matrix is
        factorised only when a standard deviation is asked for.
        Raises scipy.linalg.LinAlgError if the kernel matrix is not positive definite in double precision.
        """
        self.hyperparameters = hyperparameters
        self.floor = floor
        self._arrays: Arrays = choose_arrays(device, len(features))
        self._origin = self._arrays.array(features.mean(axis=0, dtype=np.float64))
        self._points, self._halves = self._scaled(features)
        self._targets = targets
        self._factor: Matrix | None = None
        if weights is None:
            column = self._arrays.empty(len(targets), 1)
            column[:, 0] = self._arrays.array(targets)
            solve_with_factor(self._arrays, self._factorised(), column)
            self._weights = column[:, 0]
        else:
            self._weights = self._arrays.array(weights)

    @property
    def weights(self) -> NDArray[np.float64]:
        """Return K^-1 targets, shape (n,)."""
        return self._arrays.numpy(self._weights)

    def log_marginal_likelihood(self) -> float:
        """Return the log marginal likelihood of the targets (``hyperparameters.log_marginal_likelihood``)."""
        factor_diagonal = self._arrays.numpy(self._factorised().diagonal())
        return likelihood_of_factor(float(self._targets @ self.weights), factor_diagonal)

    def leave_out(self, blocks: Sequence[NDArray[np.int64]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return target minus prediction of the first point of each block, whose points are all left out, and its variance
        with the noise, both of shape (n_blocks,).

        In closed form: with B the block of the inverse of the kernel matrix, the residuals are B^-1 weights and their
        covariance is B^-1 (C. E. Rasmussen, C. K. I. Williams, Gaussian Processes for Machine Learning (2006), equations
        5.12, for blocks).
        """
        residuals, variances, weights = np.empty(len(blocks)), np.empty(len(blocks)), self.weights
        for begin, end in panels(len(blocks), BLOCK):
            wanted = np.concatenate(blocks[begin:end])
            columns = self._arrays.array(np.zeros((len(self._points), len(wanted))))
            columns[wanted, np.arange(len(wanted))] = 1.0
            solve_with_factor(self._arrays, self._factorised(), columns)
            inverse, at = self._arrays.numpy(columns), 0
            for number, block in enumerate(blocks[begin:end], begin):
                covariance = np.linalg.inv(inverse[block, at : at + len(block)])
                residuals[number], variances[number] = covariance[0] @ weights[block], covariance[0, 0]
                at += len(block)
        return residuals, variances

    def predict(
        self, features: NDArray[np.floating], with_std: bool = True
    ) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """Return mean (equation 3) and standard deviation (equation 4, of the function: without noise), shape (n,).

        features: shape (n, d). Without ``with_std`` the second is None and the triangular solves, most of the work, are left
        out. Variances that rounding makes negative are set to zero. Memory: beside the factor, one block (``BLOCK``).
        """
        mean = np.empty(len(features))
        std = np.empty(len(features)) if with_std else None
        n = len(self._points)
        rows = n if with_std else next(panels(n))[1]
        # One for all blocks: fresh memory would cost a page fault for every 4 kB.
        workspace = self._arrays.empty(rows * min(len(features), BLOCK))
        for begin, end in panels(len(features), BLOCK):
            kernel = workspace[: rows * (end - begin)].reshape(rows, end - begin)
            block_mean, block_variance = self._predict_block(features[begin:end], kernel, with_std)
            mean[begin:end] = self._arrays.numpy(block_mean)
            if std is not None:
                variance = self._arrays.numpy(block_variance)
                std[begin:end] = np.sqrt(np.maximum(variance, 0.0))
        return mean, std

    def _predict_block(self, features: NDArray[np.floating], kernel: Matrix, with_std: bool) -> tuple[Matrix, Matrix]:
        """Return mean and variance; panel by panel, so that each is read from memory as rarely as can be.

        kernel: memory for k(X, X*), or for one panel of it if only means are wanted.
        """
        arrays, signal = self._arrays, self.hyperparameters.signal_variance
        columns, column_halves = self._scaled(features)
        mean, explained = 0.0, 0.0
        for begin, end in panels(len(self._points)):
            panel = kernel[begin:end] if with_std else kernel[: end - begin]
            kernel_panel(
                arrays, self._points[begin:end], columns, self._halves[begin:end], column_halves, signal, panel
            )
            mean = mean + self._weights[begin:end] @ panel
            if with_std:
                solve_panel(arrays, self._factorised(), kernel, begin, end)
                explained = explained + arrays.squares_by_column(panel)
        return mean, signal - explained

    def std_slopes(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the derivatives of the standard deviations by the features, shape (n, d); 0 where nothing is unknown.

        std^2 = s - k(x, X) K^-1 k(X, x), with the weights w = K^-1 k(X, x) and k' = k (x_j - x) / l^2: std' = -w k' / std.
        """
        arrays, slopes = self._arrays, np.zeros(features.shape)
        points, halves = self._points, self._halves
        signal, length = self.hyperparameters.signal_variance, self.hyperparameters.length_scale
        for begin, end in panels(len(features), BLOCK):
            rows, row_halves = self._scaled(features[begin:end])
            kernel = arrays.empty(len(points), end - begin)
            kernel_panel(arrays, points, rows, halves, row_halves, signal, kernel)
            known = arrays.numpy(kernel).copy()
            solve_with_factor(arrays, self._factorised(), kernel)
            shares = known * arrays.numpy(kernel)
            variance = signal - shares.sum(axis=0)
            slope = shares.T @ arrays.numpy(points) - shares.sum(axis=0)[:, None] * arrays.numpy(rows)
            known_well = variance > 0
            std = np.sqrt(np.where(known_well, variance, 1.0))
            slopes[begin:end] = np.where(known_well[:, None], -slope / (length * std[:, None]), 0.0)
        return slopes

    def prior_covariance(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the kernel (equation 6) of all pairs, shape (n, n). features: shape (n, d)."""
        columns, halves = self._scaled(features)
        covariance = self._arrays.empty(len(columns), len(columns))
        signal = self.hyperparameters.signal_variance
        kernel_panel(self._arrays, columns, columns, halves, halves, signal, covariance)
        return self._arrays.numpy(covariance)

    def feature_map(
        self,
        features: NDArray[np.floating],
        landmarks: NDArray[np.floating],
        factor: NDArray[np.float64],
        scale: float = 1.0,
    ) -> NDArray[np.float32]:
        """Return L^-1 k(landmarks, x) times ``scale``, shape (n, m), whose inner products approximate scale^2 k(x, x').

        landmarks: features of shape (m, d). factor: L, the Cholesky factor of their kernel, shape (m, m).
        """
        points, halves = self._scaled(landmarks)
        signal, triangle = self.hyperparameters.signal_variance, self._arrays.array(factor)
        result = np.empty((len(features), len(landmarks)), dtype=np.float32)
        for begin, end in panels(len(features), BLOCK):
            columns, column_halves = self._scaled(features[begin:end])
            kernel = self._arrays.empty(len(points), len(columns))
            kernel_panel(self._arrays, points, columns, halves, column_halves, signal, kernel)
            for first, last in panels(len(points)):
                solve_panel(self._arrays, triangle, kernel, first, last)
            result[begin:end] = scale * self._arrays.numpy(kernel).T
        return result

    def _scaled(self, features: NDArray[Any]) -> tuple[Matrix, Matrix]:
        """Return features from the origin in units of the length scale, and half their squared lengths."""
        scaled = self._arrays.array(features)
        scaled -= self._origin
        scaled /= self.hyperparameters.length_scale
        return scaled, half_squares(self._arrays, scaled)

    def _factorised(self) -> Matrix:
        """Return the Cholesky factor of K, shape (n, n), lower triangle; computed once, in the place of K."""
        if self._factor is None:
            n, signal = len(self._points), self.hyperparameters.signal_variance
            matrix = self._arrays.empty(n, n)
            for begin, end in panels(n):
                kernel_panel(
                    self._arrays,
                    self._points[begin:end],
                    self._points[:end],
                    self._halves[begin:end],
                    self._halves[:end],
                    signal,
                    matrix[begin:end, :end],
                )
            matrix.reshape(-1)[:: n + 1] = signal + diagonal(self.hyperparameters, self.floor)
            factorise(self._arrays, matrix)
            self._factor = matrix
        return self._factor
