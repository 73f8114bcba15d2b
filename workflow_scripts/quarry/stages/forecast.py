"""What a campaign will cost, before it is paid: label jobs, core-hours, time, and what the budget allows."""

from __future__ import annotations

import heapq
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quarry.campaign.batch_table import BatchRow, read_batch
from quarry.campaign.file_count import LOOSE_PER_JOB, files_at_end
from quarry.campaign.paths import CampaignPaths
from quarry.campaign.planned import JOB_START_S
from quarry.config.campaign import PROBES_ARM, Configuration
from quarry.errors import QuarryError
from quarry.labeling.cost_model import MIN_LABELS, CostModel, LabelCost, label_cost
from quarry.labeling.record import read_records
from quarry.labeling.store import LabelStore
from quarry.query.batch import batch_size
from quarry.randomness import generator
from quarry.stages.batch import draw_initial
from quarry.stages.planning import Planner, group_labels, read_costs, sizes_of, usual_cores
from quarry.stopping.facts import Cost, Facts
from quarry.stopping.progress import Progress, Query
from quarry.stopping.rules import CORE_HOURS, LABELS, Spent, StopRule, core_hours, spent_budget, stop_reason
from quarry.structures import Structure, StructureSet
from quarry.structures.chosen import find_structures
from quarry.structures.files import read_pool

CORE_COUNTS = (1, 16, 64, 256, 1024)
DRAWS = 40
"""Draws of all wall times, for the distribution of the campaign's end."""
MOST_ITERATIONS = 100_000


@dataclass
class ArmForecast:
    """What is to come in one arm. batches: labels of each iteration to come.

    known, given: of these in the store already, and those that the user gives (``labeling.known``); of batches that are not
    chosen yet, given is what random ones would hold.
    """

    arm: str
    done: int
    batches: list[int]
    known: int
    given: int
    ends_by: str
    stopped: str | None
    sizes: list[list[float]] = field(repr=False)
    """Sizes of the labels to be computed, by iteration."""


@dataclass(frozen=True)
class Forecast:
    """A forecast, as ``forecast.json`` holds it. Pairs are (median, 90 %); times in s, end by number of cores."""

    model: CostModel
    arms: list[ArmForecast]
    new: int
    jobs: int
    label_core_hours: tuple[float, float]
    spent_core_hours: float
    train_core_hours: float | None
    longest_s: tuple[float, float]
    memory_MB: tuple[float, float]
    end_s: dict[int, tuple[float, float]]
    budget_labels: tuple[int, int] | None
    files: tuple[int, int]
    """Files of results, store and .snakemake: at the end, and at most while it runs."""


@dataclass(frozen=True)
class Seen:
    """What a forecast looks at.

    paths: of the campaign. own: user-defined stop rules. is_given: as of ``quarry.stages.probes.choose_probes``.
    """

    configuration: Configuration
    planner: Planner
    paths: CampaignPaths
    store: LabelStore
    own: Sequence[StopRule] = ()
    is_given: Callable[[Structure], bool] = lambda structure: False


def make_forecast(seen: Seen, probes: Sequence[str], cores: int) -> Forecast:
    """Return the forecast of the rest of a campaign.

    probes: label files of the probes. cores: of this run; they are added to ``CORE_COUNTS``. Raises QuarryError if there are
    too few labels to go by.
    """
    configuration, planner, paths = seen.configuration, seen.planner, seen.paths
    pool = read_pool(paths.structures)
    finished = {arm: _finished(paths, arm) for arm in configuration.arm_names}
    costs, failures = _probe_costs(probes)
    for arm, (facts, _) in finished.items():
        costs |= read_costs(paths, arm, len(facts) + 1)
    costs |= read_costs(paths, PROBES_ARM, 1)
    model = CostModel.fit(costs.values(), usual_cores(costs.values(), configuration.resources.label))
    if model is None:
        raise QuarryError(f"forecast: {_too_few(len(costs), failures, bool(probes), paths)}")
    largest = max(sizes_of(list(pool), planner.engine, model.measure))
    arms = [_arm_forecast(seen, arm, facts, costs_, pool, model) for arm, (facts, costs_) in finished.items()]
    flat = [size for arm in arms for sizes in arm.sizes for size in sizes]
    totals = model.draw_totals(flat) * model.cores / 3600 if flat else np.zeros(1)
    grouped = [[_jobs(planner, model, sizes) for sizes in arm.sizes] for arm in arms]
    last = [costs_[-1].model_core_hours for _, costs_ in finished.values() if costs_]
    spent = max((core_hours(costs_) for _, costs_ in finished.values()), default=0.0)
    to_come = max(len(arm.batches) for arm in arms)
    walls = [[model.draw_walls(sizes, DRAWS, seed=t) for t, sizes in enumerate(arm.sizes)] for arm in arms]
    return Forecast(
        model=model,
        arms=arms,
        new=len(flat),
        jobs=sum(len(jobs) for groups in grouped for jobs in groups),
        label_core_hours=_pair(totals),
        spent_core_hours=spent,
        train_core_hours=sum(last) * to_come if last else None,
        longest_s=(float(model.wall_s([largest])[0]), float(model.wall_s([largest], 0.9)[0])),
        memory_MB=(float(model.memory_MB([largest])[0]), float(model.memory_MB([largest], 0.9)[0])),
        end_s={n: _end_s(n, model.cores, grouped, walls) for n in sorted({cores, *CORE_COUNTS})},
        budget_labels=_within_budget(configuration, totals, flat, model, spent, pool, planner),
        files=_files(configuration, arms, {arm: facts for arm, (facts, _) in finished.items()}, grouped),
    )


def _too_few(found: int, failures: str, probed: bool, paths: CampaignPaths) -> str:
    """Return what to say when there are not enough labels."""
    head = f"only {found} finished labels, {MIN_LABELS} are needed to tell the cost"
    if not probed:
        return f"{head}; ask again after the next iteration"
    why = f" (failed: {failures})" if failures else ""
    return f"{head}{why}; remove {paths.iteration('', PROBES_ARM, 0)} and raise forecast.probes for others"


def _finished(paths: CampaignPaths, arm: str) -> tuple[list[Facts], list[Cost]]:
    facts: list[Facts] = []
    costs: list[Cost] = []
    while Path(paths.facts(arm, len(facts))).exists():
        costs.append(Cost.read(paths.cost(arm, len(facts))))
        facts.append(Facts.read(paths.facts(arm, len(facts))))
    return facts, costs


def _probe_costs(probes: Sequence[str]) -> tuple[dict[str, LabelCost], str]:
    """Return the costs of probes by structure id, and what is to say of failed ones."""
    costs, failures = {}, []
    for record in [record for path in probes for record in read_records(path)]:
        cost = label_cost(record.status, record.cost)
        if cost is not None:
            costs[record.structure_id] = cost
        elif not record.ok:
            failures.append(f"{record.structure_id} ({record.status}: {record.message})")
    return costs, "; ".join(failures)


def schedule(
    configuration: Configuration, arm: str, pool_size: float, last: Facts | None, core_hours: float = 0.0
) -> tuple[list[int], str]:
    """Return the labels of each iteration to come, if no error-based rule stops the arm before, and what ends it.

    pool_size: number of structures, infinity where a sampler makes new ones. last: facts of the arm's last iteration, None
    for a fresh one. core_hours: spent so far; what further iterations spend is not known here.
    """
    stop, batch = configuration.stop, configuration.arm(arm).query.batch
    batches: list[int] = []
    if last is None:
        batches.append(configuration.query.initial + configuration.test.size)
        n_train, left = configuration.query.initial, pool_size - batches[0]
        spent = Spent(batches[0], core_hours)
    else:
        n_train, left = last.n_train, math.inf if last.pool_left is None else last.pool_left
        spent = Spent(last.n_labels, core_hours, last.iteration)
    while True:
        if left <= 0:
            return batches, "the pool's end"
        budget = spent_budget(stop, spent)
        if budget is not None:
            return batches, f"stop.{budget.stated(stop)}"
        if len(batches) >= MOST_ITERATIONS:
            return batches, f"{MOST_ITERATIONS} iterations"
        t = spent.iterations + 1
        size = int(min(batch_size(batch, t, n_train), left, LABELS.left(stop, spent)))
        batches.append(size)
        n_train, left, spent = n_train + size, left - size, Spent(spent.labels + size, core_hours, t)


def _arm_forecast(
    seen: Seen, arm: str, facts: list[Facts], costs: list[Cost], pool: StructureSet, model: CostModel
) -> ArmForecast:
    configuration, done, sampled = seen.configuration, len(facts), seen.configuration.pool.is_sampled
    last, spent = facts[-1] if facts else None, core_hours(costs)
    batches, ends_by = schedule(configuration, arm, math.inf if sampled else len(pool), last, spent)
    rows = _next_rows(configuration, seen.paths, arm, done)
    # Which ones the strategy will want is not known; those of later batches are taken to be like the rest of the pool.
    rest, used = _rest_of_pool(seen, arm, done, rows or [], pool), 0
    known, given, sizes = 0, 0, []
    for n, count in enumerate(batches):
        fixed = n == 0 and rows is not None
        if fixed:
            new = [row.structure_id for row in rows or [] if seen.store.get(row.structure_id) is None]
            known = count - len(new)
            files = [seen.paths.outputs("select_batch", arm, done)["structures"], seen.paths.structures]
            chosen = list(find_structures(new, files).structures)
        else:
            chosen = [pool[int(rest[(used + k) % len(rest)])] for k in range(count)]
            used += count
        # What a sampler will make is new, whatever those of its first pool are.
        paid = [structure for structure in chosen if (sampled and not fixed) or not seen.is_given(structure)]
        given += len(chosen) - len(paid)
        sizes.append(sizes_of(paid, seen.planner.engine, model.measure))
    queries = [Query.read(seen.paths.iteration("query.json", arm, t)) for t in range(done)]
    stopped = stop_reason(Progress(facts, costs, configuration, queries), seen.own) if facts else None
    return ArmForecast(arm, done, batches, known, given, ends_by, stopped.words if stopped else None, sizes)


def _rest_of_pool(
    seen: Seen, arm: str, done: int, next_rows: Sequence[BatchRow], pool: StructureSet
) -> NDArray[np.int64]:
    """Return the rows of the pool that no batch of an arm holds, in random order; all where none is left."""
    tables = [Path(seen.paths.batch(arm, t)) for t in range(done)]
    rows = [row for table in tables if table.exists() for row in read_batch(table)] + [*next_rows]
    rest = np.flatnonzero(~np.isin(pool.ids, [row.structure_id for row in rows]))
    rng = generator(seen.configuration.seed, "forecast", arm)
    return rng.permutation(rest if len(rest) else len(pool))


def _next_rows(configuration: Configuration, paths: CampaignPaths, arm: str, done: int) -> list[BatchRow] | None:
    """Return the rows of the next batch where they are fixed already."""
    if done == 0:
        # Arms without a draw of their own share the first batch; the first arm pays.
        own = arm == configuration.arm_names[0] or configuration.arm(arm).draw != configuration.seed
        return draw_initial(configuration, paths.structures, arm) if own else []
    table = Path(paths.batch(arm, done))
    return list(read_batch(table)) if table.exists() else None


def _jobs(planner: Planner, model: CostModel, sizes: list[float]) -> list[list[int]]:
    """Return the jobs of an iteration as lists of its labels."""
    groups = group_labels([float(s) for s in model.wall_s(sizes)], True, planner)
    return [[n] for n in range(len(sizes))] if groups is None else groups


def _end_s(
    cores: int, cores_of_job: int, grouped: list[list[list[list[int]]]], walls: list[list[NDArray[np.float64]]]
) -> tuple[float, float]:
    """Return (median, 90 %) of the time (s) that the labels take on a number of cores.

    Iterations of an arm wait for each other; arms run at the same time, so that neither the slowest of them nor all of
    them together can be faster.
    """
    slots = max(1, cores // cores_of_job)
    ends = []
    for draw in range(DRAWS):
        alone, together = 0.0, 0.0
        for arm_groups, arm_walls in zip(grouped, walls, strict=True):
            time = 0.0
            for groups, drawn in zip(arm_groups, arm_walls, strict=True):
                jobs = [JOB_START_S + float(drawn[draw, group].sum()) for group in groups]
                time += makespan(jobs, slots)
                together += sum(jobs) / slots
            alone = max(alone, time)
        ends.append(max(alone, together))
    return _pair(np.array(ends))


def makespan(jobs: Sequence[float], slots: int) -> float:
    """Return when the last of ``jobs`` ends if ``slots`` run at a time, the longest first."""
    if not jobs:
        return 0.0
    if len(jobs) > 50 * slots:
        # So many that they fill the slots evenly.
        return max(sum(jobs) / slots, max(jobs))
    free = [0.0] * min(slots, len(jobs))
    for length in sorted(jobs, reverse=True):
        heapq.heappush(free, heapq.heappop(free) + length)
    return max(free)


def _within_budget(
    configuration: Configuration,
    totals: NDArray[np.float64],
    sizes: list[float],
    model: CostModel,
    spent: float,
    pool: StructureSet,
    planner: Planner,
) -> tuple[int, int] | None:
    """Return how many further labels max_core_hours buys (median, with 90 % certainty), None without that budget."""
    left = CORE_HOURS.left(configuration.stop, Spent(core_hours=spent))
    if math.isinf(left):
        return None
    if sizes:
        means = totals / len(sizes)
    else:
        sample = generator(configuration.seed, "forecast", "budget").integers(len(pool), size=200)
        sizes = sizes_of([pool[int(i)] for i in sample], planner.engine, model.measure)
        means = model.draw_totals(sizes) * model.cores / 3600 / len(sizes)
    median, high = _pair(means)
    return int(left / median), int(left / high)


def _files(
    configuration: Configuration,
    arms: Sequence[ArmForecast],
    finished: Mapping[str, Sequence[Facts]],
    grouped: Sequence[Sequence[Sequence[list[int]]]],
) -> tuple[int, int]:
    """Return how many files the campaign has at its end and at most before: an iteration is packed in the next one."""
    labels = sum(sum(arm.batches) + (finished[arm.arm][-1].n_labels if finished[arm.arm] else 0) for arm in arms)
    end = files_at_end(configuration, {arm.arm: arm.done + len(arm.batches) for arm in arms}, labels)
    # Jobs of two iterations that follow each other, in all arms at a time.
    pairs = [[len(first) + len(second) for first, second in zip([[], *jobs], jobs, strict=False)] for jobs in grouped]
    return end, end + LOOSE_PER_JOB * sum(max(counts, default=0) for counts in pairs)


def _pair(values: NDArray[np.float64]) -> tuple[float, float]:
    return float(np.median(values)), float(np.quantile(values, 0.9))


def to_json(forecast: Forecast) -> dict[str, Any]:
    """Return a forecast as plain data."""
    model = forecast.model
    return {
        "labels_fitted": model.n,
        "size": model.measure,
        "exponent": model.time.exponent,
        "exponent_sd": model.time.exponent_sd,
        "scatter": model.time.scatter,
        "labels_to_come": sum(sum(arm.batches) for arm in forecast.arms),
        "labels_new": forecast.new,
        "labels_given": sum(arm.given for arm in forecast.arms),
        "label_jobs": forecast.jobs,
        "batches": {arm.arm: arm.batches for arm in forecast.arms},
        "label_core_hours": list(forecast.label_core_hours),
        "spent_core_hours": forecast.spent_core_hours,
        "train_core_hours": forecast.train_core_hours,
        "longest_label_s": list(forecast.longest_s),
        "memory_MB": list(forecast.memory_MB),
        "end_s": {str(cores): list(pair) for cores, pair in forecast.end_s.items()},
        "files": {"at_end": forecast.files[0], "at_most": forecast.files[1]},
        "budget_labels": None if forecast.budget_labels is None else list(forecast.budget_labels),
    }


def encode(forecast: Forecast) -> str:
    """Return a forecast as JSON text."""
    return json.dumps(to_json(forecast), sort_keys=True, indent=1) + "\n"
