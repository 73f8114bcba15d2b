"""Coordinates that cannot be meant as they stand: atoms in one place, lengths in another unit than Angstrom."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import pdist, squareform

from quarry.config.campaign import Configuration
from quarry.config.pool import TablePool, WignerPool
from quarry.config.units import BOHR_A
from quarry.errors import QuarryError
from quarry.labeling.engines.base import Engine
from quarry.labeling.engines.states import RefusesCloseAtoms
from quarry.stages.filtering import PoolFilter
from quarry.structures import Structure, StructureSet
from quarry.structures.filters import nearest_contacts
from quarry.structures.sources import Source

ONE_PLACE_A = 0.01
"""Distance below which two atoms are in one place, whatever the engine."""
SAMPLE = 200
"""Structures of the pool that are looked at for the unit of length."""
REACH = 2.6
"""Distances over the sum of covalent radii that are looked at: twice a long bond."""
BONDS = (0.8, 1.25)
"""The median of nearest distances over sums of covalent radii lies here in molecules and solids (0.93 to 1.2 for H)."""
TOO_CLOSE = 0.3
"""Atoms nearer than this times the sum of their covalent radii are nowhere."""
APART_A = 6.0
"""Atoms further apart do not feel each other as those of a molecule or a complex do."""
MOST = 0.9
"""Share of atoms, or of candidates, that must agree before the unit of length is doubted."""
NOBLE = (2, 10, 18, 36, 54, 86)
"""Atomic numbers of atoms that do not bond: at equilibrium they are as far from each other as others are in bohr."""


def check_one_place(
    configuration: Configuration, engine: Engine, structures: StructureSet, sources: Sequence[Source | None] = ()
) -> None:
    """Raise QuarryError if two atoms are in one place, or nearer than the engine takes: jobs would find that out.

    With filters.min_distance_factor, which is on by default, no such structure of a file comes so far; the molecule whose
    vibrations are drawn from is not filtered. sources: where the structures come from.
    """
    start = configuration.initial_pool if isinstance(configuration.initial_pool, WignerPool) else None
    is_filtered = configuration.pool_filters.min_distance_factor is not None and start is None
    if is_filtered or isinstance(configuration.pool, TablePool):
        return
    limit = engine.shortest_distance_A if isinstance(engine, RefusesCloseAtoms) else ONE_PLACE_A
    wrong = {n: pair for n, structure in enumerate(structures) if (pair := _closer_than(structure, limit))}
    if wrong:
        first, (one, other, distance) = next(iter(wrong.items()))
        if start is not None:
            raise QuarryError(
                f"pool.molecule: atoms {one} and {other} of {start.molecule or start.modes_file} are in one place "
                f"({distance:.3f} Angstrom apart); correct the file"
            )
        source = sources[first] if first < len(sources) else None
        where = (
            f"frame {source.frame + 1} of {source.file}" if source else f"structure {first + 1} of {len(structures)}"
        )
        raise QuarryError(
            f"pool: atoms {one} and {other} of {where} are in one place ({distance:.3f} Angstrom apart; {len(wrong)} of "
            f"{len(structures)} structures have such atoms); correct the file, or leave such structures out with "
            "filters.min_distance_factor: 0.5"
        )


def _closer_than(structure: Structure, limit_A: float) -> tuple[int, int, float] | None:
    """Return the first two atoms (from 1) nearer than a distance, and theirs; an atom and its own image count."""
    if any(structure.pbc):
        from ase.neighborlist import neighbor_list

        first, second, distances = neighbor_list("ijd", structure.to_atoms(), limit_A, self_interaction=False)
        return (int(first[0]) + 1, int(second[0]) + 1, float(distances[0])) if len(first) else None
    distances = pdist(structure.positions)
    near = np.flatnonzero(distances < limit_A)
    if not len(near):
        return None
    pairs = np.triu_indices(len(structure), 1)
    return int(pairs[0][near[0]]) + 1, int(pairs[1][near[0]]) + 1, float(distances[near[0]])


def check_molecule(start: WignerPool, structure: Structure) -> None:
    """Raise QuarryError if the molecule whose vibrations are computed is an atom, in nm, or in pieces that do not touch.

    Pieces that are far from each other move freely: a Hessian has nothing to say about them, and is noise.
    """
    if start.modes_file is not None:
        return
    if len(structure) < 2:
        raise QuarryError(
            f"pool.molecule: {start.molecule} is a single atom, which has no vibrations; give a molecule of two atoms or more"
        )
    ratios = nearest_contacts(structure, REACH)
    if (ratios < TOO_CLOSE).all() and BONDS[0] < 10 * float(np.median(ratios)) < BONDS[1]:
        raise QuarryError(
            f"pool.molecule: the coordinates of {start.molecule} look like nm (atoms are ten times closer than bonds are "
            "long); Angstrom is needed: multiply them by 10"
        )
    pieces, gap_A = _pieces(structure)
    if pieces > 1:
        raise QuarryError(
            f"pool.molecule: {start.molecule} has {pieces} pieces that are {gap_A:.1f} Angstrom apart, and how they move "
            "against each other is no vibration; give one of them, or bring them together"
        )


def _pieces(structure: Structure) -> tuple[int, float]:
    """Return into how many pieces further than ``APART_A`` from each other a molecule falls, and the smallest gap."""
    distances = squareform(pdist(structure.positions))
    count, part = connected_components(distances < APART_A, directed=False)
    between = distances[part[:, None] != part]
    return int(count), float(between.min(initial=np.inf))


def check_not_nm(pool_filter: PoolFilter) -> None:
    """Raise QuarryError if nearly all candidates are rejected because lengths are a tenth of what bonds are."""
    close = [item.value for item in pool_filter.rejected if item.reason == "atoms_too_close"]
    if len(close) < MOST * (len(close) + len(pool_filter)) or not close:
        return
    if BONDS[0] < 10 * float(np.median(close)) < BONDS[1]:
        raise QuarryError(
            f"pool: the coordinates look like nm (in {len(close)} of {len(close) + len(pool_filter)} structures atoms are ten "
            f"times "
            "closer than bonds are long); Angstrom is needed: multiply them by 10"
        )


def check_not_bohr(configuration: Configuration, structures: StructureSet) -> None:
    """Raise QuarryError if lengths look like bohr: no bond in the whole pool, and bonds wherever they are read as bohr.

    Two atoms alone, hydrogen alone and noble gases are believed: their curves are computed at such distances. So is a
    pool with a single bond in it, whatever else is dissociated there.
    """
    if isinstance(configuration.pool, TablePool):
        return
    rows = np.unique(np.linspace(0, len(structures) - 1, min(SAMPLE, len(structures))).astype(np.int64))
    chosen = [s for s in (structures[int(row)] for row in rows) if len(s) > 2 or any(s.pbc)]
    ratios = np.concatenate([nearest_contacts(s, REACH) for s in chosen] or [np.empty(0)])
    numbers = np.concatenate([s.numbers for s in chosen] or [np.empty(0, np.int64)])
    if not len(numbers) or set(numbers.tolist()) <= {1} or np.isin(numbers, NOBLE).any():
        return
    factor = configuration.filters.bond_factor
    if ratios.min() < factor or not _are_bonds(ratios * BOHR_A):
        return
    typical = float(np.median(ratios))
    raise QuarryError(
        f"pool: the coordinates look like bohr (typical nearest atoms are {typical:.2f} times the sum of their covalent radii "
        f"apart, and none are nearer than {ratios.min():.2f} times); Angstrom is needed: multiply them by "
        f"{BOHR_A:.6f}, or set filters.bond_factor above {typical:.2f} if molecules are meant to be so stretched"
    )


def _are_bonds(ratios: NDArray[np.float64]) -> bool:
    """Whether distances over sums of covalent radii are those of bonds, for nearly all atoms."""
    inside = (ratios > 0.6) & (ratios < 1.4)
    return bool(inside.mean() >= MOST and BONDS[0] < np.median(ratios) < BONDS[1])
