"""SCF solutions that are known to be no minimum of a less restricted kind: what the records say of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from quarry.labeling.audit.findings import NOTE, WARNING, Finding, rounded
from quarry.labeling.stability import EXTERNAL, external_instability, external_looked_for

CHECK, LOOKED = "externally_unstable", "stability_looked_for"


def check_stability(
    details: Mapping[str, Mapping[str, Any]], earlier: Sequence[Finding], rejected: Collection[str]
) -> list[Finding]:
    """Return the labels whose closed shell is known to have a lower unrestricted solution, and how many were looked at.

    details: of the records of this batch, by structure id. earlier: findings of the iteration before, which this goes on
    from: the records of its labels are not read again. rejected: ids of labels that are not used. An engine that says nothing
    about stability has no findings.
    """
    found = [finding for finding in earlier if finding.check == CHECK and finding.structure_id not in rejected]
    looked = total = 0
    for finding in earlier:
        if finding.check == LOOKED:
            looked, total = int(finding.value), int(finding.tolerance)
    for structure_id, entry in details.items():
        if "stability" not in entry:
            continue
        total += 1
        looked += external_looked_for(entry)
        curvature = external_instability(entry)
        if curvature is not None and structure_id not in rejected:
            message = f"the closed shell is unstable ({EXTERNAL}): an unrestricted solution has a lower energy"
            found.append(Finding(structure_id, CHECK, WARNING, rounded(curvature), 0.0, "hartree", message))
    if total:
        message = f"instabilities {EXTERNAL} were looked for in {looked} of {total} labels"
        found.append(Finding("", LOOKED, NOTE, float(looked), float(total), "labels", message))
    return found
