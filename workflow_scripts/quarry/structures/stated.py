"""What the user's files say about charge and spin of their structures, collected name by name (see ``conventions``)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from quarry.structures.moments import CHARGES, MOMENTS, PerAtom, calculated_sums

if TYPE_CHECKING:
    from ase import Atoms

OF_CHARGE = frozenset({"charge", "total_charge", "tot_charge", "net_charge", "molecular_charge", "system_charge"})
OF_MULTIPLICITY = frozenset({"multiplicity", "spin_multiplicity", "mult", "spin", "total_spin"})
"""Names of 2S + 1."""
OF_UNPAIRED = frozenset({"uhf", "nunpaired", "number_of_unpaired_electrons"}) | frozenset(
    n + "unpaired" + electrons for n in ("", "n_", "num_") for electrons in ("", "_electrons")
)
"""Names of the number of unpaired electrons, 2S (xtb: uhf)."""
MAY_BE_UNSAID = ("spin", "total_spin")
"""Names under which a zero in every structure says nothing (fairchem writes it where no spin is meant)."""
_CHARGE_WORDS = frozenset({"charge", "chg"})
_SPIN_WORDS = frozenset({"spin", "mult", "multiplicity", "unpaired", "magmom", "magnetization", "magnetisation"})
_OTHER_WORDS = (
    frozenset({"total", "tot", "net", "mol", "molecule", "molecular", "system", "sys", "formal", "overall", "global"})
    | frozenset({"electron", "electrons", "quantum", "ion", "ionic", "cell", "state", "value", "initial", "input"})
    | frozenset({"target", "dft", "qm", "ref", "scf"})
)
_LETTERS = {"q": "charge", "s": "multiplicity", "2s": "multiplicity", "qtot": "charge"}
"""Names that may be a charge or a spin where all their values are small whole numbers."""
LEAST = {"charge": -np.inf, "multiplicity": 1}


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


class Meaning(NamedTuple):
    """What a name says. quantity: charge or multiplicity, which is the value + add. known: read without being told."""

    quantity: str
    add: int
    known: bool


@dataclass(eq=False)
class Column:
    """What structures say under one name.

    values: shape (n,), NaN where a structure does not carry the name. problems: row and what is wrong with what it carries.
    firm: an entry that says what it is, so that a problem is refused although something else is clear.
    """

    name: str
    meaning: Meaning
    values: NDArray[np.float64]
    problems: dict[int, str] = field(default_factory=dict)
    firm: bool = True

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

    def column(self, name: str, meaning: Meaning, firm: bool = True) -> Column:
        """Return the column of a name; a new one has no values."""
        for column in self.columns:
            if column.name == name:
                return column
        self.columns.append(Column(name, meaning, np.full(len(self), np.nan), firm=firm))
        return self.columns[-1]

    def at(self, rows: NDArray[np.int64]) -> Stated:
        """Return what is said about some of the structures."""
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
        """Return the columns that are read without being told."""
        return [c for c in self.columns if c.meaning.quantity == quantity and c.meaning.known]

    def may_be(self, row: int, charge: int, multiplicity: int) -> bool:
        """Return whether a structure's charge and multiplicity are these, as far as the file says them."""
        electrons = self.nuclei[row] - charge
        for quantity, value in (("charge", charge), ("multiplicity", multiplicity)):
            said = [column.values[row] + column.meaning.add for column in self.known(quantity)]
            # A spin that the electrons cannot have is meant in another way than it is read.
            possible = [v for v in said if quantity == "charge" or (v >= 1 and (electrons - v) % 2 == 1)]
            if any(not np.isnan(v) for v in possible) and value not in possible:
                return False
        return True


@lru_cache(maxsize=10_000)
def meaning_of(name: str) -> Meaning | None:
    """Return what an entry or column of this name says, or None if it has nothing to do with charge and spin."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    plain = re.sub(r"[^a-z0-9]+", "_", words).strip("_")
    if plain in OF_CHARGE:
        return Meaning("charge", 0, True)
    if plain in OF_MULTIPLICITY:
        return Meaning("multiplicity", 0, True)
    if plain in OF_UNPAIRED:
        return Meaning("multiplicity", 1, True)
    if plain in _LETTERS:
        return Meaning(_LETTERS[plain], 0, False)
    tokens = set(plain.split("_"))
    for quantity, kernel in (("charge", _CHARGE_WORDS), ("multiplicity", _SPIN_WORDS)):
        if tokens & kernel and tokens <= kernel | _OTHER_WORDS:
            return Meaning(quantity, 0, False)
    return None


def meaning_in_plural(name: str) -> Meaning | None:
    """Return what a name says, also one in the plural, as of columns ('charges', 'total_spins'; our own files among them)."""
    return meaning_of(name) or meaning_of(re.sub(r"s$", "", re.sub(r"(?i)ties$", "ty", name)))


def stated_by_frames(frames: Sequence[Atoms], keys: StateKeys = PLAIN) -> Stated:
    """Return what frames that ASE has read say in info, in per-atom columns and in the results of their calculators."""
    stated = Stated(
        nuclei=np.array([int(atoms.numbers.sum()) for atoms in frames], dtype=np.int64),
        periodic=np.array([bool(atoms.pbc.any()) for atoms in frames], dtype=bool),
    )
    named = {name: _meaning_of_key(name, quantity) for quantity, name in _given(keys)}
    for row, atoms in enumerate(frames):
        results = {} if atoms.calc is None else atoms.calc.results
        stated.names.update(map(str, atoms.info), set(atoms.arrays) - {"numbers", "positions"}, results)
        for name, value in atoms.info.items():
            # Several values under a plural are those of the atoms.
            of_name = meaning_in_plural if np.size(value) == 1 else meaning_of
            meaning = named.get(name) or of_name(str(name))
            # A bare word of the comment line reads as True.
            if meaning is not None and not isinstance(value, bool | np.bool_):
                _put(stated.column(str(name), meaning), row, value)
        for per_atom in (CHARGES, MOMENTS):
            if per_atom.name in atoms.arrays:
                _put_sum(stated, row, per_atom, atoms.arrays[per_atom.name])
        for name, quantity, value in calculated_sums(atoms):
            given = named.get(name)
            column = stated.column(name, given or Meaning(quantity, int(quantity == "multiplicity"), False), firm=False)
            column.values[row] = abs(value) if quantity == "multiplicity" else value
    _read_bare_comments(stated, frames)
    return stated


def stated_by_columns(
    columns: Iterator[tuple[str, NDArray[Any]]], nuclei: NDArray[np.int64], sizes: NDArray[np.int64], keys: StateKeys
) -> Stated:
    """Return what columns of a table say. columns: names and arrays. nuclei, sizes: sum of atomic numbers and number of atoms
    of each structure, shape (n,).
    """
    n = len(nuclei)
    stated = Stated(nuclei, np.zeros(n, dtype=bool))
    named = {name: _meaning_of_key(name, quantity) for quantity, name in _given(keys)}
    for name, array in columns:
        short = name.rpartition("/")[2]
        stated.names.add(name)
        meaning = named.get(name) or named.get(short) or meaning_in_plural(short)
        per_atom = next((kind for kind in (CHARGES, MOMENTS) if kind.name == short), None)
        if array.dtype.kind == "b":
            continue
        if per_atom is not None and array.shape[:1] == (n,) and array.ndim > 1:
            for row in range(n):
                _put_sum(stated, row, per_atom, array[row])
        elif per_atom is not None and array.shape[:1] == (sizes.sum(),):
            for row, part in enumerate(np.split(array, np.cumsum(sizes)[:-1])):
                _put_sum(stated, row, per_atom, part)
        elif meaning is not None and (array.size == 1 or (array.shape[:1] == (n,) and array.size == n)):
            values = np.broadcast_to(array.reshape(-1), (n,)).tolist()
            # Charges of the atoms of molecules that have as many atoms as there are rows.
            if meaning_of(short) is None and not (array.dtype.kind in "iu" or not np.any(array % 1)):
                continue
            for row, value in enumerate(values):
                _put(stated.column(name, meaning), row, value)
    return stated


def concerns_state(name: str, keys: StateKeys) -> bool:
    """Return whether a column of a table may say charge or spin."""
    short = name.rpartition("/")[2]
    given = {key for _, key in _given(keys)}
    known = meaning_in_plural(short) is not None or short in (CHARGES.name, MOMENTS.name)
    return known or name in given or short in given


def _read_bare_comments(stated: Stated, frames: Sequence[Atoms]) -> None:
    """Find comment lines that are charge and multiplicity alone ('0 3', possible in every frame), or say 'charge: -2'."""
    comments = [
        [str(name) for name, value in atoms.info.items() if value is True or _is_small(str(name))] for atoms in frames
    ]
    pairs = [(int(w[0]), int(w[1])) if len(w) == 2 == sum(map(_is_small, w)) else None for w in comments]
    alone = all(
        pair is not None and pair[1] >= 1 and (nuclei - pair[0] - pair[1] + 1) % 2 == 0
        for pair, nuclei in zip(pairs, stated.nuclei.tolist(), strict=True)
    )
    # Numbers that count the frames differ from frame to frame.
    repeated = len(set(pairs)) == 1 or 2 * len(set(pairs)) <= len(pairs)
    for row, (words, pair) in enumerate(zip(comments, pairs, strict=True)):
        said = next((f"{a} {b}" for a, b in pairwise(words) if _is_small(b) and meaning_of(a.rstrip(":"))), None)
        if alone and repeated and pair != (0, 1):
            said = " ".join(words)
        if said is None:
            continue
        of_charge = pair[0] != 0 if pair and alone else said.lower().startswith(("charge", "chrg", "total_charge"))
        column = stated.column("comment", Meaning("charge" if of_charge else "multiplicity", 0, False), firm=False)
        column.problems[row] = f"the comment '{said}', which looks like charge and multiplicity and is not read"


def is_number(text: Any) -> bool:
    """Return whether a text is a number (nan and inf too)."""
    try:
        float(text)
    except (TypeError, ValueError):
        return False
    return True


def _is_small(word: str) -> bool:
    return re.fullmatch(r"[-+]?\d{1,2}", word) is not None


def _given(keys: StateKeys) -> Iterator[tuple[str, str]]:
    for quantity in ("charge", "multiplicity"):
        name = keys.of(quantity)
        if name is not None:
            yield quantity, name


def _meaning_of_key(name: str, quantity: str) -> Meaning:
    """Return what a name says that the configuration gives; one of another quantity is taken at its word."""
    usual = meaning_of(name)
    add = usual.add if usual is not None and usual.quantity == quantity else 0
    calculated = quantity == "multiplicity" and name in ("magmom", "magmoms")
    return Meaning(quantity, 1 if calculated else add, True)


def _put(column: Column, row: int, value: Any) -> None:
    array = np.asarray(value)
    try:
        number = float(str(array.item())) if array.size == 1 else np.nan
    except ValueError:
        number = np.nan
    if abs(number - np.rint(number)) < 1e-6:
        column.values[row] = np.rint(number)
    elif column.meaning.known:
        text = " ".join(str(value).split())[:40]
        half = " (S?)" if column.meaning.quantity == "multiplicity" and (2 * number).is_integer() else ""
        column.problems[row] = f"{column.name} = {text}, which is no whole number{half}"
    else:
        column.values[row] = np.inf if np.isnan(number) else number


def _put_sum(stated: Stated, row: int, per_atom: PerAtom, array: NDArray[Any]) -> None:
    value, problem = per_atom.sum_of(array, bool(stated.periodic[row]))
    if value is None and not problem:
        return
    meaning = Meaning(per_atom.quantity, per_atom.add, True)
    column = stated.column(per_atom.name, meaning, firm=False)
    if value is None:
        column.problems[row] = f"{per_atom.name} {problem}"
    else:
        column.values[row] = value
