"""What the iterations of an arm have to do, from the configuration (read at parse time: nothing heavy)."""

from __future__ import annotations

from quarry.campaign.loop import ArmPlan
from quarry.config.campaign import Configuration
from quarry.config.pool import DynamicsPool


def plan_of(configuration: Configuration, arm: str) -> ArmPlan:
    """Return what an ordinary iteration of an arm has to do, one with a batch that is proposed."""
    settings = configuration.arm(arm)
    return ArmPlan(
        scored=settings.query.needs_scores,
        members=settings.model.traits.member_jobs,
        sampled=configuration.pool.is_sampled,
        explorations=configuration.pool.explore.shares if isinstance(configuration.pool, DynamicsPool) else 0,
    )
