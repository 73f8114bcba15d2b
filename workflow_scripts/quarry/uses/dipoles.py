"""Dipoles of neutral structures as those of atomic charges that depend on the geometry."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from ase.data import atomic_masses
from numpy.typing import NDArray

from quarry.models.gmnn.neighbours import Neighbourhoods
from quarry.models.gmnn.potential import Potential, initial_parameters
from quarry.randomness import generator
from quarry.structures import StructureSet
from quarry.structures.structure import blocks_of
from quarry.uses.requirements import check_neutral_molecules

CUTOFF_A = 4.0
TOGETHER = 2048
"""Atoms of a block."""
RIDGES = 10.0 ** np.arange(-9.0, 1.0)
"""Regularisations that are tried, in shares of the mean square of the equations' coefficients."""
FOLDS = 5


@dataclass(frozen=True, eq=False)
class DipoleModel:
    """mu = sum over atoms of q (r - centre of mass), each q linear in the Gaussian moments around its atom.

    Charges are numbers that turning and moving a structure or exchanging equal atoms does not change, so the dipole turns with
    the structure. The moments have random radial functions: nothing but the charges is learnt. elements: atomic numbers, rising.
    weights: e, shape (n_elements, n_features + 1). scale: of the features, shape (n_features,).
    """

    elements: NDArray[np.int64]
    seed: int
    scale: NDArray[np.float64]
    weights: NDArray[np.float64]

    @staticmethod
    def fit(structures: StructureSet, dipoles_eA: NDArray[np.float64], seed: int) -> DipoleModel:
        """Learn from dipoles, e*Angstrom, shape (n, 3). seed: of the radial functions.

        Ridge regression; its strength is that of the least error in five-fold cross-validation.
        Raises QuarryError for charged structures (whose dipole has no origin of its own) and cells.
        """
        check_neutral_molecules(structures)
        elements = np.unique(structures.numbers)
        features = _features(structures, elements, seed)
        scale = np.maximum(np.abs(features).max(axis=0), 1e-12)
        rows = _equations(structures, elements, features / scale).reshape(3 * len(structures), -1)
        wanted = dipoles_eA.ravel()
        groups = np.repeat(np.arange(len(structures)) % min(FOLDS, len(structures)), 3)
        errors = np.zeros(len(RIDGES))
        if len(structures) > 1:
            for fold in np.unique(groups):
                out = groups == fold
                solutions = _solutions(rows[~out], wanted[~out])
                errors += np.sum((solutions @ rows[out].T - wanted[out]) ** 2, axis=1)
        weights = _solutions(rows, wanted)[int(np.argmin(errors))]
        return DipoleModel(elements, seed, scale, weights.reshape(len(elements), -1))

    def predict(self, structures: StructureSet) -> NDArray[np.float64]:
        """Return dipoles, e*Angstrom, shape (n, 3)."""
        features = _features(structures, self.elements, self.seed) / self.scale
        return np.asarray(_equations(structures, self.elements, features).reshape(len(structures), 3, -1)) @ (
            self.weights.ravel()
        )


def _solutions(rows: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ridge regressions of all ``RIDGES``, shape (n_ridges, n_unknowns), by one decomposition."""
    left, sizes, right = np.linalg.svd(rows, full_matrices=False)
    ridges = RIDGES * np.sum(sizes**2) / rows.shape[1]
    return np.array((left.T @ wanted * sizes / (sizes**2 + ridges[:, None])) @ right)


def _equations(
    structures: StructureSet, elements: NDArray[np.int64], features: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return what the weights are multiplied by in each component of the dipole, shape (n, 3, n_elements, n_features + 1)."""
    masses = atomic_masses[structures.numbers]
    owners = np.repeat(np.arange(len(structures)), np.diff(structures.offsets))
    total = np.bincount(owners, masses)
    centres = np.stack([np.bincount(owners, masses * x) / total for x in structures.positions.T], axis=1)
    arms = structures.positions - centres[owners]
    found = np.zeros((len(structures), 3, len(elements), features.shape[1] + 1))
    kinds = np.searchsorted(elements, structures.numbers)
    with_one = np.hstack([features, np.ones((len(features), 1))])
    np.add.at(
        found,
        (owners[:, None], np.arange(3)[None], kinds[:, None]),
        arms[:, :, None] * with_one[:, None, :],
    )
    return found


def _features(structures: StructureSet, elements: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """Return the contracted Gaussian moments around each atom, shape (n_atoms_total, n_features)."""
    potential = Potential(CUTOFF_A, len(elements), torch.float32, torch.device("cpu"))
    parameters = initial_parameters(len(elements), [1], 1.0, generator(seed, "radial functions of dipoles"))
    parts = []
    for block in blocks_of(structures.offsets, TOGETHER):
        part = structures.subset(block)
        batch = Neighbourhoods.of(part, CUTOFF_A).batch(np.arange(len(part)), CUTOFF_A, torch.float32, potential.device)
        kinds = torch.from_numpy(np.searchsorted(elements, part.numbers))
        with torch.inference_mode():
            parts.append(potential.atoms(parameters, batch, kinds).passed.inputs[0].double().numpy())
    return np.concatenate(parts)
