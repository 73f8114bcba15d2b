"""Which names are about charge and spin, and which numbers of an array belong to which structure."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

OF_CHARGE = frozenset({"charge", "total_charge", "tot_charge", "net_charge", "molecular_charge", "system_charge"})
OF_MULTIPLICITY = frozenset({"multiplicity", "spin_multiplicity", "mult", "spin", "total_spin"})
"""Names of 2S + 1."""
OF_UNPAIRED = frozenset({"uhf", "nunpaired", "number_of_unpaired_electrons"}) | frozenset(
    n + "unpaired" + electrons for n in ("", "n_", "num_") for electrons in ("", "_electrons")
)
"""Names of the number of unpaired electrons, 2S (xtb: uhf)."""
MAY_BE_UNSAID = ("spin", "total_spin")
"""Names under which a zero in every structure says nothing (fairchem writes it where no spin is meant)."""
LETTERS = (
    {"q": "charge", "s": "multiplicity", "2s": "multiplicity", "2s_1": "multiplicity", "sz": "multiplicity"}
    | {a + "q": "charge" for a in ("tot", "total", "net", "mol")}
    | {"q" + a: "charge" for a in ("tot", "total", "net", "mol")}
)
"""Names that may be a charge or a spin where all their values are small whole numbers; those of a letter and a word, in one."""
_CHARGE = re.compile(r"(?<!dis)(?<!re)(?<!sur)(?<!super)(?<!un)charge|chrg|chg(?!car)|oxidation_?(state|number)")
_UNPAIRED = re.compile(
    r"unpaired|(?<![a-z])mag(?![a-z])|uhf|nupdown|n_?open|magmom|magneti[sz]ation|magnetic_?moment|radical_?electron"
)
_SPIN = re.compile(r"spin|mult(ip|ipl|iplet|iplicity|iplicities)?s?(?![a-z])")
_ANOTHER_THING = re.compile(
    r"mulliken|lowdin|loewdin|hirshfeld|bader|voronoi|chelpg|gasteiger|natural|partial|point_?charge|transfer|square"
    r"|contamination|orbit|coupling|densit|penalty|weight|loss|error|uncertainty|dipole|quadrupole|energ|gap|center|centre"
    r"|cutoff|radius|scal(e|ing)|factor|mixing|channel|component|population|kind|type|scheme|method|model|nspin|ispin"
    r"|field|nuclear|core|valence|atomic|polari[sz]ed|spin_?pol|restricted|symmetry|axis"
)
"""Words after which a name is a quantity of atoms or orbitals, an energy, or a setting."""
_ANOTHER_WORD = frozenset(
    {"esp", "resp", "nbo", "npa", "cm5", "ddec", "ddec6", "mbis", "mk", "std", "mae", "rmse", "s2"}
    | {"id", "idx", "index", "hartree", "ev", "mev", "kcal", "cm", "debye"}
)
_ELECTRONS = re.compile(r"(n|num|number_of|total|n_total|nr)_?(electrons?|elec)")
_ALPHA_BETA = re.compile(
    r"(n|num|number_of|nelec|n_electrons)_?(alpha|beta|up|down|dn)(_?(electrons?|elec))?|(alpha|beta)_?electrons"
)
_OF_ATOMS = {
    re.compile(r"(initial|formal)_?charges?|oxidation_?(state|number)s?"): "charge",
    re.compile(r"initial_?(magmom|magnetic_?moment)s?"): "multiplicity",
}


class Meaning(NamedTuple):
    """What a name says. quantity: charge or multiplicity, which is the value + add.

    known: read without a key of the configuration.
    usual: the value of a neutral molecule without unpaired electrons; per_electron: what is added to it for each electron of
    that molecule, of a name that counts electrons and says charge or multiplicity by that alone.
    """

    quantity: str
    add: int
    known: bool
    usual: int = 0
    per_electron: float = 0.0


def _plain(name: str) -> str:
    """Return a name in small letters, with an underscore between words."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    return re.sub(r"[^a-z0-9]+", "_", words).strip("_")


_KNOWN = (
    {name.replace("_", ""): Meaning("charge", 0, True) for name in OF_CHARGE}
    | {name.replace("_", ""): Meaning("multiplicity", 0, True, int("mult" in name)) for name in OF_MULTIPLICITY}
    | {name.replace("_", ""): Meaning("multiplicity", 1, True) for name in OF_UNPAIRED}
)


@lru_cache(maxsize=10_000)
def meaning_of(name: str) -> Meaning | None:
    """Return what an entry or column of this name says, or None if it has nothing to do with charge and spin."""
    plain = _plain(name)
    glued = plain.replace("_", "")
    if glued in _KNOWN:
        return _KNOWN[glued]
    letter = LETTERS.get(plain) or (LETTERS.get(glued) if len(glued) > 2 else None)
    if letter is not None:
        return Meaning(letter, 0, False)
    if _ELECTRONS.fullmatch(plain):
        return Meaning("charge", 0, False, per_electron=1.0)
    if _ALPHA_BETA.fullmatch(plain):
        return Meaning("multiplicity", 0, False, per_electron=0.5)
    if _ANOTHER_THING.search(plain) or _ANOTHER_WORD & set(plain.split("_")):
        return None
    if _CHARGE.search(plain):
        return Meaning("charge", 0, False)
    if _UNPAIRED.search(plain):
        return Meaning("multiplicity", 1, False)
    if _SPIN.search(plain):
        return Meaning("multiplicity", 0, False, int("mult" in plain))
    return None


@lru_cache(maxsize=10_000)
def meaning_in_plural(name: str) -> Meaning | None:
    """Return what a name says, also one in the plural, as of columns ('charges', 'total_spins'; our own files among them)."""
    return meaning_of(_singular(name)) if is_plural(name) else meaning_of(name)


def is_plural(name: str) -> bool:
    """Return whether a name is a known one in the plural: of several structures, or of the atoms of one."""
    return not is_known(meaning_of(name)) and is_known(meaning_of(_singular(name)))


def is_known(meaning: Meaning | None) -> bool:
    """Return whether a name is read without a key of the configuration."""
    return meaning is not None and meaning.known


def _singular(name: str) -> str:
    return re.sub(r"(?<=.)s$", "", re.sub(r"(?i)ties$", "ty", name))


def order_of_atoms(name: str) -> str | None:
    """Return the quantity that the values of atoms under this name say together (formal charges, start moments), or None."""
    plain = _plain(name)
    return next((quantity for pattern, quantity in _OF_ATOMS.items() if pattern.fullmatch(plain)), None)


def short_name(name: str) -> str:
    """Return the last part of a name in HDF5 (set/charge, set/@charge for an attribute)."""
    return name.rpartition("/")[2].removeprefix("@")


class Places(NamedTuple):
    """What an array may hold. structures: a number for each structure, or one for all. atoms: numbers of their atoms."""

    structures: bool
    atoms: bool


def places_of(shape: tuple[int, ...], sizes: NDArray[np.int64]) -> Places:
    """Return what an array of this shape may hold. sizes: numbers of atoms of the structures, shape (n,)."""
    n, total = len(sizes), int(sizes.sum())
    long = tuple(axis for axis in shape if axis != 1)
    structures = int(np.prod(shape)) == 1 or long == (n,)
    alike = int(sizes[0]) if n and (sizes == sizes[0]).all() else -1
    atoms = shape[:2] == (n, alike) or (alike > 1 and long == (alike,)) or (total > n and shape[:1] == (total,))
    return Places(structures, atoms)


def of_each_structure(array: NDArray[np.generic], sizes: NDArray[np.int64]) -> list[NDArray[np.generic]]:
    """Return the values of the atoms of every structure, n arrays, of an array that ``places_of`` takes for values of atoms.

    sizes: numbers of atoms of the structures, shape (n,).
    """
    n, alike = len(sizes), int(sizes[0])
    if array.shape[:1] == (int(sizes.sum()),):
        return np.split(array, np.cumsum(sizes)[:-1])
    if array.shape[:2] == (n, alike):
        return list(array)
    return [array.reshape(-1)] * n
