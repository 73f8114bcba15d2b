"""The Gaussian process as a model of a target: prior mean, scale of the target, file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError

from quarry.config.base import on_device
from quarry.config.models import Gpr
from quarry.config.targets import TARGETS
from quarry.errors import QuarryError
from quarry.hdf5_files import new_hdf5
from quarry.models.baselines import CompositionBaseline, ConstantBaseline, read_baseline, write_baseline
from quarry.models.calibration import Calibration, held_blocks
from quarry.models.gaussian_process import GaussianProcess
from quarry.models.hyperparameter_search import optimise_hyperparameters
from quarry.models.hyperparameters import Hyperparameters, Optimum, Start, diagonal, floors
from quarry.models.kernel_derivatives import values_and_slopes
from quarry.models.nystroem import kernel_map
from quarry.models.regression import RegressionData, RegressionPrediction, check_features
from quarry.structures import StructureSet

NEGLIGIBLE_SPREAD = 1e-12
"""A scale of the residuals below this, relative to the largest target, is rounding: such targets do not vary."""


class GaussianProcessRegression:
    """Gaussian process regression of one target (Ghosh et al., arXiv:2408.11191, equations 3 to 6).

    The process learns (target - prior mean) / scale, the scale being the root mean square of that difference over the
    training data (its standard deviation, but for a prior mean of zero).
    """

    kind = "gpr"

    def __init__(self, target: str, settings: Gpr) -> None:
        """target: energy, homo ... settings: the section model of the configuration."""
        self.target = target
        self.settings = settings
        self.scale = 1.0
        self._features: NDArray[np.floating] = np.zeros((0, 0))
        self._residuals: NDArray[np.float64] = np.zeros(0)
        self._baseline: CompositionBaseline | ConstantBaseline = ConstantBaseline(0.0)
        self._optimum: Optimum | None = None
        self._process: GaussianProcess | None = None
        self._calibration = Calibration()

    @classmethod
    def from_settings(cls, settings: Gpr, target: str) -> GaussianProcessRegression:
        """Make an untrained model."""
        return cls(target, settings)

    def fit(self, data: RegressionData, validation: RegressionData | None, rng: np.random.Generator) -> None:
        """Train on all of ``data``; ``validation`` and ``rng`` are not used, nothing is random.

        Raises QuarryError if there is no training structure, a target or feature is not finite, or the kernel matrix
        cannot be factorised.
        """
        data.check(self.target)
        self._features = _compact(data.features)
        self._baseline = self._fitted_baseline(data)
        residuals = data.targets - self._baseline.mean(data.structures)
        scale = float(np.sqrt(np.mean(residuals**2)))
        if scale <= NEGLIGIBLE_SPREAD * float(np.max(np.abs(data.targets))):
            self.scale, self._residuals = 1.0, np.zeros(len(data))
        else:
            self.scale, self._residuals = scale, residuals / scale
        # By id, which is a hash: an order that has nothing to do with when or why a structure was labelled.
        rows = np.argsort(data.structures.ids, kind="stable")
        if self.settings.subset is not None and self.settings.subset < len(data):
            rows = rows[np.linspace(0, len(rows) - 1, self.settings.subset).astype(np.int64)]
        features, targets = self._features[rows].astype(np.float64), self._residuals[rows]
        groups = None if data.groups is None else data.groups[rows]
        try:
            optimum = optimise_hyperparameters(
                features, targets, self._start(), self.settings.criterion, len(data), groups
            )
            self._condition(optimum, data.groups)
        except LinAlgError as error:
            raise QuarryError(f"model.kind: gpr cannot learn from these features ({error}); set model.noise") from error

    def _fitted_baseline(self, data: RegressionData) -> CompositionBaseline | ConstantBaseline:
        wanted = self.settings.prior_mean
        if wanted == "composition" or (wanted == "auto" and TARGETS[self.target].total_energy):
            return CompositionBaseline.fit(data.structures, data.targets)
        return ConstantBaseline(0.0 if wanted == "zero" else float(np.mean(data.targets)))

    def _start(self) -> Start:
        """Return what the settings say of the hyperparameters, in units of the targets' scale."""
        settings, variance = self.settings, self.scale**2
        signal, absolute = settings.signal_variance, settings.noise_variance
        return Start(
            signal_variance=None if signal is None else signal / variance,
            length_scale=settings.length_scale,
            noise_variance=settings.noise if absolute is None else absolute / variance,
            exact_noise=absolute is not None,
            bounds_factor=settings.bounds_factor,
            optimise=settings.optimise,
        )

    def _condition(self, optimum: Optimum, groups: NDArray[np.int64] | None) -> None:
        """Condition on all training data, with a higher floor than the subset needed if it must be."""
        candidates = floors(len(self._residuals), self.settings.noise_variance is not None)
        for floor in (floor for floor in candidates if floor >= optimum.floor):
            try:
                process = GaussianProcess(
                    self._features, self._residuals, optimum.hyperparameters, floor, self.settings.device
                )
            except LinAlgError:
                if floor == candidates[-1]:
                    raise
            else:
                break
        self._process = process
        self._optimum = replace(optimum, floor=floor, log_marginal_likelihood=process.log_marginal_likelihood())
        self._calibration = Calibration()
        if self.settings.calibrate and np.any(self._residuals):
            errors, variances = process.leave_out(held_blocks(len(self._residuals), groups))
            self._calibration = Calibration.of(errors, np.sqrt(np.maximum(variances, 0.0)))

    def predict(
        self, structures: StructureSet, features: NDArray[np.floating], with_std: bool = True
    ) -> RegressionPrediction:
        """Predict mean and standard deviation (of the function, without the noise of a label), in the target's unit.

        The standard deviation is calibrated by leave-one-out errors of the training labels where there are enough of them.
        Without ``with_std``, several times faster, std is None. Raises QuarryError if there are other features than the
        model was trained on, one is not a finite number, or the model's kernel matrix cannot be factorised here.
        """
        process = self._checked(structures, features)
        try:
            mean, std = process.predict(features, with_std)
        except LinAlgError as error:
            raise QuarryError(
                f"model.kind: this gpr cannot be used on this machine ({error}); train it again here"
            ) from error
        mean = self._baseline.mean(structures) + self.scale * mean
        factor = self._calibration.factor
        if std is not None:
            std = np.hypot(factor * self.scale * std, self._baseline.extra_std(structures))
        noise = factor**2 * self.hyperparameters["noise_variance"]
        return RegressionPrediction(mean, std, noise_variance=noise, std_factor=factor)

    def slopes(self, structures: StructureSet, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the derivatives of the predicted mean by the features, see ``HasSlopes``."""
        process = self._checked(structures, features)
        found = process.hyperparameters
        _, slopes = values_and_slopes(
            features.astype(np.float64), self._features.astype(np.float64), found.length_scale, process.weights, None
        )
        return self.scale * found.signal_variance * slopes

    def std_slopes(self, structures: StructureSet, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the derivatives of the standard deviation by the features, see ``HasStdSlopes``."""
        process = self._checked(structures, features)
        unit = self._calibration.factor * self.scale
        own = process.predict(features)[1]
        assert own is not None
        own = unit * own
        # That of the atomic references does not depend on the positions.
        whole = np.hypot(own, self._baseline.extra_std(structures))
        shares = np.divide(own, whole, out=np.zeros_like(whole), where=whole > 0)
        return shares[:, None] * unit * process.std_slopes(features)

    def embed(
        self, structures: StructureSet, features: NDArray[np.floating], kind: str, rng: np.random.Generator
    ) -> NDArray[np.float32]:
        """Return a feature map of the prior kernel, shape (n, p): see ``nystroem.kernel_map``.

        Inner products approximate k(x, x') in the target's unit squared.
        Raises QuarryError for another ``kind`` than kernel, and as ``predict`` does.
        """
        if kind != "kernel":
            raise QuarryError(f"query.embedding: gpr has no embedding '{kind}'; set kernel")
        process = self._checked(structures, features)
        return kernel_map(process, self._features, features, rng, self.scale)

    def _checked(self, structures: StructureSet, features: NDArray[np.floating]) -> GaussianProcess:
        """Return the process if it can say something about the features."""
        if self._process is None:
            raise RuntimeError("this model is not trained")
        if features.shape[1] != self._features.shape[1]:
            raise QuarryError(
                f"descriptor: the model was trained on {self._features.shape[1]} features but the structures have "
                f"{features.shape[1]}; compute both with the same descriptor section"
            )
        check_features(structures, features)
        return self._process

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """Return the trained hyperparameters by name, in physical units (target's unit squared, features' unit).

        noise_variance is what is on the diagonal of the kernel matrix. noise_floor is the part of it that keeps the
        factorisation sound (proportional to the signal variance); noise_floor_raised says that this had to be more than
        rounding explains, because the factorisation failed. log_marginal_likelihood is that of the targets in their
        unit, of all training data. length_scale_end: at which end of its bounds the length scale is (lowest, highest), or
        empty. std_factor, calibration_labels: see ``Calibration.account``; the variances here are without that factor.
        """
        if self._optimum is None:
            raise RuntimeError("this model is not trained")
        parameters, floor, n = self._optimum.hyperparameters, self._optimum.floor, len(self._residuals)
        variance = self.scale**2
        return {
            "signal_variance": parameters.signal_variance * variance,
            "length_scale": parameters.length_scale,
            "noise_variance": diagonal(parameters, floor) * variance,
            "noise_floor": floor * parameters.signal_variance * variance,
            "noise_floor_raised": floor > floors(n, self.settings.noise_variance is not None)[0],
            "log_marginal_likelihood": self._optimum.log_marginal_likelihood - n * float(np.log(self.scale)),
            "length_scale_end": self._optimum.length_end,
            **self._calibration.account(),
        }

    @property
    def warnings(self) -> list[str]:
        """Return what is doubtful about the training, a line each."""
        found, lines = self.hyperparameters, []
        if found["length_scale_end"]:
            lines.append(
                f"the length scale of gpr, {found['length_scale']:.3g}, is the {found['length_scale_end']} that its search "
                "tries (model.length_scale, model.bounds_factor)"
            )
        if found["noise_floor_raised"]:
            lines.append(
                "the fit of gpr is ill-conditioned: its kernel matrix could be factorised with more noise only (model.noise)"
            )
        return lines

    def save(self, path: str | Path) -> None:
        """Write the model as HDF5; the same model gives the same bytes.

        The weights are in it, so that means cost no factorisation; the Cholesky factor is not: it would be n_train^2
        numbers (2 GB for 16,000) in every iteration, and is computed sooner than it is read from a shared disk.
        """
        if self._optimum is None or self._process is None:
            raise RuntimeError("this model is not trained")
        parameters = self._optimum.hyperparameters
        with new_hdf5(path) as handle:
            settings = self.settings.model_dump_json()
            handle.attrs.update(kind=self.kind, target=self.target, settings=settings, scale=self.scale)
            handle.attrs.update({name: value for name, value in self.hyperparameters.items() if value is not None})
            # What the process itself works with; the attributes above are for readers.
            standardised = handle.create_group("standardised")
            standardised.attrs.update(
                signal_variance=parameters.signal_variance,
                length_scale=parameters.length_scale,
                noise_variance=parameters.noise_variance,
                floor=self._optimum.floor,
                log_marginal_likelihood=self._optimum.log_marginal_likelihood,
            )
            handle.attrs.update(length_end=self._optimum.length_end)
            handle.attrs.update(calibration_factor=self._calibration.factor, calibration_count=self._calibration.count)
            standardised.create_dataset("residuals", data=self._residuals)
            standardised.create_dataset("weights", data=self._process.weights)
            handle.create_dataset("features", data=self._features)
            write_baseline(self._baseline, handle.create_group("baseline"))

    @classmethod
    def load(cls, path: str | Path, device: str | None = None) -> GaussianProcessRegression:
        """Read what ``save`` wrote. device: where it is to run; None: as when it was trained."""
        with h5py.File(path, "r") as handle:
            attributes = handle.attrs
            model = cls(
                str(attributes["target"]), on_device(Gpr.model_validate_json(str(attributes["settings"])), device)
            )
            model.scale = float(attributes["scale"])
            model._features = handle["features"][()]
            model._residuals = handle["standardised/residuals"][()]
            weights = handle["standardised/weights"][()]
            found = {name: float(value) for name, value in handle["standardised"].attrs.items()}
            model._optimum = Optimum(
                Hyperparameters(found["signal_variance"], found["length_scale"], found["noise_variance"]),
                found["log_marginal_likelihood"],
                found["floor"],
                str(attributes.get("length_end", "")),
            )
            # A file of an earlier version has no calibration.
            model._calibration = Calibration(
                float(attributes.get("calibration_factor", 1.0)), int(attributes.get("calibration_count", 0))
            )
            model._baseline = read_baseline(handle["baseline"])
        parameters, floor = model._optimum.hyperparameters, model._optimum.floor
        model._process = GaussianProcess(
            model._features, model._residuals, parameters, floor, model.settings.device, weights
        )
        return model


def _compact(features: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the features in single precision if that holds them exactly: half the memory, and half the model's file."""
    single = np.ascontiguousarray(features, dtype=np.float32)
    return single if np.array_equal(single, features) else np.ascontiguousarray(features, dtype=np.float64)
