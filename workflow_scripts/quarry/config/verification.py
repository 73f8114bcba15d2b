"""Recomputing labels on request (`snakemake verify`, `snakemake check_rotations`)."""

from __future__ import annotations

from pydantic import Field

from quarry.config.base import Section


class Verification(Section):
    """What `snakemake verify` (a random sample of the labels, computed again) and `snakemake check_rotations` (rotated and
    translated copies of labelled structures) compute, and which differences pass. No part of the campaign's identity.
    """

    sample: int = Field(default=10, gt=0)
    """Labels that verify computes again (all, if there are fewer)."""
    copies: int = Field(default=3, gt=0)
    """Structures whose rotated and translated copy check_rotations labels."""
    seed: int = Field(default=0, ge=0)
    """Another number draws other structures and rotations; with the same one, what is computed is not computed again."""
    energy_tolerance_eV: float = Field(default=1e-6, gt=0)
    """Largest difference of an energy (also homo, lumo, gap, excitations) between a label and its recomputation. The same
    machine and threads agree to 1e-8 eV; another processor rounds otherwise, and the SCF stops within 3e-8 eV of its end."""
    force_tolerance_eV_per_A: float = Field(default=1e-4, gt=0)
    """Largest difference of a force component between a label and its recomputation."""
    dipole_tolerance_eA: float = Field(default=1e-4, gt=0)
    """Largest difference of a dipole component (e*Angstrom) between a label and its recomputation."""
    rotation_energy_tolerance_eV_per_atom: float = Field(default=5e-5, gt=0)
    """Largest difference of an energy, per atom of the structure, between a structure and its rotated and translated copy:
    the grids of density functionals do not turn with the molecule (about 1e-6 hartree per atom with grid_level 3; coarser
    grids need more)."""
    rotation_force_tolerance_eV_per_A: float = Field(default=5e-3, gt=0)
    """Largest difference of a force component, after rotating back."""
