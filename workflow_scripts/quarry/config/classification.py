"""Classes as the target: which property, where it is divided, and the classes' names."""

from __future__ import annotations

from itertools import pairwise

from pydantic import Field, model_validator

from quarry.config.base import Section, energy_in_ev
from quarry.properties import PROPERTIES

CLASS = "class"
"""The target, and the property that is a class itself."""
DIVISIBLE = {
    name: entry
    for name, entry in PROPERTIES.items()
    if entry.answered and entry.shape in ("scalar", "vector") and not entry.whole
}
"""Properties that boundaries may divide into classes: one number, or the norm of a vector."""


class Classification(Section):
    """What target class means: a label that is a class already, or a numeric property divided at boundaries."""

    property: str = CLASS
    """The property: class (the label is the number of its class, counted from 0), energy, homo, lumo, gap, dipole (its
    norm) or value."""
    boundaries: list[float | str] | None = None
    """Where a numeric property is divided, ascending, in its own unit (eV, e*Angstrom) or with an energy unit; a number on
    a boundary belongs to the class above it."""
    names: list[str] = Field(min_length=2)
    """Names of the classes: of label 0, 1 ... or from the lowest numbers up, one more than boundaries."""

    @model_validator(mode="after")
    def _names_and_boundaries(self) -> Classification:
        if len(set(self.names)) != len(self.names):
            raise ValueError("names: every class needs a name of its own")
        if self.property == CLASS:
            if self.boundaries is not None:
                raise ValueError("boundaries: the property class is not divided; remove them, or name another property")
            return self
        if self.property not in DIVISIBLE:
            raise ValueError(
                f"property = '{self.property}' gives no classes; known are {CLASS}, {', '.join(DIVISIBLE)}"
            )
        if self.boundaries is None:
            raise ValueError(f"boundaries: say where {self.property} is divided into classes")
        if len(self.names) != len(self.boundaries) + 1:
            raise ValueError(
                f"names: {len(self.boundaries)} boundaries make {len(self.boundaries) + 1} classes, not {len(self.names)}; "
                "give as many names"
            )
        if DIVISIBLE[self.property].unit != "eV" and any(isinstance(b, str) for b in self.boundaries):
            raise ValueError(f"boundaries: {self.property} is no energy; give plain numbers")
        values = self.numbers()
        if any(low >= high for low, high in pairwise(values)):
            raise ValueError(f"boundaries: {self.boundaries} must ascend")
        return self

    def numbers(self) -> list[float]:
        """Return the boundaries in the property's unit. Raises ValueError for a text that is no energy."""
        return [float(energy_in_ev(boundary)) for boundary in self.boundaries or []]
