"""What a campaign will cost, before it is paid: label jobs, core-hours, time, and what the budget allows."""

from __future__ import annotations

import heapq
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quarry.campaign.batch_table import BatchRow, read_batch
from quarry.campaign.file_count import LOOSE_PER_JOB, files_at_end
from quarry.campaign.paths import CampaignPaths
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
from quarry.stopping.rules import StopRule, core_hours, stop_reason
from quarry.structures import Structure, StructureSet
from quarry.structures.files import read_pool

CORE_COUNTS = (1, 16, 64, 256, 1024)
JOB_START_S = 3.0
"""Wall time that a label job takes to start and to write its record (measured on a local machine; see benchmarks)."""
DRAWS = 40
"""Draws of all wall times, for the distribution of the campaign's end."""
MOST_ITERATIONS = 100_000


@dataclass
class ArmForecast:
    """What is to come in one arm. batches: labels of each iteration to come. known: of these in the store already."""

    arm: str
    done: int
    batches: list[int]
    known: int
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


def choose_probes(
    configuration: Configuration,
    structures: str,
    store: LabelStore,
    is_given: Callable[[Structure], bool] = lambda structure: False,
) -> list[BatchRow]:
    """Return rows of the first batch, spread over its sizes, whose labels are to tell the cost.

    If the store has enough of the batch's labels, they are taken from those, and nothing is computed. is_given: whether the
    user has the label of a structure (``labeling.known``): it costs nothing and tells nothing. Where the whole batch is given,
    structures of the rest of the pool are taken, drawn as a later batch may be.
    """
    rows, wanted = draw_initial(configuration, structures), configuration.forecast.probes
    pool = read_pool(structures)
    places = pool.index_of([row.structure_id for row in rows])
    rows = [row for row, place in zip(rows, places.tolist(), strict=True) if not is_given(pool[place])]
    if not rows:
        drawn = generator(configuration.seed, "forecast", "probes").permutation(len(pool))
        others = (pool[int(i)] for i in drawn)
        rows = [
            BatchRow(s.structure_id, "train", s.structure_id)
            for s in islice((s for s in others if not is_given(s)), wanted)
        ]
    if not rows:
        raise QuarryError("forecast: all labels of the pool are given (labeling.known); there is nothing to pay")
    known = [row for row in rows if store.get(row.structure_id) is not None]
    candidates = known if len(known) >= wanted else rows
    electrons = [pool[int(i)].electrons for i in pool.index_of([row.structure_id for row in candidates])]
    order = np.argsort(electrons, kind="stable")
    places = np.unique(np.linspace(0, len(order) - 1, min(wanted, len(order))).round().astype(int))
    return [candidates[order[place]] for place in places]


def make_forecast(
    configuration: Configuration,
    planner: Planner,
    paths: CampaignPaths,
    probes: Sequence[str],
    store: LabelStore,
    cores: int,
    own: Sequence[StopRule] = (),
) -> Forecast:
    """Return the forecast of the rest of a campaign.

    paths: of the campaign. probes: label files of the probes. cores: of this run; they are added to ``CORE_COUNTS``. Raises
    QuarryError if too few labels are there to tell.
    """
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
    arms = [
        _arm_forecast(configuration, paths, arm, facts, costs_, pool, planner, model, store, own)
        for arm, (facts, costs_) in finished.items()
    ]
    flat = [size for arm in arms for sizes in arm.sizes for size in sizes]
    totals = model.draw_totals(flat) * model.cores / 3600 if flat else np.zeros(1)
    grouped = [[_jobs(planner, model, sizes) for sizes in arm.sizes] for arm in arms]
    last = [costs_[-1].train_core_hours for _, costs_ in finished.values() if costs_]
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


def schedule(configuration: Configuration, arm: str, pool_size: float, last: Facts | None) -> tuple[list[int], str]:
    """Return the labels of each iteration to come, if no error-based rule stops the arm before, and what ends it.

    pool_size: number of structures, infinity where a sampler makes new ones. last: facts of the arm's last iteration, None
    for a fresh one.
    """
    stop, batch = configuration.stop, configuration.arm(arm).query.batch
    batches: list[int] = []
    if last is None:
        batches.append(configuration.query.initial + configuration.test.size)
        t, n_train, used, left = 0, configuration.query.initial, batches[0], pool_size - batches[0]
    else:
        t, n_train, used = last.iteration, last.n_train, last.n_labels
        left = math.inf if last.pool_left is None else last.pool_left
    while True:
        if left <= 0:
            return batches, "the pool's end"
        if stop.max_labels is not None and used >= stop.max_labels:
            return batches, f"stop.max_labels = {stop.max_labels}"
        if stop.max_iterations is not None and t >= stop.max_iterations:
            return batches, f"stop.max_iterations = {stop.max_iterations}"
        if len(batches) >= MOST_ITERATIONS:
            return batches, f"{MOST_ITERATIONS} iterations"
        t += 1
        size = int(min(batch_size(batch, t, n_train), left))
        size = size if stop.max_labels is None else min(size, stop.max_labels - used)
        batches.append(size)
        n_train, used, left = n_train + size, used + size, left - size


def _arm_forecast(
    configuration: Configuration,
    paths: CampaignPaths,
    arm: str,
    facts: list[Facts],
    costs: list[Cost],
    pool: StructureSet,
    planner: Planner,
    model: CostModel,
    store: LabelStore,
    own: Sequence[StopRule],
) -> ArmForecast:
    size = math.inf if configuration.pool.is_sampled else len(pool)
    batches, ends_by = schedule(configuration, arm, size, facts[-1] if facts else None)
    rows = _next_rows(configuration, paths, arm, len(facts))
    rng = generator(configuration.seed, "forecast", arm)
    known, sizes = 0, []
    for n, count in enumerate(batches):
        if n == 0 and rows is not None:
            new = [row for row in rows if store.get(row.structure_id) is None]
            known = count - len(new)
            chosen = pool.index_of([row.structure_id for row in new])
        else:
            # Which ones the strategy will want is not known; their sizes are taken to be those of the pool.
            chosen = rng.integers(len(pool), size=count)
        sizes.append(sizes_of([pool[int(i)] for i in chosen], planner.engine, model.measure))
    queries = [Query.read(paths.iteration("query.json", arm, t)) for t in range(len(facts))]
    stopped = stop_reason(Progress(facts, costs, configuration, queries), own) if facts else None
    return ArmForecast(arm, len(facts), batches, known, ends_by, stopped.words if stopped else None, sizes)


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
    limit = configuration.stop.max_core_hours
    if limit is None:
        return None
    if sizes:
        means = totals / len(sizes)
    else:
        sample = generator(configuration.seed, "forecast", "budget").integers(len(pool), size=200)
        sizes = sizes_of([pool[int(i)] for i in sample], planner.engine, model.measure)
        means = model.draw_totals(sizes) * model.cores / 3600 / len(sizes)
    left = max(0.0, limit - spent)
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
