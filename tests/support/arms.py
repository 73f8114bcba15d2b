"""The models of an arm on a pool of the tests."""

from __future__ import annotations

from pathlib import Path

from quarry.config import Configuration
from quarry.stages.arm_models import ArmModels


def models_in(
    configuration: Configuration,
    features: str | Path,
    arm: str = "main",
    structures: str | Path | None = None,
    base: Path | None = None,
) -> ArmModels:
    """features: ``features.h5``. structures: the pool; None: beside the features, or they know ids and copies alone."""
    beside = Path(features).with_name("structures.h5")
    pool = structures or (beside if beside.exists() else features)
    return ArmModels(configuration, arm, str(pool), str(features), base)
