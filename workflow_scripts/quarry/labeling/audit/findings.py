"""What the audit finds, and its table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from quarry.csv_tables import read_items, write_items

NOTE, WARNING, ERROR = "note", "warning", "error"
"""Severities: what was looked at and found right (or could not be told), what is doubtful, what must be wrong."""
NAMED = 3


@dataclass(frozen=True)
class Finding:
    """One thing that a check has found of one label, or of all of them.

    structure_id: empty where it is said of all labels. check: name of the check. severity: note, warning or error.
    value, tolerance: what was measured and what is allowed, in ``unit``. words: one sentence.
    """

    structure_id: str
    check: str
    severity: str
    value: float
    tolerance: float
    unit: str
    words: str

    @property
    def bad(self) -> bool:
        """Whether the severity is warning or error."""
        return self.severity != NOTE


def rounded(value: float) -> float:
    """Return a number to six significant digits: further ones may depend on the machine, and files of labels must not."""
    return float(f"{value:.6g}")


def by_check(findings: Iterable[Finding]) -> dict[tuple[str, str], list[Finding]]:
    """Return findings by severity and check, in the order in which they first come."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.severity, finding.check), []).append(finding)
    return groups


def worst_of(findings: Iterable[Finding]) -> Finding:
    """Return the finding of the largest value, of one check and severity."""
    return max(findings, key=lambda row: abs(row.value))


def sentences(findings: Sequence[Finding]) -> list[str]:
    """Return a sentence for each check that found something, the worst check first."""
    lines = []
    bad = [finding for finding in findings if finding.bad]
    errors = Counter(finding.check for finding in bad if finding.severity == ERROR)
    for check in sorted({finding.check for finding in bad}, key=lambda name: (-errors[name], name)):
        rows = [finding for finding in bad if finding.check == check]
        worst = max(rows, key=lambda row: (row.severity == ERROR, abs(row.value)))
        ids = list(dict.fromkeys(row.structure_id for row in rows if row.structure_id))
        more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
        where = f" ({len(ids)} labels: {', '.join(ids[:NAMED])}{more})" if ids else ""
        lines.append(f"audit, {check}: {worst.words}{where}")
    return lines


def write_audit(path: str | Path, findings: Sequence[Finding]) -> None:
    """Write ``audit.csv``; the same findings give the same bytes."""
    write_items(path, Finding, findings)


def read_audit(path: str | Path) -> list[Finding]:
    """Read what ``write_audit`` wrote."""
    return read_items(path, Finding)
