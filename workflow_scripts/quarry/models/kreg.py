"""KREG: kernel ridge regression with the RE descriptor and the Gaussian kernel, of one or several targets, or of energies
with their forces.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError

from quarry.config.models import Kreg, Log2Grid
from quarry.config.targets import TARGETS
from quarry.errors import QuarryError
from quarry.hdf5_files import new_hdf5
from quarry.models.calibration import Calibration
from quarry.models.gaussian_process import GaussianProcess
from quarry.models.hyperparameters import Hyperparameters
from quarry.models.kernel_derivatives import DerivativeKernels, Points, joint_errors
from quarry.models.kernel_model import Learnt, Observations
from quarry.models.kernel_ridge import (
    Axis,
    Choice,
    Criterion,
    GaussianKernels,
    Kernels,
    powers_of_two,
    root_mean_squares,
    search_grid,
)
from quarry.models.nystroem import kernel_map
from quarry.models.regression import RegressionData, RegressionPrediction, check_features
from quarry.structures import StructureSet

LARGEST_SYSTEM_BYTES = 4_000_000_000
"""Energies with forces: at most so much memory for the kernel matrix and its factor."""

SUB_TRAINING = 0.8
"""Share of the data that the hyperparameters' models learn where nobody gave validation data: the first ones."""


class KernelRidgeRegression:
    """KREG, as it learns each state and quantity of ML-NEA (B.-X. Xue, M. Barbatti, P. O. Dral, J. Phys. Chem. A 124, 7199
    (2020)): hyperparameters by the smallest RMSE on the validation data, then trained on all data.

    Kernel ridge regression is the mean of a Gaussian process whose noise variance is the regularisation times its signal
    variance. The standard deviation of a prediction is that of the process, of the function without noise, with the most
    likely signal variance.
    """

    kind = "kreg"

    validation: RegressionPrediction
    """What the model of the sub-training data alone says of the validation data; of no structures if there were none."""

    def __init__(self, target: str, settings: Kreg) -> None:
        """target: energy, excitations ... settings: the section model of the configuration."""
        self.target = target
        self.settings = settings
        self.validation = RegressionPrediction(np.zeros(0), None)
        self._several = False
        self._choices: list[Choice] = []
        self._learnt: Learnt | None = None

    @classmethod
    def from_settings(cls, settings: Kreg, target: str) -> KernelRidgeRegression:
        """Make an untrained model."""
        return cls(target, settings)

    def fit(self, data: RegressionData, validation: RegressionData | None, rng: np.random.Generator) -> None:
        """Choose the hyperparameters by the errors on ``validation``, then train on both, data first.

        Without validation data the last fifth of ``data`` serves, unless sigma and regularisation are both fixed: then
        there is nothing to choose. Nothing is random. Data with forces are learnt with their forces.
        Raises QuarryError if there is no training structure, or only one and hyperparameters to choose, if a target,
        force or feature is not finite, if the matrix of energies with forces does not fit into memory, or if no point of the grid
        gives a matrix that can be factorised.
        """
        parts = [data, *([validation] if validation is not None and len(validation) else [])]
        for part in parts:
            part.check(self.target)
            _check_forces(part)
        sigma, regularisation = self.settings.sigma, self.settings.regularisation
        if len(parts) == 1 and (sigma is None or regularisation is None):
            parts = self._split(data)
        self._check_size(sum(len(part) for part in parts), data)
        self._several = data.targets.ndim == 2
        self.validation = RegressionPrediction(np.zeros(0), None)
        try:
            if len(parts) == 2:
                observed = Observations.of(parts[0])
                self._choices = self._searched(observed, Observations.of(parts[1]))
                learnt = Learnt.of(observed, self._prior(observed), self._choices)
                self.validation = self._predicted(learnt, parts[1].structures, parts[1].features, with_std=True)
            else:
                assert sigma is not None and regularisation is not None
                self._choices = [Choice(sigma, regularisation, np.nan)] * data.targets.reshape(len(data), -1).shape[1]
            everything = Observations.of(*parts)
            self._learnt = Learnt.of(everything, self._prior(everything), self._choices, self.settings.calibrate)
        except LinAlgError as error:
            raise QuarryError(
                f"model.kind: kreg cannot learn from these features ({error}); raise model.log2_regularisation.minimum, or "
                "model.regularisation where that is fixed"
            ) from error

    def _split(self, data: RegressionData) -> list[RegressionData]:
        """Return the sub-training and the validation data, in order."""
        if len(data) < 2:
            raise QuarryError(
                f"query.initial: kreg needs at least 2 training labels to choose its hyperparameters, there is {len(data)}; "
                "raise it, or set model.sigma and model.regularisation"
            )
        count = max(1, int(SUB_TRAINING * len(data)))
        return [data.subset(np.arange(count)), data.subset(np.arange(count, len(data)))]

    def _check_size(self, n: int, data: RegressionData) -> None:
        """Raise QuarryError, one line, if energies with forces of ``n`` structures take too much memory."""
        if data.forces is None:
            return
        per_structure = 1 + 3 * (len(data.structures.positions) // len(data))
        # The matrix, and a copy that is factorised.
        needed = 16 * (n * per_structure) ** 2
        if needed > LARGEST_SYSTEM_BYTES:
            most = int((LARGEST_SYSTEM_BYTES / 16) ** 0.5 / per_structure)
            raise QuarryError(
                f"model.kind: kreg with forces would need {needed / 1e9:.0f} GB for {n} training structures, more than "
                f"{LARGEST_SYSTEM_BYTES / 1e9:.0f} GB; keep to {most} (stop.max_labels), or set target: energy"
            )

    def _searched(self, data: Observations, validation: Observations) -> list[Choice]:
        """Return the hyperparameters of the smallest error on the validation data, for each target."""
        prior = self._prior(data)
        kernels: Kernels
        criterion: Criterion
        if data.points is None or validation.points is None:
            kernels, criterion = GaussianKernels(data.features, validation.features), root_mean_squares
        else:
            kernels = DerivativeKernels(data.points, validation.points)
            criterion = partial(joint_errors, n_values=len(validation.features))
        return search_grid(
            kernels,
            data.residuals(prior),
            validation.residuals(prior),
            _axis(self.settings.sigma, self.settings.log2_sigma),
            _axis(self.settings.regularisation, self.settings.log2_regularisation),
            self.settings.grid_depth,
            criterion,
        )

    def _prior(self, data: Observations) -> NDArray[np.float64]:
        zero = self.settings.prior_mean == "zero"
        return np.zeros(data.targets.shape[1]) if zero else data.targets.mean(axis=0)

    def predict(
        self, structures: StructureSet, features: NDArray[np.float64], with_std: bool = True
    ) -> RegressionPrediction:
        """Predict mean and standard deviation (of the function, without the noise of a label), in the target's unit.

        The standard deviation is calibrated by errors of training labels that are left out, where there are enough of them.
        For target energy_forces also forces, which are minus the gradient of the mean, whether forces were learnt or
        not. Without ``with_std`` std is None. Raises QuarryError if there are other features than the model was trained
        on, one is not a finite number, or the model's kernel matrix cannot be factorised here.
        """
        learnt = self._checked(structures, features)
        try:
            return self._predicted(learnt, structures, features, with_std)
        except LinAlgError as error:
            raise QuarryError(
                f"model.kind: this kreg cannot be used on this machine ({error}); train it again here"
            ) from error

    def _predicted(
        self, learnt: Learnt, structures: StructureSet, features: NDArray[np.float64], with_std: bool
    ) -> RegressionPrediction:
        """Return a prediction in the targets' shape: (n,) unless there are several."""
        found = learnt.predict(structures, features, with_std, "forces" in TARGETS[self.target].learnt)
        if self._several:
            return found
        std = None if found.std is None else found.std[:, 0]
        factor = learnt.calibration(0).factor
        noise = float(factor**2 * learnt.amplitudes[0] ** 2 * learnt.regularisations[0])
        return RegressionPrediction(found.mean[:, 0], std, forces=found.forces, noise_variance=noise, std_factor=factor)

    def slopes(self, structures: StructureSet, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the derivatives of the predicted mean of the first target by the features, see ``HasSlopes``."""
        return self._checked(structures, features).slopes(features)

    def std_slopes(self, structures: StructureSet, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the derivatives of the first target's standard deviation by the features, see ``HasStdSlopes``."""
        return self._checked(structures, features).std_slopes(features)

    def embed(
        self, structures: StructureSet, features: NDArray[np.float64], kind: str, rng: np.random.Generator
    ) -> NDArray[np.float32]:
        """Return a feature map of the kernel between values, shape (n, p): see ``nystroem.kernel_map``.

        Inner products approximate k(x, x'), without unit; for several targets that of the geometric mean of their widths.
        Raises QuarryError for another ``kind`` than kernel, and as ``predict`` does.
        """
        if kind != "kernel":
            raise QuarryError(f"query.embedding: kreg has no embedding '{kind}'; set kernel")
        learnt = self._checked(structures, features)
        sigma = float(np.exp(np.mean(np.log(learnt.sigmas))))
        # Only its prior is asked for: no weights.
        nothing = np.zeros(len(learnt.features))
        process = GaussianProcess(learnt.features, nothing, Hyperparameters(1.0, sigma, 0.0), weights=nothing)
        return kernel_map(process, learnt.features, features, rng)

    def _checked(self, structures: StructureSet, features: NDArray[np.float64]) -> Learnt:
        """Return what was learnt if it can say something about the features."""
        if self._learnt is None:
            raise RuntimeError("this model is not trained")
        if features.shape[1] != self._learnt.features.shape[1]:
            raise QuarryError(
                f"descriptor: the model was trained on {self._learnt.features.shape[1]} features but the structures have "
                f"{features.shape[1]}; compute both with the same descriptor section"
            )
        check_features(structures, features)
        return self._learnt

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """Return what training chose, by name; a list with a number for each target where there are several.

        sigma: width of the kernel. regularisation: what is on the diagonal beside the kernel; regularisation_raised says
        that it had to be more than was chosen, because the factorisation failed. amplitude: of the Gaussian process, in
        the target's unit. validation_error: RMSE on the validation data of the model that had not learnt them, for
        energies with forces the geometric mean of both; null without validation data. grid_ends: of which hyperparameter
        the chosen value is at an end of its grid or beyond: sigma or regularisation, lowest or highest.
        std_factor, calibration_labels: see ``Calibration.account``. noise_variance, of one target only: what is on the diagonal
        in the target's unit squared, without that factor.
        """
        if self._learnt is None:
            raise RuntimeError("this model is not trained")
        learnt, choices = self._learnt, self._choices
        amplitudes = learnt.amplitudes
        wanted = [choice.regularisation for choice in choices]
        errors = [None if np.isnan(choice.error) else choice.error for choice in choices]
        found: dict[str, list[Any]] = {
            "sigma": learnt.sigmas.tolist(),
            "regularisation": learnt.regularisations.tolist(),
            "regularisation_raised": [bool(x) for x in learnt.regularisations > wanted],
            "amplitude": amplitudes.tolist(),
            "validation_error": errors,
            "grid_ends": [self._grid_ends(choice) for choice in choices],
        }
        accounts = [learnt.calibration(target).account() for target in range(len(choices))]
        found |= {name: [account[name] for account in accounts] for name in accounts[0]}
        if self._several:
            return found
        single = {name: values[0] for name, values in found.items()}
        return {**single, "noise_variance": float(amplitudes[0] ** 2 * learnt.regularisations[0])}

    @property
    def warnings(self) -> list[str]:
        """Return what is doubtful about the training, a line each; for several targets how many of them it is true of."""
        if self._learnt is None:
            raise RuntimeError("this model is not trained")
        raised = self._learnt.regularisations > [choice.regularisation for choice in self._choices]
        said = Counter(end for choice in self._choices for end in self._grid_ends(choice))
        of = f" for {{}} of {len(self._choices)} quantities" if self._several else ""
        lines = [
            f"the {name} of kreg is at the {end} end of its grid{of.format(count)} (model.log2_{name})"
            for (name, end), count in ((what.split(), count) for what, count in sorted(said.items()))
        ]
        if raised.any():
            lines.append(
                f"the fit of kreg is ill-conditioned{of.format(int(raised.sum()))}: its kernel matrix could be factorised "
                "with more regularisation only (model.log2_regularisation.minimum)"
            )
        return lines

    def _grid_ends(self, choice: Choice) -> list[str]:
        """Return which hyperparameters ended at an end of their grid."""
        settings, ends = self.settings, []
        for name, fixed, grid, value in (
            ("sigma", settings.sigma, settings.log2_sigma, choice.sigma),
            ("regularisation", settings.regularisation, settings.log2_regularisation, choice.regularisation),
        ):
            # The logarithm of the power of an end is the end up to rounding.
            if fixed is None and np.log2(value) < grid.minimum + 1e-9:
                ends.append(f"{name} lowest")
            elif fixed is None and np.log2(value) > grid.maximum - 1e-9:
                ends.append(f"{name} highest")
        return ends

    def save(self, path: str | Path) -> None:
        """Write the model as HDF5; the same model gives the same bytes.

        The weights are in it, so that means cost no factorisation; the Cholesky factors are not.
        """
        if self._learnt is None:
            raise RuntimeError("this model is not trained")
        learnt = self._learnt
        with new_hdf5(path) as handle:
            settings = self.settings.model_dump_json()
            handle.attrs.update(kind=self.kind, target=self.target, settings=settings, several=self._several)
            handle.attrs["count"] = learnt.count
            for name in ("features", "prior", "residuals", "sigmas", "regularisations", "weights"):
                handle.create_dataset(name, data=getattr(learnt, name))
            if learnt.calibrations:
                found = [[calibration.factor, calibration.count] for calibration in learnt.calibrations]
                handle.create_dataset("calibrations", data=np.array(found))
            if learnt.points is not None:
                handle.create_dataset("jacobians", data=learnt.points.jacobians)
            chosen = [[c.sigma, c.regularisation, c.error] for c in self._choices]
            handle.create_dataset("choices", data=np.array(chosen))
            for name in ("mean", "std", "forces"):
                values = getattr(self.validation, name)
                if values is not None:
                    handle.create_dataset(f"validation/{name}", data=values)

    @classmethod
    def load(cls, path: str | Path) -> KernelRidgeRegression:
        """Read what ``save`` wrote."""
        with h5py.File(path, "r") as handle:
            attributes = handle.attrs
            model = cls(str(attributes["target"]), Kreg.model_validate_json(str(attributes["settings"])))
            model._several = bool(attributes["several"])
            points = Points(handle["features"][()], handle["jacobians"][()]) if "jacobians" in handle else None
            model._learnt = Learnt(
                features=handle["features"][()],
                points=points,
                prior=handle["prior"][()],
                residuals=handle["residuals"][()],
                sigmas=handle["sigmas"][()],
                regularisations=handle["regularisations"][()],
                weights=handle["weights"][()],
                count=int(attributes["count"]),
                # A file of an earlier version has none.
                calibrations=[Calibration(f, int(n)) for f, n in handle["calibrations"]]
                if "calibrations" in handle
                else [],
            )
            model._choices = [Choice(*(float(x) for x in row)) for row in handle["choices"][()]]
            held = {name: values[()] for name, values in handle["validation"].items()}
            model.validation = RegressionPrediction(held["mean"], held.get("std"), forces=held.get("forces"))
        return model


def _check_forces(data: RegressionData) -> None:
    """Raise QuarryError, one line, if a force is not a finite number."""
    if data.forces is not None and not np.isfinite(data.forces).all():
        atom = int(np.argmin(np.isfinite(data.forces).all(axis=1)))
        bad = data.structures.ids[int(np.searchsorted(data.structures.offsets, atom, side="right")) - 1]
        raise QuarryError(f"target: the forces of structure {bad} are not finite numbers; check labeling")


def _axis(fixed: float | None, grid: Log2Grid) -> Axis:
    """Return the values to try: one if it is fixed."""
    return (fixed,) if fixed is not None else powers_of_two(grid.minimum, grid.maximum, grid.points)
