"""Landmarks for finite feature maps of a kernel (Nystroem's approximation)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quarry.models.gaussian_process import GaussianProcess

LANDMARKS = 1024
"""Length of the kernel's feature map at most."""

LANDMARK_CANDIDATES = 4096
"""Points that the landmarks are chosen from, half of them training points where there are as many."""

NEGLIGIBLE_RESIDUAL = 1e-10
"""A prior variance of which less than this share is left unexplained by the landmarks is explained up to rounding."""


def kernel_map(
    process: GaussianProcess,
    training: NDArray[np.floating],
    features: NDArray[np.floating],
    rng: np.random.Generator,
    scale: float = 1.0,
) -> NDArray[np.float32]:
    """Return a feature map of the prior kernel of structures, shape (n, p), p <= ``LANDMARKS``.

    Inner products approximate scale^2 k(x, x'), by landmarks among training points and the structures themselves:
    training points alone would hide all that the model does not know yet, since what they leave of k(x, x) is the
    posterior variance. So only maps of one call are comparable.
    training, features: of the training structures and of the structures, shapes (n_train, d) and (n, d).
    """
    from_training = min(len(training), max(LANDMARK_CANDIDATES // 2, LANDMARK_CANDIDATES - len(features)))
    parts = [
        source[np.sort(rng.choice(len(source), min(count, len(source)), replace=False))].astype(np.float64)
        for source, count in ((training, from_training), (features, LANDMARK_CANDIDATES - from_training))
    ]
    candidates = np.concatenate(parts)
    landmarks, factor = choose_landmarks(process.prior_covariance(candidates), LANDMARKS, rng)
    return process.feature_map(features, candidates[landmarks], factor, scale)


def choose_landmarks(
    kernel: NDArray[np.float64], count: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return up to ``count`` landmarks among n points and the Cholesky factor of their kernel, shapes (m,) and (m, m).

    kernel: shape (n, n). Randomly pivoted Cholesky factorisation (Y. Chen, E. N. Epperly, J. A. Tropp, R. J. Webber,
    Comm. Pure Appl. Math. 78, 995 (2025), algorithm 1): each landmark is drawn with a probability proportional to what
    the earlier ones leave unexplained of a point's prior variance, as k-means++ does with squared distances. Ends when
    nothing is left to explain. Cost: n m^2.
    """
    residual = np.diag(kernel).copy()
    smallest = NEGLIGIBLE_RESIDUAL * float(residual.max())
    factor = np.zeros((len(kernel), min(count, len(kernel))), order="F")
    chosen: list[int] = []
    for step in range(factor.shape[1]):
        wanted = np.where(residual > smallest, residual, 0.0)
        total = float(wanted.sum())
        if total == 0:
            break
        pivot = int(rng.choice(len(kernel), p=wanted / total))
        column = kernel[:, pivot] - factor[:, :step] @ factor[pivot, :step]
        factor[:, step] = column / np.sqrt(column[pivot])
        residual = np.maximum(residual - factor[:, step] ** 2, 0.0)
        residual[pivot] = 0.0
        chosen.append(pivot)
    landmarks = np.array(chosen, dtype=np.int64)
    return landmarks, np.tril(factor[landmarks, : len(landmarks)])
