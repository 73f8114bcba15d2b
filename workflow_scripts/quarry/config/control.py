"""The control arm: what would random selection have done with the same labels?"""

from __future__ import annotations

from pydantic import Field

from quarry.config.base import Section

ONE_RANDOM_ARM = (
    "one random arm cannot tell a saving from chance: give control.seeds three or more, or control.splits where "
    "labels are cheap"
)


class Control(Section):
    """Random arms beside arm main, with the same batches and the same end; labels are shared through the store. They tell how
    many labels were saved, with a 95 % interval. One random arm gives no verdict. With 5 % chance in each error (error ~
    n^-1/2, 400 labels), 8 of 10 campaigns find a saving of 26 % with 3 random arms, of 17 % with 5 and of 14 % with 10; where
    the luck of an arm lasts along its curve, of 48, 33 and 28 %.
    """

    seeds: list[int] = Field(default=[0], min_length=1)
    """Seeds of the random arms (random_0 ...): three or more for a verdict (two give one, but find hardly anything). All share
    arm main's initial batch and test set: the interval is for structures like the pool's and that one initial batch."""
    repeats: list[int] = []
    """Seeds with which arm main is run again (main_8 ...). Without them its chance is taken to be that of the random arms. Two
    of them with 3 random arms find a saving of 15 % as above, of 30 % where luck lasts."""
    splits: list[int] = []
    """Seeds of further initial batches and test sets, each with an arm main and a random one (main_split_11, random_split_11):
    the interval is then over initial batches and test sets, not for the one that was drawn. Each costs up to twice the
    campaign's labels (stop.max_labels holds for each arm): for labels that are cheap or exist already (labeling.engine:
    replay). Four or more for a verdict."""


def control_names(control: Control | None) -> tuple[list[str], list[str]]:
    """Return the names of the random arms, and those of the repeats of arm main."""
    if control is None:
        return [], []
    return [f"random_{seed}" for seed in control.seeds], [f"main_{seed}" for seed in control.repeats]


def no_verdict(control: Control | None) -> str | None:
    """Return why control arms can give no verdict, whatever they find; None: they can, or there are none."""
    return None if control is None or len(control.seeds) > 1 or control.splits else ONE_RANDOM_ARM


def split_names(control: Control | None) -> list[tuple[str, str]]:
    """Return the names of the arms of each split: the campaign's strategy, and random selection."""
    return [] if control is None else [(f"main_split_{seed}", f"random_split_{seed}") for seed in control.splits]
