"""Recomputing labels on request (`snakemake verify`, `snakemake check_rotations`)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from quarry.config.base import Section
from quarry.config.units import PropertyName

LABELS_OF_A_JOB = {"verify": 1, "check_rotations": 1, "check_forces": 2}
"""Checks, and how many labels each of their jobs computes."""


class Verification(Section):
    """What `snakemake verify` (a random sample of the labels, computed again, and what check_forces does), `snakemake
    check_rotations` (rotated and translated copies of labelled structures) and `snakemake check_forces` (two displaced copies of
    each, whose energies tell the force) compute, and which differences pass. No part of the campaign's identity.
    """

    sample: int = Field(default=10, gt=0)
    """Labels that verify computes again (all, if there are fewer)."""
    copies: int = Field(default=3, gt=0)
    """Structures whose rotated and translated copy check_rotations labels."""
    displaced: int = Field(default=2, ge=0)
    """Structures of which verify and check_forces label two copies, displaced along a random direction; 0: none. Labels without
    forces, and those of engine replay, are passed over."""
    displacement_A: float = Field(default=0.005, gt=0, le=0.1)
    """Length of that displacement, all atoms together: energies exact to 1e-6 eV then tell a force to 1e-4 eV/Angstrom."""
    displacement_tolerance_eV_per_A: float = Field(default=1e-2, gt=0)
    """Largest difference between the force along the displacement and the difference quotient of the energies (PySCF with
    grid_level 3: up to 0.001 from the grid, and 0.005 in steep walls from the displacement's length)."""
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
    the grids of density functionals do not rotate with the molecule (about 1e-6 hartree per atom with grid_level 3; coarser
    grids need more)."""
    rotation_force_tolerance_eV_per_A: float = Field(default=5e-3, gt=0)
    """Largest difference of a force component, after rotating back."""
    tolerances: dict[PropertyName, Annotated[float, Field(gt=0)]] = {}
    """Largest differences of a number of other properties between a label and its recomputation, in their own units, e.g.
    {stress: 1e-6}; those not named have what docs/engines.md says."""
    rotation_tolerances: dict[PropertyName, Annotated[float, Field(gt=0)]] = {}
    """The same between a structure and its rotated copy."""
