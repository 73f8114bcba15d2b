"""Sums of charges and magnetic moments of the atoms, where they say charge and multiplicity of the molecule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ase import Atoms

NEARLY_WHOLE = 0.05
"""A sum of printed numbers may be off a whole number by this."""
ANTIPARALLEL = 0.25
"""Sum of moments against the others from which on they are no high-spin arrangement."""


@dataclass(frozen=True)
class PerAtom:
    """A per-atom column of ASE. quantity: charge or multiplicity, which is the sum + add."""

    name: str
    quantity: str
    add: int

    def sum_of(self, array: NDArray[Any], periodic: bool) -> tuple[float | None, str]:
        """Return what a column sums to, or None and what stands against reading it; None and nothing for zeros alone.

        Moments say a multiplicity where they are parallel: against each other they are an open-shell state whose
        multiplicity is another than that of the sum, and in a crystal they are start values of a calculation that finds its
        own.
        """
        values = np.asarray(array, dtype=float)
        if not values.any():
            return None, ""
        if not np.isfinite(values).all():
            return None, "that are no finite numbers"
        if self.quantity == "multiplicity":
            if periodic:
                return None, "in a periodic structure, from which no multiplicity follows"
            if values.ndim > 1 and values.shape[-1] > 1:
                return None, "that are no collinear moments, from which no multiplicity follows"
            against = min(values[values > 0].sum(), -values[values < 0].sum())
            if against > ANTIPARALLEL:
                return None, f"against each other (sum {values.sum():.2g}), from which no multiplicity follows"
            values = np.abs(values.sum())
        total = float(np.sum(values))
        if abs(total - round(total)) > NEARLY_WHOLE:
            return None, f"that sum to {total:.3g}, which is no whole number"
        return float(round(total)), ""


CHARGES = PerAtom("initial_charges", "charge", 0)
MOMENTS = PerAtom("initial_magmoms", "multiplicity", 1)


def calculated_sums(atoms: Atoms) -> Iterator[tuple[str, str, float]]:
    """Yield name, quantity and sum of a molecule's calculated charges and moments; infinity where it is not nearly whole.

    They are results: of the state that was calculated, not of the one that is meant.
    """
    if atoms.calc is None or atoms.pbc.any():
        return
    results = atoms.calc.results
    for name, quantity in (("magmom", "multiplicity"), ("magmoms", "multiplicity"), ("charges", "charge")):
        if (name == "magmoms" and "magmom" in results) or name not in results:
            continue
        try:
            values = np.asarray(results[name], dtype=float)
        except (TypeError, ValueError):
            continue
        if values.ndim <= 1 and np.isfinite(total := float(values.sum())):
            yield name, quantity, float(round(total)) if abs(total - round(total)) <= NEARLY_WHOLE else np.inf
