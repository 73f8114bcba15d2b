"""What a target is without the model: the prior mean of the Gaussian process, what a network learns the rest of."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from quarry.structures import StructureSet
from quarry.structures.compositions import element_counts


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
        """Return the baseline that fits targets, shape (n,)."""
        elements = np.unique(structures.numbers)
        counts = element_counts(structures, elements)
        coefficients = np.linalg.lstsq(counts, targets, rcond=None)[0].astype(np.float64)
        return CompositionBaseline(elements, coefficients)

    def mean(self, structures: StructureSet) -> NDArray[np.float64]:
        """Return the prior mean (target's unit), shape (n,); an element that was not fitted counts zero (``extra_std``)."""
        return element_counts(structures, self.elements) @ self.coefficients

    def extra_std(self, structures: StructureSet) -> NDArray[np.float64]:
        """Return what atoms of elements that were not fitted add to the standard deviation (target's unit), shape (n,).

        Nothing is known of such an atom but that it contributes like the others: it counts with the largest coefficient
        of a known element, so that a mean that lacks a whole atom does not look certain.
        """
        unknown = np.setdiff1d(structures.numbers, self.elements)
        return element_counts(structures, unknown).sum(axis=1) * np.max(np.abs(self.coefficients), initial=0.0)


class ConstantBaseline:
    """Prior mean of a property that does not grow with the molecule: one number for all."""

    def __init__(self, value: float) -> None:
        self.value = value

    def mean(self, structures: StructureSet) -> NDArray[np.float64]:
        """Return the prior mean (target's unit), shape (n,)."""
        return np.full(len(structures), self.value)

    def extra_std(self, structures: StructureSet) -> NDArray[np.float64]:
        """Return zeros, shape (n,)."""
        return np.zeros(len(structures))


def write_baseline(baseline: CompositionBaseline | ConstantBaseline, group: Any) -> None:
    """Write a baseline into a group of a model's HDF5 file."""
    if isinstance(baseline, CompositionBaseline):
        group.create_dataset("elements", data=baseline.elements)
        group.create_dataset("coefficients", data=baseline.coefficients)
    else:
        group.attrs["constant"] = baseline.value


def read_baseline(group: Any) -> CompositionBaseline | ConstantBaseline:
    """Read what ``write_baseline`` wrote."""
    if "elements" in group:
        return CompositionBaseline(group["elements"][()], group["coefficients"][()])
    return ConstantBaseline(float(group.attrs["constant"]))
