"""Scoring the candidates with the last model, and letting the strategy propose a batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from quarry.config.campaign import ArmSettings, Configuration
from quarry.config.query import INFORMATIVENESS, criteria, incompatibility
from quarry.csv_tables import write_rows
from quarry.errors import QuarryError
from quarry.hdf5_files import new_hdf5
from quarry.models.base import STD, HasFeatureMaps, HasInformativeness, main_std, main_values
from quarry.query.base import PoolView, RanksLabelled, Strategy
from quarry.query.batch import batch_size
from quarry.query.strategies import chosen_by, make_strategy, needs_of, ranks_of
from quarry.randomness import generator
from quarry.stages.arm_models import ArmModels
from quarry.stages.candidates import candidate_rows
from quarry.stages.warnings import unfamiliar_candidates
from quarry.stopping.facts import Facts
from quarry.stopping.progress import Query
from quarry.stopping.rules import labels_left
from quarry.structures.files import read_pool, read_pool_ids
from quarry.structures.labelled import LabelledSet

UNFAMILIAR_SHARE = 10
"""One in so many structures of a batch is drawn from candidates that the model cannot judge (``query.unfamiliar: few``)."""


def check_strategy(configuration: Configuration, base: Path) -> None:
    """Raise QuarryError if an arm's user-defined strategy cannot be used, or needs what model and campaign do not have.

    base: folder of the campaign file. Those of Quarry are checked with the configuration (``config.query.incompatibility``).
    """
    for name in configuration.arm_names:
        arm = configuration.arm(name)
        strategy = make_strategy(arm.query, base)
        reads = needs_of(arm.query, strategy)
        traits = ArmModels(configuration, name, pool="", base=base).traits
        lack = incompatibility(
            arm.query, arm.model.kind, traits, configuration.goal, configuration.search is not None, reads
        ) or _needs_descriptor(configuration, strategy)
        if lack:
            raise QuarryError(f"query.strategy: {arm.query.strategy} of arm {name} {lack}")
        if arm.query.min_informativeness is not None and not isinstance(strategy, RanksLabelled):
            raise QuarryError(
                f"query.min_informativeness: {arm.query.strategy} of arm {name} has no methods score and score_labelled; add "
                "them, or remove it"
            )


def _needs_descriptor(configuration: Configuration, strategy: Strategy) -> str | None:
    named = {"features", "labelled"} & set(getattr(strategy, "needs", ()))
    if configuration.descriptor is not None or not named:
        return None
    return f"needs {sorted(named)[0]}, the descriptor; add the section descriptor"


def score_pool(models: ArmModels, iteration: int, model: str, dataset: str, failures: str, output: str) -> None:
    """Write what the last model predicts of every candidate, as far as the arm's strategy needs it, and their rows.

    ``mean`` and ``std`` are in the target's unit (for excitations std is ``joint_std``); ``probabilities`` and ``votes``
    of shape (n, n_classes); ``embedding`` and ``labelled_embedding`` (float32) of shapes (n, p) and (n_training, p);
    ``informativeness_energy`` and ``_forces`` of shape (n,), with ``labelled_`` before it (n_training,).
    """
    settings, target = models.settings, models.target
    needs = needs_of(settings.query, make_strategy(settings.query, models.base))
    rows = candidate_rows(models.pool, dataset, failures, models.configuration.pool.is_sampled)
    candidates, trained = read_pool(models.pool).subset(rows), models.load(model)
    training = models.data(LabelledSet.read(dataset), "train")
    known = training.structures
    scores: dict[str, Any] = {"rows": rows}
    if needs & {"mean", "std", "probabilities", "votes"}:
        prediction = models.ask(trained, known, candidates, frozenset(target.main) | ({STD} & needs))
        found = {
            "mean": main_values(target, prediction.mean),
            "std": main_std(target, prediction),
            "probabilities": prediction.probabilities,
            "votes": prediction.votes,
        }
        scores |= {name: values for name, values in found.items() if name in needs}
        if target.per_state and scores.get("std") is not None:
            scores["std"] = joint_std(scores["std"], main_values(target, training.targets))
    if "embedding" in needs:
        rng = generator(settings.seed, models.arm, iteration, "embed")
        kind = settings.query.embedding_of(models.traits)
        if kind is None or not isinstance(trained, HasFeatureMaps):
            raise QuarryError(f"query.embedding: model.kind: {settings.model.kind} has none; choose another strategy")
        judged = models.judged(known, candidates)
        asked = candidates if len(judged) == len(rows) else candidates.subset(judged)
        maps = trained.features(asked.joined(known), kind, rng).astype(np.float32)
        embedding = np.full((len(rows), maps.shape[1]), np.nan, dtype=np.float32)
        embedding[judged] = maps[: len(judged)]
        scores |= {"embedding": embedding, "labelled_embedding": maps[len(judged) :]}
    asked_of = criteria(needs)
    if asked_of:
        if not isinstance(trained, HasInformativeness):
            raise QuarryError(
                f"query.strategy: {settings.query.strategy} needs what model.kind: {settings.model.kind} does not say: how "
                "much a label would tell it; choose another strategy or model"
            )
        judged = models.judged(known, candidates)
        for criterion, said in trained.informativeness(candidates.subset(judged), known, asked_of).items():
            values = np.full(len(rows), np.nan)
            values[judged] = said.values
            scores |= {INFORMATIVENESS + criterion: values, f"labelled_{INFORMATIVENESS}{criterion}": said.known}
    missing = [name for name, values in scores.items() if values is None]
    if missing:
        raise QuarryError(
            f"query.strategy: {settings.query.strategy} needs {missing[0]}, which model.kind: {settings.model.kind} "
            "does not predict; choose another strategy or model"
        )
    with new_hdf5(output) as handle:
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


def propose_batch(
    models: ArmModels, iteration: int, dataset: str, failures: str, facts: str, scores: str | None, output: str
) -> list[str]:
    """Let the arm's strategy choose the next structures; write their ids and scores in its order, and ``query.json`` beside it.

    score is the number that the strategy ranks by, where there is one. Candidates that the model cannot judge
    (``query.unfamiliar``) come first, without a score. Return a line about candidates that are not informative enough
    (``query.min_informativeness``), if there are any.
    """
    configuration, settings, arm = models.configuration, models.settings, models.arm
    strategy = make_strategy(settings.query, models.base)
    view, rows = _view(models, dataset, failures, scores)
    last = Facts.read(facts)
    size = int(
        min(batch_size(settings.query.batch, iteration, last.n_train), labels_left(last, configuration), len(rows))
    )
    rng = generator(settings.seed, arm, iteration, "propose")
    strange = np.zeros(len(rows), dtype=bool)
    if settings.query.needs_scores and settings.query.unfamiliar != "trust":
        known = LabelledSet.read(dataset)
        known_structures = known.structures.subset(known.indices("train"))
        strange = unfamiliar_candidates(configuration, known_structures, read_pool(models.pool).subset(rows))
    drawn = _drawn_unfamiliar(
        strange, size, settings.query.unfamiliar, generator(settings.seed, arm, iteration, "unfamiliar")
    )
    familiar = np.flatnonzero(~strange)
    view = view if len(familiar) == len(rows) else view.subset(familiar)
    ranks, of_training = ranks_of(strategy, settings.query.strategy, view)
    thresholds = _thresholds(view, settings, of_training)
    informativeness = _informativeness(ranks, thresholds)
    telling = _telling(informativeness, settings, len(view))
    asked = view if len(telling) == len(view) else view.subset(telling)
    chosen = telling[chosen_by(strategy, settings.query.strategy, asked, size - len(drawn), rng)]
    ids = [str(i) for i in read_pool_ids(models.pool)]
    proposed = [(ids[rows[c]], "") for c in drawn]
    proposed += [(ids[rows[familiar[c]]], "" if ranks is None else repr(float(ranks[c]))) for c in chosen]
    write_rows(output, ["structure_id", "score"], proposed)
    found = {"score": ranks, "std": view.std, "mean": view.mean, **informativeness}
    seen = {name: values for name, values in found.items() if values is not None and values.ndim == 1}
    said = [
        {name: float(values[c]) for name, values in seen.items() if name != "mean" and np.isfinite(values[c])}
        for c in chosen
    ]
    Query(
        strategy=settings.query.strategy,
        candidates=len(rows),
        unfamiliar=int(strange.sum()),
        chosen=[
            {"structure_id": name, **(said[n - len(drawn)] if n >= len(drawn) else {})}
            for n, (name, _) in enumerate(proposed)
        ],
        distributions={
            name: distribution(values) | ({"above_1": _share_above_1(values)} if name in informativeness else {})
            for name, values in seen.items()
            if np.isfinite(values).any()
        },
        thresholds=thresholds,
        uninformative=len(view) - len(telling),
    ).write(Path(output).with_name("query.json"))
    if len(telling) == len(view):
        return []
    return [
        f"{len(view) - len(telling)} of {len(rows)} candidates have an informativeness of {settings.query.min_informativeness:g} "
        f"or less and are left out (query.min_informativeness); {len(proposed)} of {size} places are filled"
    ]


def distribution(values: NDArray[np.floating]) -> dict[str, float]:
    """Return min, q25, median, q75, q95, max and mean of the finite ones among values of shape (n,), of which there is one."""
    finite = values[np.isfinite(values)]
    shares = {"min": 0.0, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95, "max": 1.0}
    quantiles = np.quantile(finite, list(shares.values()))
    return {**{name: float(q) for name, q in zip(shares, quantiles, strict=True)}, "mean": float(finite.mean())}


def _share_above_1(values: NDArray[np.floating]) -> float:
    return float(np.mean(values[np.isfinite(values)] > 1.0))


def _informativeness(
    ranks: NDArray[np.float64] | None, thresholds: dict[str, float]
) -> dict[str, NDArray[np.float64] | None]:
    """Return what candidates are ranked by over the mean and over the median of the training structures' own (> 0)."""
    return {
        f"informativeness_by_{of}": ranks / threshold
        for of in ("mean", "median")
        if ranks is not None and (threshold := thresholds.get(f"training_{of}", 0.0)) > 0
    }


def _telling(
    informativeness: dict[str, NDArray[np.float64] | None], settings: ArmSettings, n: int
) -> NDArray[np.int64]:
    """Return which of ``n`` candidates may be chosen: all, or those above ``query.min_informativeness``."""
    query = settings.query
    values = informativeness.get(f"informativeness_by_{query.threshold or 'median'}")
    if query.min_informativeness is None or values is None:
        return np.arange(n)
    return np.flatnonzero(values > query.min_informativeness)


def _thresholds(view: PoolView, settings: ArmSettings, of_training: NDArray[np.float64] | None) -> dict[str, float]:
    named = {"minimum": view.minimum, "maximum": view.maximum, "share": settings.query.share}
    if of_training is not None and len(of_training):
        named |= {"training_mean": float(np.mean(of_training)), "training_median": float(np.median(of_training))}
    return {name: float(value) for name, value in named.items() if value is not None and np.isfinite(value)}


def _drawn_unfamiliar(strange: NDArray[np.bool_], size: int, rule: str, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return which unfamiliar candidates are in a batch: few or none, and more where the others do not fill it."""
    there = np.flatnonzero(strange)
    few = max(1, size // UNFAMILIAR_SHARE) if rule == "few" else 0
    count = min(len(there), size, max(few, size - (len(strange) - len(there))))
    return np.sort(rng.choice(there, count, replace=False)) if count else np.zeros(0, dtype=np.int64)


def _view(models: ArmModels, dataset: str, failures: str, scores: str | None) -> tuple[PoolView, NDArray[np.int64]]:
    """Return the candidates as the strategy sees them, and their rows in the pool."""
    configuration, query = models.configuration, models.settings.query
    fields: dict[str, Any] = {}
    if scores is None:
        rows = candidate_rows(models.pool, dataset, failures, configuration.pool.is_sampled)
    else:
        with h5py.File(scores, "r") as handle:
            fields = {name: handle[name][()] for name in handle}
        rows = fields.pop("rows")
    wanted = configuration.search_range()
    if wanted is not None:
        fields["minimum"], fields["maximum"] = wanted
    cache = models.descriptor
    if query.is_user_defined or "distance" in query.options:
        data = models.data(LabelledSet.read(dataset), "train")
        fields["targets"] = main_values(models.target, data.targets)
        fields["labelled"] = None if cache is None else cache.of(data.structures)
    descriptor = np.zeros((len(rows), 0))
    if query.reads_features and cache is not None:
        descriptor = cache.of(read_pool(models.pool).subset(rows))
    return PoolView(features=descriptor, **fields), rows
