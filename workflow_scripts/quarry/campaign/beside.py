"""Model steps beside the main process: short ones, for which a job in a queue would be mostly waiting."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from math import ceil
from pathlib import Path
from typing import Any

from quarry.campaign.batch_table import read_batch
from quarry.campaign.gpus import JobGpus
from quarry.campaign.loop import RULES
from quarry.campaign.nested import end_with_parent
from quarry.campaign.paths import CampaignPaths
from quarry.campaign.receipts import read_receipts
from quarry.config.campaign import Configuration
from quarry.processes import end_children, start_ticks
from quarry.stopping.facts import Facts
from quarry.submission import BESIDE_MAIN

ALLOWANCE = 2
"""A step beside the main process may take so many times the limit by which it was chosen; then it goes to the cluster."""
GROWTH_POWER = 3
"""Power of the number of labels that bounds the cost of every model (Gaussian processes: a Cholesky factorisation)."""
MAIN_PROCESS = "QUARRY_MAIN_PROCESS"
"""Environment variable with the main process's number and start; on other hosts it means nothing."""


class BesideMain:
    """Decides which jobs of rules with a resource ``beside_main_s`` are run by the main process itself."""

    def __init__(self, configuration: Configuration, paths: CampaignPaths, gpus: JobGpus) -> None:
        self.configuration, self.paths, self.gpus = configuration, paths, gpus
        self.is_possible: Callable[[str], bool] = lambda rule: False
        """Whether jobs of a rule may run so at all: in a real run whose jobs go to a cluster (``open_campaign``)."""

    def resource(self, rule: str, behind: int = 0) -> dict[str, Callable[..., int | None]]:
        """Return the resource by which a rule says that its jobs may run beside the main process.

        behind: how many iterations the data set that the rule reads is behind. The value is the seconds that a job may take
        there; None sends it to the cluster: a cost that is not known yet, or too high, and every attempt after the first.
        """

        def beside_main_s(wildcards: Any, attempt: int) -> int | None:
            limit_s = self.configuration.resources.beside_main_s(RULES[rule].resources)
            if attempt > 1 or not limit_s or not self.is_possible(rule):
                return None
            if self.gpus.of(rule, wildcards.arm):
                return None
            expected = expected_s(self.paths, rule, wildcards.arm, int(wildcards.iteration), behind)
            return None if expected is None or expected > limit_s else ceil(ALLOWANCE * limit_s)

        return {BESIDE_MAIN: beside_main_s}


def expected_s(paths: CampaignPaths, rule: str, arm: str, iteration: int, behind: int = 0) -> float | None:
    """Return a bound of the seconds that a rule's jobs take in an iteration, all together, by what they took in the last one.

    None where nothing was measured. behind: see ``BesideMain.resource``.
    """
    try:
        receipts = read_receipts(Path(paths.iteration("receipts", arm, iteration - 1)))
        measured = [float(receipt["cost"]["wall_s"]) for receipt in receipts if receipt["rule"] == rule]
        before = _labels(paths, arm, iteration - 1 - behind)
        return sum(measured) * max(1.0, _labels(paths, arm, iteration - behind) / before) ** GROWTH_POWER or None
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
        return None


def _labels(paths: CampaignPaths, arm: str, iteration: int) -> int:
    """Return how many labels an iteration's data set has, at most: before it is assessed, with the whole batch."""
    if iteration < 0:
        raise ValueError("no iteration is before the first one")
    if Path(paths.facts(arm, iteration)).exists():
        return Facts.read(paths.facts(arm, iteration)).n_labels
    return _labels(paths, arm, iteration - 1) + len(read_batch(paths.batch(arm, iteration)))


def announce_main() -> None:
    """Name this main process in the environment of the steps beside it, so that they can end with it."""
    os.environ[MAIN_PROCESS] = f"{os.getpid()} {start_ticks(os.getpid())}"


def keep_within(seconds: float, write: Callable[[str], None]) -> None:
    """Let the script of a step beside the main process end with that, and after so many seconds: then the cluster has it.

    write: writes a line to the job's log. The main process may be gone before this one has imported what it needs.
    """
    pid, _, started = os.environ.get(MAIN_PROCESS, "").partition(" ")
    end_with_parent({int(pid): started} if pid else {})

    def end() -> None:
        write(f"took more than {seconds:.0f} s beside the main process; it is tried again as a job of the cluster")
        end_children()
        os._exit(1)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
