"""The control arm: what would random selection have done with the same labels?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from quarry.config.base import Section

if TYPE_CHECKING:
    from quarry.config.campaign import Configuration


class Control(Section):
    """Random arms beside arm main, with the same batches and the same end; labels are shared through the store."""

    seeds: list[int] = Field(default=[0], min_length=1)
    """Seeds of the random arms (random_0 ...); several give the error bar of the labels saved."""
    repeats: list[int] = []
    """Seeds with which arm main is run again (main_8 ...); they widen the error bar by the chance in its own selection."""


def control_names(control: Control | None) -> tuple[list[str], list[str]]:
    """Return the names of the random arms and of the repeats of arm main."""
    if control is None:
        return [], []
    return [f"random_{seed}" for seed in control.seeds], [f"main_{seed}" for seed in control.repeats]


def conflict(configuration: Configuration) -> str | None:
    """Return what is wrong with the control arms, or None."""
    control = configuration.control
    if control is None:
        return None
    for key, seeds in (("seeds", control.seeds), ("repeats", control.repeats)):
        if any(seed < 0 for seed in seeds) or len(set(seeds)) < len(seeds):
            return f"control.{key}: give different whole numbers, none below 0 (got {seeds})"
    if configuration.seed in control.repeats:
        return f"control.repeats: {configuration.seed} is arm main's own seed; give others"
    taken = sorted(set(configuration.arms) & {name for names in control_names(control) for name in names})
    if taken:
        return f"arms.{taken[0]}: control makes an arm of this name; give yours another"
    if configuration.query.strategy == "random":
        return "control: arm main selects at random itself; give query.strategy another value, or remove control"
    return None
