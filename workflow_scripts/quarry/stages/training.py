"""Training the model of an iteration, or the members of its committee."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from quarry.files import digest_of, locked, write_text
from quarry.models.base import Committee, Model, TrainingData
from quarry.models.classes import check_classes
from quarry.randomness import generator
from quarry.stages.arm_models import ArmModels
from quarry.stages.targets import split

CHECKPOINT = "checkpoint"
"""Folder beside a model in which a training that goes on leaves its state."""


LOCK = "checkpoint.lock"
"""File beside it that is locked while a training uses the folder."""
MARK = "training.txt"
"""File in the folder: which training it belongs to."""


def train_model(
    models: ArmModels,
    dataset: str,
    output: str,
    members: Sequence[str] = (),
    start: str | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> list[str]:
    """Train the arm's model on all training labels so far; return a line about it, and one about classes of none.

    members: files of a committee's members that were trained one by one; they are joined instead. start: file of the model
    to begin from. A training that is killed may leave its state in the folder checkpoint beside the model, where the next
    attempt finds it. An attempt that still runs, because its campaign alone was killed, is waited for. log: gets a line then.
    """
    data = models.learnt(dataset)
    warning = check_classes(data) if data.classes else []
    model = models.make()
    if members:
        assert isinstance(model, Committee)
        model.join([models.load(member) for member in members])
        Path(output).parent.mkdir(parents=True, exist_ok=True)
        model.save(output)
    else:
        begin = models.load(start) if start else None
        with _checkpoint(models, output, data, log) as checkpoint:
            if checkpoint is not None:
                fit(models, model, data, "train", start=begin, checkpoint=checkpoint)
                model.save(output)
    return [f"{models.settings.model.kind} trained on {len(data)} labels", *warning]


def _waits(output: str, holder: str) -> str:
    return f"waiting for {holder}, which trains {output} too; end it if it is not wanted"


def train_member(
    models: ArmModels,
    member: int,
    dataset: str,
    output: str,
    start: str | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> str:
    """Train one member of the arm's committee, as training them all at once would; return a line about it.

    start, log: as of ``train_model``.
    """
    data = models.learnt(dataset)
    if data.classes:
        check_classes(data)
    model = models.make()
    assert isinstance(model, Committee)
    begin, rng = models.load(start) if start else None, generator(models.configuration.seed, "train")
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    with _checkpoint(models, output, data, log) as checkpoint:
        if checkpoint is not None:
            model.fit_member(member, data, None, rng, start=begin, checkpoint=checkpoint)
            model.save(output)
    return f"{models.settings.model.kind}, member {member}, trained on {len(data)} labels"


@contextmanager
def _checkpoint(
    models: ArmModels, output: str, data: TrainingData, log: Callable[[str], None]
) -> Iterator[Path | None]:
    """Give the folder for the state of a training, which no other process uses at once, and remove it afterwards.

    None: another attempt at the same training was waited for, and has written the model.
    """
    settings = [models.settings.model.model_dump(mode="json"), models.configuration.seed]
    mark = _mark(data, settings)
    theirs: list[str] = []

    def waits(holder: str) -> None:
        theirs.append(_read_mark(_folder(output)))
        log(_waits(output, holder))

    with locked(Path(output).with_name(_beside(output, LOCK)), waits):
        # Snakemake has removed an older file of this name before this job began.
        if mark in theirs and Path(output).exists() and not _folder(output).exists():
            yield None
            return
        checkpoint = checkpoint_of(output, data, settings)
        yield checkpoint
        shutil.rmtree(checkpoint, ignore_errors=True)


def _folder(output: str) -> Path:
    return Path(output).with_name(_beside(output, CHECKPOINT))


def _mark(data: TrainingData, settings: Any) -> str:
    """Return what tells a training from others."""
    labels = [data.structures.ids.tolist(), {name: v.tolist() for name, v in sorted(data.targets.items())}]
    return digest_of([labels, settings])


def _read_mark(folder: Path) -> str:
    """Return the mark of the training whose state a folder is for; empty where there is none."""
    try:
        return (folder / MARK).read_text()
    except FileNotFoundError:
        return ""


def _beside(output: str, name: str) -> str:
    """Return the name of a file or folder beside a model's; members, which share a folder, have their own."""
    stem = Path(output).stem
    return name if stem == "model" else f"{stem}.{name}"


def checkpoint_of(output: str, data: TrainingData, settings: Any) -> Path:
    """Return the folder in which the training of a model may leave its state; that of another training is removed from it."""
    folder, mark = _folder(output), _mark(data, settings)
    if _read_mark(folder) != mark:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_text(folder / MARK, mark)
    return folder


def fit(
    models: ArmModels,
    model: Model,
    data: TrainingData,
    purpose: str,
    *fold: int,
    start: Model | None = None,
    checkpoint: Path | None = None,
) -> None:
    """Train a model; one that chooses its hyperparameters on validation data gets them split off.

    purpose, fold: what the generators are seeded with, beside the campaign's seed. Neither arm nor iteration: the same
    labels give the same model everywhere. start, checkpoint: as of ``Model.fit``.
    """
    validation, configuration = None, models.configuration
    if models.traits.validates:
        rng = generator(configuration.seed, "validation split", *fold)
        learnt, held = split(len(data), configuration, rng, data.groups)
        data, validation = data.subset(learnt), data.subset(held)
    rng = generator(configuration.seed, purpose, *fold)
    model.fit(data, validation, rng, start=start, checkpoint=checkpoint)
