"""Labels in closed form for tests of the audit, and mistakes planted in them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quarry.labeling.audit.audit import audit_labels
from quarry.labeling.audit.balance import TOLERANCE_EV_PER_A
from quarry.labeling.audit.findings import Finding
from quarry.randomness import generator
from quarry.structures import Structure
from quarry.structures.labelled import LabelledSet
from support import toys

CHAIN = np.array([[0.0, 0, 0], [1.5, 0.1, 0], [2.2, 1.4, 0.2], [3.6, 1.5, -0.3], [4.1, 2.8, 0.4]])
"""Five atoms, 6, 6, 8, 1, 1, between which springs and Morse bonds act."""
CHAIN_NUMBERS = (6, 6, 8, 1, 1)
FIRST, SECOND = np.triu_indices(5, 1)
LENGTHS = np.linalg.norm(CHAIN[FIRST] - CHAIN[SECOND], axis=1)


def labels_of(structures: list[Structure], energies: Any, forces: Any = None, **properties: Any) -> LabelledSet:
    """Labels; forces: one array of shape (n_atoms, 3) for each structure."""
    rows = [{"energy": float(energy)} for energy in energies]
    for number, row in enumerate(rows):
        if forces is not None:
            row["forces"] = forces[number]
        row |= {name: values[number] for name, values in properties.items()}
    return LabelledSet.from_records(structures, ["train"] * len(rows), [0] * len(rows), rows)


def waters(n: int, seed: int = 0, spread: float = 0.08) -> LabelledSet:
    """Distorted waters with energies and forces of one potential."""
    rng = np.random.default_rng(seed)
    frames = toys.EQUILIBRIUM + spread * rng.normal(size=(n, 3, 3))
    labels = [toys.energy_and_forces(frame) for frame in frames]
    structures = [Structure.create(toys.NUMBERS, frame) for frame in frames]
    return labels_of(structures, [e for e, _ in labels], [f for _, f in labels])


def chains(n: int, seed: int = 0, spread: float = 0.1, turned: bool = True) -> LabelledSet:
    """Five atoms with Morse bonds between neighbours and springs between others, each turned at random."""
    from scipy.spatial.transform import Rotation

    rng = np.random.default_rng(seed)
    structures, energies, forces = [], [], []
    for _ in range(n):
        x = CHAIN + spread * rng.normal(size=CHAIN.shape)
        x = x @ Rotation.random(rng=rng).as_matrix().T if turned else x
        energy, force = chain_energy(x)
        structures.append(Structure.create(CHAIN_NUMBERS, x))
        energies.append(energy)
        forces.append(force)
    return labels_of(structures, energies, forces)


def chain_energy(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """Energy (eV) and forces of five atoms."""
    vectors = x[FIRST] - x[SECOND]
    r = np.linalg.norm(vectors, axis=1)
    bonded = SECOND - FIRST == 1
    decay = np.exp(-2.0 * (r - LENGTHS))
    energies = np.where(bonded, 4.0 * (1 - decay) ** 2, 0.5 * (r - LENGTHS) ** 2)
    slopes = np.where(bonded, 16.0 * (1 - decay) * decay, r - LENGTHS)
    forces = np.zeros_like(x)
    push = -slopes[:, None] * vectors / r[:, None]
    np.add.at(forces, FIRST, push)
    np.add.at(forces, SECOND, -push)
    return float(energies.sum()) - 4200.0, forces


def changed(labels: LabelledSet, **properties: Any) -> LabelledSet:
    """Labels with other properties (as ``LabelledSet`` packs them)."""
    return replace(labels, properties={**labels.properties, **properties})


def audit(labels: LabelledSet, seed: int = 0) -> list[Finding]:
    """What an audit with the default tolerances finds."""
    return audit_labels(labels, generator(seed, "audit"), TOLERANCE_EV_PER_A, 1e-4)


def bad(labels: LabelledSet, seed: int = 0) -> dict[str, list[Finding]]:
    """Findings that are no notes, by check."""
    found: dict[str, list[Finding]] = {}
    for finding in audit(labels, seed):
        if finding.bad:
            found.setdefault(finding.check, []).append(finding)
    return found
