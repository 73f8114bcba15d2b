"""A campaign as its files are, for its overview."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from quarry.campaign.failure_table import read_failures
from quarry.campaign.iterations import count_with
from quarry.campaign.loop import RULES
from quarry.campaign.packed import Folder
from quarry.campaign.paths import CampaignPaths
from quarry.campaign.receipts import read_receipts
from quarry.config.campaign import MAIN_ARM, Configuration
from quarry.csv_tables import read_dicts
from quarry.labeling.audit.findings import read_audit
from quarry.labeling.record import LabelRecord, decode_records
from quarry.stages.overview.findings import Evidence
from quarry.stopping.facts import Cost, Facts

LABELS, POOL, TRAINING, SCORING, EXPLORING, REST = (
    "labels",
    "the pool",
    "training",
    "evaluating, scoring, choosing",
    "dynamics and samplers",
    "the rest",
)
WORK = {"train": TRAINING, "score": SCORING, "explore": EXPLORING}
"""What the core-hours of an iteration's jobs are for, by the section of ``resources`` that their rule has."""


@dataclass(frozen=True)
class Campaign:
    """A campaign as its files are. ended: rule and words of the stop of arm main, empty if it has not ended."""

    configuration: Configuration
    paths: CampaignPaths
    ended: tuple[str, str]

    @cached_property
    def facts(self) -> list[Facts]:
        """Facts of every iteration of arm main."""
        return [Facts.read(self.paths.facts(MAIN_ARM, t)) for t in range(self.iterations(MAIN_ARM))]

    @cached_property
    def costs(self) -> list[Cost]:
        """Cost of every iteration of arm main."""
        return [Cost.read(self.paths.cost(MAIN_ARM, t)) for t in range(len(self.facts))]

    @cached_property
    def hours(self) -> dict[str, list[float]]:
        """Core-hours of every iteration of arm main, by what they were for. What the pool took is in iteration 0: its structures,
        the normal modes with the calculations behind them, features.
        """
        found = {LABELS: [cost.campaign_label_core_hours for cost in self.costs]}
        for t in range(len(self.facts)):
            jobs = [(POOL, job) for job in read_receipts(Path(self.paths.pool) / "receipts")] if t == 0 else []
            for job in read_receipts(Path(self.paths.iteration("receipts", MAIN_ARM, t))):
                stage = RULES.get(str(job.get("rule")))
                jobs.append((WORK.get(stage.resources if stage is not None else "", REST), job))
            for name, job in jobs:
                part, cost = found.setdefault(name, [0.0] * len(self.facts)), job.get("cost", {})
                part[t] += float(cost.get("wall_s", 0.0)) * int(cost.get("threads", 1)) / 3600
        return found

    @cached_property
    def spent(self) -> dict[str, float]:
        """Core-hours of arm main that its history counts, by what they were for. Training: all that is not one of the others."""
        found = {name: sum(self.hours.get(name, [])) for name in (LABELS, EXPLORING, POOL)}
        beside = sum(cost.train_core_hours for cost in self.costs)
        return found | {TRAINING: max(0.0, beside - found[EXPLORING] - found[POOL])}

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What the campaign is (``campaign.json``)."""
        found: dict[str, Any] = json.loads(Path(self.paths.manifest).read_bytes())
        return found

    @cached_property
    def history(self) -> list[dict[str, str]]:
        """Rows of the history of arm main."""
        return read_dicts(self.paths.outputs("collect_results", MAIN_ARM)["history"])

    @cached_property
    def records(self) -> list[LabelRecord]:
        """Every label, failed ones too, that this campaign paid for; what is damaged is left out."""
        return list({key: record for paid in self._paid.values() for key, record in paid.items()}.values())

    @cached_property
    def _paid(self) -> dict[str, dict[tuple[str, str], LabelRecord]]:
        """The labels of each arm that this campaign paid for, by structure and time."""
        return {
            arm: {
                (record.structure_id, record.finished): record
                for t in range(self.iterations(arm))
                for record in _records(self.paths.iteration("labels", arm, t))
                if record.origin.get("campaign_id") == self.manifest["campaign_id"]
            }
            for arm in self.configuration.arm_names
        }

    @cached_property
    def versions(self) -> dict[str, str]:
        """Versions of the programs that the labels are from, by name; several of one as ``1 and 2``."""
        found: dict[str, list[str]] = {}
        for record in self.records:
            for name, version in record.versions.items():
                if version not in found.setdefault(name, []):
                    found[name].append(version)
        return {name: " and ".join(sorted(versions)) for name, versions in found.items()}

    @cached_property
    def evidence(self) -> Evidence:
        """What findings are looked for in."""
        product = self.paths.outputs("collect_results", MAIN_ARM)
        savings = Path(self.paths.outputs("compare_arms", MAIN_ARM)["savings"])
        return Evidence(
            self.configuration,
            self.facts,
            self.ended[0],
            read_failures(product["failures"]),
            read_audit(product["audit"]),
            json.loads(savings.read_bytes()) if self.configuration.controls and savings.exists() else None,
            self.spent[LABELS],
            self.spent[TRAINING],
            (paid := len(self._paid[MAIN_ARM]), max(0, self.facts[-1].n_labels + self.facts[-1].n_failed - paid)),
            self.history[-1].get("calibration", ""),
        )

    def iterations(self, arm: str) -> int:
        """Return how many iterations of an arm are finished."""
        return count_with(partial(self.paths.facts, arm))


def _records(folder: str) -> Iterator[LabelRecord]:
    files = Folder(folder)
    for name in files.names():
        if name.endswith(".json"):
            try:
                yield from decode_records(files.read(name), name)
            except (ValueError, OSError):
                continue
