"""Labels that do not look like their neighbours: flagged for the user to look at, never dropped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quarry.csv_tables import read_items, write_items
from quarry.structures.compositions import element_counts
from quarry.structures.labelled import LabelledSet

FEWEST = 8
"""Values that a median and a spread are worth something with."""
ENERGY_NOISE_EV = 2.7e-5
"""Smallest spread of an energy per atom (1e-6 hartree): labels that all agree to less are all right."""
FORCE_NOISE_EV_PER_A = 5e-4
"""Smallest spread of a force (1e-5 hartree/bohr)."""
MAD_TO_SIGMA = 1.4826
"""Standard deviation over median absolute deviation of a normal distribution."""
FIT_PASSES = 50


@dataclass(frozen=True)
class Outlier:
    """A label that stands out of its batch.

    quantity: energy_per_atom (eV/atom); where there are several compositions energy_per_atom_residual, what a fit on the
    composition leaves of it; or largest_force (norm of the largest force on an atom, eV/Angstrom). z: robust z of value.
    """

    structure_id: str
    iteration: int
    quantity: str
    value: float
    unit: str
    z: float


def robust_z(values: NDArray[np.float64], noise: float) -> NDArray[np.float64]:
    """Return (x - median) / max(1.4826 MAD, noise) of every value, shape (n,).

    noise: smallest spread, in the values' unit; where (nearly) all values are the same, the MAD is 0 or rounding.
    B. Iglewicz, D. C. Hoaglin, How to Detect and Handle Outliers (1993), with the scale for a normal distribution.
    """
    deviations = values - np.median(values)
    return deviations / max(MAD_TO_SIGMA * float(np.median(np.abs(deviations))), noise)


def find_outliers(
    batch: LabelledSet, threshold: float, iteration: int, earlier: LabelledSet | None = None
) -> list[Outlier]:
    """Return the labels of a batch whose energy per atom or largest force has a robust z beyond ``threshold``.

    Compared with the batch; with fewer than ``FEWEST`` labels in it, with all labels so far (``earlier``) and the batch;
    nothing is flagged where that is not enough either. Energies of different compositions, charges or multiplicities are
    compared after a fit (see ``energy_residuals``). Labels without energy or forces are not part of that comparison.
    """
    group = batch if earlier is None or len(batch) >= FEWEST else earlier.joined(batch)
    in_batch = np.arange(len(group)) >= len(group) - len(batch)
    columns = []
    # Rows of a table have no atoms that an energy could be shared by.
    if "energy" in group.properties and group.structures.features is None:
        known = np.isfinite(group.properties["energy"])
        values, fitted = energy_residuals(group, known)
        name = "energy_per_atom_residual" if fitted else "energy_per_atom"
        columns.append((name, "eV/atom", known, values, ENERGY_NOISE_EV))
    if "forces" in group.properties and group.structures.features is None:
        norms = np.linalg.norm(group.properties["forces"], axis=1)
        largest = np.maximum.reduceat(norms, group.structures.offsets[:-1])
        known = np.isfinite(largest)
        columns.append(("largest_force", "eV/Angstrom", known, largest[known], FORCE_NOISE_EV_PER_A))
    found = []
    for quantity, unit, known, values, noise in columns:
        if len(values) < FEWEST:
            continue
        scores = robust_z(values, noise)
        for place in np.flatnonzero((np.abs(scores) > threshold) & in_batch[known]):
            structure_id = str(group.structures.ids[np.flatnonzero(known)[place]])
            # Rounded: the last digits of a fit may depend on the machine, and files of the same labels must not.
            value, z = round(float(values[place]), 6), round(float(scores[place]), 2)
            found.append(Outlier(structure_id, iteration, quantity, value, unit, z))
    return found


def energy_residuals(labels: LabelledSet, known: NDArray[np.bool_]) -> tuple[NDArray[np.float64], bool]:
    """Return the energies per atom (eV) of the known labels, shape (n_known,), and whether they are residuals of a fit.

    known: which labels have an energy, shape (n,).
    With one kind of molecule they are the energies per atom themselves. With several, an energy is nearly a sum over
    atoms, so E = sum_elements n_element e_element (+ a constant for each further pair of charge and multiplicity) is
    fitted by least absolute deviations, which a few wrong labels do not bend, and what is left is returned per atom.
    Empty if there are not at least ``FEWEST`` labels (more than the fit has coefficients).
    """
    structures = labels.structures
    rows = np.flatnonzero(known)
    if len(rows) < FEWEST:
        return np.empty(0), False
    energies, sizes = labels.properties["energy"][rows], np.diff(structures.offsets)[rows]
    counts = element_counts(structures, np.unique(structures.numbers))
    states = np.stack([structures.charges, structures.multiplicities], axis=1)[rows]
    kinds, state = np.unique(states, axis=0, return_inverse=True)
    design = np.concatenate([counts[rows], np.eye(len(kinds))[state.ravel()][:, 1:]], axis=1)
    if len(np.unique(design, axis=0)) <= 1:
        return energies / sizes, False
    if len(rows) - np.linalg.matrix_rank(design) < FEWEST:
        return np.empty(0), True
    return (energies - design @ _least_absolute_deviations(design, energies, sizes)) / sizes, True


def _least_absolute_deviations(
    design: NDArray[np.float64], energies: NDArray[np.float64], sizes: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return coefficients that minimise the sum of |residual| per atom, by iteratively reweighted least squares."""
    design, energies = design / sizes[:, None], energies / sizes
    weights = np.ones(len(energies))
    for _ in range(FIT_PASSES):
        root = np.sqrt(weights)
        solution = np.linalg.lstsq(design * root[:, None], energies * root, rcond=None)[0]
        coefficients = np.asarray(solution, dtype=np.float64)
        weights = 1.0 / np.maximum(np.abs(energies - design @ coefficients), ENERGY_NOISE_EV)
    return coefficients


def write_outliers(path: str | Path, outliers: Sequence[Outlier]) -> None:
    """Write ``outliers.csv``; the same outliers give the same bytes."""
    write_items(path, Outlier, outliers)


def read_outliers(path: str | Path) -> list[Outlier]:
    """Read what ``write_outliers`` wrote."""
    return read_items(path, Outlier)
