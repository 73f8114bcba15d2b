"""The status of an arm: its finished iterations, and what the unfinished one does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quarry.campaign.loop import LABELS, LOOP, ArmPlan
from quarry.campaign.paths import CampaignPaths
from quarry.config.pool import SAMPLED_SOURCES
from quarry.config.query import Query
from quarry.status.facts import IterationStatus
from quarry.status.files import time_of
from quarry.stopping.facts import Cost, Facts

STEPS = {
    "explore": "trajectories look for new structures",
    "sample_candidates": "makes new structures",
    "score_pool": "scores the pool",
    "propose_batch": "chooses the batch",
    "select_batch": "chooses the batch",
    "label_structure": "labels",
    "merge_labels": "merges labels",
    "train_member": "trains the model",
    "train_model": "trains the model",
    "evaluate_model": "evaluates the model",
    "assess_iteration": "sums up the iteration",
    "build_pool": "builds the pool",
    "build_features": "computes features of the pool",
    "build_baseline": "computes baselines of the pool",
    "collect_pool_labels": "collects labels of the pool",
    "choose_probes": "chooses structures to measure the cost",
}
"""What a rule does, in the words of a reader."""


@dataclass(frozen=True)
class Finished:
    """The finished iterations of an arm, with the facts and costs as their files have them."""

    facts: list[Facts]
    costs: list[Cost]
    fault: str = ""

    @property
    def iterations(self) -> list[IterationStatus]:
        """What a reader sees of each."""
        return [_iteration(facts, costs) for facts, costs in zip(self.facts, self.costs, strict=True)]


def finished(paths: CampaignPaths, arm: str) -> Finished:
    """Return the leading finished iterations of an arm; a damaged file ends them and is named."""
    facts: list[Facts] = []
    costs: list[Cost] = []
    while time_of(paths.facts(arm, len(facts))) is not None:
        try:
            found = Facts.read(paths.facts(arm, len(facts))), Cost.read(paths.cost(arm, len(facts)))
        except FileNotFoundError:
            break
        except (OSError, ValueError) as error:
            return Finished(facts, costs, str(error))
        facts.append(found[0])
        costs.append(found[1])
    return Finished(facts, costs)


def plan_in(manifest: Mapping[str, Any], arm: str) -> ArmPlan:
    """Return which steps lead to a batch of an arm, as the campaign's manifest says, which any version may have written."""
    identity: Any = manifest.get("identity")
    try:
        sampled = identity["pool"]["source"] in SAMPLED_SOURCES
        own = identity["arms"].get(arm, {}).get("query", {})
        scored = Query.model_validate({**identity["query"], **own}).needs_scores
    except (LookupError, TypeError, AttributeError, ValueError):
        return ArmPlan(scored=True)
    return ArmPlan(scored=scored, sampled=sampled)


def step_of(paths: CampaignPaths, arm: str, iteration: int, plan: ArmPlan) -> str:
    """Return the rule that an unfinished iteration has come to: that behind the last one whose files are there.

    plan: the steps that lead to its batch. Empty where nothing of the iteration is there.
    """
    folder = Path(paths.iteration("", arm, iteration))
    if not folder.is_dir():
        return ""
    if iteration == 0 or time_of(paths.batch(arm, iteration)) is not None:
        stages = [stage for stage in LOOP if stage is LABELS or stage.rule in _AFTER_BATCH]
        if time_of(paths.batch(arm, iteration)) is None:
            return "select_batch"
    else:
        stages = [stage for stage in LOOP if stage.rule not in _AFTER_BATCH and stage is not LABELS]
        stages = [stage for stage in stages if not stage.part and stage.when(plan)]
    there = [n for n, stage in enumerate(stages) if any(time_of(folder / file) for file in stage.outputs.values())]
    after = max(there, default=-1) + 1
    while after < len(stages) - 1 and stages[after].part:
        # A committee's members: whether the arm has one is not known here; the step is the same for a reader.
        after += 1
    return stages[min(after, len(stages) - 1)].rule


_AFTER_BATCH = frozenset({"merge_labels", "train_member", "train_model", "evaluate_model", "assess_iteration"})


def _iteration(facts: Facts, cost: Cost) -> IterationStatus:
    errors = facts.errors.get(facts.metric, {})
    return IterationStatus(
        facts.iteration,
        facts.n_train,
        facts.n_labels,
        facts.n_failed,
        errors.get("rmse"),
        errors.get("rmse_low"),
        errors.get("rmse_high"),
        errors.get("accuracy"),
        facts.rrmse,
        facts.rrmse_low,
        facts.rrmse_high,
        cost.campaign_label_core_hours,
        cost.model_core_hours,
        cost.pool_core_hours,
    )
