"""How unsure a model is of a frame, and from where on that is too much."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from quarry.errors import QuarryError
from quarry.models.base import (
    STD,
    STD_GRADIENT,
    STD_OF_ENERGY,
    HasInformativeness,
    HasInformativenessGradient,
    Model,
    Prediction,
    UncertaintyGradient,
    relative_informativeness,
)
from quarry.structures import StructureSet

MAD_OF_NORMAL = 1.4826
"""By this factor the median absolute deviation of normally distributed numbers is their standard deviation."""


def outlier_threshold(values: NDArray[np.float64], multiple: float = 3.0) -> float:
    """Return the median plus a multiple of the scaled median absolute deviation of values.

    From where on an uncertainty is no longer one of structures like those that were learnt (Y.-F. Hou, L. Zhang, Q. Zhang, F. Ge,
    P. O. Dral, J. Chem. Theory Comput. 20, 7744 (2024): median + 3 MAD of the validation set).
    Raises QuarryError for no finite value.
    """
    finite = values[np.isfinite(values)]
    if not len(finite):
        raise QuarryError(
            "no uncertainty of the test set is a finite number, so that no threshold can be found from them; give a number"
        )
    middle = float(np.median(finite))
    return middle + multiple * MAD_OF_NORMAL * float(np.median(np.abs(finite - middle)))


def conformal_factor(errors: NDArray[np.float64], values: NDArray[np.float64], level: float = 0.95) -> float:
    """Return the factor by which uncertainties are bounds that a share ``level`` of errors keep.

    errors: of labels that no model has learnt, not negative. values: their uncertainties, in the same unit, both shape (n,).
    Split conformal prediction (J. Lei et al., J. Am. Stat. Assoc. 113, 1094 (2018), section 2.2) with error / uncertainty as the
    score: the ceil(level (n + 1))-th smallest score. An uncertainty of zero bounds nothing unless the error is zero too.
    Raises QuarryError where too few errors are known, or the factor is 0 or not finite.
    """
    known = np.isfinite(errors) & np.isfinite(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = np.sort(np.nan_to_num(errors[known] / values[known], nan=0.0, posinf=np.inf))
    rank = math.ceil(level * (len(scores) + 1))
    if rank > len(scores):
        raise QuarryError(
            f"pool.explore.calibration: conformal: {len(scores)} labels of the test set are too few for a bound that "
            f"{100 * level:g} % of errors keep; set none, or raise test.size"
        )
    factor = float(scores[rank - 1])
    if not 0 < factor < np.inf:
        raise QuarryError(
            f"pool.explore.calibration: conformal: no factor makes bounds of the uncertainties of the test set (it would be "
            f"{factor:g}); set none"
        )
    return factor


@dataclass(frozen=True)
class Measure:
    """What is called uncertainty of a frame. Standard deviations are without a calibration of the model itself: that is found
    anew with each model from few errors, and a threshold of an earlier one would not mean the same.

    of: from a prediction with standard deviations, one number for each structure. wants: what must be predicted for it. unit: of
    the number. words: for people. error: from a prediction and labels by property, what it says how large it may be; None: it is
    no error. gradient, gradient_wants: how it changes, and what must be predicted for that; None: it is not known.
    """

    wants: frozenset[str]
    of: Callable[[Model, StructureSet, Prediction], NDArray[np.float64]]
    unit: str
    words: str
    error: Callable[[StructureSet, Prediction, Mapping[str, NDArray[np.float64]]], NDArray[np.float64]] | None = None
    gradient: Callable[[Model, StructureSet, Prediction], UncertaintyGradient] | None = None
    gradient_wants: frozenset[str] = frozenset()

    def times(self, factor: float) -> Measure:
        """Return the same times a factor; its gradient is left as it is."""
        return replace(self, of=lambda model, structures, prediction: factor * self.of(model, structures, prediction))

    def calibrated(
        self, model: Model, test: StructureSet, labels: Mapping[str, NDArray[np.float64]]
    ) -> tuple[Measure, float]:
        """Return the same as a bound of errors, and the factor (``conformal_factor``). labels: by property, of the test set."""
        assert self.error is not None
        prediction = model.predict(test, self.wants)
        factor = conformal_factor(self.error(test, prediction, labels), self.of(model, test, prediction))
        return self.times(factor), factor


def _std_of_energy(model: Model, structures: StructureSet, prediction: Prediction) -> NDArray[np.float64]:
    return prediction.raw_std("energy")


def _std_of_forces(model: Model, structures: StructureSet, prediction: Prediction) -> NDArray[np.float64]:
    return _largest(prediction.raw_std("forces"), structures)


def _error_of_energy(
    structures: StructureSet, prediction: Prediction, labels: Mapping[str, NDArray[np.float64]]
) -> NDArray[np.float64]:
    return np.abs(prediction.mean["energy"] - labels["energy"])


def _error_of_forces(
    structures: StructureSet, prediction: Prediction, labels: Mapping[str, NDArray[np.float64]]
) -> NDArray[np.float64]:
    return _largest(prediction.mean["forces"] - labels["forces"], structures)


def _largest(of_atoms: NDArray[np.float64], structures: StructureSet) -> NDArray[np.float64]:
    return np.maximum.reduceat(np.linalg.norm(of_atoms, axis=1), structures.offsets[:-1])


def _gradient_of_std(model: Model, structures: StructureSet, prediction: Prediction) -> UncertaintyGradient:
    assert prediction.std_gradient is not None
    return prediction.std_gradient


MEASURES = {
    "energy": Measure(
        frozenset({"energy", STD, STD_OF_ENERGY}),
        _std_of_energy,
        "eV",
        "standard deviation of the energy",
        _error_of_energy,
        _gradient_of_std,
        frozenset({"energy", "forces", STD, STD_GRADIENT}),
    ),
    "forces": Measure(
        frozenset({"energy", "forces", STD}),
        _std_of_forces,
        "eV/Angstrom",
        "largest standard deviation of the force on an atom",
        _error_of_forces,
    ),
}


def informativeness_of(known: StructureSet, learnt: frozenset[str]) -> Measure:
    """Return the measure of optimal experimental design, ``relative_informativeness``. known: all training structures. learnt:
    properties whose labels are asked about (energy, forces); its gradient is that of energies alone.
    """

    def of(model: Model, structures: StructureSet, prediction: Prediction) -> NDArray[np.float64]:
        assert isinstance(model, HasInformativeness)
        return relative_informativeness(model, structures, known, learnt)

    def gradient(model: Model, structures: StructureSet, prediction: Prediction) -> UncertaintyGradient:
        assert isinstance(model, HasInformativenessGradient)
        return model.informativeness_gradient(structures, known)

    return Measure(frozenset({"energy"}), of, "", "informativeness", gradient=gradient)
