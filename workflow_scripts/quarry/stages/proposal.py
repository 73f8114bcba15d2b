"""Scoring the candidates with the last model, and letting the strategy propose a batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from quarry.config.campaign import ArmSettings, Configuration
from quarry.config.query import FROM_MODEL, misfit
from quarry.csv_tables import write_rows
from quarry.errors import QuarryError
from quarry.files import atomic_path
from quarry.models.base import Embeds, Model
from quarry.processes import only_this_process
from quarry.query.base import PoolView, Ranks, Strategy
from quarry.query.batch import batch_size
from quarry.query.strategies import chosen_by, make_strategy, needs_of
from quarry.randomness import generator
from quarry.stages.candidates import candidate_rows
from quarry.stages.pool import pool_rows, read_features
from quarry.stages.targets import training_data
from quarry.stages.warnings import unfamiliar_candidates
from quarry.stopping.facts import Facts
from quarry.stopping.rules import labels_left
from quarry.structures.files import read_pool, read_pool_ids
from quarry.structures.labelled import LabelledSet

UNFAMILIAR_SHARE = 10
"""One in so many structures of a batch is drawn from candidates that the model cannot judge (``query.unfamiliar: few``)."""


def check_strategy(configuration: Configuration, base: Path) -> None:
    """Raise QuarryError if an arm's own strategy cannot be used, or needs what model and campaign do not have.

    base: folder of the campaign file. Those of Quarry are checked with the configuration (``config.query.conflict``).
    """
    for name in configuration.arm_names:
        arm = configuration.arm(name)
        reads = needs_of(arm.query, make_strategy(arm.query, base))
        lack = misfit(arm.query, arm.model, configuration.target, configuration.search is not None, reads)
        if lack:
            raise QuarryError(f"query.strategy: {arm.query.strategy} of arm {name} {lack}")


def score_pool(
    configuration: Configuration,
    arm: str,
    iteration: int,
    base: Path,
    model: str,
    structures: str,
    features: str,
    dataset: str,
    failures: str,
    output: str,
) -> None:
    """Let the last model say what the arm's strategy needs of every candidate; write it with the candidates' rows.

    ``mean`` and ``std`` are in the target's unit (for excitations std is ``joint_std``); ``probabilities`` and ``votes``
    of shape (n, n_classes); ``embedding`` and ``labelled_embedding`` (float32) of shapes (n, p) and (n_training, p).
    base: folder of the campaign file.
    """
    from quarry.models.registry import load_model

    settings = configuration.arm(arm)
    needs = needs_of(settings.query, make_strategy(settings.query, base))
    rows = candidate_rows(structures, dataset, failures, configuration.pool.is_sampled)
    pool, trained = read_pool(structures), load_model(model)
    scores: dict[str, Any] = {"rows": rows}
    if needs & {"mean", "std", "probabilities", "votes"}:
        prediction = trained.predict(pool.subset(rows), read_features(features, rows), with_std="std" in needs)
        scores |= {name: getattr(prediction, name) for name in FROM_MODEL if name in needs and name != "embedding"}
        if scores.get("std") is not None and scores["std"].ndim == 2:
            targets = training_data(LabelledSet.read(dataset), "train", features, configuration).targets
            scores["std"] = joint_std(scores["std"], targets)
    if "embedding" in needs:
        known = pool_rows(features, _training_ids(configuration, dataset, features))
        rng = generator(settings.seed, arm, iteration, "embed")
        both = np.concatenate([rows, known])
        maps = _embed(trained, settings, pool.subset(both), read_features(features, both), rng)
        scores |= {"embedding": maps[: len(rows)], "labelled_embedding": maps[len(rows) :]}
    missing = [name for name, values in scores.items() if values is None]
    if missing:
        raise QuarryError(
            f"query.strategy: {settings.query.strategy} needs {missing[0]}, which model.kind: {settings.model.kind} "
            "does not predict; choose another strategy or model"
        )
    with atomic_path(output) as temporary, h5py.File(temporary, "w") as handle:
        for name, values in scores.items():
            handle.create_dataset(name, data=values)


def joint_std(std: NDArray[np.float64], targets: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return one uncertainty for all quantities of a structure, without unit, shape (n,).

    std: shape (n, n_quantities). targets: of the training data, shape (n_train, n_quantities). The root mean square over
    the quantities, each in units of its spread in the training data, so that eV and oscillator strengths count alike.
    """
    spread = targets.std(axis=0)
    varying = spread > 0
    if not varying.any():
        return np.zeros(len(std))
    return np.sqrt(np.mean((std[:, varying] / spread[varying]) ** 2, axis=1))


def _embed(
    model: Model, settings: ArmSettings, structures: Any, features: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return the model's feature map of candidates and training structures alike, shape (n, p)."""
    kind = settings.query.embedding_of(settings.model)
    if kind is None or not isinstance(model, Embeds):
        raise QuarryError(f"query.embedding: model.kind: {settings.model.kind} has none; choose another strategy")
    return model.embed(structures, features, kind, rng).astype(np.float32)


def _training_ids(configuration: Configuration, dataset: str, features: str) -> NDArray[np.str_]:
    return training_data(LabelledSet.read(dataset), "train", features, configuration).structures.ids


def propose_batch(
    configuration: Configuration,
    arm: str,
    iteration: int,
    base: Path,
    features: str,
    dataset: str,
    failures: str,
    facts: str,
    scores: str | None,
    output: str,
    structures: str,
) -> None:
    """Let the arm's strategy choose the next structures; write their ids and scores in its order.

    score is the number that the strategy ranks by, where there is one. base: folder of the campaign file. structures: the
    candidates' file. Those that the model cannot judge (``query.unfamiliar``) come first, without a score.
    """
    settings = configuration.arm(arm)
    strategy = make_strategy(settings.query, base)
    view, rows = _view(configuration, strategy, settings, structures, features, dataset, failures, scores)
    last = Facts.read(facts)
    size = int(
        min(batch_size(settings.query.batch, iteration, last.n_train), labels_left(last, configuration), len(rows))
    )
    rng = generator(settings.seed, arm, iteration, "propose")
    strange = np.zeros(len(rows), dtype=bool)
    if settings.query.needs_scores and settings.query.unfamiliar != "trust":
        known = LabelledSet.read(dataset)
        known_structures = known.structures.subset(known.indices("train"))
        strange = unfamiliar_candidates(configuration, known_structures, read_pool(structures).subset(rows))
    drawn = _drawn_unfamiliar(
        strange, size, settings.query.unfamiliar, generator(settings.seed, arm, iteration, "unfamiliar")
    )
    familiar = np.flatnonzero(~strange)
    view = view if len(familiar) == len(rows) else view.subset(familiar)
    chosen = chosen_by(strategy, settings.query.strategy, view, size - len(drawn), rng)
    with only_this_process():
        ranks = strategy.score(view) if isinstance(strategy, Ranks) else None
    ids = [str(i) for i in read_pool_ids(structures)]
    proposed = [(ids[rows[c]], "") for c in drawn]
    proposed += [(ids[rows[familiar[c]]], "" if ranks is None else repr(float(ranks[c]))) for c in chosen]
    write_rows(output, ["structure_id", "score"], proposed)


def _drawn_unfamiliar(strange: NDArray[np.bool_], size: int, rule: str, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return which unfamiliar candidates are in a batch: few or none, and more where the others do not fill it."""
    there = np.flatnonzero(strange)
    few = max(1, size // UNFAMILIAR_SHARE) if rule == "few" else 0
    count = min(len(there), size, max(few, size - (len(strange) - len(there))))
    return np.sort(rng.choice(there, count, replace=False)) if count else np.zeros(0, dtype=np.int64)


def _view(
    configuration: Configuration,
    strategy: Strategy,
    settings: ArmSettings,
    structures: str,
    features: str,
    dataset: str,
    failures: str,
    scores: str | None,
) -> tuple[PoolView, NDArray[np.int64]]:
    """Return the candidates as the strategy sees them, and their rows in the pool."""
    fields: dict[str, Any] = {}
    if scores is None:
        rows = candidate_rows(structures, dataset, failures, configuration.pool.is_sampled)
    else:
        with h5py.File(scores, "r") as handle:
            fields = {name: handle[name][()] for name in handle}
        rows = fields.pop("rows")
    wanted = configuration.search_range()
    if wanted is not None:
        fields["minimum"], fields["maximum"] = wanted
    if settings.query.is_own or "distance" in settings.query.options:
        data = training_data(LabelledSet.read(dataset), "train", features, configuration)
        fields |= {"labelled": data.features, "targets": data.targets}
    descriptor = read_features(features, rows) if settings.query.reads_features else np.zeros((len(rows), 0))
    return PoolView(features=descriptor, **fields), rows
