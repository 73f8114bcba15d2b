"""Forces of a molecule that nothing outside acts on: they neither push it away nor rotate it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quarry.labeling.audit.findings import ERROR, WARNING, Finding, rounded
from quarry.structures import Structure
from quarry.structures.labelled import LabelledSet

TOLERANCE_EV_PER_A = 5e-3
"""PySCF's forces on grids of level 1 have up to 0.0025, of level 2 0.0005, of level 3 0.0002, of level 0 0.02 to 0.06
(measured on distorted water, formaldehyde and ethanol, B3LYP and PBE): those of level 0 are that bad."""
SURELY = 10.0
"""Times the tolerance from which on a net force is an error: no grid does that."""


def imbalance(positions: NDArray[np.float64], forces: NDArray[np.float64], molecule: bool) -> tuple[float, float]:
    """Return net force and net torque as forces per atom (eV/Angstrom); the torque of a crystal or an atom is NaN.

    net force: |sum F| / n. net torque: |sum (r - c) x F| / sum |r - c| with the centroid c. If every force is wrong by d,
    neither can be larger than d, so that one tolerance fits both. positions, forces: shape (n, 3).
    """
    net = float(np.linalg.norm(forces.sum(axis=0))) / len(forces)
    arms = positions - positions.mean(axis=0)
    length = float(np.linalg.norm(arms, axis=1).sum())
    if not molecule or length == 0.0:
        return net, float("nan")
    return net, float(np.linalg.norm(np.cross(arms, forces).sum(axis=0))) / length


def balance_details(structure: Structure, forces: ArrayLike | None) -> dict[str, float | None]:
    """Return net_force and net_torque (eV/Angstrom, see ``imbalance``) as they stand in a label's record; None: has none."""
    array = np.asarray([] if forces is None else forces, dtype=np.float64)
    if not len(structure) or array.shape != (len(structure), 3):
        return {}
    net, torque = imbalance(structure.positions, array, not any(structure.pbc))
    return {"net_force": rounded(net), "net_torque": rounded(torque) if np.isfinite(torque) else None}


def check_balance(labels: LabelledSet, tolerance: float = TOLERANCE_EV_PER_A) -> list[Finding]:
    """Return the labels whose net force or net torque is above the tolerance (eV/Angstrom per atom)."""
    found: list[Finding] = []
    structures = labels.structures
    if "forces" not in labels.properties:
        return found
    for row in range(len(labels)):
        atoms = slice(int(structures.offsets[row]), int(structures.offsets[row + 1]))
        forces = labels.properties["forces"][atoms]
        if not len(forces) or not np.isfinite(forces).all():
            continue
        values = imbalance(structures.positions[atoms], forces, not structures.pbc[row].any())
        # A net force makes a torque that depends on the place it is put at: it is said once.
        over = [(name, value) for name, value in zip(("force", "torque"), values, strict=True) if value > tolerance]
        for name, value in over[:1]:
            severity = ERROR if value > SURELY * tolerance else WARNING
            message = f"the forces have a net {name} of {value:.3g} eV/Angstrom per atom"
            place = str(structures.ids[row])
            found.append(Finding(place, f"net_{name}", severity, rounded(value), tolerance, "eV/Angstrom", message))
    return found
