"""Active learning on a pool whose labels are all known: strategies, models and metrics of the library in a plain loop.

What `snakemake` does with engine replay, without its jobs: many runs of many settings in one process. The scripts
targeted_search.py, general_accuracy.py, open_questions.py and classification.py print tables made with it.
"""

import argparse
import importlib.metadata
import os
import resource
import statistics
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np
from common import machine
from threadpoolctl import threadpool_limits

from quarry.config.query import FROM_MODEL, Query
from quarry.config.targets import TARGETS
from quarry.evaluation.search import classification_rates, in_range
from quarry.models.registry import make_regression
from quarry.models.regression import RegressionData
from quarry.query.base import PoolView
from quarry.query.strategies import chosen_by, make_strategy, needs_of
from quarry.randomness import generator
from quarry.structures import StructureSet


@dataclass
class Pool:
    """features: shape (n, d). values: labels of all rows, shape (n,). minimum, maximum: the wanted range."""

    features: np.ndarray
    values: np.ndarray
    minimum: float = -np.inf
    maximum: float = np.inf
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.wanted = in_range(self.values, self.minimum, self.maximum)

    def data(self, rows: np.ndarray) -> RegressionData:
        return RegressionData(nothing(len(rows)), self.features[rows], self.values[rows], self.classes)


def nothing(n: int) -> StructureSet:
    """Structures without atoms, for models that only look at features."""
    return StructureSet(
        ids=np.array([f"row{i}" for i in range(n)]),
        offsets=np.zeros(n + 1, dtype=np.int64),
        numbers=np.zeros(0, dtype=np.int64),
        positions=np.zeros((0, 3)),
        cells=np.zeros((n, 3, 3)),
        pbc=np.zeros((n, 3), dtype=bool),
        charges=np.zeros(n, dtype=np.int64),
        multiplicities=np.ones(n, dtype=np.int64),
    )


@dataclass
class Plan:
    """One run: target is what the model learns (homo ..., class), sizes the training set after each iteration."""

    strategy: str
    model: Any
    sizes: list[int]
    seed: int
    test_size: int = 2000
    target: str = "homo"
    options: dict[str, Any] = field(default_factory=dict)
    held_out: bool = False
    evaluate_last: bool = True


Runs = dict[str, list[list[dict[str, float]]]]
"""Rows of each strategy and seed."""


def run(pool: Pool, plan: Plan) -> list[dict[str, float]]:
    """Return one row of figures for each size of the training set.

    Split and model depend on the seed only, not on the strategy: the same labels give the same model, as in a campaign.
    """
    query = Query.model_validate(
        {"strategy": plan.strategy, "initial": 1, "batch": {"schedule": "constant", "size": 1}, **plan.options}
    )
    strategy = make_strategy(query)
    needs = needs_of(query, strategy)
    order = generator(plan.seed, "split").permutation(len(pool.values))
    test, train = order[: plan.test_size], order[plan.test_size : plan.test_size + plan.sizes[0]]
    rest = order[plan.test_size :]
    rows = []
    for step, size in enumerate(plan.sizes):
        began, cpu = time.perf_counter(), time.process_time()
        last = size == plan.sizes[-1]
        row: dict[str, float] = {"n": len(train), "found": int(pool.wanted[train].sum())}
        if not last or plan.evaluate_last:
            model = make_regression(plan.model, TARGETS[plan.target])
            model.fit(pool.data(train), None, generator(plan.seed, "train"))
            row |= evaluate(pool, model, test)
        if not last:
            candidates = np.setdiff1d(rest, train)
            view = view_of(pool, model, candidates, train, needs, query, plan, generator(plan.seed, step, "embed"))
            if plan.held_out and view.mean is not None:
                rates = classification_rates(pool.values[candidates], view.mean, pool.minimum, pool.maximum)
                for name in ("tpr", "fpr"):
                    rate = rates[name]
                    row[f"pool_{name}"] = np.nan if rate is None else rate
            rng = generator(plan.seed, plan.strategy, step, "propose")
            chosen = chosen_by(strategy, plan.strategy, view, plan.sizes[step + 1] - size, rng)
            train = np.concatenate([train, candidates[chosen]])
            assert len(train) == len(np.unique(train)) == plan.sizes[step + 1]
        row |= {"wall_s": time.perf_counter() - began, "cpu_s": time.process_time() - cpu}
        rows.append(row)
        print(f"  {plan.strategy} seed {plan.seed}: {shown(row)}", file=sys.stderr, flush=True)
    return rows


def evaluate(pool: Pool, model: Any, test: np.ndarray) -> dict[str, float]:
    prediction = model.predict(nothing(len(test)), pool.features[test])
    if pool.classes:
        return {"accuracy": float(np.mean(prediction.mean == pool.values[test]))}
    errors = np.abs(prediction.mean - pool.values[test])
    wanted = pool.wanted[test]
    found = {"mae": errors.mean(), "rmse": float(np.sqrt(np.mean(errors**2))), "maxe": errors.max()}
    if np.isfinite(pool.minimum) or np.isfinite(pool.maximum):
        rates = classification_rates(pool.values[test], prediction.mean, pool.minimum, pool.maximum)
        found |= {"mae_in_range": errors[wanted].mean(), "tpr": rates["tpr"], "fpr": rates["fpr"]}
    return {name: float(value) for name, value in found.items()}


def view_of(
    pool: Pool,
    model: Any,
    candidates: np.ndarray,
    train: np.ndarray,
    needs: frozenset[str],
    query: Query,
    plan: Plan,
    rng: np.random.Generator,
) -> PoolView:
    """Return what the strategy sees; the model is asked for what it needs, and for means where these are measured."""
    fields: dict[str, Any] = {}
    features = pool.features[candidates]
    wanted = needs | ({"mean"} if plan.held_out else set())
    if wanted & {"mean", "std", "probabilities", "votes"}:
        prediction = model.predict(nothing(len(candidates)), features, with_std="std" in needs)
        fields = {name: getattr(prediction, name, None) for name in FROM_MODEL if name != "embedding"}
    if "embedding" in needs:
        both = np.concatenate([candidates, train])
        maps = model.embed(nothing(len(both)), pool.features[both], query.embedding_of(plan.model.traits), rng)
        fields |= {"embedding": maps[: len(candidates)], "labelled_embedding": maps[len(candidates) :]}
    known = {"labelled": pool.features[train], "targets": pool.values[train]}
    return PoolView(features=features, minimum=pool.minimum, maximum=pool.maximum, **fields, **known)


def shown(row: dict[str, float]) -> str:
    return ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())


def labels_for(rows: list[dict[str, float]], found: float) -> float | None:
    """Return with how many labels so many structures in range are found, on straight lines; None if they never are."""
    sizes, finds = [row["n"] for row in rows], [row["found"] for row in rows]
    return None if found > finds[-1] else float(np.interp(found, finds, sizes))


def mean_and_std(values: list[float], digits: int = 3) -> str:
    """Return mean ± standard deviation over seeds."""
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"


def arguments(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--features", required=True, help="HDF5 file of features and labels (benchmarks/descriptors.py)"
    )
    parser.add_argument("--feature-set", default="features", help="its dataset of features, shape (n, d)")
    parser.add_argument("--labels", default="homo_eV", help="its dataset of labels, shape (n,)")
    parser.add_argument("--pool", type=int, default=0, help="rows of the pool, drawn with seed 0 (0: all)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--test-size", type=int, default=2000)
    return parser


def read(options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Return features and labels; rows without a label are left out."""
    with h5py.File(options.features, "r") as handle:
        features, values = handle[options.feature_set][()], handle[options.labels][()]
    rows = np.flatnonzero(np.isfinite(values))
    if options.pool and options.pool < len(rows):
        rows = np.sort(np.random.default_rng(0).choice(rows, options.pool, replace=False))
    return features[rows] if len(rows) < len(values) else features, values[rows]


def begin(options: argparse.Namespace, what: str) -> None:
    """Set the threads and say what is measured where."""
    threadpool_limits(limits=options.threads)
    try:
        import torch

        torch.set_num_threads(options.threads)
    except ImportError:
        pass
    versions = ", ".join(f"{n} {importlib.metadata.version(n)}" for n in ("scipy", "scikit-learn", "torch"))
    print(f"{what}\n{machine()}, {versions}; {options.threads} threads; seeds {options.seeds}", flush=True)


def end(began: float) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(
        f"\n{time.perf_counter() - began:.0f} s, {used.ru_utime + used.ru_stime:.0f} CPU-s, "
        f"peak memory {used.ru_maxrss / 2**20:.1f} GB"
    )
