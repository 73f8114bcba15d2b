"""A finished campaign of three iterations on disk, as its rules leave it, and what recovery does with it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from quarry.campaign.batch_table import BatchRow, write_batch
from quarry.campaign.loop import LABELS, ArmPlan, stages_of
from quarry.campaign.paths import CampaignPaths
from quarry.campaign.receipts import write_receipt
from quarry.campaign.recovery import Recovery
from quarry.labeling.record import LabelRecord, write_records
from quarry.stopping.facts import Cost, Facts
from quarry.structures import Structure
from quarry.structures.files import JobInputEntry, write_job_input
from support.stub_files import write_stub

ITERATIONS = 3
BATCH = 2
RULES = {
    stage.rule: [*stage.outputs.values(), *filter(None, [stage.folder])]
    for stage in stages_of(ArmPlan(scored=True))
    if stage is not LABELS
}
"""The outputs of every rule of an iteration in the order in which they run (labels come after select_batch)."""
COST = {"wall_s": 1.0, "cpu_s": 1.0, "threads": 1, "host": "here"}
STAGE_FILES = [f for files in RULES.values() for f in files if f != "batch"]


def structure(iteration: int, number: int) -> Structure:
    return Structure.create([1, 1], np.array([[0.0, 0.0, 0.0], [0.0, iteration, 0.7 + number]]))


def write_iteration(paths: CampaignPaths, arm: str, t: int, **facts: Any) -> None:
    """Write a finished iteration as its rules do; only the gates and labels have real content. facts: some that differ."""

    def at(name: str) -> Path:
        return Path(paths.iteration(name, arm, t))

    structures = [structure(t, n) for n in range(BATCH)]
    for rule, names in RULES.items():
        if t == 0 and rule in ("score_pool", "propose_batch"):
            continue
        if rule == "select_batch":
            write_batch(at("batch.csv"), [BatchRow(s.structure_id, "train", s.structure_id) for s in structures])
            at("batch").mkdir(exist_ok=True)
            for s in structures:
                write_job_input(at(f"batch/{s.structure_id}.extxyz"), [JobInputEntry(s)])
        elif rule == "assess_iteration":
            counts = dict.fromkeys(("n_train", "n_test", "n_labels", "n_failed", "pool_size", "pool_left"), t)
            message = {"arm": arm, "phase": "query", "target": "energy", "metric": "test"}
            changes = dict.fromkeys(("rrmse", "rrmse_low", "rrmse_high"), 1.0)
            Facts(iteration=t, errors={}, **(message | counts | changes | facts)).write(at("facts.json"))
            Cost(BATCH, 0, 0, 0.0, 0.0, 0.0, 0.0).write(at("cost.json"))
        for name in names:
            if name != "batch" and not at(name).exists():
                write_stub(at(name), f"{arm} {t} {name}")
        write_receipt(at(f"receipts/{rule}.json"), rule, [str(at(n)) for n in names], COST)
        if rule == "select_batch":
            for s in structures:
                write_records(at(f"labels/{s.structure_id}.json"), [record(s.structure_id)])


def record(structure_id: str) -> LabelRecord:
    cost = {"wall_s": 1.0, "cpu_s": 1.0, "threads": 1, "peak_memory_MB": 1.0}
    return LabelRecord(structure_id, "m", {}, "ok", "", {"energy": 1.0}, [], cost, {}, "here", {}, "now")


class Disk:
    """A finished campaign of three iterations in the working directory, and what recovery does with it."""

    paths = CampaignPaths("toy")

    @property
    def recovery(self) -> Recovery:
        return Recovery(self.paths, {"main": ArmPlan(scored=True)})

    def repair(self) -> list[str]:
        said: list[str] = []
        self.recovery.repair(said.append)
        return said

    def at(self, name: str, iteration: int = ITERATIONS - 1) -> Path:
        return Path(self.paths.iteration(name, "main", iteration))

    def label(self, iteration: int = ITERATIONS - 1, number: int = 0) -> Path:
        return self.at(f"labels/{structure(iteration, number).structure_id}.json", iteration)

    def job_input(self, iteration: int = ITERATIONS - 1, number: int = 0) -> Path:
        return self.at(f"batch/{structure(iteration, number).structure_id}.extxyz", iteration)

    def content(self) -> dict[str, bytes]:
        return {str(p): p.read_bytes() for p in sorted(Path("results").rglob("*")) if p.is_file()}

    def labels(self) -> dict[str, tuple[bytes, int]]:
        found = Path("results").rglob("labels/*.json")
        return {str(p): (p.read_bytes(), p.stat().st_mtime_ns) for p in found}

    def check_labels(self, before: dict[str, tuple[bytes, int]]) -> None:
        """Labels are as they were; one that is older than its job's input is as new as that, or it would be computed again."""
        after = self.labels()
        assert {path: data for path, (data, _) in after.items()} == {path: data for path, (data, _) in before.items()}
        for path, (_, time) in after.items():
            job_input = Path(path).parents[1] / "batch" / f"{Path(path).stem}.extxyz"
            newest = max(before[path][1], job_input.stat().st_mtime_ns if job_input.exists() else 0)
            assert time in (before[path][1], newest)

    def check_repaired(self, whole: int) -> None:
        """After repairing, the disk is as an interrupted run leaves it: a prefix of the stages, and every label."""
        assert self.recovery.count_intact("main") == whole
        for t in range(whole, ITERATIONS):
            labels = all(self.label(t, n).exists() for n in range(BATCH))
            stages = self.paths.stages("main", t, ArmPlan(scored=True, proposed=t > 0))
            there = [[Path(f).exists() for f in stage] for stage in stages]
            if t == whole:
                place = stages.index([])
                there[place] = [] if labels else [False]  # labels stay whatever is missing before them
                flags = list(itertools.chain(*there))
                assert flags == sorted(flags, reverse=True), f"iteration {t} is no prefix: {there}"
            else:
                assert not self.at("batch.csv", t).exists()
            assert not self.at("facts.json", t).exists() and not self.at("cost.json", t).exists()
