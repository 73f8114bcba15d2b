"""Sums of charges and magnetic moments of the atoms, where they say charge and multiplicity of the molecule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quarry.structures.state_names import meaning_in_plural, order_of_atoms, short_name

if TYPE_CHECKING:
    from ase import Atoms

NEARLY_WHOLE = 0.05
"""A sum of printed numbers may be off a whole number by this."""
ANTIPARALLEL = 0.25
"""Sum of moments against the others from which on they are no high-spin arrangement."""


@dataclass(frozen=True)
class PerAtom:
    """Values of atoms under one name. quantity: charge or multiplicity, which is the sum + add.

    known: what is meant is clear (formal charges, start moments): it is read without a key of the configuration. Others are
    found where they look like a charge or spin: whole charges of atoms, moments that leave a molecule with unpaired electrons.
    """

    name: str
    quantity: str
    known: bool = True

    @property
    def add(self) -> int:
        """What is added to the sum: 1 turns a number of unpaired electrons into a multiplicity; 0 for charges."""
        return int(self.quantity == "multiplicity")

    def sum_of(self, array: NDArray[Any], periodic: bool) -> tuple[float | None, str]:
        """Return the charge or multiplicity, or None with a message why it cannot be read, empty where values say nothing.

        array: numbers of the atoms, shape (n_atoms,) or, moments as vectors, (n_atoms, 3). periodic: of a crystal.
        Zeros alone say nothing. Moments say a multiplicity where they are parallel: against each other they are an open-shell
        state whose multiplicity is another than that of the sum, and in a crystal they are start values of a calculation that
        finds its own. Charges that are not whole are partial ones, unless they are said to be those of the start.
        """
        try:
            values = np.asarray(array, dtype=float)
        except (TypeError, ValueError):
            return None, "that are no numbers" if self.known else ""
        if not values.any():
            return None, ""
        if not np.isfinite(values).all():
            return None, "that are no finite numbers" if self.known else ""
        if self.quantity == "charge":
            several = values.ndim > 1 and values.shape[-1] > 1
            if not self.known and (several or (values != np.rint(values)).any()):
                return None, ""
            return _whole(float(values.sum()))
        if periodic:
            return None, "in a periodic structure, from which no multiplicity follows" if self.known else ""
        if not self.known and max(np.abs(values.sum()), np.abs(values).sum() / 2) <= ANTIPARALLEL:
            return None, ""
        if values.ndim > 1 and values.shape[-1] > 1:
            return None, "that are no collinear moments, from which no multiplicity follows"
        against = min(values[values > 0].sum(), -values[values < 0].sum())
        if against > ANTIPARALLEL:
            return None, f"against each other (sum {values.sum():.2g}), from which no multiplicity follows"
        return _whole(float(np.abs(values.sum())))


def _whole(total: float) -> tuple[float | None, str]:
    if abs(total - round(total)) > NEARLY_WHOLE:
        return None, f"that sum to {total:.3g}, which is no whole number"
    return float(round(total)), ""


@lru_cache(maxsize=10_000)
def per_atom_of(name: str) -> PerAtom | None:
    """Return how values of atoms under a name are read, or None for a name that has nothing to do with charge and spin."""
    short = short_name(name)
    quantity = order_of_atoms(short)
    if quantity is not None:
        return PerAtom(name, quantity)
    meaning = meaning_in_plural(short)
    # Counts of electrons, and the letter S, are no values of atoms.
    if meaning is None or meaning.per_electron or short.lower() == "s":
        return None
    return PerAtom(name, meaning.quantity, known=False)


def calculated_sums(atoms: Atoms) -> Iterator[tuple[str, str, float | None, str]]:
    """Yield name, quantity, sum and problem of a molecule's calculated charges and moments; infinity: charges that are not
    nearly whole.

    They are results: of the state that was calculated, not of the one that is meant.
    """
    if atoms.calc is None or atoms.pbc.any():
        return
    results = atoms.calc.results
    for name in ("magmom", "magmoms"):
        if name not in results:
            continue
        value, problem = PerAtom(name, "multiplicity", known=False).sum_of(results[name], periodic=False)
        if name == "magmoms" and "magmom" in results and not problem:
            continue
        yield name, "multiplicity", value if value is not None or problem else 0.0, problem
    if "charges" in results:
        try:
            values = np.asarray(results["charges"], dtype=float)
        except (TypeError, ValueError):
            return
        if values.ndim <= 1 and np.isfinite(total := float(values.sum())):
            whole, _ = _whole(total)
            yield "charges", "charge", np.inf if whole is None else whole, ""
