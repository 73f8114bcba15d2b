"""Copies in the pool: those that were kept, and finished labels (labeling.engine replay) that differ between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from quarry.labeling.audit.repeats import SAME_LABEL, label_difference
from quarry.labeling.engines.base import Engine
from quarry.stages.filtering import Rejected, Repeat


@dataclass(frozen=True)
class LabelAudit:
    """Rows of ``pool/filtered.csv`` with the differences of the labels, by origin and number; a line about them or none."""

    rows: dict[tuple[str, int], Rejected]
    line: str


def audit_labels(engine: Engine, repeats: Sequence[Repeat], kept: bool) -> LabelAudit:
    """Compare the labels of copies with those of the structures that they repeat, where both are there.

    kept: whether the copies are in the pool too, which the line says.
    """
    rows, largest, where = {}, 0.0, ""
    for repeat in repeats:
        answers = [engine.label(structure, 1) for structure in (repeat.first, repeat.structure)]
        if any(answer.status != "ok" for answer in answers):
            continue
        name, difference = label_difference(answers[0].properties, answers[1].properties)
        rows[repeat.row.origin, repeat.row.number] = replace(repeat.row, label_difference=difference)
        if difference > largest:
            largest, where = difference, name
    others = sum(row.label_difference is not None and row.label_difference > SAME_LABEL for row in rows.values())
    if not others:
        return LabelAudit(rows, "")
    used = "both labels are used" if kept else "the first one's label is used"
    count = "1 copy has another label" if others == 1 else f"{others} copies have other labels"
    line = f"{count} than the structure repeated, by up to {largest:.3g} ({where}); {used}"
    return LabelAudit(rows, line)
