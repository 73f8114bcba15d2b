"""What fits trajectories: of the campaign, and of a model."""

from __future__ import annotations

from quarry.config.campaign import Configuration
from quarry.config.descriptors import InverseDistances
from quarry.config.dynamics import NAMED_THRESHOLDS, UNITS
from quarry.config.model_traits import ModelTraits
from quarry.config.pool import DynamicsPool


def dynamics_problem(c: Configuration) -> str | None:
    """Return what trajectories lack, or None."""
    if not isinstance(c.pool, DynamicsPool):
        if c.stop.min_new_points is not None:
            return "stop.min_new_points counts what trajectories find (pool.source: dynamics), and there are none; remove it"
        return None
    settings = c.pool.explore
    if c.pool.grows_by is not None and c.pool.grows_by.error == "test" and not c.test.size:
        return "pool.growth.error: test, and test.size is 0; raise it, or set cross_validation"
    if settings.threshold in NAMED_THRESHOLDS and not c.test.size:
        return (
            f"pool.explore.threshold: {settings.threshold} looks at the test set, and test.size is 0; raise it, or give a number "
            f"with {UNITS[settings.uncertainty]}"
        )
    return None


def model_without_trajectories(c: Configuration, where: str, traits: ModelTraits) -> str | None:
    """Return what a model lacks for the trajectories of a campaign, or None. where: the configuration's key of the model."""
    if not isinstance(c.pool, DynamicsPool):
        return None
    settings, learnt = c.pool.explore, c.goal.learnt
    needed = ["forces"] + ["stress"] * (settings.ensemble == "npt")
    # Of a model of the descriptor only where that has derivatives.
    smooth = not traits.needs_descriptor or isinstance(c.descriptor, InverseDistances)
    given = traits.derivatives if smooth else ()
    lacking = [name for name in needed if name not in given and name not in learnt]
    if lacking:
        return (
            f"{where}: trajectories (pool.source: dynamics) need {' and '.join(lacking)}, which this model does not predict; use "
            "gmnn, kreg with target: energy_forces, or gpr with descriptor.kind: inverse_distances"
        )
    if settings.uncertainty == "informativeness":
        return (
            None if traits.informativeness else f"{where} has no informativeness (pool.explore.uncertainty); use gmnn"
        )
    if not traits.std or (settings.uncertainty == "forces" and "forces" not in learnt):
        return (
            f"{where} predicts no standard deviation of {settings.uncertainty} (pool.explore.uncertainty), which ends "
            f"trajectories{traits.remedies.get('std', '')}"
        )
    return None
