"""The Gaussian process as a model of a target: prior mean, scale of the target, file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError

from quarry.config.models import Gpr
from quarry.errors import QuarryError
from quarry.files import atomic_path
from quarry.models.base import Prediction, TrainingData
from quarry.models.gaussian_process import (
    GaussianProcess,
    Hyperparameters,
    Optimum,
    diagonal,
    optimise_hyperparameters,
)
from quarry.structures import StructureSet

NEGLIGIBLE_SPREAD = 1e-12
"""A standard deviation below this, relative to the largest target, is rounding: such targets do not vary."""


class CompositionBaseline:
    """Prior mean of a total energy: a sum over the elements, by least squares (minimum norm).

    Molecules of one composition all get the mean of their targets.
    """

    def __init__(self, elements: NDArray[np.int64], coefficients: NDArray[np.float64]) -> None:
        """elements: atomic numbers, shape (k,). coefficients: target unit per atom, shape (k,)."""
        self.elements = elements
        self.coefficients = coefficients

    @staticmethod
    def fit(structures: StructureSet, targets: NDArray[np.float64]) -> CompositionBaseline:
        """Fit to targets, shape (n,)."""
        elements = np.unique(structures.numbers)
        counts = _element_counts(structures, elements)
        coefficients = np.linalg.lstsq(counts, targets, rcond=None)[0].astype(np.float64)
        return CompositionBaseline(elements, coefficients)

    def mean(self, structures: StructureSet) -> NDArray[np.float64]:
        """Return the prior mean, shape (n,); an element that was not fitted counts zero (see ``extra_std``)."""
        return _element_counts(structures, self.elements) @ self.coefficients

    def extra_std(self, structures: StructureSet) -> NDArray[np.float64]:
        """Return what atoms of elements that were not fitted add to the standard deviation, shape (n,).

        Nothing is known of such an atom but that it contributes like the others: it counts with the largest coefficient
        of a known element, so that a mean that lacks a whole atom does not look certain.
        """
        unknown = np.setdiff1d(structures.numbers, self.elements)
        return _element_counts(structures, unknown).sum(axis=1) * np.max(np.abs(self.coefficients))


class ConstantBaseline:
    """Prior mean of a property that does not grow with the molecule: the mean of the training targets."""

    def __init__(self, value: float) -> None:
        self.value = value

    def mean(self, structures: StructureSet) -> NDArray[np.float64]:
        """Return the prior mean, shape (n,)."""
        return np.full(len(structures), self.value)

    def extra_std(self, structures: StructureSet) -> NDArray[np.float64]:
        """Return zeros, shape (n,)."""
        return np.zeros(len(structures))


class GaussianProcessRegression:
    """Gaussian process regression of one target (Ghosh et al., arXiv:2408.11191, equations 3 to 6).

    The process learns (target - prior mean) / standard deviation of that difference over the training data. The prior
    mean is a sum over the elements for the target energy, otherwise a constant.
    """

    kind = "gpr"

    def __init__(self, target: str, restarts: int, noise: float | None) -> None:
        """target: energy, homo ... restarts, noise: see ``quarry.config.models.Gpr``."""
        self.target = target
        self.restarts = restarts
        self.noise = noise
        self.scale = 1.0
        self._features: NDArray[np.float64] = np.zeros((0, 0))
        self._residuals: NDArray[np.float64] = np.zeros(0)
        self._baseline: CompositionBaseline | ConstantBaseline = ConstantBaseline(0.0)
        self._optimum: Optimum | None = None
        self._process: GaussianProcess | None = None

    @classmethod
    def from_settings(cls, settings: Gpr, target: str) -> GaussianProcessRegression:
        """Make an untrained model."""
        return cls(target, settings.restarts, settings.noise)

    def fit(self, data: TrainingData, validation: TrainingData | None, rng: np.random.Generator) -> None:
        """Train on all of ``data``; ``validation`` is not used.

        Raises QuarryError if there is no training structure, a target or feature is not finite, or the kernel matrix
        cannot be factorised.
        """
        _check(data, self.target)
        features = np.ascontiguousarray(data.features, dtype=np.float64)
        if self.target == "energy":
            self._baseline = CompositionBaseline.fit(data.structures, data.targets)
        else:
            self._baseline = ConstantBaseline(float(np.mean(data.targets)))
        residuals = data.targets - self._baseline.mean(data.structures)
        spread = float(np.std(residuals))
        if spread <= NEGLIGIBLE_SPREAD * float(np.max(np.abs(data.targets))):
            self.scale, residuals = 1.0, np.zeros(len(data))
        else:
            self.scale = spread
        self._features, self._residuals = features, residuals / self.scale
        try:
            self._optimum = optimise_hyperparameters(features, self._residuals, self.restarts, self.noise, rng)
            self._process = self._conditioned()
        except LinAlgError as error:
            raise QuarryError(f"model.kind: gpr cannot learn from these features ({error}); set model.noise") from error

    def predict(self, structures: StructureSet, features: NDArray[np.float64]) -> Prediction:
        """Predict mean and standard deviation (of the function, without the noise of a label), in the target's unit."""
        if self._process is None:
            raise RuntimeError("this model is not trained")
        mean, std = self._process.predict(features)
        mean = self._baseline.mean(structures) + self.scale * mean
        return Prediction(mean, np.hypot(self.scale * std, self._baseline.extra_std(structures)))

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """Return the trained hyperparameters by name, in physical units (target's unit squared, features' unit).

        noise_variance is what is on the diagonal of the kernel matrix. noise_floor is the part of it that keeps the
        factorisation sound (proportional to the signal variance); noise_floor_raised says that this had to be more than
        rounding explains, because the factorisation failed. log_marginal_likelihood is that of the targets in their
        unit.
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
            "noise_floor_raised": self._optimum.floor_raised,
            "log_marginal_likelihood": self._optimum.log_marginal_likelihood - n * float(np.log(self.scale)),
        }

    def save(self, path: str | Path) -> None:
        """Write the model as HDF5; the same model gives the same bytes.

        The Cholesky factor is left out: it is n_train^2 numbers, and computing it again is quicker than one prediction.
        """
        if self._optimum is None:
            raise RuntimeError("this model is not trained")
        parameters = self._optimum.hyperparameters
        with atomic_path(path) as temporary, h5py.File(temporary, "w") as handle:
            handle.attrs.update(kind=self.kind, target=self.target, restarts=self.restarts, scale=self.scale)
            if self.noise is not None:
                handle.attrs["noise"] = self.noise
            handle.attrs.update(self.hyperparameters)
            # What the process itself works with; the attributes above are for readers.
            standardised = handle.create_group("standardised")
            standardised.attrs.update(
                signal_variance=parameters.signal_variance,
                length_scale=parameters.length_scale,
                noise_variance=parameters.noise_variance,
                floor=self._optimum.floor,
                log_marginal_likelihood=self._optimum.log_marginal_likelihood,
            )
            standardised.create_dataset("residuals", data=self._residuals)
            handle.create_dataset("features", data=self._features)
            baseline = handle.create_group("baseline")
            if isinstance(self._baseline, CompositionBaseline):
                baseline.create_dataset("elements", data=self._baseline.elements)
                baseline.create_dataset("coefficients", data=self._baseline.coefficients)
            else:
                baseline.attrs["constant"] = self._baseline.value

    @classmethod
    def load(cls, path: str | Path) -> GaussianProcessRegression:
        """Read what ``save`` wrote. Raises QuarryError if the kernel matrix cannot be factorised on this machine."""
        with h5py.File(path, "r") as handle:
            attributes = handle.attrs
            noise = float(attributes["noise"]) if "noise" in attributes else None
            model = cls(str(attributes["target"]), int(attributes["restarts"]), noise)
            model.scale = float(attributes["scale"])
            model._features = handle["features"][()]
            model._residuals = handle["standardised/residuals"][()]
            found = {name: float(value) for name, value in handle["standardised"].attrs.items()}
            model._optimum = Optimum(
                Hyperparameters(found["signal_variance"], found["length_scale"], found["noise_variance"]),
                found["log_marginal_likelihood"],
                found["floor"],
                bool(attributes["noise_floor_raised"]),
            )
            baseline = handle["baseline"]
            if "elements" in baseline:
                model._baseline = CompositionBaseline(baseline["elements"][()], baseline["coefficients"][()])
            else:
                model._baseline = ConstantBaseline(float(baseline.attrs["constant"]))
        try:
            model._process = model._conditioned()
        except LinAlgError as error:
            raise QuarryError(f"{path}: this model cannot be used on this machine ({error}); train it again") from error
        return model

    def _conditioned(self) -> GaussianProcess:
        assert self._optimum is not None
        return GaussianProcess(self._features, self._residuals, self._optimum.hyperparameters, self._optimum.floor)


def _element_counts(structures: StructureSet, elements: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return how many atoms of each element a structure has, shape (n, k)."""
    owner = np.repeat(np.arange(len(structures)), np.diff(structures.offsets))
    counts = np.zeros((len(structures), len(elements)))
    for column, element in enumerate(elements):
        counts[:, column] = np.bincount(owner[structures.numbers == element], minlength=len(structures))
    return counts


def _check(data: TrainingData, target: str) -> None:
    if len(data) == 0:
        raise QuarryError("query.initial: there is no label to train on; all labels of the first batch may have failed")
    if not np.all(np.isfinite(data.targets)):
        bad = data.structures.ids[int(np.argmin(np.isfinite(data.targets)))]
        raise QuarryError(f"target: the label '{target}' of structure {bad} is not a finite number; check labeling")
    if not np.all(np.isfinite(data.features)):
        bad = data.structures.ids[int(np.argmin(np.isfinite(data.features).all(axis=1)))]
        raise QuarryError(f"descriptor.kind: a feature of structure {bad} is not a finite number; remove the structure")
