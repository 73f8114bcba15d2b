"""When to stop, and the reason as a sentence: a table of rules, to which users add theirs by import path.

Standard library only: evaluated whenever the Snakefile is read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from quarry.config.campaign import Configuration
from quarry.config.learning import Stop, Uninformative
from quarry.config.pool import DynamicsPool
from quarry.stopping.facts import FEWEST_ERRORS, Cost, Facts, ratio_at_most
from quarry.stopping.messages import how_good, interval_text
from quarry.stopping.progress import Progress, Query

Z_95 = 1.96
"""Standard deviations on either side of the mean that hold 95 % of a normal distribution."""

FEW_TESTED = 20
"""By so many a good model (RMSE 0.4 of the std) is shown better than the mean 7 times in 10, by half as many 2 times."""


@dataclass(frozen=True)
class StopReason:
    """Why an arm ends: the rule's name in the configuration and one sentence."""

    rule: str
    words: str


@dataclass(frozen=True)
class StopRule:
    """A rule that may end an arm.

    name: its key in section stop, or its import path. says: returns why it ends the arm after the last iteration, a sentence,
    or None to go on. asks_error: whether it asks how small the error is, which means nothing with labels of absurd values.
    """

    name: str
    says: Callable[[Progress], str | None]
    asks_error: bool = False


def stop_reason(progress: Progress, own: Sequence[StopRule] = ()) -> StopReason | None:
    """Return the first rule that ends an arm after its last iteration, or None to go on.

    own: user-defined rules (``quarry.stopping.own_rules``); they are asked before the budgets.
    """
    last = progress.last
    absurd = absurd_message(last)
    for rule in (*RULES, *own, *ENDS):
        message = None if rule.asks_error and absurd else rule.says(progress)
        if message:
            said = (message, how_good(last.errors.get(last.metric), last.goal.unit), absurd)
            return StopReason(rule.name, "; ".join(part for part in said if part))
    return None


def absurd_message(facts: Facts) -> str:
    """Return what labels with absurd values do to the error, empty if none is learnt from or measured by.

    One of them is enough: such a value is off by more than all others together, wherever it is.
    """
    flagged = facts.flagged
    used = flagged.get("train", 0), flagged.get("evaluated", 0)
    if not any(used):
        return ""
    share = f", which carry {100 * flagged['error_share']:.0f} % of the squared error" if used[1] else ""
    return (
        f"{used[0]} training labels and {used[1]} {_metric(facts)} labels have absurd values{share} (ids "
        f"{', '.join(flagged['ids'])}; see audit.csv, and labeling.leave_out)"
    )


def _target_rmse(progress: Progress) -> str | None:
    configuration, last = progress.configuration, progress.last
    limit = configuration.target_rmse()
    if limit is None or last.rmse is None:
        return None
    upper = configuration.stop.target_rmse_bound == "upper"
    value = last.errors[last.metric].get("rmse_high") if upper else last.rmse
    if value is None or value >= limit:
        return None
    name = last.goal.error_name
    of = (
        f"the upper end {value:.6g} of the 95 % interval of the {_metric(last)} {name}"
        if upper
        else (f"{_metric(last)} {name} {value:.6g}")
    )
    return f"{of} is below target_rmse = {limit:.6g} {last.goal.unit}".rstrip()


def _target_accuracy(progress: Progress) -> str | None:
    limit, last = progress.configuration.stop.target_accuracy, progress.last
    if limit is None or last.accuracy is None or last.accuracy < limit:
        return None
    return f"{_metric(last)} accuracy {last.accuracy:.4g} has reached target_accuracy = {limit:g}"


def _rrmse(progress: Progress) -> str | None:
    """Lecture of P. O. Dral (2024): stop when |RMSE(N) - RMSE(N - step)| / RMSE(N) < 0.1; 1.0 in the first iteration."""
    stop, last, facts = progress.configuration.stop, progress.last, progress.facts
    if stop.rrmse is None or len(facts) <= stop.patience or not has_learnt(last, stop.min_r2):
        return None
    recent = facts[-stop.patience :]
    if not all(
        not absurd_message(f) and (_upper(f) if stop.rrmse_bound == "upper" else f.rrmse) < stop.rrmse for f in recent
    ):
        return None
    if any(f.n_train == before.n_train for before, f in pairwise(facts[-stop.patience - 1 :])):
        return None  # Nothing was learnt: of no label, or of failed ones, the model is the same, and so is its error.
    often = "" if stop.patience == 1 else f", {stop.patience} iterations in a row"
    interval = f"95 % interval {interval_text(last.rrmse_low, last.rrmse_high, '.3f')}"
    message = f"rRMSE {last.rrmse:.3f} ({interval}) is below {stop.rrmse:g}{often}"
    if _upper(last) >= stop.rrmse:
        message += "; the interval reaches beyond it: perhaps a chance plateau (see stop.rrmse_bound and test.size)"
    return message


def held_back(facts: Facts, configuration: Configuration) -> str | None:
    """Return why an error that would stop the campaign stops nothing, or None."""
    stop, absurd = configuration.stop, absurd_message(facts)
    if absurd:
        small = stop.rrmse is not None and facts.iteration > 0 and facts.rrmse < stop.rrmse
        now = Progress([facts], [], configuration)
        reached = [message for rule in (_target_rmse, _target_accuracy) if (message := rule(now))]
        reached += [f"rRMSE {facts.rrmse:.3f} is below {stop.rrmse:g}"] if small else []
        return f"{reached[0]}, but stops nothing: {absurd}" if reached else None
    if facts.iteration == 0 or stop.rrmse is None or facts.rrmse >= stop.rrmse or has_learnt(facts, stop.min_r2):
        return None
    return (
        f"rRMSE is below {stop.rrmse:g}, but stops nothing: the model is not shown to be better than the mean of the labels "
        f"(stop.min_r2 = {stop.min_r2:g})"
    )


def too_few_tested(configuration: Configuration) -> str | None:
    """Return what a test set is too small for, before anything is computed; None: it is large enough, or no rule needs it."""
    stop, size = configuration.stop, configuration.test.size
    if stop.metric != "test" or stop.rrmse is None or (stop.min_r2 is None and stop.rrmse_bound == "value"):
        return None
    if configuration.goal.classes:
        # All right, of classes that are equally frequent: the most that can be shown.
        rest = 1 - 1 / len(configuration.classification.names) if configuration.classification else 1.0
        wrong_at_most = Z_95**2 / (size + Z_95**2)
        nothing = stop.min_r2 is not None and 1 - wrong_at_most / rest <= stop.min_r2
    else:
        nothing = size < FEWEST_ERRORS
    key = "stop.rrmse_bound: upper" if stop.min_r2 is None else f"stop.min_r2 = {stop.min_r2:g}"
    if nothing:
        return (
            f"test.size = {size}: so few structures set no bound to the error, so that stop.rrmse will never end the campaign "
            f"({key}); raise test.size to {FEW_TESTED} or more"
        )
    if size < FEW_TESTED:
        return (
            f"test.size = {size}: of so few structures a good model is seldom told from the mean of the labels, so that "
            f"stop.rrmse may end the campaign late ({key}); {FEW_TESTED} or more tell it"
        )
    return None


def has_learnt(facts: Facts, min_r2: float | None) -> bool:
    """Return whether a model is better than the mean of the labels (or the most frequent class) by a margin.

    min_r2: ``stop.min_r2``; None: not asked. The lower end of the interval of R^2 counts (``ratio_at_most``). Facts of an
    earlier version, which do not hold it, pass.
    """
    errors = facts.errors.get(facts.metric, {})
    if min_r2 is None or not errors:
        return True
    if facts.accuracy is not None:
        majority, low = errors.get("majority"), errors["accuracy_low"]
        # Where there is one class only, the model cannot be better than its name.
        return majority is None or (majority < 1 and 1 - (1 - low) / (1 - majority) > min_r2)
    if "rmse_over_std_high" not in errors:
        return True
    high = ratio_at_most(errors)
    return high is not None and 1 - high**2 > min_r2


def _upper(facts: Facts) -> float:
    return math.inf if facts.rrmse_high is None else facts.rrmse_high


def _uninformative(progress: Progress) -> str | None:
    """Every one of the last batches was chosen from candidates of which the model was sure enough, or that told it little."""
    wanted, last = progress.configuration.stop.uninformative, progress.last
    if wanted is None:
        return None
    recent = [progress.query(t) for t in range(last.iteration - wanted.patience + 1, last.iteration + 1) if t >= 0]
    limits = (
        (None if wanted.std is None else float(wanted.std_limit()), _std, last.goal.unit),
        (wanted.informativeness, _informativeness_of_batch, ""),
        (wanted.share_informative, _share_informative, ""),
    )
    for limit, measure, unit in limits:
        if limit is None:
            continue
        values = [measure(query, wanted) for query in recent if query is not None]
        found = [value for value in values if value is not None and value < limit]
        if len(found) < wanted.patience:
            continue
        often = "" if wanted.patience == 1 else f", {wanted.patience} iterations in a row"
        what = {
            _std: f"{wanted.of_words} of the candidates' standard deviations",
            _informativeness_of_batch: f"the batch's mean informativeness (by the {wanted.threshold} of the training set)",
            _share_informative: f"the share of candidates above the {wanted.threshold} of the training set",
        }[measure]
        number = f"{found[-1]:.4g} is below {limit:g} {unit}".rstrip()
        return f"nothing informative was left to choose from: {what} {number}{often}"
    return None


def _std(query: Query, wanted: Uninformative) -> float | None:
    """Return the standard deviation that counts; None: not known, or too many candidates cannot be judged."""
    if "std" not in query.distributions or query.unfamiliar > wanted.share_above * query.candidates:
        return None
    return query.distributions["std"][wanted.of]


def _informativeness_of_batch(query: Query, wanted: Uninformative) -> float | None:
    """Return the mean informativeness of a batch; None: not known of all its structures."""
    found = [one.get(f"informativeness_by_{wanted.threshold}") for one in query.chosen]
    known = [float(value) for value in found if value is not None]
    return sum(known) / len(known) if known and len(known) == len(found) else None


def _share_informative(query: Query, wanted: Uninformative) -> float | None:
    """Return the share of candidates with an informativeness above 1, or that cannot be judged; None: not known."""
    found = query.distributions.get(f"informativeness_by_{wanted.threshold}")
    if found is None:
        return None
    return (found["above_1"] * (query.candidates - query.unfamiliar) + query.unfamiliar) / query.candidates


def _pool_exhausted(progress: Progress) -> str | None:
    last = progress.last
    if last.pool_left is None:
        return None if last.iteration == 0 or last.pool_size else _no_candidate(last.exploration)
    if last.pool_left:
        return None
    return f"the pool is exhausted: all {last.pool_size} structures are labelled or failed"


def _nothing_informative(progress: Progress) -> str | None:
    """The last batch had no structure, since all candidates were left out."""
    query = progress.query(progress.last.iteration)
    if query is None or query.chosen or not query.uninformative:
        return None
    return (
        f"nothing informative was left to choose from: none of {query.candidates} candidates has an informativeness above "
        "query.min_informativeness"
    )


@dataclass(frozen=True)
class Spent:
    """What an arm has used of the budgets. labels: distinct ones. iterations: after the first batch."""

    labels: int = 0
    core_hours: float = 0.0
    iterations: int = 0

    @staticmethod
    def of(progress: Progress) -> Spent:
        """Return what an arm has used after its last iteration."""
        return Spent(progress.last.n_labels, core_hours(progress.costs), progress.last.iteration)


def _no_candidate(exploration: Mapping[str, Any]) -> str:
    """Return why there was nothing to choose from. exploration: of the facts, empty where a sampler made candidates."""
    noun = exploration.get("noun", "trajectories")
    if not exploration.get("unphysical"):
        return f"the {noun} gave no new candidate" if exploration else "the sampler gave no new candidate"
    often = max(exploration["faults"], key=exploration["faults"].get)
    again = "begin again under another name, with more initial data (query.initial, pool.growth)"
    remedy = f"{again} or a smaller time step: these labels are in the store"
    if "noun" in exploration:
        remedy = f"look at pool.explore.sampler, or {again}: these labels are in the store"
    return (
        f"the {noun} gave no new candidate: {exploration['unphysical']} of {exploration['trajectories']} were thrown away, "
        f"most of them because {often}; {remedy}"
    )


STILL_GROWS = "before any trajectory was run: the initial data were still growing"


def still_grows(configuration: Configuration, last: Facts) -> bool:
    """Return whether an arm has run no trajectory yet, since its initial data grow. last: facts of its last iteration."""
    pool = configuration.pool
    return isinstance(pool, DynamicsPool) and pool.grows_by is not None and last.phase == "initial"


@dataclass(frozen=True)
class Budget:
    """A budget of section stop. key: in the section. used: takes what counts of ``Spent``. words: the same as a text."""

    key: str
    used: Callable[[Spent], float]
    words: Callable[[float], str] = lambda used: ""

    def limit(self, stop: Stop) -> float | None:
        """Return the budget in the unit of its key; None: there is none."""
        found: float | None = getattr(stop, self.key)
        return found

    def left(self, stop: Stop, spent: Spent) -> float:
        """Return what may still be used; infinity where there is no budget."""
        limit = self.limit(stop)
        return math.inf if limit is None else max(0, limit - self.used(spent))

    def stated(self, stop: Stop) -> str:
        """Return the budget as the configuration states it (``max_labels = 30``)."""
        limit = self.limit(stop)
        return f"{self.key} = {limit if limit is None or isinstance(limit, int) else f'{limit:g}'}"

    def says(self, progress: Progress) -> str | None:
        """Return a sentence that the budget is spent, or None."""
        stop, spent = progress.configuration.stop, Spent.of(progress)
        if self.left(stop, spent) > 0:
            return None
        still = f", {STILL_GROWS}" if still_grows(progress.configuration, progress.last) else ""
        return f"the budget of {self.stated(stop)} is spent{self.words(self.used(spent))}{still}"


LABELS = Budget("max_labels", lambda spent: spent.labels, lambda used: f" ({used} labels used)")
CORE_HOURS = Budget("max_core_hours", lambda spent: spent.core_hours, lambda used: f" ({used:.3g} core-hours)")
ITERATIONS = Budget("max_iterations", lambda spent: spent.iterations)
BUDGETS = (LABELS, CORE_HOURS, ITERATIONS)


def spent_budget(stop: Stop, spent: Spent) -> Budget | None:
    """Return the first budget of which nothing is left, or None."""
    return next((budget for budget in BUDGETS if budget.left(stop, spent) <= 0), None)


def _few_new_points(progress: Progress) -> str | None:
    """The model was sure of nearly all that its own dynamics has visited."""
    wanted, last = progress.configuration.stop.min_new_points, progress.last
    if wanted is None or "trajectories" not in last.exploration:
        return None
    # One of several frames that are nearly the same is labelled, but all were met.
    if last.pool_size + last.exploration.get("near_duplicates", 0) >= wanted:
        return None
    if last.exploration["unphysical"] >= wanted:
        # They found little because they ended early.
        return None
    found, met = last.exploration["trajectories"], last.exploration["uncertain"]
    noun = last.exploration.get("noun", "trajectories")
    return (
        f"converged: {met} of {found} {noun} met a structure that the model was unsure of, {last.pool_size} of them new, "
        f"fewer than {wanted}"
    )


RULES = (
    StopRule("target_rmse", _target_rmse, asks_error=True),
    StopRule("target_accuracy", _target_accuracy, asks_error=True),
    StopRule("rrmse", _rrmse, asks_error=True),
    StopRule("uninformative", _uninformative, asks_error=True),
    StopRule("min_new_points", _few_new_points),
)
"""The rules by which a campaign has reached something, in the order in which they are asked."""
ENDS = (
    StopRule("pool_exhausted", _pool_exhausted),
    StopRule("min_informativeness", _nothing_informative),
    *(StopRule(budget.key, budget.says) for budget in BUDGETS),
)
"""The rules by which there is nothing left to spend; asked last."""


def core_hours(costs: Sequence[Cost]) -> float:
    """Return what the campaign spent on the labels that this arm uses, and on its models."""
    return sum(c.campaign_label_core_hours + c.train_core_hours for c in costs)


def labels_left(facts: Facts, configuration: Configuration) -> float:
    """Return how many labels the pool and max_labels still allow; infinity where there is no end."""
    in_pool = math.inf if facts.pool_left is None else facts.pool_left
    return min(in_pool, LABELS.left(configuration.stop, Spent(labels=facts.n_labels)))


def _metric(facts: Facts) -> str:
    return {"test": "test-set", "validation": "validation", "cross_validation": "cross-validation"}[facts.metric]
