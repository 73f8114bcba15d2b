"""All checks of a labelled set, and what they say in a line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from quarry.errors import QuarryError
from quarry.labeling.audit.absurd import check_absurd
from quarry.labeling.audit.balance import check_balance
from quarry.labeling.audit.findings import ERROR, Finding, sentences, write_audit
from quarry.labeling.audit.precision import check_precision
from quarry.labeling.audit.repeats import check_copies
from quarry.labeling.audit.work import check_work
from quarry.structures.labelled import LabelledSet


def audit_labels(
    labels: LabelledSet, rng: np.random.Generator, net_force_tolerance: float, copy_tolerance_A: float
) -> list[Finding]:
    """Return what all checks find in labels that are used, in the order of the checks and of the labels.

    net_force_tolerance: eV/Angstrom per atom. copy_tolerance_A: by how much an atom of a copy may be off. rng: draws where
    there are many labels. Rejected labels should not be among them.
    """
    if not len(labels):
        return []
    wild = check_absurd(labels)
    wrong = [finding.structure_id for finding in wild]
    tame = labels.subset(np.flatnonzero(~np.isin(labels.structures.ids, wrong)))
    return [
        *wild,
        *check_balance(tame, net_force_tolerance),
        *check_work(tame, rng),
        *check_precision(tame),
        *check_copies(tame, copy_tolerance_A),
    ]


def refuse_errors(findings: Sequence[Finding], table: Path) -> None:
    """Raise QuarryError in one line if a finding is an error (labeling.audit: stop); table: where all findings then stand."""
    errors = [finding for finding in findings if finding.severity == ERROR]
    if not errors:
        return
    write_audit(table, findings)
    checks = list(dict.fromkeys(finding.check for finding in errors))
    labels = {finding.structure_id for finding in errors if finding.structure_id}
    count = f"{len(labels)} labels" if labels else "all labels together"
    said = sentences(errors)[0].removeprefix("audit, ")
    raise QuarryError(
        f"the audit of the labels found errors ({', '.join(checks)}; {count}): {said}; all in {table}. Remove the cause, leave "
        f"the "
        "labels out (labeling.leave_out), or go on with labeling.audit: warn"
    )
