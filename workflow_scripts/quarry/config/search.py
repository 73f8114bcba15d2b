"""The range that a targeted search wants."""

from __future__ import annotations

import math

from pydantic import model_validator

from quarry.config.base import Section, energy_in_ev


class Search(Section):
    """A targeted search: structures whose target lies in a range are wanted (minimum < target < maximum)."""

    minimum: float | str | None = None
    """Lower end, a number in the target's own unit (eV, e*Angstrom) or with an energy unit ('-5.55 eV'); null: open."""
    maximum: float | str | None = None
    """Upper end, as minimum; null: open."""

    @model_validator(mode="after")
    def _some_end(self) -> Search:
        if self.minimum is None and self.maximum is None:
            raise ValueError("set minimum, maximum or both")
        return self

    def range(self) -> tuple[float, float]:
        """Return both ends in the target's unit, infinite where open. Raises ValueError for an unknown unit."""
        low = -math.inf if self.minimum is None else float(energy_in_ev(self.minimum))
        high = math.inf if self.maximum is None else float(energy_in_ev(self.maximum))
        return low, high
