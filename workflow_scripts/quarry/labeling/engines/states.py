"""Charge and multiplicity: an engine that cannot be told them must not label anything but neutral singlets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from quarry.errors import QuarryError

State = tuple[int, int]
"""Charge and multiplicity."""


@runtime_checkable
class ChecksStates(Protocol):
    """An engine that depends on its configuration for being told charge and multiplicity."""

    def check_states(self, states: Iterable[State]) -> None:
        """Raise QuarryError (one line) for a charge or multiplicity of the pool that cannot be told."""
        ...


def untold(state: State, tells_charge: bool, tells_multiplicity: bool) -> str | None:
    """Return what of a state would be ignored, or None."""
    charge, multiplicity = state
    if charge != 0 and not tells_charge:
        return f"charge {charge}"
    if multiplicity != 1 and not tells_multiplicity:
        return f"multiplicity {multiplicity}"
    return None


def refuse_untold(states: Iterable[State], tells_charge: bool, tells_multiplicity: bool, advice: str) -> None:
    """Raise QuarryError for the first state that would be ignored in part."""
    for state in states:
        ignored = untold(state, tells_charge, tells_multiplicity)
        if ignored:
            raise QuarryError(
                f"labeling: the pool has structures of {ignored}, which nobody tells the program; {advice}"
            )
