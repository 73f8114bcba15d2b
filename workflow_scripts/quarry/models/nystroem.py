"""Landmarks for finite feature maps of a kernel (Nystroem's approximation)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NEGLIGIBLE_RESIDUAL = 1e-10
"""A prior variance of which less than this share is left unexplained by the landmarks is explained up to rounding."""


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
