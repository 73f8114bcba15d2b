"""Energies that were rounded on their way: single precision, or few printed digits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quarry.config.base import ENERGY_UNITS_EV
from quarry.labeling.audit.findings import ERROR, WARNING, Finding, rounded
from quarry.structures.compositions import compositions
from quarry.structures.labelled import LabelledSet

FEWEST = 5
"""Different energies that all stand on one grid by no accident."""
COARSE_EV = 1e-4
"""Spacing below which nothing is lost: a grid of density functionals makes as much noise."""
SHARE_OF_SPREAD = 0.01
"""Spacing over the standard deviation of the energies from which on it is an error; below it is a warning."""
ULPS = 8
"""Rounding of the conversion of units, in units of the last place of a double."""


def check_precision(labels: LabelledSet) -> list[Finding]:
    """Return a finding if the energies lie on a grid that is coarse: above 0.0001 eV and 1/10,000 of their spread.

    Single precision: float32 numbers near -40,000 eV are 0.0039 eV apart. Forces lose nothing by it: seven digits of a
    force are far more than any method gives; of a total energy they are not. The spread is that within a composition.
    """
    if "energy" not in labels.properties or labels.structures.features is not None:
        return []
    energies = labels.properties["energy"]
    known = np.isfinite(energies)
    energies = energies[known]
    found = spacing(energies)
    if found is None:
        return []
    step, message = found
    spread = _spread_within(labels, known)
    if step <= COARSE_EV or step <= 0.01 * SHARE_OF_SPREAD * spread:
        return []
    share = f" ({step / spread:.2g} of their spread)" if spread > 0 else ""
    severity = ERROR if step > SHARE_OF_SPREAD * spread else WARNING
    message = f"the energies {message}: they are {step:.2g} eV apart{share}"
    return [Finding("", "precision", severity, rounded(step), COARSE_EV, "eV", message)]


def spacing(energies_eV: NDArray[np.float64]) -> tuple[float, str] | None:
    """Return the spacing (eV) of the grid that all energies, shape (n,), lie on, and its name; None if there is none.

    Looked for are numbers of single precision, and multiples of 1, 0.1 ... 1e-5 or of powers of two apart, in every unit
    that Quarry knows.
    """
    for unit, factor in ENERGY_UNITS_EV.items():
        values = energies_eV / factor
        if len(np.unique(values)) < FEWEST:
            return None
        single = values.astype(np.float32)
        exact = np.isfinite(single) & (np.abs(values - single) <= ULPS * np.spacing(np.abs(values)))
        found = []
        if exact.all():
            found.append((float(np.median(np.spacing(np.abs(single)))), f"are numbers of single precision in {unit}"))
        decimal = next((d for d in range(6) if _on_grid(values, 10.0**-d)), None)
        if decimal is not None:
            found.append((10.0**-decimal, f"have {decimal} decimals in {unit}"))
        binary = next((k for k in range(21) if _on_grid(values - values[0], 2.0**-k, np.abs(values).max())), None)
        if binary is not None:
            found.append((2.0**-binary, f"are multiples of 1/{2**binary} {unit} apart, as of single precision"))
        if found:
            step, words = max(found, key=lambda entry: entry[0])
            return step * factor, words
    return None


def _on_grid(values: NDArray[np.float64], step: float, magnitude: float | None = None) -> bool:
    """Return whether all values are multiples of the step, but for rounding of numbers of that magnitude."""
    steps = values / step
    room = ULPS * np.spacing(np.abs(values).max() if magnitude is None else magnitude) / step
    return bool(room < 0.01 and (np.abs(steps - np.rint(steps)) <= room).all())


def _spread_within(labels: LabelledSet, known: NDArray[np.bool_]) -> float:
    """Return the standard deviation of the energies about the mean of each composition (eV), 0 if each has one label."""
    kinds, energies = compositions(labels.structures)[known], labels.properties["energy"][known]
    counts = np.bincount(kinds)
    means = np.bincount(kinds, energies) / np.maximum(counts, 1)
    freedom = len(energies) - np.count_nonzero(counts)
    return float(np.sqrt(((energies - means[kinds]) ** 2).sum() / freedom)) if freedom else 0.0
