"""The section of the report on the audit of the labels."""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path

from quarry.files import write_text
from quarry.labeling.audit.findings import ERROR, NOTE, WARNING, Finding, by_check, read_audit, worst_of
from quarry.reporting.plots import TABLE_HEAD

NAMED = 10
SEVERITIES = (ERROR, WARNING, NOTE)
HEAD = (
    '<tr><th class="words">severity</th><th class="words">check</th><th>labels</th><th>worst value</th><th>allowed</th>'
    '<th class="words">what</th></tr>'
)


def write_audit_table(audits: Mapping[str, str | Path], path: str | Path) -> None:
    """Write a table of each arm's findings, check by check, the worst first. audits: path of ``audit.csv`` by arm."""
    parts = [TABLE_HEAD]
    for arm, file in audits.items():
        findings = read_audit(file)
        counts = {kind: sum(finding.severity == kind for finding in findings) for kind in SEVERITIES}
        message = ", ".join(f"{count} {kind}{'' if count == 1 else 's'}" for kind, count in counts.items())
        parts.append(f"<h2>{html.escape(arm)}</h2><p>{message if findings else 'Nothing was looked at or found.'}</p>")
        parts.append(_table(findings))
    write_text(path, "".join(parts) + "</body></html>\n")


def _table(findings: list[Finding]) -> str:
    groups = by_check(sorted(findings, key=lambda row: SEVERITIES.index(row.severity)))
    if not groups:
        return ""
    return f"<table>{HEAD}{''.join(_row(*key, rows) for key, rows in groups.items())}</table>"


def _row(severity: str, check: str, rows: list[Finding]) -> str:
    ids = [row.structure_id for row in rows if row.structure_id]
    worst = worst_of(rows)
    more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
    named = f" <small>({', '.join(ids[:NAMED])}{more})</small>" if ids else ""
    message = "".join(f'<td class="words">{html.escape(cell)}</td>' for cell in (severity, check.replace("_", " ")))
    value = f"{worst.value:.3g}" if worst.unit in ("", "1") else f"{worst.value:.3g} {worst.unit}"
    numbers = (str(len(ids)) if ids else "all together", value, f"{worst.tolerance:.3g}")
    text = message + "".join(f"<td>{html.escape(cell)}</td>" for cell in numbers)
    return f'<tr>{text}<td class="words">{html.escape(worst.words)}{named}</td></tr>'
