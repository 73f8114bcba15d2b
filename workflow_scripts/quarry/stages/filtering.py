"""The filter that every candidate passes before it enters the pool, and the account of what it keeps out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from quarry.config.filters import Filters
from quarry.csv_tables import write_rows
from quarry.errors import QuarryError
from quarry.structures import Structure, StructureSet
from quarry.structures.copies import CopyFinder, copy_groups
from quarry.structures.filters import (
    NearDuplicates,
    bonds_of,
    closest_contact,
    count_fragments,
    count_other_bonds,
    is_isolated_atom,
)
from quarry.structures.sources import Source

WORDS = {
    "identical": "duplicates",
    "isolated_atom": "isolated atoms",
    "atoms_too_close": "with atoms too close",
    "not_connected": "in several parts",
    "other_bonds": "with other bonds",
    "copy": "copies",
    "near_duplicate": "near-duplicates",
}
"""Every reason, and how a message counts it."""
KEPT_COPY = "copy_kept"
"""Reason of the rows of copies that did enter the pool (filters.copies: keep)."""


@dataclass(frozen=True)
class Candidate:
    """A structure that may enter the pool. origin: file (with ASE's index), or sample. number: which of those, from 0.
    source: where it comes from, if from a file.
    """

    origin: str
    number: int
    structure: Structure
    source: Source | None = None


@dataclass(frozen=True)
class Rejected:
    """A candidate that did not enter the pool.

    origin, number: as in ``Candidate``. reason: a key of ``WORDS``. value: number of atoms (isolated_atom), smallest distance
    over the sum of covalent radii (atoms_too_close), number of parts (not_connected), of bonds that differ (other_bonds),
    largest displacement of an atom in Angstrom (copy), or distance of the descriptors (near_duplicate). limit: what the value
    was held against.
    partner: id of the structure that this one repeats; one that is a near-duplicate itself is named in a row of its own.
    label_difference: of finished labels, the largest difference from the partner's, in the property's unit.
    """

    origin: str
    number: int
    structure_id: str
    reason: str
    value: float
    limit: float
    partner: str = ""
    label_difference: float | None = None


@dataclass(frozen=True)
class Repeat:
    """A copy. row: the account of it. first: the structure that it repeats."""

    row: Rejected
    structure: Structure
    first: Structure


class PoolFilter:
    """Lets candidates through in their order; what passes depends on the order alone, not on the calls it comes in."""

    def __init__(
        self,
        filters: Filters,
        reference: Structure | None,
        features: Callable[[StructureSet, Structure], NDArray[np.float64]] | None = None,
    ) -> None:
        """reference: geometry for filters.bonds same and the descriptor; None: the first structure that passes.

        features: the descriptor of structures, given a reference; None: near-duplicates are not looked for. A row that is
        NaN says nothing about the geometry, and is near to none.
        """
        self.reference = reference
        self.rejected: list[Rejected] = []
        self.repeats: list[Repeat] = []
        self._filters = filters
        self._features = features
        self._copies = CopyFinder(filters.copy_tolerance_A)
        self._compared: list[Structure] = []
        self._thinnings: dict[bytes, tuple[NearDuplicates, list[str]]] = {}
        self._kept: list[Candidate] = []
        self._seen: set[str] = set()

    def __len__(self) -> int:
        """Return how many structures have passed."""
        return len(self._kept)

    @property
    def kept(self) -> StructureSet:
        """What has passed, in its order."""
        return StructureSet.from_structures(candidate.structure for candidate in self._kept)

    @property
    def sources(self) -> list[Source | None]:
        """Where what has passed comes from."""
        return [candidate.source for candidate in self._kept]

    def begin_with(self, structure: Structure) -> None:
        """Let the pool begin with a structure, whatever the filters say; nothing but a copy of it is held against it."""
        assert not self._kept
        self._seen.add(structure.structure_id)
        candidate = Candidate("equilibrium", -1, structure)
        self._find_copies([candidate])
        self._kept.append(candidate)

    def know(self, structures: Iterable[Structure]) -> None:
        """Take structures for known, whatever the filters say: they are not let through, nor is a copy of them later."""
        known = [Candidate("labelled", number, structure) for number, structure in enumerate(structures)]
        self._seen |= {candidate.structure.structure_id for candidate in known}
        self._find_copies(known)
        self.repeats.clear()

    def add(self, candidates: Iterable[Candidate]) -> None:
        """Pass further structures through, in their order.

        Raises QuarryError where filters.bonds same or the descriptor cannot be applied.
        """
        passing: list[Candidate] = []
        outcome: list[tuple[Candidate, Rejected | None]] = []
        for candidate in candidates:
            found = self._look(candidate.structure)
            if found is None:
                self.reference = self.reference or candidate.structure
                passing.append(candidate)
            outcome.append((candidate, None if found is None else _rejected(candidate, *found)))
        found_later = self._find_copies(passing)
        rest = [candidate for candidate in passing if candidate.structure.structure_id not in found_later]
        found_later |= self._near_duplicates(rest)
        for candidate, rejected in outcome:
            rejected = rejected or found_later.get(candidate.structure.structure_id)
            if rejected is None:
                self._kept.append(candidate)
            else:
                self.rejected.append(rejected)

    def cut(self, size: int) -> None:
        """Forget everything after the structure with which the filter has let ``size`` through (all of one origin, but for
        what it began with). Nothing may be added after that.
        """
        if len(self._kept) > size:
            last = self._kept[size - 1].number
            self._kept = self._kept[:size]
            self.rejected = [item for item in self.rejected if item.number < last]
            self.repeats = [repeat for repeat in self.repeats if repeat.row.number < last]

    def _look(self, structure: Structure) -> tuple[str, float, float] | None:
        """Return reason, value and limit if the structure cannot pass, whatever its neighbours are."""
        filters = self._filters
        if structure.structure_id in self._seen:
            return "identical", 0.0, 0.0
        self._seen.add(structure.structure_id)
        if structure.features is not None:
            return None
        if filters.isolated_atoms == "leave_out" and is_isolated_atom(structure):
            return "isolated_atom", 1, 2
        if filters.min_distance_factor is not None:
            ratio = closest_contact(structure, filters.min_distance_factor)
            if ratio < filters.min_distance_factor:
                return "atoms_too_close", ratio, filters.min_distance_factor
        if filters.bonds == "connected":
            parts = count_fragments(structure, filters.bond_factor)
            if parts > 1:
                return "not_connected", parts, 1
        if filters.bonds == "same" and self.reference is not None:
            if not np.array_equal(structure.numbers, self.reference.numbers):
                raise QuarryError(
                    "filters.bonds: same is for geometries of one molecule, but the pool holds other atoms than the "
                    "reference geometry, or in another order; use connected"
                )
            other = count_other_bonds(bonds_of(structure, filters.bond_factor), self._reference_bonds)
            if other:
                return "other_bonds", other, 0
        return None

    @cached_property
    def _reference_bonds(self) -> NDArray[np.int64]:
        assert self.reference is not None
        return bonds_of(self.reference, self._filters.bond_factor)

    def group_kept(self) -> NDArray[np.int64] | None:
        """Return the row of the first structure that each one in the pool is a copy of, shape (n,); None: no copies are kept.

        Nothing may be added after that: ``repeats`` then has the copies in the pool.
        """
        structures = [candidate.structure for candidate in self._kept]
        if self._filters.copies == "leave_out" or not structures or structures[0].features is not None:
            return None
        limit = self._filters.copy_tolerance_A
        groups, partners, displacements = copy_groups(structures, limit)
        for row in np.flatnonzero(partners >= 0).tolist():
            first = structures[partners[row]]
            account = _rejected(self._kept[row], KEPT_COPY, float(displacements[row]), limit, first.structure_id)
            self.repeats.append(Repeat(account, structures[row], first))
        return groups

    def _find_copies(self, candidates: list[Candidate]) -> dict[str, Rejected]:
        """Return, by structure id, those that are copies of one before them, where those are rejected."""
        if self._filters.copies == "keep" or not candidates or candidates[0].structure.features is not None:
            return {}
        limit, found = self._filters.copy_tolerance_A, {}
        structures = [candidate.structure for candidate in candidates]
        self._compared += structures
        for candidate, partner, displacement in zip(candidates, *self._copies.add(structures), strict=True):
            if partner >= 0:
                first = self._compared[partner]
                row = _rejected(candidate, "copy", float(displacement), limit, first.structure_id)
                found[row.structure_id] = row
                self.repeats.append(Repeat(row, candidate.structure, first))
        return found

    def _near_duplicates(self, candidates: list[Candidate]) -> dict[str, Rejected]:
        """Return, by structure id, those that are too near to one that stays.

        Compared are structures of the same composition, charge and multiplicity: a descriptor may know nothing of those.
        """
        limit = self._filters.near_duplicates
        if limit is None or self._features is None or not candidates:
            return {}
        assert self.reference is not None
        structures = [candidate.structure for candidate in candidates]
        features = self._features(StructureSet.from_structures(structures), self.reference)
        groups: dict[bytes, list[int]] = {}
        for index, s in enumerate(structures):
            if np.isnan(features[index]).any():
                continue
            key = np.array([s.charge, s.multiplicity, *np.sort(s.numbers)]).tobytes()
            groups.setdefault(key, []).append(index)
        found: dict[str, Rejected] = {}
        for key, members in groups.items():
            thinning, stay = self._thinnings.setdefault(key, (NearDuplicates(limit), []))
            for index, partner, distance in zip(members, *thinning.add(features[members]), strict=True):
                if partner < 0:
                    stay.append(structures[index].structure_id)
                else:
                    out = _rejected(candidates[index], "near_duplicate", float(distance), limit, stay[partner])
                    found[out.structure_id] = out
        return found


def _rejected(candidate: Candidate, reason: str, value: float, limit: float, partner: str = "") -> Rejected:
    return Rejected(candidate.origin, candidate.number, candidate.structure.structure_id, reason, value, limit, partner)


def counts_of(rejected: Sequence[Rejected]) -> str:
    """Return a clause about how many candidates were rejected for which reason; empty if none was."""
    counts = Counter(item.reason for item in rejected)
    return ", ".join(f"{counts[reason]} {message}" for reason, message in WORDS.items() if counts[reason])


def write_rejected(path: str, rejected: Sequence[Rejected]) -> None:
    """Write ``pool/filtered.csv``: what was rejected, and copies that were kept."""
    rows = ([f"{value:.8g}" if isinstance(value, float) else value for value in astuple(item)] for item in rejected)
    write_rows(path, [field.name for field in fields(Rejected)], rows)
