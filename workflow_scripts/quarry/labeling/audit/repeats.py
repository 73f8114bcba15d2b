"""One structure, two labels: copies (rotated, mirrored, translated, equal atoms in another order) must have one energy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from quarry.labeling.audit.findings import ERROR, WARNING, Finding, rounded
from quarry.properties import PROPERTIES
from quarry.structures.copies import copy_groups
from quarry.structures.labelled import LabelledSet

SAME_LABEL = 1e-3
"""Labels of copies may differ by this (eV, e*Angstrom, eV/Angstrom ...): they were computed in another frame."""
STEEP_EV_PER_A = 10.0
"""Energy by which an atom that is off may change a label, where the forces are not known, per Angstrom."""
SURELY = 10.0


def label_difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[str, float]:
    """Return the property by which two labels differ most, and by how much, in its unit.

    Vectors and tensors rotate with the structure: their norms are compared. Different numbers of states, or a value that one
    of them lacks, count as infinitely different.
    """
    name, largest = "", 0.0
    for key in sorted(one.keys() & other.keys()):
        if one[key] is None or other[key] is None:
            difference = 0.0 if one[key] is other[key] else np.inf
        else:
            rotates = key in PROPERTIES and PROPERTIES[key].rank
            values = [np.linalg.norm(v) if rotates else np.asarray(v) for v in (one[key], other[key])]
            same = np.shape(values[0]) == np.shape(values[1])
            difference = float(np.abs(values[0] - values[1]).max(initial=0.0)) if same else np.inf
        if difference > largest:
            name, largest = key, difference
    return name, largest


def check_copies(labels: LabelledSet, tolerance_A: float) -> list[Finding]:
    """Return the labels of copies whose energies differ by more than 0.001 eV and what their displacement explains.

    tolerance_A: by how much an atom of a copy may be off (``filters.copy_tolerance_A``).
    """
    if "energy" not in labels.properties or labels.structures.features is not None:
        return []
    structures = list(labels.structures)
    _, partners, displacements = copy_groups(structures, tolerance_A)
    energies, found = labels.properties["energy"], []
    for row in np.flatnonzero(partners >= 0).tolist():
        first = int(partners[row])
        difference = float(abs(energies[row] - energies[first]))
        steep = [STEEP_EV_PER_A * len(structures[row])]
        if "forces" in labels.properties:
            steep += [float(np.linalg.norm(labels.record(k)["forces"], axis=1).sum()) for k in (row, first)]
        allowed = SAME_LABEL + float(displacements[row]) * float(np.nanmin(steep[:1] if len(steep) < 2 else steep[1:]))
        if difference > allowed:
            severity = ERROR if difference > SURELY * allowed else WARNING
            words = f"a copy of {structures[first].structure_id} has another energy, by {difference:.3g} eV"
            place = structures[row].structure_id
            found.append(Finding(place, "copies", severity, rounded(difference), rounded(allowed), "eV", words))
    return found
