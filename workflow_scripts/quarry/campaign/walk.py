"""The loop, walked arm by arm: which checkpoint is to be asked for next, and at which iteration an arm ends.

The number of iterations is found while they are made: Snakemake evaluates an input function again after every checkpoint.
How a checkpoint is asked for is given from outside, so that a walk needs no Snakemake. Standard library only (used at parse
time).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class Walked(Protocol):
    """What a walk asks of a campaign (``quarry.campaign.campaign.Campaign``)."""

    arms: list[str]

    def sealed(self, arm: str) -> int:
        """Return how many leading iterations of an arm are finished for good and left out of the graph."""

    def leader(self, arm: str) -> str | None:
        """Return the arm whose end is that of a control arm too; None for an arm that stop rules end."""

    def has_facts(self, arm: str, iteration: int) -> bool:
        """Whether an iteration was assessed."""

    def retry_requests(self, arm: str, iteration: int) -> Any:
        """Return what is to be tried again in a batch; false if nothing is."""

    def stop_reason(self, arm: str, iteration: int) -> Any:
        """Return why an arm ends at an iteration, which is assessed; None to go on."""


class Walk:
    """Walks the arms of a campaign.

    ask: asks for the checkpoints of an arm's iteration, in order; raises what the engine raises where one is not made yet.
    Every checkpoint of an iteration is asked for: Snakemake forgets inputs behind one that was not when a campaign is
    resumed (snakemake issue 3862), and labels would be lost silently.
    """

    def __init__(self, campaign: Walked, ask: Callable[[str, int], None]) -> None:
        self._campaign, self._ask = campaign, ask

    def last(self, arm: str) -> int:
        """Walk an arm's loop and return its last iteration; asks for the next checkpoint on the way.

        A stop rule is asked only where no later iteration is on disk (what is paid for is used) and no failed labels are to
        be tried again.
        """
        campaign = self._campaign
        first, iteration = campaign.arms[0], campaign.sealed(arm)
        if iteration and not campaign.retry_requests(arm, iteration) and self._ends(arm, iteration - 1):
            return iteration - 1
        while True:
            if iteration == 0 and arm != first and not campaign.sealed(first):
                # Its labels of iteration 0 are those of the first arm.
                self._ask(first, 0)
            self._ask(arm, iteration)
            if not self._goes_on(arm, iteration + 1) and self._ends(arm, iteration):
                return iteration
            iteration += 1

    def _goes_on(self, arm: str, iteration: int) -> bool:
        """Return whether an iteration is to be walked whatever the stop rules say: it is on disk, or holds retries."""
        return self._campaign.has_facts(arm, iteration) or bool(self._campaign.retry_requests(arm, iteration))

    def _ends(self, arm: str, iteration: int) -> bool:
        """Return whether an arm ends at an iteration. A control arm ends where its leader does, which is walked there."""
        leader = self._campaign.leader(arm)
        if leader:
            for step in range(self._campaign.sealed(leader), iteration + 1):
                if step and not self._goes_on(leader, step) and self._campaign.stop_reason(leader, step - 1):
                    break
                self._ask(leader, step)
        return self._campaign.stop_reason(arm, iteration) is not None
