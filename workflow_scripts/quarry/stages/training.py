"""Training the model of an iteration, or the members of its committee."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from quarry.models.base import Committee, Model, TrainingData
from quarry.models.classes import check_classes
from quarry.randomness import generator
from quarry.stages.arm_models import ArmModels
from quarry.stages.targets import split


def train_model(models: ArmModels, dataset: str, output: str, members: Sequence[str] = ()) -> list[str]:
    """Train the arm's model on all training labels so far; return a line about it, and one about classes of none.

    members: files of a committee's members that were trained one by one; they are joined instead.
    """
    data = models.learnt(dataset)
    warning = check_classes(data) if data.classes else []
    model = models.make()
    if members:
        assert isinstance(model, Committee)
        model.join([models.load(member) for member in members])
    else:
        fit(models, model, data, "train")
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    model.save(output)
    return [f"{models.settings.model.kind} trained on {len(data)} labels", *warning]


def train_member(models: ArmModels, member: int, dataset: str, output: str) -> str:
    """Train one member of the arm's committee, as training them all at once would; return a line about it."""
    data = models.learnt(dataset)
    if data.classes:
        check_classes(data)
    model = models.make()
    assert isinstance(model, Committee)
    model.fit_member(member, data, None, generator(models.configuration.seed, "train"))
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    model.save(output)
    return f"{models.settings.model.kind}, member {member}, trained on {len(data)} labels"


def fit(models: ArmModels, model: Model, data: TrainingData, purpose: str, *fold: int) -> None:
    """Train a model; one that chooses its hyperparameters on validation data gets them split off.

    purpose, fold: what the generators are seeded with, beside the campaign's seed. Neither arm nor iteration: the same
    labels give the same model everywhere.
    """
    validation, configuration = None, models.configuration
    if models.traits.validates:
        rng = generator(configuration.seed, "validation split", *fold)
        learnt, held = split(len(data), configuration, rng, data.groups)
        data, validation = data.subset(learnt), data.subset(held)
    model.fit(data, validation, generator(configuration.seed, purpose, *fold))
