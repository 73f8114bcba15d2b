"""Charge and spin multiplicity of the user's structures, under the names that people and programs give them.

Read by themselves: ``charge`` and ``multiplicity`` (ours), ``total_charge`` and ``total_spin`` (MACE), ``charge`` and ``spin``
(OMol25, fairchem; both spins are 2S + 1), other common names (``stated.OF_CHARGE`` ...), and the sums of ASE's per-atom columns
``initial_charges`` and ``initial_magmoms``. What looks like a charge or a spin and is not read, and names that contradict each
other, are a ValueError with one line: a structure labelled in another state than the one meant is a wrong label.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quarry.structures.state_names import short_name
from quarry.structures.stated import LEAST, PLAIN, SMALL, Column, Stated, StateKeys

LARGEST = 1000
"""Charges and multiplicities beyond this are mistakes."""


def resolve(
    stated: Stated, charge: int, multiplicity: int, keys: StateKeys = PLAIN
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return charges (e) and multiplicities (2S + 1), shape (n,) each.

    charge, multiplicity: of structures whose file says none. keys: what the configuration says about names in files.

    Raises ValueError (one line, with what to change) for what is no whole number, contradicts itself, cannot be, or looks
    like a charge or spin and is not read.
    """
    charges, multiplicities = told(stated, charge, keys)
    settled = np.where(np.isnan(charges), charge, charges).astype(np.int64)
    return settled, np.where(np.isnan(multiplicities), multiplicity, multiplicities).astype(np.int64)


def told(stated: Stated, charge: int, keys: StateKeys = PLAIN) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return charges and multiplicities, shape (n,) each, NaN where nothing is said. Arguments and errors as ``resolve``."""
    charges = _possible(stated, "charge", _told(stated, "charge", keys, None), keys)
    electrons = stated.nuclei - np.where(np.isnan(charges), charge, charges).astype(np.int64)
    return charges, _possible(stated, "multiplicity", _told(stated, "multiplicity", keys, electrons), keys)


def _possible(stated: Stated, quantity: str, told: NDArray[np.float64], keys: StateKeys) -> NDArray[np.float64]:
    """Return what the structures say, shape (n,), where it can be meant."""
    rows = np.flatnonzero(np.abs(told) > LARGEST)
    if not len(rows):
        return told
    if keys.lenient:
        told[rows] = np.nan
        return told
    raise ValueError(
        f"{_counted(len(rows), stated)} {quantity} = {told[rows[0]]:g}, which is far too large; correct the file, or set "
        f"pool.{quantity}"
    )


def _told(stated: Stated, quantity: str, keys: StateKeys, electrons: NDArray[np.int64] | None) -> NDArray[np.float64]:
    """Return what the structures say, shape (n,), NaN where they say nothing. electrons: shape (n,), for multiplicities."""
    name = keys.of(quantity)
    if name is not None:
        return _by_key(stated, quantity, name, keys)
    told, teller = np.full(len(stated), np.nan), np.full(len(stated), -1)
    # Names that can be nothing but 2S + 1 first: they are what others are held against.
    columns = sorted(stated.known(quantity), key=lambda column: "mult" not in column.name.lower())
    for number, column in enumerate(columns):
        values = np.where(column.told() < LEAST[quantity], np.nan, column.told())
        problem = _problem_of(stated, column, np.isnan(told), electrons)
        other = np.flatnonzero(~np.isnan(told) & ~np.isnan(values) & (told != values))
        if keys.lenient:
            values[other] = told[other] = np.nan
        elif column.says_nothing() or (problem and quantity in keys.settled and (column.unfit or _gives_way(column))):
            # What is not clear gives way to the configuration's own value.
            continue
        elif len(other):
            row = int(other[0])
            first = columns[int(teller[row])]
            both = " as multiplicities 2S + 1" if quantity == "multiplicity" else ""
            raise ValueError(
                f"{_counted(len(other), stated)} {first.name} = {_shown(first, row)} and {column.name} = "
                f"{_shown(column, row)}, which contradict each other{both}; set pool.{quantity}_key to the name that is right"
            )
        elif problem:
            raise ValueError(problem)
        teller[np.isnan(told) & ~np.isnan(values)] = number
        told = np.where(np.isnan(told), values, told)
    if not keys.lenient and quantity not in keys.settled:
        _refuse_unread(stated, quantity, np.isnan(told))
    return told


def _gives_way(column: Column) -> bool:
    """Return whether a column may be meant in another way than it is read (S or 2S in place of 2S + 1)."""
    return column.meaning.quantity == "multiplicity" and "mult" not in column.name.lower()


def _problem_of(
    stated: Stated, column: Column, untold: NDArray[np.bool_], electrons: NDArray[np.int64] | None
) -> str | None:
    """Return in one line what is wrong with a column that is read without being told, or None.

    untold: shape (n,), structures that no other name says anything about.
    """
    if column.problems and column.firm:
        return _problem(stated, column, column.problems)
    if electrons is None or column.says_nothing():
        return None
    multiplicity = column.told()
    low = np.flatnonzero(multiplicity < 1)
    if len(low):
        return _sentence(stated, column, low, f"which is no multiplicity 2S + 1; {_remedy(column)}")
    if not _gives_way(column):
        return None
    unpaired = multiplicity - 1
    wrong = ((electrons - unpaired) % 2 != 0) | (unpaired > electrons)
    rows = np.flatnonzero(wrong & untold & ~stated.periodic & ~np.isnan(unpaired))
    if not len(rows):
        return None
    row = int(rows[0])
    cannot = f"read as multiplicity {int(multiplicity[row])}, which {electrons[row]} electrons cannot have (is it 2S?)"
    return _sentence(stated, column, rows, f"{cannot}; {_remedy(column)}")


def _by_key(stated: Stated, quantity: str, name: str, keys: StateKeys) -> NDArray[np.float64]:
    """Return what the structures say under the name that the configuration gives."""
    column = next((c for c in stated.columns if name in (c.name, short_name(c.name))), None)
    told = np.full(len(stated), np.nan) if column is None else column.told()
    if column is not None:
        if column.meaning.per_electron:
            raise ValueError(f"'{name}' (pool.{quantity}_key) counts electrons and is no {quantity}; {_remedy(column)}")
        if column.problems:
            raise ValueError(_problem(stated, column, column.problems))
        low = np.flatnonzero(told < 1)
        if quantity == "multiplicity" and len(low):
            raise ValueError(_sentence(stated, column, low, "which is no multiplicity 2S + 1; correct the file"))
    missing = np.isnan(told)
    if missing.any() and quantity not in keys.settled:
        names = ", ".join(sorted(stated.names)[:12]) or "nothing"
        raise ValueError(
            f"{int(missing.sum())} of {len(stated)} structures have no '{name}' (pool.{quantity}_key), there are {names}; "
            f"correct the name, or set pool.{quantity} for those that have none"
        )
    return told


def _problem(stated: Stated, column: Column, problems: dict[int, str]) -> str:
    """Return a line about what is wrong with structures of a column, with the count of those like the first."""
    first = problems[min(problems)]
    alike = sum(text == first for text in problems.values())
    return f"{_counted(alike, stated)} {first}; {_remedy(column)}"


def _refuse_unread(stated: Stated, quantity: str, untold: NDArray[np.bool_]) -> None:
    """Refuse what looks like a charge or spin where nothing else says it."""
    for column in stated.columns:
        if column.meaning.quantity != quantity:
            continue
        problems = {row: text for row, text in column.problems.items() if untold[row]}
        if problems:
            raise ValueError(_problem(stated, column, problems))
        if column.meaning.known or column.problems:
            continue
        carried = column.values[~np.isnan(column.values)]
        # A number of another kind, however it is called.
        largest = SMALL if not column.meaning.per_electron else np.inf
        if not (carried == np.rint(carried)).all() or np.abs(carried).max(initial=0) > largest:
            continue
        usual = column.meaning.usual + column.meaning.per_electron * stated.nuclei
        rows = np.flatnonzero(untold & ~np.isnan(column.values) & (column.values != usual))
        if len(rows):
            meant = "charge" if quantity == "charge" else "spin"
            if not column.calculated:
                why = f"which looks like a {meant} and is not read; {_remedy(column)}"
            else:
                why = (
                    f"of a calculation, and nothing says the {quantity} that is meant; set pool.{quantity}_key: {column.name} to "
                    f"take it, or set pool.{quantity}"
                )
            raise ValueError(_sentence(stated, column, rows, why))


def _counted(count: int, stated: Stated) -> str:
    if len(stated) == 1:
        return "the structure carries"
    return f"{count} structure carries" if count == 1 else f"{count} structures carry"


def _shown(column: Column, row: int) -> str:
    return f"{column.values[row]:g}" + ("" if column.firm or column.name == "magmom" else " (sum)")


def _sentence(stated: Stated, column: Column, rows: NDArray[np.int64], why: str) -> str:
    first = int(rows[0])
    same = int((column.values[rows] == column.values[first]).sum())
    more = f" ({len(rows) - same} more other values)" if len(rows) > same else ""
    return f"{_counted(same, stated)} {column.name} = {_shown(column, first)}{more}, {why}"


def _remedy(column: Column) -> str:
    quantity = column.meaning.quantity
    meant = " (2S + 1)" if quantity == "multiplicity" else ""
    key = f"set pool.{quantity}_key to the name that holds the {quantity}{meant}"
    if column.firm and column.meaning.known and not column.unfit and not _gives_way(column):
        return f"correct the file, or {key}"
    return f"{key}, or set pool.{quantity}, or correct the file"
