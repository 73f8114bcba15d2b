"""Whether the initial data of a campaign of dynamics go on growing before its trajectories begin, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from quarry.config.dynamics import CROSS_VALIDATION, Growth
from quarry.dynamics.files import GROWTH
from quarry.stopping.facts import Facts
from quarry.stopping.messages import error_text

METRIC_WORDS = {CROSS_VALIDATION: "RMSE of cross-validation", "test": "RMSE of the test set"}
"""Names of the errors that growth looks at."""


@dataclass(frozen=True)
class Decision:
    """grows: another batch is labelled before trajectories begin. words: why, or why not; empty after the first trajectories."""

    grows: bool
    words: str = ""

    def account(self) -> dict[str, str]:
        """Return what is said of it with the trajectories."""
        return {GROWTH: self.words} if self.words else {}


def decide_growth(
    facts: Sequence[Facts], growth: Growth, batch: int, metric: str, enough_eV: float = 0.0, unit: str = "eV"
) -> Decision:
    """Return whether the initial data shall grow by another batch before dynamics is worth starting.

    facts: of all iterations so far. metric: which of their errors counts. enough_eV: an error that nobody needs to be smaller for
    dynamics to start, asked when the power law is. unit: of the errors, for the words. A power law ``a N^b`` is fitted to the
    errors of all models by least squares in the logarithms; it is worth starting when ``1 - (1 + batch / N)^b``, the share of
    the error that another batch would take, is below ``growth.gain`` (Y.-F. Hou et al., J. Chem. Theory Comput. 20, 7744
    (2024)). An error that grows asks for more labels, one below ``growth.target_rmse`` for none. Of models of equally many
    labels (a retry that failed again) the last one counts: the curve has a point for each number.
    """
    if facts[-1].phase != "initial":
        return Decision(False)
    last = facts[-1].errors.get(metric, {}).get("rmse")
    shown = f"{METRIC_WORDS[metric]} {'not known' if last is None else error_text(last, unit)}"
    target = growth.target_rmse_eV()
    if last is not None and last < target:
        return Decision(False, f"{shown}, below pool.growth.target_rmse ({error_text(target, unit)})")
    points = {one.n_train: rmse for one in facts if (rmse := one.errors.get(metric, {}).get("rmse"))}
    if len(points) < growth.points:
        so_far = f"{len(points)} of the {growth.points} models that the power law needs (pool.growth.points)"
        wanted = f", and {error_text(target, unit)} is not reached" if target else ""
        return Decision(True, f"{shown}; {so_far}{wanted}")
    if last is not None and last < enough_eV:
        return Decision(False, f"{shown}, below {error_text(enough_eV, unit)} (pool.explore.least_energy_eV_atom)")
    exponent = float(stats.linregress(np.log(list(points)), np.log(list(points.values()))).slope)
    if exponent > 0:
        return Decision(True, f"{shown}; it has not fallen yet")
    gained = 1.0 - (1.0 + batch / facts[-1].n_train) ** exponent
    beside = "at least" if gained >= growth.gain else "less than"
    return Decision(
        gained >= growth.gain,
        f"{shown}; {batch} more labels would lower it by {100 * gained:.3g} %, {beside} {100 * growth.gain:.3g} % "
        "(pool.growth.gain)",
    )
