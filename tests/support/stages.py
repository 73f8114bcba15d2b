"""Small inputs for the tests of the stages."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from quarry.campaign.failure_table import FAILURE_COLUMNS
from quarry.config import Configuration, load_configuration
from quarry.labeling.cost_model import LabelCost
from quarry.labeling.engines.registry import make_engine
from quarry.labeling.record import LabelRecord
from quarry.stages.batch import BatchFiles
from quarry.stages.planning import Planner
from quarry.stopping.facts import Facts
from quarry.structures.labelled import LabelledSet
from support.campaigns import stand_in_configuration

SIZE = 40
METHOD_ID = "0123456789abcdef"


def configuration(**changes: Any) -> Configuration:
    """Test set of 6, initial batch of 8, batches of 5, on a pool of 40."""
    defaults: dict[str, Any] = {
        "query": {"strategy": "uncertainty", "initial": 8, "batch": {"schedule": "constant", "size": 5}},
        "test": {"size": 6},
    }
    return load_configuration(stand_in_configuration(**{**defaults, **changes}), "campaign.yaml")


def energy_of(structure) -> float:
    bond = np.linalg.norm(structure.positions[1:] - structure.positions[0], axis=1)
    return float(-2000 + 5 * np.sum((bond - 0.96) ** 2))


def write_dataset(path: Path, pool, rows: dict[int, str], **changes: Any) -> str:
    """A data set of pool rows with their roles."""
    chosen = [pool[i] for i in rows]
    properties = [{"energy": energy_of(s), **changes} for s in chosen]
    LabelledSet.from_records(chosen, list(rows.values()), [0] * len(rows), properties).write(path, {})
    return str(path)


def batch_files(folder: Path) -> BatchFiles:
    """The files of a batch in a folder."""
    names = ("batch.csv", "batch.h5", "planned.csv", "reused.csv", "batch")
    return BatchFiles(*(str(folder / name) for name in names))


def write_failures(path: Path, ids: list[str]) -> str:
    with open(path, "w", newline="") as handle:
        writer = csv.DictWriter(handle, FAILURE_COLUMNS)
        writer.writeheader()
        writer.writerows([{**dict.fromkeys(FAILURE_COLUMNS, ""), "structure_id": i} for i in ids])
    return str(path)


def planner(iteration: int = 0, costs: dict[str, LabelCost] | None = None, **labeling: Any) -> Planner:
    """The planner of a stand-in engine; labeling: keys of that section."""
    conf = stand_in_configuration()
    conf = load_configuration({**conf, "labeling": {**conf["labeling"], **labeling}}, "campaign.yaml")
    engine = make_engine(conf.labeling)
    return Planner(conf.labeling, conf.resources.label, engine, iteration, costs or {})


ROWS = {n: "test" if n < 6 else "train" for n in range(18)}
"""Six test and twelve training structures."""


def make_facts(t: int = 0, **changes: Any) -> Facts:
    values: dict[str, Any] = {
        "arm": "main",
        "iteration": t,
        "phase": "query" if t else "initial",
        "n_train": 12,
        "n_test": 6,
        "n_labels": 18,
        "n_failed": 0,
        "pool_size": SIZE,
        "pool_left": SIZE - 18,
        "target": "energy",
        "metric": "test",
        "errors": {},
        "rrmse": 1.0,
        "rrmse_low": 1.0,
        "rrmse_high": 1.0,
    }
    return Facts(**{**values, **changes})


PAIRS = [(0, 1), (0, 2), (1, 2)]


def label_record(structure_id: str, **changes: Any) -> LabelRecord:
    values: dict[str, Any] = {
        "structure_id": structure_id,
        "method_id": METHOD_ID,
        "method": {},
        "status": "ok",
        "message": "",
        "properties": {"energy": 1.0},
        "attempts": [],
        "cost": {"wall_s": 36.0, "cpu_s": 70.0, "threads": 2, "peak_memory_MB": 1.0},
        "origin": {"campaign_id": "mine", "campaign": "toy", "arm": "main", "iteration": 1},
        "host": "here",
        "versions": {},
        "finished": "now",
    }
    return LabelRecord(**{**values, **changes})
