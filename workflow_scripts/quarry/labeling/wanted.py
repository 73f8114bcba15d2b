"""What a label must have to be learnt: one rule for every target. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from quarry.config.targets import Target
from quarry.labeling.record import LabelRecord
from quarry.properties import PROPERTIES

LACKS_TARGET = "lacks_target"
"""Failure class of a label that is right, but lacks what the campaign's target needs."""


@dataclass(frozen=True)
class Wanted:
    """Properties that a label must have, and how many excited states where these are among them."""

    properties: Sequence[str] = ()
    n_states: int = 0

    @classmethod
    def of(cls, target: Target) -> Wanted:
        """Return what labels must have for a target."""
        return cls(target.labels, target.n_states)

    def lacking(self, properties: Mapping[str, Any]) -> str:
        """Return a message about what the properties of a label lack, empty if nothing.

        Too few states count: a spectrum would lack a band in silence.
        """
        states = [name for name in self.properties if PROPERTIES[name].of_states]
        found = min((len(properties.get(name) or []) for name in states), default=self.n_states)
        if found < self.n_states:
            return f"{found} excited states where spectrum.n_states asks for {self.n_states}"
        missing = [name for name in self.properties if properties.get(name) is None]
        return f"no {' and no '.join(missing)}, which the target needs" if missing else ""

    def judged(self, record: LabelRecord) -> LabelRecord:
        """Return the record, as a failed one if it is a label that lacks something.

        Only for the campaign that counts it so: in the store it is a label, which another target may learn.
        """
        lacking = self.lacking(record.properties) if record.ok else ""
        return (
            replace(record, status=LACKS_TARGET, message=f"the label has {lacking}", properties={})
            if lacking
            else record
        )
