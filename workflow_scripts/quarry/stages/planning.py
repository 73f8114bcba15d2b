"""Which job labels which structures of a batch, in which order, and with how much time and memory.

A job's input (``read_job_input``) holds (structure, key, predicted_s): predicted_s is the median wall time of that label, for
``labeling.straggler_factor``; None where there is no model of the cost, and for retries, whose prediction was wrong once.
What a whole job is to ask for stands in ``planned.csv`` (``quarry.campaign.planned``).
"""

from __future__ import annotations

import heapq
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from quarry.campaign.batch_table import BatchRow
from quarry.campaign.packed import Folder
from quarry.campaign.paths import CampaignPaths
from quarry.campaign.planned import PlannedJob
from quarry.config.campaign import Configuration
from quarry.config.engines.base import LabelingBase
from quarry.config.resources import LabelResources
from quarry.files import digest_of
from quarry.labeling.cost_model import EXPONENT, CostModel, LabelCost, label_cost
from quarry.labeling.engines.base import Engine
from quarry.labeling.engines.registry import make_engine
from quarry.labeling.record import LabelRecord
from quarry.structures import Structure
from quarry.structures.files import JobInputEntry, read_pool

TARGET_S = 1200.0
"""Length of a job with structures_per_job: auto."""
WALLTIME_SHARE = 0.5
"""Share of a configured walltime that such a job is planned to take at most."""
QUANTILE = 0.95
"""Of the prediction; safety_factor multiplies it."""
START_S = 120.0
"""Walltime for the start of a job: its own Snakemake, imports, a slow file system."""
SHORTEST_MIN = 5
"""No job asks for less walltime."""
JOB_MEMORY_MB = 300.0
"""Memory of a job around its engine: two Python processes with their libraries."""
LEAST_MEMORY_MB = 600
"""No job asks for less memory: PySCF's import alone takes 200 MB, and its algorithms shrink to what they are given."""
MOST_RECORDS = 2000
"""A fit needs no more labels than that."""


@dataclass(frozen=True)
class JobPlan:
    """One label job: its rows (each names the job), its input, and how long it is compared with the others."""

    planned: PlannedJob
    rows: tuple[BatchRow, ...]
    entries: tuple[JobInputEntry, ...]
    length: float


class Planner:
    """Turns the rows of a batch into jobs."""

    def __init__(
        self,
        labeling: LabelingBase,
        resources: LabelResources,
        engine: Engine,
        iteration: int,
        costs: Mapping[str, LabelCost],
    ) -> None:
        """engine: asked for sizes only. costs: of finished labels, by structure id."""
        self.labeling = labeling
        self.resources = resources
        self.engine = engine
        self.iteration = iteration
        self.costs = costs
        self.cores = usual_cores(costs.values(), resources)

    def plan(
        self, rows: Sequence[BatchRow], structures: Sequence[Structure], known: Mapping[str, LabelRecord]
    ) -> list[JobPlan]:
        """Return the jobs of a batch, each structure in one.

        structures: of the rows, in their order. known: records that are there already, by key. Known structures need no
        job: where jobs take several structures, one job holds them alone, and it is put in place. A retry is alone in its
        job, because it asks for more. The other jobs are of about equal predicted length, the longest first.
        The names of jobs with several structures contain a hash of what they hold: a record file that an earlier
        grouping left behind is never taken for another job's.

        With structures_per_job: 1 the jobs follow from the rows alone. Otherwise they depend on what is labelled when
        the batch is written, and with auto on the measured cost too; the labels do not.
        """
        predictions = self._predict(structures, known)
        rest = [n for n, row in enumerate(rows) if row.key not in known and not row.retry_of]
        found = group_labels([predictions.lengths[n] for n in rest], predictions.model is not None, self)
        if found is None:
            plans = [self._job([n], rows, structures, predictions) for n in range(len(rows))]
        else:
            groups = [[rest[i] for i in group] for group in found]
            groups.sort(key=lambda group: (-sum(predictions.lengths[n] for n in group), group))
            plans = [
                self._job(group, rows, structures, predictions, f"j{number:04d}") for number, group in enumerate(groups)
            ]
            done = [n for n, row in enumerate(rows) if row.key in known]
            if done:
                plans.append(self._job(done, rows, structures, predictions, "known"))
            retries = [n for n, row in enumerate(rows) if row.retry_of and row.key not in known]
            plans += [self._job([n], rows, structures, predictions) for n in retries]
        return plans

    def _predict(self, structures: Sequence[Structure], known: Mapping[str, LabelRecord]) -> _Predictions:
        costs = dict(self.costs)
        for structure in structures:
            record = known.get(structure.structure_id)
            cost = None if record is None else label_cost(record.status, record.cost, len(structure))
            if cost is not None:
                costs[structure.structure_id] = cost
        model = CostModel.fit(costs.values(), self.cores)
        if model is None:
            # Good enough to tell large from small.
            return _Predictions(None, [], [float(len(s)) ** EXPONENT for s in structures])
        sizes = sizes_of(structures, self.engine, model.measure)
        return _Predictions(model, sizes, [float(t) for t in model.wall_s(sizes)])

    def _job(
        self,
        group: Sequence[int],
        rows: Sequence[BatchRow],
        structures: Sequence[Structure],
        predictions: _Predictions,
        stem: str = "",
    ) -> JobPlan:
        mine = [rows[n] for n in group]
        name = f"{stem}_{digest_of([row.key for row in mine], 8)}" if stem else mine[0].key
        planned = PlannedJob(name, len(group))
        predicted: list[float | None] = [None] * len(group)
        if predictions.model is not None:
            sizes = [predictions.sizes[n] for n in group]
            planned = self._sized(planned, predictions.model, sizes, any(row.retry_of for row in mine))
            predicted = [None if rows[n].retry_of else predictions.lengths[n] for n in group]
        return JobPlan(
            planned,
            tuple(replace(row, job=name) for row in mine),
            tuple(JobInputEntry(structures[n], rows[n].key, s) for n, s in zip(group, predicted, strict=True)),
            sum(predictions.lengths[n] for n in group),
        )

    def _sized(self, planned: PlannedJob, model: CostModel, sizes: list[float], retried: bool) -> PlannedJob:
        planned = replace(planned, predicted_s=model.total_wall_s(sizes, 0.5))
        if not self.labeling.right_size or self.iteration == 0:
            return planned
        factor = self.labeling.safety_factor
        walltime = max(SHORTEST_MIN, math.ceil((START_S + factor * model.total_wall_s(sizes, QUANTILE)) / 60))
        peak_MB = float(model.memory_MB([max(sizes)], QUANTILE)[0])
        memory = max(LEAST_MEMORY_MB, math.ceil(JOB_MEMORY_MB + factor * peak_MB))
        if retried:
            # It has shown that it is not like the others.
            walltime, memory = max(walltime, self.resources.walltime_min), max(memory, self.resources.memory_MB)
        return replace(planned, walltime_min=walltime, memory_MB=memory)


@dataclass(frozen=True)
class _Predictions:
    """model: None where there are too few labels. sizes: of the rows, as the model wants them. lengths: median wall times
    (s); without a model numbers that tell long from short.
    """

    model: CostModel | None
    sizes: list[float]
    lengths: list[float]


def usual_cores(costs: Iterable[LabelCost], resources: LabelResources) -> int:
    """Return the cores that the next labels will run on: as most of the campaign's so far, else the configured ones.

    A profile may set other threads, and Snakemake lowers them to the cores it has.
    """
    counts = Counter(cost.cores for cost in costs)
    configured = resources.threads * resources.tasks
    return max(counts, key=lambda cores: (counts[cores], cores == configured), default=configured)


def group_labels(lengths: Sequence[float], measured: bool, planner: Planner) -> list[list[int]] | None:
    """Return which labels share a job, as indices of ``lengths``; None for one label per job.

    lengths: wall times (s) where ``measured``, otherwise numbers that only rank them.
    """
    if planner.engine.one_job_per_batch:
        return [list(range(len(lengths)))] if lengths else []
    wanted, count, largest = planner.labeling.structures_per_job, 0, len(lengths)
    if wanted == "auto":
        longest_s = min(TARGET_S, WALLTIME_SHARE * 60 * planner.resources.walltime_min)
        count = math.ceil(sum(lengths) / longest_s) if measured else largest
        wanted = 1 if count >= largest else largest
    else:
        count, largest = math.ceil(len(lengths) / wanted), wanted
    return None if wanted == 1 else balanced_groups(lengths, count, largest)


def balanced_groups(lengths: Sequence[float], count: int, largest: int) -> list[list[int]]:
    """Return the indices of ``lengths`` in ``count`` groups of about equal total length, none above ``largest`` members.

    Longest processing time first (Graham, SIAM J. Appl. Math. 17, 416 (1969)): each, from the longest, goes to the group
    that is shortest so far. Ties go by the index, so that the same lengths give the same groups.
    """
    groups: list[list[int]] = [[] for _ in range(count)]
    heap = [(0.0, n) for n in range(count)]
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        load, n = heapq.heappop(heap)
        groups[n].append(index)
        if len(groups[n]) < largest:
            heapq.heappush(heap, (load + lengths[index], n))
    return [sorted(group) for group in groups]


def sizes_of(structures: Sequence[Structure], engine: Engine, measure: str) -> list[float]:
    """Return the sizes of structures as cost models want them; the engine is asked once for each composition."""
    if measure == "atoms":
        # A row of a table counts as one, as its engine says.
        return [float(max(1, len(structure))) for structure in structures]
    found: dict[Any, float] = {}
    sizes = []
    for structure in structures:
        composition = (*sorted(structure.numbers.tolist()), structure.charge, structure.multiplicity)
        if composition not in found:
            found[composition] = float(engine.size(structure)[measure])
        sizes.append(found[composition])
    return sizes


def read_costs(paths: CampaignPaths, arm: str, before: int) -> dict[str, LabelCost]:
    """Return what finished labels of an arm's iterations before ``before`` cost, by structure id; the latest count first.

    At most about ``MOST_RECORDS`` are read, evenly from an iteration that has more. A damaged file is left out here: who
    needs its labels says so. Records of earlier versions do not say how many atoms a structure has: the pool does.
    """
    costs: dict[str, LabelCost] = {}
    atoms: dict[str, int] | None = None
    for t in range(before - 1, -1, -1):
        folder = Folder(paths.iteration("labels", arm, t))
        files = [name for name in folder.names() if name.endswith(".json")]
        room = MOST_RECORDS - len(costs)
        if room <= 0:
            break
        for name in files[:: math.ceil(len(files) / room)] if files else []:
            try:
                records = json.loads(folder.read(name))
                found = {str(r["structure_id"]): (r["status"], r["cost"]) for r in records}
            except (OSError, ValueError, KeyError, TypeError):
                continue
            for structure_id, (status, data) in found.items():
                if atoms is None and isinstance(data, dict) and not data.get("size"):
                    atoms = _atoms_of(paths.structures)
                cost = label_cost(status, data, (atoms or {}).get(structure_id))
                if cost is not None:
                    costs.setdefault(structure_id, cost)
    return costs


def _atoms_of(structures: str) -> dict[str, int]:
    """Return the number of atoms of each structure of a pool, by its id; nothing where there is no pool."""
    if not Path(structures).exists():
        return {}
    pool = read_pool(structures)
    return dict(zip(map(str, pool.ids), np.diff(pool.offsets).tolist(), strict=True))


def make_planner(configuration: Configuration, base: str, arm: str, iteration: int, paths: CampaignPaths) -> Planner:
    """Return the planner of an arm's next batch. base: folder of the campaign file. paths: of the campaign."""
    labeling, resources = configuration.labeling, configuration.resources.label
    costs = read_costs(paths, arm, iteration) if iteration else {}
    return Planner(labeling, resources, make_engine(labeling, base, resources), iteration, costs)
