"""What kernel ridge regression learns from and what it has learnt, of several targets or of energies with forces."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError

from quarry.descriptors.distances import forces_of
from quarry.models.calibration import MOST, Calibration, held_blocks
from quarry.models.gaussian_process import GaussianProcess
from quarry.models.hyperparameters import Hyperparameters, floors
from quarry.models.kernel_derivatives import (
    DerivativeProcess,
    Points,
    internal_gradients,
    points_of,
    values_and_slopes,
)
from quarry.models.kernel_ridge import Choice
from quarry.models.regression import RegressionData, RegressionPrediction
from quarry.structures import StructureSet

MOST_BLOCKS = 200
"""Structures with forces that calibrate: leaving one out takes as much work as a hundredth of a factorisation."""


@dataclass(frozen=True)
class Observations:
    """features: shape (n, d). targets: shape (n, n_targets). points: with Jacobians, where there are forces, else None.
    gradients: minus the forces, without translations and rotations, shape (n, 3 n_atoms), or None. count: how many
    numbers are known of each target, its value and gradients. groups: shape (n,), equal for copies of one structure; None:
    there are none.
    """

    features: NDArray[np.float64]
    targets: NDArray[np.float64]
    points: Points | None
    gradients: NDArray[np.float64] | None
    count: int
    groups: NDArray[np.int64] | None = None

    @staticmethod
    def of(*parts: RegressionData) -> Observations:
        """Return the observations of several data, one after another."""
        features = np.concatenate([part.features for part in parts])
        targets = np.concatenate([part.targets.reshape(len(part), -1) for part in parts])
        forces = [part.forces for part in parts if part.forces is not None]
        known_groups = [part.groups for part in parts if part.groups is not None]
        groups = np.concatenate(known_groups) if len(known_groups) == len(parts) else None
        if len(forces) < len(parts):
            return Observations(features, targets, None, None, len(targets), groups)
        jacobians = np.concatenate([points_of(part.structures, part.features).jacobians for part in parts])
        gradients, known = internal_gradients(jacobians, -np.concatenate(forces).reshape(len(features), -1))
        return Observations(features, targets, Points(features, jacobians), gradients, len(targets) + known, groups)

    def residuals(self, prior: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what is learnt, shape (m, n_targets): targets without their prior mean, then gradients, if any.

        prior: prior mean of each target, shape (n_targets,).
        """
        values = self.targets - prior
        return values if self.gradients is None else np.concatenate([values, self.gradients.reshape(-1, 1)])


@dataclass
class Learnt:
    """features: shape (n, d). points: with Jacobians, where forces were learnt. prior: prior mean of each target, shape
    (n_targets,). residuals, weights: shape (m, n_targets). sigmas, regularisations (what is on the diagonal beside the
    kernel): shape (n_targets,). count: how many numbers were known of each target. calibrations: of each target, by errors
    of training structures that are left out; empty: none.
    """

    features: NDArray[np.float64]
    points: Points | None
    prior: NDArray[np.float64]
    residuals: NDArray[np.float64]
    sigmas: NDArray[np.float64]
    regularisations: NDArray[np.float64]
    weights: NDArray[np.float64]
    count: int
    calibrations: list[Calibration] = field(default_factory=list)
    _alone: GaussianProcess | DerivativeProcess | None = field(default=None, init=False, repr=False, compare=False)

    @staticmethod
    def of(data: Observations, prior: NDArray[np.float64], choices: list[Choice], calibrate: bool = False) -> Learnt:
        """Train with the hyperparameters of each target; calibrate: see ``calibrations``.

        Raises scipy.linalg.LinAlgError if a kernel matrix is not positive definite in double precision, even with the
        highest floor of ``hyperparameters.floors`` on its diagonal.
        """
        residuals = data.residuals(prior)
        sigmas = np.array([choice.sigma for choice in choices])
        regularisations, weights = np.empty(len(choices)), np.empty(residuals.shape)
        calibrations = []
        for target, choice in enumerate(choices):
            column = residuals[:, target]
            # More points than those of the search can make a matrix singular that was not.
            for floor in (candidates := floors(len(column), exact_noise=True)):
                raised = choice.regularisation + floor
                try:
                    process = _process(data.features, data.points, column, choice.sigma, raised)
                except LinAlgError:
                    if floor == candidates[-1]:
                        raise
                else:
                    break
            regularisations[target], weights[:, target] = raised, process.weights
            if calibrate:
                amplitude = _amplitude(float(column @ process.weights), data.count)
                calibrations.append(_calibration(process, len(data.features), data.groups, amplitude))
        return Learnt(
            data.features, data.points, prior, residuals, sigmas, regularisations, weights, data.count, calibrations
        )

    @property
    def amplitudes(self) -> NDArray[np.float64]:
        """Return the most likely amplitude of each target's Gaussian process, in its unit, shape (n_targets,).

        Its square is y^T (K + lambda I)^-1 y / count (C. E. Rasmussen, C. K. I. Williams, Gaussian Processes for Machine
        Learning (2006), the maximum of equation 5.8 in the scale of K).
        """
        fits = np.einsum("it,it->t", self.residuals, self.weights)
        return np.array([_amplitude(fit, self.count) for fit in fits])

    def calibration(self, target: int) -> Calibration:
        """Return how the standard deviation of a target (its number, from 0) is scaled."""
        return self.calibrations[target] if self.calibrations else Calibration()

    def process(self, target: int) -> GaussianProcess | DerivativeProcess:
        """Return the Gaussian process of a target (its number, from 0), of unit signal variance.

        One that is alone keeps its factor.
        """
        if self._alone is not None:
            return self._alone
        sigma, regularisation = float(self.sigmas[target]), float(self.regularisations[target])
        process = _process(
            self.features, self.points, self.residuals[:, target], sigma, regularisation, self.weights[:, target]
        )
        self._alone = process if len(self.prior) == 1 else None
        return process

    def predict(
        self, structures: StructureSet, features: NDArray[np.float64], with_std: bool, with_forces: bool
    ) -> RegressionPrediction:
        """Predict all targets, mean and std of shape (n, n_targets). features: shape (n, d).

        with_forces: also forces, minus the gradient of the first target.
        """
        mean = np.empty((len(features), len(self.prior)))
        std = np.empty(mean.shape) if with_std else None
        slopes = None
        for target, amplitude in enumerate(self.amplitudes):
            process = self.process(target)
            if isinstance(process, DerivativeProcess):
                values, slopes, spread = process.predict(features, with_std)
            else:
                values, spread = process.predict(features, with_std)
            mean[:, target] = self.prior[target] + values
            if std is not None:
                std[:, target] = self.calibration(target).factor * amplitude * spread
        if with_forces and slopes is None:
            slopes = self.slopes(features)
        forces = forces_of(structures, features, slopes) if with_forces and slopes is not None else None
        return RegressionPrediction(mean, std, forces=forces)

    def slopes(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the derivatives of the mean of the first target by the features, shape (n, d)."""
        process = self.process(0)
        if isinstance(process, DerivativeProcess):
            return process.predict(features, with_std=False)[1]
        return values_and_slopes(features, self.features, float(self.sigmas[0]), self.weights[:, 0], None)[1]

    def std_slopes(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the derivatives of the standard deviation of the first target by the features, shape (n, d)."""
        return self.calibration(0).factor * self.amplitudes[0] * self.process(0).std_slopes(features)


def _amplitude(fit: float, count: int) -> float:
    return float(np.sqrt(max(fit, 0.0) / count))


def _calibration(
    process: GaussianProcess | DerivativeProcess, n: int, groups: NDArray[np.int64] | None, amplitude: float
) -> Calibration:
    """Return the calibration of a target from training structures that are left out one by one."""
    most = MOST_BLOCKS if isinstance(process, DerivativeProcess) else MOST
    errors, variances = process.leave_out(held_blocks(n, groups, most))
    return Calibration.of(errors, amplitude * np.sqrt(np.maximum(variances, 0.0)))


def _process(
    features: NDArray[np.float64],
    points: Points | None,
    residuals: NDArray[np.float64],
    sigma: float,
    regularisation: float,
    weights: NDArray[np.float64] | None = None,
) -> GaussianProcess | DerivativeProcess:
    """Return the Gaussian process of unit signal variance; raises LinAlgError if its matrix is not positive definite."""
    if points is not None:
        return DerivativeProcess(points, residuals, sigma, regularisation, weights)
    return GaussianProcess(features, residuals, Hyperparameters(1.0, sigma, regularisation), weights=weights)
