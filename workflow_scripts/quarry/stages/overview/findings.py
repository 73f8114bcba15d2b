"""What a reader should know before believing a campaign's numbers: issue, evidence, remedy."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy import stats

from quarry.campaign.failure_table import REMEDIES, open_failures
from quarry.config.campaign import Configuration
from quarry.config.pool import DynamicsPool
from quarry.labeling.audit.findings import ERROR, NOTE, WARNING, by_check, worst_of
from quarry.labeling.audit.findings import Finding as AuditFinding
from quarry.reporting.page import Finding
from quarry.stopping.facts import Facts, ratio_at_most
from quarry.stopping.messages import interval_text, scale_of
from quarry.stopping.rules import ENDS, absurd_message, still_grows

WIDE = 2.0
"""An interval whose upper end is more than so many times the lower one says little about an error."""
CHANCE = 0.01
"""Uncertainties are called wrong where right ones would look so wrong less often than this."""
FEWEST = 10
"""Test structures that say something about a rank correlation are more than so many."""
WEAK = 0.3
"""A rank correlation that is surely below this is hardly a ranking."""
TO_SAY = {ERROR: 0, WARNING: 1, NOTE: 2}

ENDED_EARLY = frozenset(rule.name for rule in ENDS)
"""Rules that end an arm although its model may not be good enough."""


@dataclass(frozen=True)
class Evidence:
    """What findings are looked for in, all of arm main.

    facts: of every iteration. ended_by: name of the stop rule that ended it, empty if it has not ended. failures: rows of
    ``failures.csv``. audit: of ``audit.csv``. savings: of ``savings.json``, or None without control arms. label_hours,
    model_hours: core-hours of the labels that were computed, and of training, evaluating, scoring. counts: of labels that were
    computed, and of those that were there already.
    """

    configuration: Configuration
    facts: Sequence[Facts]
    ended_by: str
    failures: Sequence[dict[str, str]] = ()
    audit: Sequence[AuditFinding] = ()
    savings: Mapping[str, Any] | None = None
    label_hours: float = 0.0
    model_hours: float = 0.0
    counts: tuple[int, int] = (0, 0)
    calibration: str = ""
    """What the last row of the history says of the factor of standard deviations."""

    @property
    def last(self) -> Facts:
        """The facts of the last iteration."""
        return self.facts[-1]

    @property
    def errors(self) -> Mapping[str, Any]:
        """The errors that the stop rules look at, of the last iteration; empty where none was measured."""
        return self.last.errors.get(self.last.metric, {})


def findings_of(evidence: Evidence) -> list[Finding]:
    """Return what is found, the worst first."""
    checks = (_labels, _failures, _error, _interval, _earlier, _calibration, _ranking, _ending, _worth, _cost, _said)
    found = [finding for check in checks for finding in check(evidence)]
    return sorted(found, key=lambda finding: TO_SAY[finding.severity])


def _labels(evidence: Evidence) -> Iterator[Finding]:
    absurd = absurd_message(evidence.last)
    if absurd:
        remedy = (
            "look at these structures; leave wrong labels out by labeling.leave_out, and run the same command again"
        )
        yield Finding(ERROR, "Labels of absurd values were learnt from or measured by", absurd, remedy)
    for (severity, check), rows in by_check(finding for finding in evidence.audit if finding.bad).items():
        yield Finding(
            severity,
            f"The audit of the labels: {check.replace('_', ' ')}",
            f"{worst_of(rows).words} ({len(rows)} of these in audit.csv)",
            "docs/labels.md says how the check works and what it usually finds; labeling.leave_out leaves labels out by id",
        )


def _failures(evidence: Evidence) -> Iterator[Finding]:
    rows = open_failures(evidence.failures)
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["status"]] = counts.get(row["status"], 0) + 1
    total = evidence.last.n_labels + len(rows)
    for status, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        yield Finding(
            WARNING if count > 0.01 * total else NOTE,
            f"{count} {'label' if count == 1 else 'labels'} failed: {status.replace('_', ' ')}",
            f"{count} of {total} ({100 * count / total:.2g} %); what failed is no random part of the pool, and the model has not "
            "seen it",
            f"{REMEDIES.get(status, 'see failures.csv')}; then snakemake retry_failed",
        )


def _error(evidence: Evidence) -> Iterator[Finding]:
    errors = evidence.errors
    if not errors:
        yield Finding(WARNING, "No error was measured", "test.size is 0", "give test.size")
        return
    most = ratio_at_most(errors)
    if errors.get("rmse_over_std") is not None and (most is None or most >= 1):
        known = "too few structures to say more" if most is None else f"with 95 % certainty only below {most:.2g}"
        yield Finding(
            WARNING if most is None else ERROR,
            "The model may be no better than the mean of the labels",
            f"RMSE / std is {errors['rmse_over_std']:.2g}; {known}",
            "more labels, another descriptor or model (docs/models.md), or a larger test.size that can tell",
        )


def _interval(evidence: Evidence) -> Iterator[Finding]:
    errors = evidence.errors
    low, high = errors.get("rmse_low"), errors.get("rmse_high")
    if not errors or "rmse" not in errors or (low and high and high <= WIDE * low):
        return
    scale, unit = scale_of(errors["rmse"], evidence.last.goal.unit)
    heavy = [sentence for sentence in evidence.last.warnings if "of the squared error" in sentence]
    metric = evidence.last.metric
    yield Finding(
        WARNING,
        f"The RMSE is not well known: the {metric.replace('_', '-')} structures are few, or a few of them carry it",
        f"RMSE {scale * errors['rmse']:.4g} {unit} of {errors.get('n', '?')} structures; 95 %: "
        f"{interval_text(low, high, '.3g', scale)}" + (f"; {heavy[0]}" if heavy else ""),
        f"raise test.size (now {evidence.configuration.test.size}) at the start of the next campaign, and look at the named "
        "structures"
        if metric == "test"
        else "look at the named structures; more labels make the interval narrower",
    )


def _earlier(evidence: Evidence) -> Iterator[Finding]:
    """Look whether an earlier model was surely better by the same test set: trainings scatter, and the last one is published."""
    last = evidence.last
    known = [
        one
        for one in evidence.facts
        if one.metric == last.metric == "test" and one.errors.get("test", {}).get("rmse_high")
    ]
    low = evidence.errors.get("rmse_low")
    best = min(known, key=lambda one: one.errors["test"]["rmse"], default=None)
    if not low or best is None or best.errors["test"]["rmse_high"] >= low:
        return
    scale, unit = scale_of(evidence.errors["rmse"], last.goal.unit)

    def said(one: Facts) -> str:
        errors = one.errors["test"]
        ends = interval_text(errors.get("rmse_low"), errors.get("rmse_high"), ".3g", scale)
        return f"{scale * errors['rmse']:.3g} {unit} ({ends}) with {one.n_train:,} training labels"

    yield Finding(
        WARNING if evidence.errors["rmse"] > WIDE * best.errors["test"]["rmse"] else NOTE,
        "By the test set an earlier model was better than the last one, which is published",
        f"test RMSE {said(last)}; {said(best)} in iteration {best.iteration}",
        "trainings scatter: a committee, or more epochs, scatters less; the earlier model is in its iteration's folder",
    )


def _calibration(evidence: Evidence) -> Iterator[Finding]:
    errors = evidence.errors
    coverage, n = errors.get("coverage_95"), errors.get("n")
    if coverage is None or not n:
        return
    inside = round(coverage * n)
    if stats.binomtest(inside, n, 0.95).pvalue >= CHANCE:
        return
    small = coverage < 0.95
    because = f" ({evidence.calibration})" if evidence.calibration.startswith("not") else ""
    yield Finding(
        WARNING if small else NOTE,
        f"The model's uncertainties are too {'small' if small else 'large'}{because}",
        f"{inside} of {n} errors lie within the 95 % interval that the model says ({100 * coverage:.0f} %)",
        "take them as a ranking, not as error bars; more training labels, and model.calibrate: true where it is off",
    )


def _ranking(evidence: Evidence) -> Iterator[Finding]:
    """Look whether what chooses structures by the model's uncertainty goes with the model's errors."""
    configuration, errors = evidence.configuration, evidence.errors
    pool = configuration.pool
    chooses = pool.explore.uncertainty if isinstance(pool, DynamicsPool) else ""
    if not chooses and "std" in configuration.query.reads:
        chooses = "energy"
    found = errors.get("forces_rank_correlation" if chooses == "forces" else "rank_correlation")
    n = errors.get("n") or 0
    if chooses not in ("energy", "forces") or found is None or n <= FEWEST:
        return
    # Fisher's transformation, with the variance of ranks: D. G. Bonett, T. A. Wright, Psychometrika 65, 23 (2000).
    half = stats.norm.ppf(0.975) * math.sqrt((1.0 + 0.5 * found**2) / (n - 3))
    low, high = (math.tanh(math.atanh(max(-0.999, min(found, 0.999))) + sign * half) for sign in (-1.0, 1.0))
    if high >= WEAK:
        return
    if not isinstance(pool, DynamicsPool):
        remedy = "another uncertainty, or a diversity strategy; query.strategy: random is as good as this one"
    elif chooses == "energy":
        remedy = "pool.explore.uncertainty: forces and model: {kind: gmnn, uncertainty: committee}, where molecules are larger"
    else:
        remedy = "more members (model.members), and more labels before trajectories begin (pool.growth.target_rmse)"
    interval = f"{found:.2f} ({low:.2f} to {high:.2f}, 95 %)"
    yield Finding(
        WARNING,
        "The uncertainty that chooses structures hardly says which ones the model is wrong about",
        f"rank correlation of the standard deviation and the error {interval} over {n} structures",
        remedy,
    )


def _ending(evidence: Evidence) -> Iterator[Finding]:
    if not evidence.ended_by:
        yield Finding(NOTE, "The campaign has not ended", "no stop rule ends it yet", "give the same command again")
    elif evidence.ended_by in ENDED_EARLY and evidence.last.rmse is not None:
        last, again = evidence.last, "loosen section stop and give the same command again, it goes on from here"
        change = f"the last rRMSE is {last.rrmse:.3g} ({interval_text(last.rrmse_low, last.rrmse_high, '.2g')})"
        if still_grows(evidence.configuration, last):
            yield Finding(
                WARNING,
                "A budget ended the campaign before its first trajectory",
                f"rule {evidence.ended_by}; the initial data were still growing; {change}",
                f"{again}; or begin with trajectories earlier (pool.growth.target_rmse, under another name)",
            )
            return
        seen = last.exploration
        if "uncertain" in seen:
            noun = seen.get("noun", "trajectories")
            change = f"{seen['uncertain']} of the last {seen['trajectories']} {noun} met what the model was unsure of; {change}"
        yield Finding(
            NOTE,
            "A budget ended the campaign, not convergence",
            f"rule {evidence.ended_by}; {change}",
            f"more labels may help: {again}",
        )


def _worth(evidence: Evidence) -> Iterator[Finding]:
    configuration = evidence.configuration
    if configuration.query.takes_unseen:
        return
    if not configuration.controls:
        yield Finding(
            NOTE,
            "Nothing says whether labels were saved",
            "no random arm ran beside the campaign",
            "control: {seeds: [0, 1, 2]}, where the answer is worth the labels of three random arms",
        )
        return
    verdict = (
        evidence.savings["columns"][-1].get("verdict") if evidence.savings and evidence.savings["columns"] else None
    )
    if verdict not in (None, "saved"):
        worst = verdict == "wasted"
        yield Finding(
            WARNING if worst else NOTE,
            "Labels were wasted" if worst else "No labels were shown to be saved",
            " ".join(evidence.savings["words"]) if evidence.savings else "",
            "query.strategy: random is as good here, or better"
            if worst
            else "docs/studies.md: for plain accuracy that is usual",
        )


def _cost(evidence: Evidence) -> Iterator[Finding]:
    computed, reused = evidence.counts
    # Labels that were there already cost what the others did, but not here.
    whole = evidence.label_hours * (1 + reused / computed) if computed else math.inf
    if evidence.model_hours > max(whole, 0.1):
        there = f"; {reused:,} more were there already" if reused else ""
        yield Finding(
            NOTE,
            "The models cost more than the labels",
            f"{evidence.model_hours:.3g} core-hours for models, {evidence.label_hours:.3g} for {computed:,} labels{there}",
            "larger batches (query.batch) train fewer models; a cheaper model may do",
        )


def _said(evidence: Evidence) -> Iterator[Finding]:
    """Give the warnings of the last iteration that no other finding holds."""
    held = ("of the squared error", "than the mean of the labels", "audit, ")
    for sentence in evidence.last.warnings:
        if not any(words in sentence for words in held):
            yield Finding(
                WARNING, "Said by the last iteration", sentence, "docs/models.md and docs/labels.md explain it"
            )
