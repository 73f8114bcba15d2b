"""Values that are finite and beyond all physics: another program's energy, a lost factor, a damaged number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from quarry.labeling.audit.findings import ERROR, Finding, rounded
from quarry.labeling.outliers import ENERGY_NOISE_EV, MAD_TO_SIGMA, energy_residuals
from quarry.properties import PROPERTIES, Property
from quarry.structures.compositions import compositions
from quarry.structures.labelled import LabelledSet

CHECK = "absurd_"
"""Beginning of the check's name; the property follows."""
FEWEST = 3
"""Values of which most are right."""
ENERGY_EV_PER_ATOM = 100.0
"""Bonds hold 2 to 5 eV per atom, and geometries pressed to 0.6 of their size 20: no two differ by this."""
FORCE_EV_PER_A = 1000.0
"""Two nuclei at 0.1 Angstrom."""
LEAST_FORCE_EV_PER_A = 100.0
TIMES_THE_MEDIAN = 1000.0
"""A largest force that is this many times the usual one is absurd from ``LEAST_FORCE_EV_PER_A`` on."""
SIGMAS = 50.0
"""Robust standard deviations beyond which an energy is absurd as well: a set of random structures may spread widely."""


def check_absurd(labels: LabelledSet) -> list[Finding]:
    """Return the labels with a value that no structure can have: of energy, forces, or what ``PROPERTIES`` limits.

    Energies are compared with their median, those of several compositions after a fit to these (``energy_residuals``).
    """
    if labels.structures.features is not None or not len(labels):
        return []
    found: list[Finding] = []
    for name, values in labels.properties.items():
        rows, off, limit, unit, what = _off(labels, name, values)
        for row in rows:
            words = f"{what} of {off[row]:.3g} {unit} is beyond all physics"
            place = str(labels.structures.ids[row])
            found.append(Finding(place, CHECK + name, ERROR, rounded(float(off[row])), rounded(limit), unit, words))
    return found


def _off(
    labels: LabelledSet, name: str, values: NDArray[np.float64]
) -> tuple[list[int], NDArray[np.float64], float, str, str]:
    """Return the rows that are absurd by a property, by how much all are off, the limit, its unit and what it is."""
    n = len(labels)
    if name == "forces":
        sizes = np.diff(labels.structures.offsets)
        largest = np.maximum.reduceat(np.linalg.norm(values, axis=1), labels.structures.offsets[:-1])
        usual = float(np.nanmedian(largest)) if np.isfinite(largest).any() and sizes.all() else np.inf
        limit = min(FORCE_EV_PER_A, max(LEAST_FORCE_EV_PER_A, TIMES_THE_MEDIAN * usual))
        return np.flatnonzero(largest > limit).tolist(), largest, limit, "eV/Angstrom", "a force"
    if name == "energy":
        off, limit = _energies_off(labels, values)
        return np.flatnonzero(np.abs(off) > limit).tolist(), off, limit, "eV/atom", "an energy off the others"
    entry = PROPERTIES[name]
    if entry.absurd_off is not None:
        off = _off_the_median(entry, values)
        message = f"{name.replace('_', ' ')} off the others"
        return np.flatnonzero(np.abs(off) > entry.absurd_off).tolist(), off, entry.absurd_off, entry.unit, message
    return [], np.zeros(n), 0.0, "", ""


def _off_the_median(entry: Property, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return by how much each number (norm of a vector or tensor, largest of the states) is off the median; NaN: unknown."""
    table = values.reshape(len(values), -1)
    if entry.rank:
        column = np.linalg.norm(table, axis=1)
    elif entry.one_number:
        column = table[:, 0]
    else:
        column = np.nanmax(np.nan_to_num(np.abs(table), nan=-np.inf), axis=1)
    column = np.where(np.isfinite(column), column, np.nan)
    enough = np.isfinite(column).sum() >= FEWEST
    return column - (np.nanmedian(column) if enough else np.nan)


def _energies_off(labels: LabelledSet, energies: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Return by how much each energy is off per atom (eV; NaN where that cannot be told), and the limit."""
    known = np.isfinite(energies)
    off = np.full(len(labels), np.nan)
    residuals, fitted = energy_residuals(labels, known)
    if len(residuals):
        off[known] = residuals - np.median(residuals)
    elif not fitted and _one_kind(labels) and known.sum() >= FEWEST:
        per_atom = energies[known] / np.diff(labels.structures.offsets)[known]
        off[known] = per_atom - np.median(per_atom)
    scale = MAD_TO_SIGMA * float(np.nanmedian(np.abs(off))) if np.isfinite(off).any() else 0.0
    return off, max(ENERGY_EV_PER_ATOM, SIGMAS * max(scale, ENERGY_NOISE_EV))


def absurd_labels(findings: Sequence[Finding], properties: Iterable[str]) -> list[str]:
    """Return the ids of labels of which one of these properties is absurd, in the order of the findings."""
    wanted = {CHECK + name for name in properties}
    return list(dict.fromkeys(finding.structure_id for finding in findings if finding.check in wanted))


def _one_kind(labels: LabelledSet) -> bool:
    """Whether all labels have the same composition, charge and multiplicity."""
    structures = labels.structures
    kinds = zip(compositions(structures), structures.charges, structures.multiplicities, strict=True)
    return len(set(kinds)) == 1
