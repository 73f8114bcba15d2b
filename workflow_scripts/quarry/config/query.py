"""Query strategy and batches, and which strategy fits which model and target."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from quarry.config.base import IMPORT_PATH, PlainArguments, Section
from quarry.config.model_traits import ModelTraits
from quarry.config.targets import Target


class ConstantBatch(Section):
    """The same number of structures in every iteration."""

    schedule: Literal["constant"]
    size: int = Field(gt=0)
    """Structures per iteration."""


class DoublingBatch(Section):
    """size, 2 size, 4 size ... structures in iteration 1, 2, 3 ..."""

    schedule: Literal["doubling"]
    size: int = Field(gt=0)
    """Structures in iteration 1."""


class FractionBatch(Section):
    """A fraction of the training set so far, at least one structure."""

    schedule: Literal["fraction"]
    fraction: float = Field(gt=0)
    """New structures as a fraction of the training set."""


Batch = Annotated[ConstantBatch | DoublingBatch | FractionBatch, Field(discriminator="schedule")]


@dataclass(frozen=True)
class Traits:
    """What a strategy reads of the model and the campaign, and which keys of query it understands.

    reads: of mean, std, probabilities, votes, embedding, informativeness_energy, informativeness_forces (what the model says of
    the candidates) and range (``search``). cites: as of a section (``Section.cites``).
    takes_unseen: whether it takes candidates without looking at them: there is nothing that it could save.
    """

    reads: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    cites: tuple[str, ...] = ()
    takes_unseen: bool = False


OED_OPTIONS = ("min_informativeness", "threshold")
"""Keys of strategies that rank the training structures too."""

STRATEGIES: dict[str, Traits] = {
    "random": Traits(takes_unseen=True),
    "sequence": Traits(takes_unseen=True),
    "uncertainty": Traits(("std",)),
    "clusters": Traits(cites=("ghosh2024active",)),
    "uncertainty_clusters": Traits(("std",), ("share",), ("ghosh2024active",)),
    "property_search": Traits(("mean", "range"), cites=("ghosh2024active",)),
    "max_min": Traits((), ("distance",)),
    "uncertainty_max_min": Traits(("std",), ("share", "distance")),
    "greedy_mean": Traits(("mean", "range")),
    "probability_in_range": Traits(("mean", "std", "range")),
    "expected_gain": Traits(("mean", "std", "range")),
    "lcmd": Traits(("embedding",), ("embedding",), ("holzmuller2023batch",)),
    "k_means_plus_plus": Traits(("embedding",), ("embedding",), ("holzmuller2023batch",)),
    "maxdet": Traits(("embedding",), ("embedding",), ("holzmuller2023batch",)),
    "bait": Traits(("embedding",), ("embedding",), ("holzmuller2023batch", "ash2021bait")),
    "vote_entropy": Traits(("votes",)),
    "predictive_entropy": Traits(("probabilities",)),
    "oed_energy": Traits(("informativeness_energy",), OED_OPTIONS, ("zaverkin2021oed",)),
    "oed_forces": Traits(("informativeness_forces",), OED_OPTIONS, ("zaverkin2021oed",)),
    "oed_total": Traits(
        ("informativeness_energy", "informativeness_forces"), ("beta", *OED_OPTIONS), ("zaverkin2021oed",)
    ),
}
"""What ``query.strategy`` may name, beside an import path."""

OPTIONS = ("share", "distance", "embedding", "beta", *OED_OPTIONS, "arguments")
"""Keys of query that belong to a strategy."""

INFORMATIVENESS = "informativeness_"
"""Begins the names of what a model says of how much labels of a property would tell it."""
FROM_MODEL = (
    "mean",
    "std",
    "probabilities",
    "votes",
    "embedding",
    f"{INFORMATIVENESS}energy",
    f"{INFORMATIVENESS}forces",
)


def _known_strategy(name: str) -> str:
    if name not in STRATEGIES and not re.fullmatch(IMPORT_PATH, name):
        known = ", ".join(f"'{known}'" for known in STRATEGIES)
        raise ValueError(f"'{name}' is not one of {known}, nor an import path package.module:Name")
    return name


StrategyName = Annotated[
    str,
    AfterValidator(_known_strategy),
    WithJsonSchema({"anyOf": [{"enum": list(STRATEGIES)}, {"type": "string", "pattern": IMPORT_PATH}]}),
]
Embedding = Literal["last_layer", "gradient", "kernel", "last_layer_forces", "gradient_forces"]
FORCE_EMBEDDINGS = ("last_layer_forces", "gradient_forces")
"""What forces depend on."""


class Query(Section):
    """Which structures are labelled next. The strategies' page (docs/strategies.md) says what each one is good for."""

    strategy: StrategyName
    """Name of a strategy, or import path package.module:Name of a user-defined one, importable from the campaign file's folder
    or the working directory."""
    share: float | None = Field(default=None, gt=0, le=1)
    """Share of the candidates that uncertainty_clusters and uncertainty_max_min choose from, those of the largest standard
    deviation; null: 0.5."""
    distance: Literal["features", Embedding] | None = None
    """What max_min and uncertainty_max_min measure distances in: the descriptor (features), or an embedding of the model;
    null: features."""
    embedding: Embedding | None = None
    """Feature map of lcmd, k_means_plus_plus, maxdet and bait: last_layer or gradient of mlp and gmnn, last_layer_forces or
    gradient_forces of gmnn (what forces depend on in place of the energy), kernel of gpr and kreg; null: gradient of mlp,
    last_layer of gmnn, kernel."""
    beta: float | None = Field(default=None, gt=0)
    """Weight of the forces beside the energy in oed_total; both numbers are without unit; null: 1."""
    min_informativeness: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Leave out candidates whose informativeness is not above this (1: they tell no more than what is learnt already), so that a
    batch may be smaller than batch says, and the arm ends where none is left. Informativeness is what oed_energy, oed_forces and
    oed_total rank by over threshold. Candidates that the model cannot judge are not left out; null: none is."""
    threshold: Literal["mean", "median"] | None = None
    """What min_informativeness is measured by: the mean or the median of the training structures' own; null: median."""
    arguments: PlainArguments = {}
    """Keyword arguments of a user-defined strategy."""
    initial: int = Field(gt=0)
    """Structures of iteration 0, the same for all arms."""
    initial_selection: Literal["random", "sequence"] | None = None
    """How these are chosen: drawn with the campaign's seed, or the first ones of the pool; null: sequence if that is the
    campaign's strategy, else random. Of a spectrum, the equilibrium geometry is always one of them."""
    batch: Batch
    """Number of structures of the later iterations."""
    unfamiliar: Literal["few", "leave_out", "trust"] = "few"
    """Candidates with elements that no training label has (of total energies also with compositions that a sum over elements
    does not know), for strategies that look at the model, whose predictions mean nothing there. few: a tenth of each batch (at
    least one) is drawn from them at random, so that the model comes to know them; leave_out: none is taken while others are
    left; trust: they are ranked like the others."""

    @model_validator(mode="after")
    def _threshold_of_something(self) -> Query:
        if self.threshold is not None and self.min_informativeness is None:
            raise ValueError(f"threshold = {self.threshold} needs min_informativeness; set it, or remove threshold")
        return self

    def citations(self) -> tuple[str, ...]:
        """Return what the strategy's authors ask to cite."""
        return () if self.is_user_defined else STRATEGIES[self.strategy].cites

    @property
    def takes_unseen(self) -> bool:
        """Whether the strategy takes candidates without looking at them."""
        return not self.is_user_defined and STRATEGIES[self.strategy].takes_unseen

    @property
    def is_user_defined(self) -> bool:
        """Whether the strategy is user-defined."""
        return self.strategy not in STRATEGIES

    @property
    def takes_first(self) -> bool:
        """Whether the initial batch is the first structures of the pool."""
        return self.initial_selection == "sequence" or (self.initial_selection is None and self.strategy == "sequence")

    @property
    def reads(self) -> frozenset[str]:
        """What the strategy reads of model and campaign (``Traits.reads``); of a user-defined one, its class knows."""
        found = set(() if self.is_user_defined else STRATEGIES[self.strategy].reads)
        if self.distance not in (None, "features") and "distance" in self.options:
            found.add("embedding")
        return frozenset(found)

    @property
    def options(self) -> tuple[str, ...]:
        """The keys of this section that the strategy understands."""
        own = ("embedding", *OED_OPTIONS, "arguments")
        return own if self.is_user_defined else STRATEGIES[self.strategy].options

    @property
    def reads_features(self) -> bool:
        """Whether the strategy looks at the descriptor; those of a large pool take a while to read."""
        if "distance" in self.options:
            return self.distance in (None, "features")
        return self.is_user_defined or self.strategy in ("clusters", "uncertainty_clusters")

    @property
    def needs_scores(self) -> bool:
        """Whether the strategy looks at what the model says of the pool; a user-defined one always may."""
        return self.is_user_defined or not self.reads.isdisjoint(FROM_MODEL)

    def embedding_of(self, model: ModelTraits) -> str | None:
        """Return the embedding that the strategy works on, or None where the model has none."""
        if self.distance not in (None, "features") and "distance" in self.options:
            return self.distance
        return self.embedding or next(iter(model.feature_maps), None)


def incompatibility(
    query: Query, kind: str, model: ModelTraits, target: Target, searches: bool, reads: frozenset[str]
) -> str | None:
    """Return what a strategy that reads ``reads`` lacks ("needs ..."), with what to change, or None.

    kind, model: what ``model.kind`` names and what it can do. searches: whether the campaign has a range to search
    (``search``).
    """
    if reads & {"votes", "probabilities"} and not (target.classes and model.classes):
        return f"needs classes as target and a model of classes (here target: {target.name}, model.kind: {kind})"
    if "votes" in reads and not model.votes:
        return f"needs the votes of a committee{_remedy(model, 'votes')}"
    if reads & {"std", "range"} and target.classes:
        return "needs a number as target, not classes"
    if "std" in reads and not model.std:
        return f"needs a model that predicts uncertainties{_remedy(model, 'std')}"
    if "range" in reads and not searches:
        return "needs the range to search; set search.minimum or search.maximum"
    for criterion in sorted(criteria(reads)):
        if criterion not in model.informativeness:
            return f"needs a model that says how much a label of {criterion} would tell it{_remedy(model, 'informativeness')}"
        if criterion not in target.learnt:
            return f"needs {criterion} among what is learnt (here target: {target.name})"
    if "embedding" not in reads:
        return None
    embedding = query.embedding_of(model)
    if embedding not in model.feature_maps:
        known = ", ".join(model.feature_maps) or "none"
        return f"cannot use the embedding {embedding}: model.kind: {kind} has {known}"
    if embedding in FORCE_EMBEDDINGS and "forces" not in target.learnt:
        return f"cannot use the embedding {embedding} without forces among what is learnt (here target: {target.name})"
    return None


def criteria(reads: frozenset[str]) -> frozenset[str]:
    """Return the properties of ``Prediction.informativeness_<property>`` among ``reads`` (``Traits.reads``)."""
    return frozenset(name.removeprefix(INFORMATIVENESS) for name in reads if name.startswith(INFORMATIVENESS))


def _remedy(model: ModelTraits, lack: str) -> str:
    return model.remedies.get(lack, "; choose another model")
