"""The rules and what they make: one table that rules, recovery, receipts, the count of files and closing words read.

Standard library only (used at parse time).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import PurePosixPath


def padded(number: int | str) -> str:
    """Return an iteration or a committee's member as it stands in paths and wildcards (000, 001 ...); patterns unchanged."""
    return f"{number:03d}" if isinstance(number, int) else number


class Place(Enum):
    """Whose folder a rule writes to."""

    POOL = "pool"
    ITERATION = "iteration"
    ARM = "arm"
    CAMPAIGN = "campaign"
    FIGURES = "figures"


@dataclass(frozen=True)
class ArmPlan:
    """What an iteration of an arm has to do.

    scored: its strategy looks at scores of the candidates. proposed: its batch comes from a proposal (not the first one, and
    for one with nothing but retries). members: number of its committee's members, each trained by a job; 0: one job trains
    the model. sampled: its candidates are made by a sampler or by trajectories, from the last model. explorations: number of jobs
    that run trajectories for them.
    """

    scored: bool = False
    proposed: bool = True
    members: int = 0
    sampled: bool = False
    explorations: int = 0


BENCHMARKS = "benchmarks"
"""Folder of what Snakemake measured of jobs. Those of labels have it in their records, with what their engines took."""


def _always(plan: ArmPlan) -> bool:
    return True


@dataclass(frozen=True)
class Stage:
    """A rule: the files it makes in its folder, by the names that the rule gives them.

    when: whether an iteration has it. part: the wildcard in the file of a rule with several jobs an iteration, one for each
    of ``parts``. folder: a folder that it makes too, whose files are for the jobs that come next. later: files among the
    outputs that earlier versions did not make: an iteration that such a version finished needs none. unread: files among
    them that no rule reads. resources: the section of ``resources`` that its jobs have; empty for steps of the main process.
    runs_model: whether its jobs train the arm's model or predict with it, where that runs.
    """

    rule: str
    outputs: Mapping[str, str]
    place: Place = Place.ITERATION
    when: Callable[[ArmPlan], bool] = _always
    part: str = ""
    parts: Callable[[ArmPlan], int] = lambda plan: 1
    folder: str = ""
    later: frozenset[str] = frozenset()
    unread: frozenset[str] = frozenset()
    resources: str = ""
    runs_model: bool = False

    @property
    def benchmark(self) -> str:
        """The file in which Snakemake writes what a job took, named as its receipt; empty for steps of the main process."""
        part = f"_{{{self.part}}}" if self.part else ""
        return f"{BENCHMARKS}/{self.rule}{part}.tsv" if self.resources else ""

    def files(self, plan: ArmPlan) -> list[str]:
        """Return the files of all its jobs in an iteration."""
        if not self.part:
            return list(self.outputs.values())
        return [file for number in range(self.parts(plan)) for file in self.files_of_part(padded(number))]

    def files_of_part(self, number: str) -> list[str]:
        """Return the files of one of its several jobs."""
        return [file.format(**{self.part: number}) for file in self.outputs.values()]


LABELS = Stage("label_structure", {})
"""The place of the labels in the loop. They are never removed and have no receipts, so no files stand for them."""

LOOP = (
    Stage(
        "explore",
        {"trajectories": "trajectories/{group}.h5"},
        when=lambda plan: plan.explorations > 0 and plan.proposed,
        part="group",
        parts=lambda plan: plan.explorations,
        resources="explore",
        runs_model=True,
    ),
    Stage(
        "sample_candidates",
        {"candidates": "candidates.h5"},
        when=lambda plan: plan.sampled and plan.proposed,
        resources="explore",
        runs_model=True,
    ),
    Stage(
        "score_pool",
        {"scores": "scores.h5"},
        when=lambda plan: plan.scored and plan.proposed,
        resources="score",
        runs_model=True,
    ),
    Stage(
        "propose_batch",
        {"proposal": "proposal.csv", "query": "query.json"},
        when=lambda plan: plan.proposed,
        later=frozenset({"query.json"}),
        unread=frozenset({"query.json"}),
        resources="score",
    ),
    Stage(
        "select_batch",
        {"batch": "batch.csv", "structures": "batch.h5", "planned": "planned.csv", "reused": "reused.csv"},
        folder="batch",
        later=frozenset({"batch.h5"}),
    ),
    LABELS,
    Stage(
        "merge_labels",
        {"dataset": "dataset.h5", "failures": "failures.csv", "outliers": "outliers.csv", "audit": "audit.csv"},
    ),
    Stage(
        "train_member",
        {"member": "model/members/{member}.h5"},
        when=lambda plan: plan.members > 0,
        part="member",
        parts=lambda plan: plan.members,
        resources="train",
        runs_model=True,
    ),
    Stage("train_model", {"model": "model/model.h5"}, resources="train", runs_model=True),
    Stage(
        "evaluate_model",
        {"predictions": "predictions.h5", "metrics": "metrics.json"},
        resources="score",
        runs_model=True,
    ),
    Stage("assess_iteration", {"facts": "facts.json", "cost": "cost.json"}),
)
"""The rules of an iteration in the order in which they run."""

_PRODUCT = {
    "history": "history.csv",
    "extxyz": "dataset.extxyz",
    "dataset": "dataset.h5",
    "model": "model/model.h5",
    "failures": "failures.csv",
    "outliers": "outliers.csv",
    "audit": "audit.csv",
}
_MODEL = {"description": "model/model.json", "training": "model/training.h5", "readme": "model/README.md"}
"""What stands beside the model: rules of their own make it, so that a campaign that an earlier version finished gets it, and
nothing else is made again."""
_DATASET = {
    "train": "train.extxyz",
    "validation": "validation.extxyz",
    "test": "test.extxyz",
    "card": "dataset_card.md",
    "metadata": "ro-crate-metadata.json",
}
"""What goes with the data set, by a rule of its own for the same reason."""
_SPECTRUM = {
    "ensemble": "ensemble.h5",
    "ml_nea": "cross-section/cross-section_ml-nea.dat",
    "qc_nea": "cross-section/cross-section_qc-nea.dat",
    "single_point": "cross-section/cross-section_spc.dat",
    "table": "cross-section/spectra.csv",
    "summary": "cross-section/summary.json",
}

RULES = {
    stage.rule: stage
    for stage in (
        # Not the normal modes: made again they could differ in the last digit, and with them the pool.
        Stage(
            "build_pool",
            {"structures": "structures.h5", "reference": "reference.extxyz", "filtered": "filtered.csv"},
            Place.POOL,
            resources="features",
        ),
        Stage("build_features", {"features": "features.h5"}, Place.POOL, resources="features"),
        Stage("build_baseline", {"baseline": "baseline.h5"}, Place.POOL, resources="features"),
        Stage("collect_pool_labels", {"labels": "labels.h5"}, Place.POOL, resources="features"),
        *LOOP,
        Stage("compare_arms", {"savings": "savings.json"}, Place.ARM),
        Stage("collect_results", _PRODUCT, Place.ARM),
        Stage("describe_model", _MODEL, Place.ARM),
        Stage("compute_spectrum", _SPECTRUM, Place.ARM, resources="score", runs_model=True),
        Stage("publish_results", _PRODUCT, Place.CAMPAIGN),
        Stage("publish_model", _MODEL, Place.CAMPAIGN),
        Stage("describe_dataset", _DATASET, Place.CAMPAIGN),
        Stage("publish_spectrum", _SPECTRUM, Place.CAMPAIGN),
        Stage(
            "draw_figures",
            {
                "learning_curve": "learning_curve.svg",
                "parity": "parity.svg",
                "iterations": "iterations.html",
                "audit": "audit.html",
            },
            Place.FIGURES,
        ),
        Stage("draw_savings", {"savings": "savings.svg"}, Place.FIGURES),
        Stage("draw_function", {"function": "function.svg"}, Place.FIGURES),
        Stage("draw_spectrum", {"spectrum": "spectrum.svg"}, Place.FIGURES),
        Stage("write_overview", {"overview": "overview.html"}, Place.CAMPAIGN),
    )
}
"""Every rule whose files are accounted for by receipts (and the labels, which account for themselves)."""


def stages_of(plan: ArmPlan) -> list[Stage]:
    """Return the rules that an iteration has, in the order in which they run."""
    return [stage for stage in LOOP if stage.when(plan)]


LATER = frozenset().union(*(stage.later for stage in LOOP))
"""Files of an iteration that earlier versions did not make."""
UNREAD = frozenset().union(*(stage.unread for stage in LOOP))
"""Files of an iteration that no rule reads; the stop rules do."""


def files_in(place: Place) -> list[str]:
    """Return the files that rules make in a folder of the pool, an arm, the campaign or the figures."""
    return sorted({file for stage in RULES.values() if stage.place is place for file in stage.outputs.values()})


def product_of(rule: str) -> list[str]:
    """Return the files that a rule makes, by their names in its folder."""
    return list(RULES[rule].outputs.values())


def rule_of(name: str, outputs: Iterable[str], part: str = "") -> str:
    """Return the rule of the table that a job has, which another Snakefile may have taken under another name.

    name: in the workflow. outputs: files of the job. part: which of several jobs of the rule it is. A rule that is not in the
    table keeps its name.
    """
    if name in RULES:
        return name
    made = {PurePosixPath(file).name for file in outputs}
    return max((rule for rule in RULES if rule in name and made & _names(RULES[rule], part)), key=len, default=name)


def _names(stage: Stage, part: str) -> set[str]:
    files = stage.files_of_part(part) if stage.part else stage.outputs.values()
    return {PurePosixPath(file).name for file in files}


def outputs_of(receipt: str) -> list[str]:
    """Return the files that the job of a receipt (by its name without ending) makes."""
    if receipt in RULES:
        return product_of(receipt)
    rule, _, number = receipt.rpartition("_")
    stage = RULES.get(rule)
    return stage.files_of_part(number) if stage is not None and stage.part else []
