"""What the user's files say about charge and spin of their structures, collected name by name (see ``conventions``)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from quarry.structures.comments import Comment
from quarry.structures.moments import PerAtom, calculated_sums, per_atom_of
from quarry.structures.state_names import (
    MAY_BE_UNSAID,
    Meaning,
    is_plural,
    meaning_in_plural,
    meaning_of,
    of_each_structure,
    places_of,
    short_name,
)
from quarry.structures.state_words import SPINS, says_state, whole_number
from quarry.written_numbers import is_number

if TYPE_CHECKING:
    from ase import Atoms

LEAST = {"charge": -np.inf, "multiplicity": 1}
SMALL = 20
"""Whole numbers beyond this are no charge or spin, whatever they are called."""


@dataclass(frozen=True)
class StateKeys:
    """What the configuration says about charge and multiplicity in the user's files.

    charge, multiplicity: names that win over all others. settled: which of the two the configuration gives a value for, for
    structures whose file gives none; what looks like it is then not refused. lenient: nothing is refused, a structure that
    is not clear counts as one that says nothing (where only the geometry is of interest).
    """

    charge: str | None = None
    multiplicity: str | None = None
    settled: frozenset[str] = frozenset()
    lenient: bool = False

    def of(self, quantity: str) -> str | None:
        """Return the name that was given for charge or multiplicity."""
        return self.charge if quantity == "charge" else self.multiplicity


PLAIN = StateKeys()
LENIENT = StateKeys(lenient=True)


class Part(NamedTuple):
    """A column or attribute of a table. here: it stands with the geometries, so that it is about them."""

    name: str
    values: NDArray[Any]
    here: bool = True


@dataclass(eq=False)
class Column:
    """What structures say under one name.

    values: shape (n,), NaN where a structure does not carry the name. problems: row and what is wrong with what it carries.
    firm: an entry that says what it is, so that a problem is refused although something else is clear. calculated: a result.
    unfit: of a shape that does not fit the structures.
    """

    name: str
    meaning: Meaning
    values: NDArray[np.float64]
    problems: dict[int, str] = field(default_factory=dict)
    firm: bool = True
    calculated: bool = False
    unfit: bool = False

    def told(self) -> NDArray[np.float64]:
        """Return charge or multiplicity, shape (n,), NaN where the name does not say it."""
        return self.values + self.meaning.add

    def says_nothing(self) -> bool:
        """Return whether this is a column of spins that is zero throughout."""
        carried = self.values[~np.isnan(self.values)]
        return self.name in MAY_BE_UNSAID and not self.problems and not carried.any()


@dataclass(eq=False)
class Stated:
    """What a file says about its structures. nuclei: sum of atomic numbers, shape (n,). periodic: shape (n,). names: all."""

    nuclei: NDArray[np.int64]
    periodic: NDArray[np.bool_]
    columns: list[Column] = field(default_factory=list)
    names: set[str] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self.nuclei)

    def column(self, name: str, meaning: Meaning, firm: bool = True, calculated: bool = False) -> Column:
        """Return the column of a name; a new one has no values."""
        for column in self.columns:
            if column.name == name:
                return column
        self.columns.append(Column(name, meaning, np.full(len(self), np.nan), {}, firm, calculated))
        return self.columns[-1]

    def at(self, rows: NDArray[np.int64]) -> Stated:
        """Return what is said about the structures at rows of shape (m,)."""
        places = {int(row): place for place, row in enumerate(rows)}
        columns = [
            replace(
                column,
                values=column.values[rows],
                problems={places[row]: text for row, text in column.problems.items() if row in places},
            )
            for column in self.columns
        ]
        return Stated(self.nuclei[rows], self.periodic[rows], columns, self.names)

    def known(self, quantity: str) -> list[Column]:
        """Return the columns of charge or multiplicity that are read without a key of the configuration."""
        return [c for c in self.columns if c.meaning.quantity == quantity and c.meaning.known]

    def may_be(self, row: int, charge: int, multiplicity: int) -> bool:
        """Return whether a structure's charge and multiplicity are these, as far as the file says them."""
        electrons = self.nuclei[row] - charge
        for quantity, value in (("charge", charge), ("multiplicity", multiplicity)):
            if any(column.firm and row in column.problems for column in self.known(quantity)):
                # It says something that nobody understands: none of ours, to be safe.
                return False
            said = [column.values[row] + column.meaning.add for column in self.known(quantity)]
            # A spin that the electrons cannot have is meant in another way than it is read.
            possible = [v for v in said if quantity == "charge" or (v >= 1 and (electrons - v) % 2 == 1)]
            if any(not np.isnan(v) for v in possible) and value not in possible:
                return False
        return True


def stated_by_frames(frames: Sequence[Atoms], keys: StateKeys = PLAIN, comments: Sequence[str] = ()) -> Stated:
    """Return what frames that ASE has read say in info, in per-atom columns and in the results of their calculators.

    comments: the comment lines of the frames as they stand in the file, where it is XYZ.
    """
    stated = Stated(
        nuclei=np.array([int(atoms.numbers.sum()) for atoms in frames], dtype=np.int64),
        periodic=np.array([bool(atoms.pbc.any()) for atoms in frames], dtype=bool),
    )
    named = {name: _meaning_of_key(name, quantity) for quantity, name in _given(keys)}
    for row, atoms in enumerate(frames):
        results = {} if atoms.calc is None else atoms.calc.results
        stated.names.update(map(str, atoms.info), set(atoms.arrays) - {"numbers", "positions"}, results)
        for name, value in _entries(atoms.info):
            of_atoms = np.size(value) == len(atoms) > 1
            # Several values under a plural are those of the atoms.
            meaning = named.get(name) or (meaning_of(name) if np.size(value) > 1 else meaning_in_plural(name))
            if of_atoms and meaning is not None and not meaning.known and name not in named:
                _put_sum(stated, row, per_atom_of(name), np.ravel(value))
            elif meaning is None and isinstance(value, str) and value.lower() in SPINS:
                _put(stated.column(name, Meaning("multiplicity", 0, False)), row, value)
            # A bare word of the comment line reads as True.
            elif meaning is not None and not isinstance(value, bool | np.bool_):
                _put(stated.column(name, meaning), row, value)
        for name, array in atoms.arrays.items():
            if array.dtype.kind in "iufO" and name not in ("numbers", "positions"):
                given = named.get(name)
                _put_sum(stated, row, PerAtom(name, given.quantity) if given else per_atom_of(name), array)
        for name, quantity, total, problem in calculated_sums(atoms):
            add = int(quantity == "multiplicity")
            meaning = named.get(name) or Meaning(quantity, add, False)
            column = stated.column(name, meaning, firm=False, calculated=True)
            if total is None:
                column.problems[row] = f"{name} {problem}"
            else:
                column.values[row] = total
    for row, said in Comment.of_frames(comments or [_bare(atoms) for atoms in frames], stated.nuclei):
        _put_comment(stated, row, said)
    return stated


def stated_by_columns(
    parts: Iterable[Part], nuclei: NDArray[np.int64], sizes: NDArray[np.int64], keys: StateKeys
) -> Stated:
    """Return what a table says. nuclei, sizes: sum of atomic numbers and number of atoms of each structure, shape (n,)."""
    stated = Stated(nuclei, np.zeros(len(nuclei), dtype=bool))
    named = {name: _meaning_of_key(name, quantity) for quantity, name in _given(keys)}
    for part in parts:
        stated.names.add(part.name)
        given = named.get(part.name) or named.get(short_name(part.name))
        meaning = given or meaning_in_plural(short_name(part.name))
        if meaning is not None:
            _put_part(
                stated, part, meaning if part.here or given else meaning._replace(known=False), sizes, bool(given)
            )
    return stated


def _put_part(stated: Stated, part: Part, meaning: Meaning, sizes: NDArray[np.int64], given: bool) -> None:
    """Take over a column of a table. given: its name is the configuration's."""
    name, array, here = part
    short = short_name(name)
    per_atom = per_atom_of(short)
    plural = is_plural(short) or (per_atom is not None and per_atom.known)
    numbers = array if array.dtype.kind in "iuf" else None
    places = places_of(array.shape, sizes)
    everywhere = range(len(sizes))
    if not meaning.known and (array.dtype.kind == "b" or not array.size):
        return
    if array.dtype.kind == "b" and not array.any():
        return
    if places.structures and places.atoms and plural and not given:
        if numbers is None or not numbers.any() or (numbers % 1).any():
            return
        which = "may hold a number for each structure or for each atom"
        _refuse(stated, name, meaning, everywhere, f"{name} of shape {array.shape}, which {which}")
    elif places.structures:
        # Numbers under a plural that are not whole are partial charges, of some of the atoms.
        if plural and not given and (numbers is None or (numbers % 1).any()):
            return
        values = np.broadcast_to(array.reshape(-1), (len(sizes),))
        if array.dtype.kind in "iu":
            stated.column(name, meaning).values[:] = values
            return
        for row in everywhere:
            _put(stated.column(name, meaning), row, values[row].item() if array.dtype.kind != "b" else "true or false")
    elif places.atoms:
        if per_atom is None or numbers is None or not numbers.any():
            return
        known = given or (per_atom.known and here)
        for row, values in enumerate(of_each_structure(array, sizes)):
            _put_sum(stated, row, PerAtom(name, meaning.quantity, known), values)
    elif (meaning.known and not plural) or _are_small(numbers):
        n = len(sizes)
        fits = f"which is not one for each of {n} structures" + (" or of their atoms" if plural else "")
        _refuse(stated, name, meaning, everywhere, f"{name} of shape {array.shape}, {fits}")


def _are_small(numbers: NDArray[Any] | None) -> bool:
    """Return whether numbers are whole and small, as charges and spins are, and not all zero."""
    return numbers is not None and bool(numbers.any() and not (numbers % 1).any() and np.abs(numbers).max() <= SMALL)


def _refuse(stated: Stated, name: str, meaning: Meaning, rows: Iterable[int], text: str) -> None:
    column = stated.column(name, meaning)
    column.unfit = True
    column.problems.update(dict.fromkeys(rows, text))


def concerns_state(name: str, keys: StateKeys) -> bool:
    """Return whether a column or attribute of a table may say charge or spin."""
    short = short_name(name)
    given = {key for _, key in _given(keys)}
    return meaning_in_plural(short) is not None or name in given or short in given


def _entries(info: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    """Yield names and values of an ``info``, and of dictionaries in it (key_value_pairs, data)."""
    for name, value in info.items():
        if isinstance(value, Mapping):
            yield from ((str(inner), item) for inner, item in value.items() if not isinstance(item, Mapping))
        else:
            yield str(name), value


def _bare(atoms: Atoms) -> str:
    """Return the words and numbers of a comment line that are no entries, as far as ASE keeps them."""
    return " ".join(str(name) for name, value in atoms.info.items() if value is True)


def _put_comment(stated: Stated, row: int, said: Comment) -> None:
    for name, text in said.wrong.items():
        meaning = meaning_in_plural(name)
        if meaning is not None:
            stated.column(name, meaning).problems[row] = text
    for quantity, text in said.unread.items():
        column = stated.column(f"comment ({quantity})", Meaning(quantity, 0, False), firm=False)
        column.problems[row] = f"the comment '{text}', which looks like charge and multiplicity and is not read"


def _given(keys: StateKeys) -> Iterator[tuple[str, str]]:
    for quantity in ("charge", "multiplicity"):
        name = keys.of(quantity)
        if name is not None:
            yield quantity, name


def _meaning_of_key(name: str, quantity: str) -> Meaning:
    """Return what a name says that the configuration gives; one of another quantity is taken at its word."""
    usual = meaning_in_plural(short_name(name))
    if usual is not None and usual.quantity == quantity:
        return usual._replace(known=True)
    return Meaning(quantity, 0, True, per_electron=0.0 if usual is None else usual.per_electron)


def _put(column: Column, row: int, value: Any) -> None:
    number = whole_number(value)
    if number is not None:
        column.values[row] = number
    elif column.meaning.known or says_state(value):
        text = " ".join(str(value).split())[:40]
        doubled = 2 * float(text) if is_number(text) else 0.5
        half = " (S?)" if column.meaning.quantity == "multiplicity" and doubled.is_integer() else ""
        column.problems[row] = f"{column.name} = {text}, which is no whole number{half}"
    elif np.size(value) == 1 and is_number(value):
        column.values[row] = float(value)


def _put_sum(stated: Stated, row: int, per_atom: PerAtom | None, array: NDArray[Any]) -> None:
    if per_atom is None:
        return
    value, problem = per_atom.sum_of(array, bool(stated.periodic[row]))
    if value is None and not problem:
        return
    column = stated.column(per_atom.name, Meaning(per_atom.quantity, per_atom.add, per_atom.known), firm=False)
    if value is None:
        column.problems[row] = f"{per_atom.name} {problem}"
    else:
        column.values[row] = value
