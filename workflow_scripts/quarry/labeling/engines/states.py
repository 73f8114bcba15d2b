"""What depends on the pool's molecules: charge and multiplicity, which an engine must be given, and numbers of excited states."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

import numpy as np

from quarry.errors import QuarryError
from quarry.structures import Structure

State = tuple[int, int]
"""Charge and multiplicity."""


@runtime_checkable
class ChecksStates(Protocol):
    """An engine that is given charge and multiplicity only if its configuration says so."""

    def check_states(self, states: Iterable[State]) -> None:
        """Raise QuarryError (one line) for a charge or multiplicity of the pool that the engine would not be given."""
        ...


@runtime_checkable
class ChecksMolecules(Protocol):
    """An engine whose configuration may not fit the size of a molecule."""

    def check_molecules(self, molecules: Iterable[Structure]) -> None:
        """Raise QuarryError (one line) for a molecule that cannot be labelled. molecules: one of each composition, charge and
        multiplicity.
        """
        ...


@runtime_checkable
class RefusesCloseAtoms(Protocol):
    """An engine that takes no structure with two atoms nearer than this, Angstrom."""

    shortest_distance_A: float


def one_of_each_kind(structures: Iterable[Structure]) -> list[Structure]:
    """Return the first structure of each composition, charge and multiplicity."""
    kinds: dict[tuple[bytes, int, int], Structure] = {}
    for structure in structures:
        composition = np.sort(structure.numbers).tobytes()
        kinds.setdefault((composition, structure.charge, structure.multiplicity), structure)
    return list(kinds.values())


def untold(state: State, tells_charge: bool, tells_multiplicity: bool) -> str | None:
    """Return a message about what of a state would be ignored, or None.

    tells_charge, tells_multiplicity: whether the engine is given them.
    """
    charge, multiplicity = state
    if charge != 0 and not tells_charge:
        return f"charge {charge}"
    if multiplicity != 1 and not tells_multiplicity:
        return f"multiplicity {multiplicity}"
    return None


def refuse_untold(states: Iterable[State], tells_charge: bool, tells_multiplicity: bool, advice: str) -> None:
    """Raise QuarryError for the first state that would be ignored in part; arguments as of ``untold``.

    advice: what to change, for the message.
    """
    for state in states:
        ignored = untold(state, tells_charge, tells_multiplicity)
        if ignored:
            raise QuarryError(
                f"labeling: the pool has structures of {ignored}, which nobody tells the program; {advice}"
            )
