"""What fits trajectories: of the campaign, and of a model."""

from __future__ import annotations

from quarry.config.campaign import Configuration
from quarry.config.descriptors import InverseDistances
from quarry.config.dynamics import NAMED_THRESHOLDS, UNITS
from quarry.config.model_traits import ModelTraits
from quarry.config.pool import DynamicsPool

FEWEST_CONFORMAL = 19
"""With fewer errors the largest one bounds less than 95 % of further ones."""


PREDICTORS = {
    "forces": "gmnn, kreg with target: energy_forces, or gpr with descriptor.kind: inverse_distances",
    "stress": "gmnn",
}
"""Which models predict what trajectories need. Those that predict a stress predict forces too."""
REMEDIES = {
    "energy": "use gpr, kreg, or gmnn with model.uncertainty: auxiliary, committee or shallow_ensemble",
    "informativeness": "use gmnn",
}
"""Which models have the gradient of each uncertainty."""


def dynamics_problem(c: Configuration) -> str | None:
    """Return what trajectories lack, or None."""
    if not isinstance(c.pool, DynamicsPool):
        if c.stop.min_new_points is not None:
            return "stop.min_new_points counts what trajectories find (pool.source: dynamics), and there are none; remove it"
        return None
    settings = c.pool.explore
    growth, arms = c.pool.grows_by, [c.arm(name).model.traits for name in c.arm_names]
    if growth is not None and not c.test.size and any(growth.metric(a.trains_in_seconds) == "test" for a in arms):
        return "pool.growth.error: test, and test.size is 0; raise it, or set cross_validation"
    if settings.threshold in NAMED_THRESHOLDS and not c.test.size:
        return (
            f"pool.explore.threshold: {settings.threshold} looks at the test set, and test.size is 0; raise it, or give a number "
            f"with {UNITS[settings.uncertainty]}"
        )
    least = c.stop.min_new_points
    if least is not None and settings.most_found < least:
        return (
            f"stop.min_new_points: {settings.count} {settings.noun} (pool.explore) never find {least} new structures, so that "
            "the first ones would end the campaign as converged, whatever they meet; set "
            f"{settings.count} or less here, or run more"
        )
    if settings.calibration == "conformal" and c.test.size < FEWEST_CONFORMAL:
        return (
            f"pool.explore.calibration: conformal needs {FEWEST_CONFORMAL} errors of the test set for a bound that 95 % of them "
            f"keep, and test.size is {c.test.size}; raise it, or set none"
        )
    return None


def model_without_trajectories(c: Configuration, where: str, traits: ModelTraits) -> str | None:
    """Return what a model lacks for the trajectories of a campaign, or None. where: the configuration's key of the model."""
    if not isinstance(c.pool, DynamicsPool):
        return None
    settings, learnt = c.pool.explore, c.goal.learnt
    needed = ["forces"] * (settings.sampler is None or settings.sampler.needs_forces)
    needed += ["stress"] * (settings.ensemble == "npt")
    noun = settings.noun
    # Of a model of the descriptor only where that has derivatives.
    smooth = not traits.needs_descriptor or isinstance(c.descriptor, InverseDistances)
    given = traits.derivatives if smooth else ()
    lacking = [name for name in needed if name not in given and name not in learnt]
    if lacking:
        return (
            f"{where}: {noun} (pool.source: dynamics) need {' and '.join(lacking)}, which this model does not predict; use "
            f"{PREDICTORS[lacking[-1]]}"
        )
    bias = settings.bias
    if bias is not None and bias.acts and not (smooth and bias.uncertainty in traits.uncertainty_gradients):
        return (
            f"{where}: pool.explore.bias needs the gradient of the uncertainty ({bias.uncertainty}), which this model does not "
            f"give; {REMEDIES[bias.uncertainty]}"
        )
    if settings.uncertainty == "informativeness":
        return (
            None if traits.informativeness else f"{where} has no informativeness (pool.explore.uncertainty); use gmnn"
        )
    if not traits.std or (settings.uncertainty == "forces" and "forces" not in learnt):
        remedy = "; set target: energy_forces, or uncertainty: energy" if traits.std else traits.remedies.get("std", "")
        return (
            f"{where} predicts no standard deviation of {settings.uncertainty} (pool.explore.uncertainty), which ends "
            f"trajectories{remedy}"
        )
    return None
