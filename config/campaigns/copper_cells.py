"""Cells of copper with strains and displaced atoms, for copper_strain.yaml (docs/samplers.md)."""

import numpy as np
from ase.build import bulk

LATTICE_CONSTANT_A = 3.6


class StrainedCells:
    """Cubic cells of four atoms and their 2 x 1 x 1, with random strains, from which atoms are displaced at random."""

    def __init__(self, initial=160, candidates=100, strain=0.06, displacement_A=0.1):
        """Say how many cells there are at first and in each iteration, and the largest strain and displacement (normal)."""
        self.n_initial, self.n_candidates = initial, candidates
        self.strain, self.displacement_A = strain, displacement_A

    def initial(self, rng):
        """Return the cells that test set and first batch are drawn from."""
        return [self.cell(rng) for _ in range(self.n_initial)]

    def sample(self, model, labelled, iteration, rng):
        """Return the candidates of an iteration."""
        return [self.cell(rng) for _ in range(self.n_candidates)]

    def cell(self, rng):
        """Return one cell (ASE atoms, Angstrom)."""
        atoms = bulk("Cu", "fcc", a=LATTICE_CONSTANT_A, cubic=True) * (int(rng.integers(1, 3)), 1, 1)
        strain = rng.uniform(-self.strain, self.strain, (3, 3))
        atoms.set_cell(atoms.cell @ (np.eye(3) + 0.5 * (strain + strain.T)), scale_atoms=True)
        # Some cells hardly shaken, so that the potential learns strains alone too.
        atoms.positions += rng.normal(0.0, self.displacement_A * rng.uniform(), atoms.positions.shape)
        return atoms
