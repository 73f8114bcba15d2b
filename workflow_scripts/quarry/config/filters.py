"""Which candidates are rejected when the pool is built."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from quarry.config.base import Section


class Filters(Section):
    """Candidates that are rejected before anything is labelled; pool/filtered.csv names each, with its reason. A wigner
    pool is filled up with further samples (at most ten times pool.size are drawn).
    """

    isolated_atoms: Literal["leave_out", "keep"] = "leave_out"
    """Structures of a single atom with nothing near (in a cell: no image within 7 Angstrom), as sets of labels have them for the
    energies of free atoms. keep: they are candidates, and each needs the multiplicity of its ground state."""
    min_distance_factor: float | None = Field(default=0.5, gt=0, lt=1)
    """Leave out structures with two atoms closer than this factor times the sum of their covalent radii: 0.31 Angstrom for
    H-H, 0.54 for C-H, 0.76 for C-C. No bond is that short (the shortest by this measure is that of Cr2, 0.6); null: off."""
    bonds: Literal["any", "connected", "same"] = "any"
    """any: not looked at. connected: all atoms hang together by bonds, so nothing is broken off or exploded. same: exactly
    the bonds of the reference geometry (descriptor.reference, the optimised one, or the pool's first structure)."""
    bond_factor: float = Field(default=1.3, gt=1)
    """Two atoms are bonded when they are closer than this factor times the sum of their covalent radii."""
    near_duplicates: float | None = Field(default=None, gt=0)
    """Leave out structures whose descriptor is this close (Euclidean distance, in the descriptor's own unit) to that of one
    before them in the pool; null: only identical structures and copies are rejected. Of mbtr, 2 to 3 is a move of all atoms by
    0.001 Angstrom (docs/descriptors.md)."""
    copies: Literal["leave_out", "keep"] = "leave_out"
    """Copies of a structure before them in the pool: equal atoms in another order, rotated, mirrored, translated. leave_out: they
    do not enter the pool. keep: they do, but never stand in the test set and among the training labels at once, nor on both
    sides of a validation split. pool/filtered.csv names them either way. In the ensemble of a spectrum, a random sample (where
    diatomic molecules have copies by chance), they are kept unless leave_out is set."""
    copy_tolerance_A: float = Field(default=1e-4, gt=0, le=0.1)
    """By how much an atom of a copy may be off after the best superposition, Angstrom."""
