"""Batch diversity methods by posterior variances, of D. Holzmueller et al., JMLR 24 (164), 1 (2023): MaxDet-P, BAIT-F-P.

The model is Bayesian linear regression on an embedding phi (last layer, gradient, kernel map) with noise variance sigma^2 =
1e-6, after the embedding was scaled so that the prior variance k(x, x) = phi.phi of the labelled points is 1 on average
(section 3.1.3 there). Labelled points enter through the posterior kernel

    k'(x, x') = k(x, x') - k(x, L) (k(L, L) + sigma^2)^-1 k(L, x') = phi(x).C.phi(x'),

C being the posterior covariance of the weights, p x p. All in float64: posterior variances are up to 1e6 times smaller
than prior ones.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quarry.points.distances import blocks, same_length
from quarry.points.greedy import choose_highest
from quarry.query.base import PoolView
from quarry.query.diversity import space

NOISE_VARIANCE = 1e-6
"""sigma^2 of the published tables."""

EXACT_AGAIN_AFTER = 1024
"""Choices of BAIT after which its sums are computed anew, so that rounding does not add up."""


class MaxDet:
    """MaxDet-P: greedily the largest determinant of k'(batch, batch) + sigma^2; that is, the largest posterior variance.

    Also known as greedy D-optimal design and as BatchBALD of a Gaussian process. Cost: a matrix product of all
    candidates' embeddings (n x p) with p x n_batch, and p^2 for each choice.
    """

    def select(self, pool: PoolView, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return ``n`` candidates in the order of choice; the lower index wins a tie."""
        candidates, labelled = space(pool, "maxdet", in_embedding=True)
        features, _ = posterior_features(candidates, labelled)
        return choose_highest(_Variances(features), len(features), min(n, len(features)))


class Bait:
    """BAIT-F-P: greedily the smallest sum of posterior variances over candidates and labelled points (V-optimal design).

    J. T. Ash et al., NeurIPS 2021 (BAIT), in the forward form for regression. A choice x lowers the sum by
    sum_j k'(x_j, x)^2 / (k'(x, x) + sigma^2). Cost for each choice: a product of all candidates' embeddings with two
    vectors, and every ``EXACT_AGAIN_AFTER`` choices one with a p x p matrix.
    """

    def select(self, pool: PoolView, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return ``n`` candidates in the order of choice; the lower index wins a tie."""
        candidates, labelled = space(pool, "bait", in_embedding=True)
        features, of_labelled = posterior_features(candidates, labelled)
        size, n = len(features), min(n, len(features))
        second_moments = features.T @ features + of_labelled.T @ of_labelled
        covariance = np.eye(features.shape[1])
        free = np.ones(size, dtype=bool)
        chosen: list[int] = []
        for step in range(n):
            if step % EXACT_AGAIN_AFTER == 0:
                variances = quadratic(features, covariance)
                reductions = quadratic(features, covariance @ second_moments @ covariance)
            index = int(np.argmax(np.where(free, reductions / (variances + NOISE_VARIANCE), -np.inf)))
            free[index] = False
            chosen.append(index)
            change = covariance @ features[index]
            evidence = float(features[index] @ change) + NOISE_VARIANCE
            sums = second_moments @ change
            to_change, to_sums = np.stack([change, covariance @ sums]) @ features.T
            variances -= to_change**2 / evidence
            reductions -= (2 * to_sums - (change @ sums) / evidence * to_change) * to_change / evidence
            covariance -= np.outer(change, change / evidence)
        return np.array(chosen, dtype=np.int64)


class _Variances:
    """The posterior variances as values that fall with each choice."""

    def __init__(self, features: NDArray[np.float64]) -> None:
        """features: their inner products are the posterior kernel, shape (n, p)."""
        self._features = features
        self._covariance = np.eye(features.shape[1])
        self._variances = quadratic(features, self._covariance)
        self._pending: list[NDArray[np.float64]] = []

    def settle(self) -> NDArray[np.float64]:
        if self._pending:
            changes = np.stack(self._pending, axis=1)
            self._pending = []
            for rows in blocks(self._features, max(changes.shape)):
                self._variances[rows] -= np.sum((self._features[rows] @ changes) ** 2, axis=1)
        return self._variances

    def focus(self, rows: NDArray[np.int64]) -> None:
        self._rows, self._values = self._features[rows], self._variances[rows]

    def choose(self, index: int) -> NDArray[np.float64]:
        change = self._covariance @ self._features[index]
        change /= np.sqrt(self._features[index] @ change + NOISE_VARIANCE)
        self._covariance -= np.outer(change, change)
        self._pending.append(change)
        self._values = self._values - (self._rows @ change) ** 2
        return self._values


def posterior_features(
    candidates: NDArray[np.floating], labelled: NDArray[np.floating] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return features, shapes (n, p) and (m, p), whose inner products are the posterior kernel (module docstring).

    candidates: shape (n, p). labelled: shape (m, p) or None; then nothing is known, the scale is that of the candidates.
    """
    known = np.zeros((0, candidates.shape[1])) if labelled is None else labelled.astype(np.float64)
    same_length(candidates, known)
    reference = known if len(known) else candidates
    sums = [np.einsum("ij,ij->", reference[r], reference[r], dtype=np.float64) for r in blocks(reference)]
    variance = float(np.sum(sums)) / max(1, len(reference))
    scale = 1 / np.sqrt(variance) if variance > 0 else 1.0
    known = known * scale
    # By eigenvalues and not by a Cholesky factor: they span ten orders of magnitude.
    eigenvalues, vectors = np.linalg.eigh(known.T @ known)
    transform = vectors * np.sqrt(NOISE_VARIANCE / (np.maximum(eigenvalues, 0) + NOISE_VARIANCE))
    features = np.empty(candidates.shape)
    for rows in blocks(candidates):
        features[rows] = candidates[rows].astype(np.float64) @ (scale * transform)
    return features, known @ transform


def quadratic(features: NDArray[np.float64], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return f.M.f of each row f of features of shape (n, p), shape (n,); matrix: M, shape (p, p)."""
    values = np.empty(len(features))
    for rows in blocks(features):
        values[rows] = np.einsum("ij,ij->i", features[rows] @ matrix, features[rows])
    return values
