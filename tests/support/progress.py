"""Facts, costs and queries of arms that never ran."""

from __future__ import annotations

from typing import Any

from quarry.config import Configuration, load_configuration
from quarry.models.metrics import rrmse
from quarry.stopping.facts import Cost, Facts
from quarry.stopping.progress import Query
from support.campaigns import stand_in_configuration


def configuration(target: str = "energy", **stop: Any) -> Configuration:
    changes = {"target": target, "stop": {"rrmse": None, **stop}}
    return load_configuration(stand_in_configuration(**changes), "campaign.yaml")


def facts(iteration: int = 0, **changes: Any) -> Facts:
    rmse = changes.pop("rmse", 0.5)
    values: dict[str, Any] = {
        "arm": "main",
        "iteration": iteration,
        "phase": "query" if iteration else "initial",
        "n_train": 50 * (iteration + 1),
        "n_test": 10,
        "n_labels": 50 * (iteration + 1) + 10,
        "n_failed": 0,
        "pool_size": 1000,
        "pool_left": 1000 - 50 * (iteration + 1) - 10,
        "target": "energy",
        "metric": "test",
        "errors": {"test": {"rmse": rmse, "rmse_low": 0.9 * rmse, "rmse_high": 1.1 * rmse}},
        "rrmse": 1.0,
        "rrmse_low": 1.0,
        "rrmse_high": 1.0,
    }
    return Facts(**{**values, **changes})


def cost(campaign: float = 0.0, train: float = 0.0, own: float = 0.0) -> Cost:
    return Cost(
        labels_new=50,
        labels_reused=0,
        labels_failed=0,
        label_core_hours=own,
        campaign_label_core_hours=campaign,
        train_core_hours=train,
        label_cpu_s=0.0,
    )


def series(values: list[float]) -> list[Facts]:
    """Facts of a series of RMSEs."""
    history = []
    for t, rmse in enumerate(values):
        change = rrmse(values[t - 1] if t else None, rmse)
        history.append(facts(t, rmse=rmse, rrmse=change, rrmse_low=0.5 * change, rrmse_high=1.1 * change))
    return history


def query(std=None, unfamiliar=0, **changes):
    """A query among 200 candidates whose standard deviations are at most ``std``."""
    spread = {"min": 0.0, "q25": 0.2, "median": 0.4, "q75": 0.6, "q95": 0.8, "max": 1.0, "mean": 0.4}
    found = {} if std is None else {"std": {name: std * share for name, share in spread.items()}}
    return Query("uncertainty", 200, unfamiliar, distributions=found, **changes)
