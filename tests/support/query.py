"""Pools and strategies for the tests of the query strategies."""

from __future__ import annotations

from typing import Any

import numpy as np

from quarry.config.query import FROM_MODEL, ConstantBatch, Query
from quarry.query.base import PoolView, Strategy
from quarry.query.strategies import make_strategy

BATCH = ConstantBatch(schedule="constant", size=1)


def query(name: str, **options: Any) -> Query:
    return Query(strategy=name, initial=1, batch=BATCH, **options)


def strategy(name: str, **options: Any) -> Strategy:
    return make_strategy(query(name, **options))


def select(name: str, pool: PoolView, n: int, seed: int = 0, **options: Any) -> list[int]:
    return strategy(name, **options).select(pool, n, np.random.default_rng(seed)).tolist()


def full_pool(rng: np.random.Generator, n: int, d: int, m: int = 3, distinct: int | None = None) -> PoolView:
    """A pool in which every field is given; distinct: so many different candidates at most."""
    features = rng.normal(size=(n, d))
    if distinct is not None and n:
        features = features[rng.integers(0, min(distinct, n), size=n)]
    shares = rng.dirichlet(np.ones(3), size=n)
    return PoolView(
        features,
        mean=rng.normal(size=n),
        std=np.abs(rng.normal(size=n)).round(1),
        probabilities=shares,
        votes=np.round(shares * 4) / np.round(shares * 4).sum(axis=1, keepdims=True),
        labelled=rng.normal(size=(m, d)),
        targets=rng.normal(size=m),
        embedding=np.tanh(features @ np.linspace(-1, 1, 4 * d).reshape(d, 4)),
        labelled_embedding=rng.normal(size=(m, 4)),
        informativeness_energy=rng.random(n),
        informativeness_forces=rng.random(n),
        minimum=0.2,
        maximum=1.0,
    )


def permuted(pool: PoolView, order: np.ndarray) -> PoolView:
    """The same candidates in another order."""
    fields = ("features", *FROM_MODEL)
    changed = {f: None if getattr(pool, f) is None else getattr(pool, f)[order] for f in fields}
    return PoolView(**{**vars(pool), **changed})
