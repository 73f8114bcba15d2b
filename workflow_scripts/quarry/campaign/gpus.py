"""How many GPUs a job asks the cluster for: what the configuration says, or what the arm's model needs (parse time)."""

from __future__ import annotations

from typing import Any

from quarry.campaign.loop import RULES
from quarry.config.campaign import Configuration


class JobGpus:
    """The GPUs of the jobs of a campaign."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self.of_own_models: dict[str, int] = {}
        """What the classes of the user's own models say, by arm. The checks before the start look at them; the main process
        and the jobs do not import them."""

    def of(self, rule: str, arm: str) -> int:
        """Return how many GPUs a rule's job asks for in an arm."""
        stage = RULES[rule]
        asked = self.configuration.resources.of(stage.resources).gpus
        if asked is not None:
            return asked
        if not stage.runs_model:
            return 0
        return self.of_own_models.get(arm, self.configuration.arm(arm).model.traits.gpus)

    def resource(self, rule: str) -> dict[str, Any]:
        """Return GPUs as the resource of the name that executors know; nothing where no job of the rule asks for any."""
        stage = RULES[rule]
        asked = self.configuration.resources.of(stage.resources).gpus
        if asked is not None or not stage.runs_model:
            return gpus(asked)
        models = [self.configuration.arm(name).model for name in self.configuration.arm_names]
        if not any(model.is_user_defined or model.traits.gpus for model in models):
            return {}
        # Snakemake leaves out a resource that is None.
        return {"gpu": lambda wildcards: self.of(rule, wildcards.arm) or None}


def gpus(number: int | None) -> dict[str, int]:
    """Return a number of GPUs as that resource."""
    return {"gpu": number} if number else {}
