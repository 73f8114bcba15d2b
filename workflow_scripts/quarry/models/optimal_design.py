"""By how much labels would lower a network's output variance: optimal experimental design with the last layer's weights.

V. Zaverkin, J. Kaestner, Mach. Learn.: Sci. Technol. 2, 035009 (2021). With g the sensitivities of an output to the weights of
the last layer (the biases are left out, as there), and the sum over all outputs that the training labels fix,

    A = sum g g^T  (equations 8, 17 and 20 times the loss),    q(x) = g(x)^T A^-1 g(x),    change(x) = q / (1 + q)  (equation 14).

The three components of an atom's force come in one label, so that they enter equation 10 together: with G their three g as rows
and Q = G A^-1 G^T, the change is tr(Q (1 + Q)^-1) / 3, which is the mean of equation 14 over the components along the axes of Q.
Equation 21 as written takes the mean over x, y and z; that depends on how the structure lies (by some percent where q is not
small), and is the same where Q is diagonal. The change by a structure is the mean over its atoms.

The factor loss / n_train of equation 14, equal for all candidates, is left out, so that the numbers have no unit.

Numbers: A is summed in double precision and factorised by Cholesky, A + r I = L L^T, with r = 1e-9 times the mean of A's
diagonal; q is the squared length of L^-1 g and cannot be negative. With fewer outputs than weights, A is singular: directions
that no training label fixes have q of up to 1e9, and equation 14 is 1 but for rounding. Then candidates are ranked by its
numerator q, which is what is given there, of the training structures too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular

from quarry.errors import QuarryError
from quarry.models.base import Informativeness

RIDGE = 1e-9
"""What is added to the diagonal of the information matrix, in units of its mean. Rounding of sensitivities in single precision
moves q by some 1e-14 / 1e-9 times weights / outputs only."""


@dataclass(frozen=True, eq=False)
class Sensitivities:
    """Of the outputs of some structures to the last layer's weights.

    rows: shape (n_outputs, n_weights), structure by structure. counts: outputs of each structure, at least one, shape (n,).
    together: outputs that follow each other and come together: 1, or the 3 components of a force.
    """

    rows: NDArray[np.floating]
    counts: NDArray[np.int64]
    together: int = 1


class InformationMatrix:
    """What the training labels say of the last layer's weights: A of the module's equations."""

    def __init__(self, blocks: Iterable[Sensitivities]) -> None:
        """blocks: of all training structures. Raises QuarryError if a sensitivity is not finite."""
        outputs, matrix = 0, np.zeros((0, 0))
        for block in blocks:
            rows = block.rows.astype(np.float64)
            outputs += len(rows)
            matrix = rows.T @ rows if not len(matrix) else matrix + rows.T @ rows
        if not np.isfinite(matrix).all():
            raise QuarryError(
                "query.strategy: the model's last layer has sensitivities that are not finite; check its labels and settings"
            )
        weights = len(matrix)
        self.saturated = outputs < weights
        """Whether there are fewer outputs than weights."""
        ridge = RIDGE * float(np.trace(matrix)) / max(1, weights)
        matrix[np.diag_indices(weights)] += ridge or 1.0
        self._factor = cholesky(matrix, lower=True, overwrite_a=True, check_finite=False)

    def change(self, block: Sensitivities) -> NDArray[np.float64]:
        """Return the expected change of the output variance by each structure, the mean over its outputs, shape (n,)."""
        rows = block.rows.astype(np.float64)
        solved = solve_triangular(self._factor, rows.T, lower=True, overwrite_b=True, check_finite=False)
        parts = solved.T.reshape(-1, block.together, len(solved))
        quotients = parts @ parts.transpose(0, 2, 1)
        if not self.saturated:
            quotients = np.asarray(np.linalg.solve(np.eye(block.together) + quotients, quotients), dtype=np.float64)
        change = np.trace(quotients, axis1=1, axis2=2) / block.together
        counts = block.counts // block.together
        owners = np.repeat(np.arange(len(counts)), counts)
        return np.bincount(owners, change, minlength=len(counts)) / counts

    def slopes(self, block: Sensitivities) -> NDArray[np.float64]:
        """Return the derivatives of ``change`` by the sensitivities of structures with one output each, shape (n, n_weights).

        Of equation 14: 2 A^-1 g / (1 + q)^2; where A is singular, of its numerator.
        """
        rows = block.rows.astype(np.float64)
        solved = cho_solve((self._factor, True), rows.T, check_finite=False).T
        quotients = (rows * solved).sum(axis=1, keepdims=True)
        return np.asarray(2.0 * solved if self.saturated else 2.0 * solved / (1.0 + quotients) ** 2)


class Known:
    """What the training structures fix, which many others are compared with."""

    def __init__(self, blocks: Callable[[], Iterable[Sensitivities]]) -> None:
        """blocks: makes the sensitivities of all training structures; it is called twice."""
        self._matrix = InformationMatrix(blocks())
        self._changes = self._of(blocks())

    def change(self, others: Iterable[Sensitivities]) -> Informativeness:
        """Return the expected change by structures, shape (n,), and by those of the training set, shape (n_known,)."""
        return Informativeness(self._of(others), self._changes)

    @property
    def own(self) -> NDArray[np.float64]:
        """The expected change by each structure of the training set, shape (n_known,)."""
        return self._changes

    def slopes(self, others: Sensitivities) -> NDArray[np.float64]:
        """Return how the expected change by structures goes with their sensitivities, ``InformationMatrix.slopes``."""
        return self._matrix.slopes(others)

    def _of(self, blocks: Iterable[Sensitivities]) -> NDArray[np.float64]:
        return np.concatenate([np.zeros(0), *(self._matrix.change(block) for block in blocks)])
