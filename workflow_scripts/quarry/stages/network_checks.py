"""Whether baselines and networks of other packages can take the pool."""

from __future__ import annotations

from pathlib import Path

from quarry.config.baselines import CalculatorBaseline
from quarry.config.campaign import Configuration
from quarry.config.installed import what_is_lacking
from quarry.config.networks import NetworkPotential
from quarry.stages.pool_checks import one_of_each_set_of_elements
from quarry.structures import StructureSet

MOST_ASKED = 8
"""Structures that a calculator is asked of before the start; it may take long for one."""


def check_networks(configuration: Configuration, structures: StructureSet, base: Path) -> None:
    """Raise QuarryError, one line, for a network or baseline that cannot be read or cannot take the pool's structures.

    base: folder of the campaign file. A network whose package is not here is left to the jobs, which may have it.
    """
    derivatives = any(name != "energy" for name in configuration.goal.learnt)
    for baseline in configuration.baselines:
        if what_is_lacking(baseline, "model.baseline"):
            continue
        from quarry.models.baseline_cache import BaselineCache

        # A calculator does not say which elements it knows: it is asked.
        asked = one_of_each_set_of_elements(structures)
        if isinstance(baseline, CalculatorBaseline):
            asked = asked.subset(range(min(len(asked), MOST_ASKED)))
        BaselineCache(baseline, base).of(asked, derivatives)
    for name in configuration.arm_names:
        model = configuration.arm(name).model
        if isinstance(model, NetworkPotential) and not what_is_lacking(model, "model"):
            from quarry.models.network_potential import check_pool

            check_pool(model, structures, base)
