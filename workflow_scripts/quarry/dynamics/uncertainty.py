"""How unsure a model is of a frame, and from where on that is too much."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quarry.errors import QuarryError
from quarry.models.base import STD, HasInformativeness, Model, Prediction, relative_informativeness
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
            "no uncertainty of the test set is a finite number, so that no threshold can be found from them"
        )
    middle = float(np.median(finite))
    return middle + multiple * MAD_OF_NORMAL * float(np.median(np.abs(finite - middle)))


@dataclass(frozen=True)
class Measure:
    """What is called uncertainty of a frame.

    of: from a prediction with standard deviations, one number for each structure. wants: what must be predicted for it. unit: of
    the number. words: for people.
    """

    wants: frozenset[str]
    of: Callable[[Model, StructureSet, Prediction], NDArray[np.float64]]
    unit: str
    words: str


def _std_of_energy(model: Model, structures: StructureSet, prediction: Prediction) -> NDArray[np.float64]:
    return prediction.std["energy"]


def _std_of_forces(model: Model, structures: StructureSet, prediction: Prediction) -> NDArray[np.float64]:
    each = np.linalg.norm(prediction.std["forces"], axis=1)
    return np.maximum.reduceat(each, structures.offsets[:-1])


MEASURES = {
    "energy": Measure(frozenset({"energy", STD}), _std_of_energy, "eV", "standard deviation of the energy"),
    "forces": Measure(
        frozenset({"energy", "forces", STD}),
        _std_of_forces,
        "eV/Angstrom",
        "largest standard deviation of the force on an atom",
    ),
}


def informativeness_of(known: StructureSet, learnt: frozenset[str]) -> Measure:
    """Return the measure of optimal experimental design, ``relative_informativeness``. known: all training structures. learnt:
    properties whose labels are asked about (energy, forces).
    """

    def of(model: Model, structures: StructureSet, prediction: Prediction) -> NDArray[np.float64]:
        assert isinstance(model, HasInformativeness)
        return relative_informativeness(model, structures, known, learnt)

    return Measure(frozenset({"energy"}), of, "", "informativeness")
