"""Samplers by the section of the configuration that describes them. Imports are lazy: no sampler imports another's."""

from __future__ import annotations

from typing import Any

from quarry.config.samplers import OwnSampler, SamplerSection
from quarry.dynamics.paths import Owner
from quarry.dynamics.samplers.base import Origin
from quarry.errors import QuarryError
from quarry.imports import make_user_object, named

KEY = "pool.explore.sampler"


def make_sampler(section: SamplerSection, origin: Origin) -> Any:
    """Return a sampler: a ``PathSampler``, or where ``section.has_time`` what gives trajectories their starts and goals.

    Raises QuarryError, before any job too, for a file or a user's class that cannot be used.
    """
    if not isinstance(section, OwnSampler):
        return named(section.made_by)(section, origin)
    sampler = make_user_object(section.kind, f"{KEY}.kind", section.arguments, origin.base)
    if not callable(getattr(sampler, "path", None)):
        raise QuarryError(f"{KEY}: {section.kind} has no method path(start, number, rng); add it")
    return sampler


def owner_of(section: SamplerSection) -> Owner | None:
    """Return what is said of a user's sampler that fails, and how long it may take; None for those of Quarry."""
    return Owner(f"{KEY}: {section.kind}", section.time_limit_s, True) if isinstance(section, OwnSampler) else None
