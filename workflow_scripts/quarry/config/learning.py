"""Validation, test set and stop rules."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from quarry.config.base import ImportPath, PlainArguments, Section, energy_in_ev


class Validation(Section):
    """How errors are estimated on the training labels (stop.metric validation or cross_validation)."""

    fraction: float = Field(default=0.2, gt=0, lt=1)
    """Share of the training labels held back by metric validation, and by a model that chooses its hyperparameters on
    validation data (kreg)."""
    order: Literal["random", "sequence"] = "random"
    """Which labels are held back: random ones, or (sequence) the last ones in the order in which they were selected."""
    folds: int = Field(default=5, ge=2)
    """Folds of metric cross_validation."""


class Test(Section):
    """The fixed test set."""

    size: int = Field(ge=0)
    """Structures drawn with the campaign's seed before anything else; their labels count in budgets."""


OF = {"max": ("the largest", 0.0), "q95": ("the 95 % quantile", 0.05), "median": ("the median", 0.5)}
"""What of a distribution can be asked, in words, and the share of candidates that may lie above it."""


class Uninformative(Section):
    """When nothing informative is left to choose from: one of std, informativeness and share_informative is below its limit."""

    std: float | str | None = None
    """Stop when the model's standard deviations of the candidates, before the batch was chosen from them, are below this: a
    number in the target's own unit, or with an energy unit."""
    of: Literal["max", "q95", "median"] = "q95"
    """What of them must be below: the largest, the 95 % quantile, or the median. As candidates that the model cannot judge
    (query.unfamiliar) are not below anything, no larger share of all may be of that kind."""
    informativeness: float | None = Field(default=None, gt=0)
    """Stop when the mean informativeness of the structures in the batch is below this (1: they would tell no more than what is
    learnt already). Informativeness is what oed_energy, oed_forces and oed_total rank by over threshold. A batch with
    candidates that the model cannot judge is informative."""
    share_informative: float | None = Field(default=None, gt=0, le=1)
    """Stop when fewer than this share of the candidates (0.05: 5 %) have an informativeness above 1, or cannot be judged."""
    threshold: Literal["mean", "median"] = "median"
    """What informativeness is measured by: the mean or the median of the training structures' own. A few structures unlike the
    others lift the mean, so that the median stops later."""
    patience: int = Field(default=2, gt=0)
    """Iterations in a row for which it must hold."""

    @model_validator(mode="after")
    def _some_limit(self) -> Uninformative:
        if self.std is None and self.informativeness is None and self.share_informative is None:
            raise ValueError("set at least one of std, informativeness, share_informative")
        return self

    def std_limit(self) -> float:
        """Return std as a number in the target's unit. Raises ValueError for a text that is no energy."""
        assert self.std is not None
        return float(energy_in_ev(self.std))

    @property
    def of_words(self) -> str:
        """What must be below the limit, for messages."""
        return OF[self.of][0]

    @property
    def share_above(self) -> float:
        """The share of candidates that may be above, or that the model may be unable to judge."""
        return OF[self.of][1]


class OwnRule(Section):
    """A user-defined stop rule."""

    rule: ImportPath
    """Import path package.module:name of a function, called with the progress of an arm and the arguments, or of a class, made
    with the arguments and called with the progress; importable from the campaign file's folder or the working directory. It
    returns why the campaign stops, a sentence, or None. docs/stopping.md."""
    arguments: PlainArguments = {}
    """Its keyword arguments."""


class Stop(Section):
    """When to stop; the first rule that holds ends the arm, its reason is recorded."""

    rrmse: float | None = Field(default=0.1, gt=0, lt=5)
    """Stop when |RMSE(N) - RMSE(N - step)| / RMSE(N) is below this (for target class the same of 1 - accuracy); null:
    never."""
    patience: int = Field(default=2, gt=0)
    """Iterations in a row for which rrmse must hold (1 is the published rule)."""
    rrmse_bound: Literal["value", "upper"] = "value"
    """Compare the value itself, or the upper end of its 95 % interval, which excludes accidental plateaus."""
    min_r2: float | None = Field(default=0.2, lt=1)
    """rrmse stops only a campaign whose model is better than the mean of the labels by this margin: the lower end of the 95 %
    interval of R2 = 1 - (RMSE / std of the labels)^2 must be above it (where few structures carry the RMSE and it has no end,
    R2 less two standard errors; of excitations the same of RMSE_geom, of classes 1 - wrong share / wrong share of always naming
    the most frequent class); null: not asked."""
    metric: Literal["test", "validation", "cross_validation"] = "test"
    """The error that rrmse and target_rmse look at."""
    target_rmse: float | str | None = None
    """Stop when the RMSE is below this: a number in the target's own unit (eV, e*Angstrom), or with an energy unit."""
    target_rmse_bound: Literal["value", "upper"] = "value"
    """Compare the RMSE itself, or the upper end of its 95 % interval: then chance in the test set cannot stop the campaign."""
    target_accuracy: float | None = Field(default=None, gt=0, le=1)
    """Stop when the accuracy is at least this (target class)."""
    min_new_points: int | None = Field(default=None, gt=0)
    """Stop when trajectories (pool.source: dynamics) have found fewer new structures than this: the model is sure of what its
    dynamics visits. null: never."""
    uninformative: Uninformative | None = None
    """Stop when the query finds nothing informative any more; null: never."""
    rules: list[OwnRule] = []
    """Stop rules of the user's own, e.g. [{rule: my_rules:few_new}]. docs/stopping.md."""
    max_labels: int | None = Field(default=None, gt=0)
    """Budget: distinct labels used (training and test), new or reused."""
    max_core_hours: float | None = Field(default=None, gt=0)
    """Budget of each arm: core-hours that this campaign spent on the labels that the arm uses, and on its models."""
    max_iterations: int | None = Field(default=None, gt=0)
    """Budget: iterations after iteration 0."""

    @model_validator(mode="after")
    def _some_end(self) -> Stop:
        errors = ("rrmse", "target_rmse", "target_accuracy", "uninformative", "rules")
        ends = (*errors, "min_new_points", "max_labels", "max_core_hours", "max_iterations")
        if all(getattr(self, end) in (None, []) for end in ends):
            raise ValueError(f"set at least one of {', '.join(ends)}")
        return self
