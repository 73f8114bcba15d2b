"""The audit of an iteration's labels: what is looked at, what is rejected, and what it means for errors and stops."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from quarry.campaign.rejected_labels import rejected_at
from quarry.config.campaign import Configuration
from quarry.evaluation.tails import error_share
from quarry.labeling.audit.absurd import absurd_labels
from quarry.labeling.audit.audit import audit_labels, refuse_errors
from quarry.labeling.audit.balance import TOLERANCE_EV_PER_A
from quarry.labeling.audit.findings import NOTE, Finding, read_audit, sentences, write_audit
from quarry.labeling.audit.stability import check_stability
from quarry.models.base import TrainingData
from quarry.randomness import generator
from quarry.stages.errors import Evaluated
from quarry.structures.labelled import LabelledSet

REJECTED = "left_out"


@dataclass(frozen=True)
class AuditSettings:
    """How the labels of an iteration are audited.

    mode: warn, stop or off (``labeling.audit``). net_force_tolerance: eV/Angstrom per atom. copy_tolerance_A: by how much an
    atom of a copy may be off. rejected: ids of labels that are not used.
    """

    mode: str = "warn"
    seed: int = 0
    net_force_tolerance: float = TOLERANCE_EV_PER_A
    copy_tolerance_A: float = 1e-4
    rejected: frozenset[str] = frozenset()


def audit_settings(configuration: Configuration, arm: str, iteration: int, schedule: str) -> AuditSettings:
    """Return the settings of an iteration. schedule: what is rejected from when on (``CampaignPaths.left_out``)."""
    labeling = configuration.labeling
    return AuditSettings(
        mode=labeling.audit,
        seed=configuration.seed,
        net_force_tolerance=labeling.net_force_tolerance_eV_per_A,
        copy_tolerance_A=configuration.pool_filters.copy_tolerance_A,
        rejected=rejected_at(schedule, arm, iteration),
    )


def audit_merged(
    merged: LabelledSet,
    details: Mapping[str, Mapping[str, Any]],
    previous: str | None,
    settings: AuditSettings,
    output: str,
) -> list[Finding]:
    """Audit all labels of a data set, write ``audit.csv``, and return what was found.

    details: of the records of this batch, by structure id. previous: ``audit.csv`` of the iteration before, for what only
    records hold. Raises QuarryError if there are errors and labeling.audit is stop; the table then stands in
    ``audit_refused.csv``, where no rule removes it.
    """
    rejected = sorted(set(merged.structures.ids.tolist()) & settings.rejected)
    findings = [Finding(name, REJECTED, NOTE, 0.0, 0.0, "", "rejected by labeling.leave_out") for name in rejected]
    if settings.mode != "off":
        findings = [
            *audit_labels(
                merged.without_rejected(),
                generator(settings.seed, "audit"),
                settings.net_force_tolerance,
                settings.copy_tolerance_A,
            ),
            *check_stability(details, read_audit(previous) if previous else [], settings.rejected),
            *findings,
        ]
    if settings.mode == "stop":
        refused = Path(output).with_name("audit_refused.csv")
        refuse_errors(findings, refused)
        refused.unlink(missing_ok=True)
    write_audit(output, findings)
    return findings


def audit_account(
    configuration: Configuration,
    audit: str | None,
    train: TrainingData,
    results: Mapping[str, Evaluated],
) -> tuple[dict[str, Any], list[str]]:
    """Return what ``Facts`` hold of the audit (n_left_out, flagged), and a sentence for each check that found something.

    audit: ``audit.csv``. flagged: labels with absurd values of what is learnt: how many are among the training labels, and
    among those that the stop metric measures, and the share of the squared error that these carry.
    """
    findings = read_audit(audit) if audit else []
    n_left_out = sum(finding.check == REJECTED for finding in findings)
    ids = absurd_labels(findings, configuration.goal.labels)
    said = sentences(findings)
    if n_left_out:
        said.append(f"{n_left_out} labels are rejected (labeling.leave_out): kept and counted, but not used")
    if not ids:
        return {"n_left_out": n_left_out}, said
    trained = [name for name in ids if name in set(train.structures.ids.tolist())]
    flagged: dict[str, Any] = {
        "labels": len(ids),
        "train": len(trained),
        "evaluated": 0,
        "error_share": 0.0,
        "ids": ids[:3],
    }
    if configuration.stop.metric in results:
        found = results[configuration.stop.metric]
        wrong = np.isin(found.structures.ids, ids)
        flagged["evaluated"] = int(wrong.sum())
        if not configuration.goal.classes and wrong.any():
            flagged["error_share"] = round(error_share(found.errors, wrong), 4)
    return {"n_left_out": n_left_out, "flagged": flagged}, said
