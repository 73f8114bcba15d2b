"""Evaluating the model of an iteration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from quarry.config.dynamics import CROSS_VALIDATION
from quarry.config.targets import Target
from quarry.errors import QuarryError
from quarry.evaluation.intervals import change_interval, share_change_interval
from quarry.files import write_json
from quarry.hdf5_files import new_hdf5
from quarry.models.base import STD, Model, Prediction, TrainingData, Validated
from quarry.models.metrics import geometric, mae, rmse, rrmse
from quarry.models.splits import folds_of
from quarry.randomness import generator
from quarry.stages.arm_models import ArmModels
from quarry.stages.auditing import audit_account
from quarry.stages.errors import Evaluated, summary_of
from quarry.stages.searching import pool_account, search_account
from quarry.stages.targets import split
from quarry.stages.training import fit
from quarry.stages.warnings import warnings_of
from quarry.structures.labelled import LabelledSet
from quarry.structures.structure import ID_LENGTH


@dataclass(frozen=True)
class EvaluationFiles:
    """The files of an evaluation.

    model, dataset: of the iteration. predictions, metrics: what is written. previous: predictions of the iteration before.
    truth: the target of all structures of the pool, where a targeted search can be measured by them. audit: the table of the
    labels' audit. cross_validates: whether cross-validation is due whatever the stop rules look at.
    """

    model: str
    dataset: str
    predictions: str
    metrics: str
    previous: str | None = None
    truth: str | None = None
    audit: str | None = None
    cross_validates: bool = False


def evaluate_model(models: ArmModels, files: EvaluationFiles) -> None:
    """Write predictions beside labels for each metric, and errors with 95 % intervals.

    The test set is always evaluated where there is one; the validation split and cross-validation where stop.metric (or
    ``files``) asks for them, with models trained anew on the rest, hyperparameters included. The predictions of the last
    iteration are for rRMSE = |RMSE(N) - RMSE(N - step)| / RMSE(N) (lecture of P. O. Dral, 2024) and its interval.
    """
    configuration, target = models.configuration, models.target
    labelled = LabelledSet.read(files.dataset)
    metric = configuration.stop.metric
    train = models.training(labelled)
    test = models.data(labelled, "test")
    if models.descriptor is not None:
        # Asked for by every fold, and by the look at labels of structures that are the same to the descriptor.
        models.descriptor.keep(train.structures)
    results: dict[str, Evaluated] = {}
    if metric == "test" and configuration.test.size and not len(test):
        raise QuarryError(
            f"{files.dataset}: no label of the test set succeeded, so there is no error to stop by; see failures.csv"
        )
    trained = models.load(files.model)
    test, left_out = _judged_test(models, train, test)
    if len(test):
        results["test"] = Evaluated.of(target, test, trained.predict(test.structures, everything(models)))
    if metric != "test":
        results[metric] = Evaluated.of(target, *_held_back(models, train, trained, metric))
    if files.cross_validates and CROSS_VALIDATION not in results:
        held_back = _held_back(models, train, trained, CROSS_VALIDATION, for_means=True)
        results[CROSS_VALIDATION] = Evaluated.of(target, *held_back)
    # The bootstrap's stream depends on the metric only, so that equal errors give equal intervals in every arm.
    summary = {
        name: summary_of(result, target, generator(configuration.seed, "bootstrap", name))
        for name, result in results.items()
    }
    _write_predictions(files.predictions, results)
    ids = results[metric].structures.ids if metric in results else np.zeros(0, dtype=str)
    rng = generator(configuration.seed, "bootstrap rrmse")
    now = results[metric].errors if metric in results else None
    before = read_predictions(files.previous, metric) if files.previous else None
    relative = _relative_change(now, ids, before, target, rng)
    hyperparameters = dict(trained.hyperparameters)
    counts = {"n_train": len(train), "n_test": len(test), "n_labels": len(labelled)}
    search: dict[str, Any] = {}
    if configuration.search:
        search = search_account(configuration, train, results.get("test"))
    if files.truth:
        search |= pool_account(models, trained, labelled, files.truth)
    audited, doubts = audit_account(configuration, files.audit, train, results)
    known = labelled.without_rejected()
    doubts = left_out + doubts + warnings_of(models, trained, train, results, summary, known)
    found = {"errors": summary, "hyperparameters": hyperparameters, "search": search, "warnings": doubts}
    if target.transitions:
        from quarry.spectra.states import swap_account

        found["states"] = swap_account(known, target.n_states)
    write_json(files.metrics, {**counts, **relative, **found, **audited})


def _judged_test(models: ArmModels, train: TrainingData, test: TrainingData) -> tuple[TrainingData, list[str]]:
    """Return the test structures that the model can be asked of, and a line where these are not all."""
    rows = models.judged(train.structures, test.structures)
    if len(rows) == len(test):
        return test, []
    if not len(rows):
        raise QuarryError(
            f"model.kind: {models.settings.model.kind} knows the elements of none of the {len(test)} test structures; raise "
            "query.initial"
        )
    return test.subset(rows), [
        f"{len(test) - len(rows)} of {len(test)} test structures have elements that no training label has: they are left out "
        "of the errors"
    ]


def everything(models: ArmModels) -> frozenset[str]:
    """Return all that a model can be asked for: what it learns, with standard deviations (``Model.predict``: want)."""
    return frozenset((*models.target.learnt, STD))


def _held_back(
    models: ArmModels, train: TrainingData, trained: Model, metric: str, for_means: bool = False
) -> tuple[TrainingData, Prediction]:
    """Predict training labels by models that did not see them: a validation split, or every fold in turn.

    trained: the model of all training labels. One that validates has predicted its validation data itself. for_means: whether
    standard deviations are not asked for.
    """
    configuration = models.configuration
    rng = generator(configuration.seed, "validation split")
    if metric == "validation":
        rest, held = split(len(train), configuration, rng, train.groups)
        if models.traits.validates and isinstance(trained, Validated):
            return train.subset(held), trained.validation
        parts = [held]
    else:
        count = min(configuration.validation.folds, len(train))
        parts = folds_of(rng.permutation(len(train)), count, train.groups)
    predictions, held_back = [], []
    for number, part in enumerate(parts):
        model = models.make(for_means)
        rest = np.setdiff1d(np.arange(len(train)), part)
        fit(models, model, train.subset(rest), "validation", number)
        judged = part[models.judged(train.structures.subset(rest), train.structures.subset(part))]
        predictions.append(model.predict(train.structures.subset(judged), everything(models)))
        held_back.append(judged)
    return train.subset(np.concatenate(held_back)), Prediction.joined(predictions)


def _relative_change(
    current: NDArray[np.float64] | None,
    ids: NDArray[np.str_],
    before: dict[str, Any] | None,
    target: Target,
    rng: np.random.Generator,
) -> dict[str, float | None]:
    """Return rRMSE and its interval, for classes the same of the share of wrong ones.

    The interval is paired where both errors are of the same structures.
    """
    if current is None or before is None:
        return {"rrmse": 1.0, "rrmse_low": 1.0, "rrmse_high": 1.0}
    classes = target.classes
    wrong = before["mean"] != before["label"]
    previous = wrong.astype(np.float64) if classes else before["mean"] - before["label"]
    statistic = mae if classes else geometric(rmse)
    paired = np.array_equal(before["ids"].astype(str), ids)
    low, high = (
        share_change_interval(previous, current, paired) if classes else change_interval(previous, current, paired, rng)
    )
    return {"rrmse": rrmse(statistic(previous), statistic(current)), "rrmse_low": low, "rrmse_high": high}


def _write_predictions(path: str, results: dict[str, Evaluated]) -> None:
    """Write labels and predictions; what the model does not give is left out."""
    with new_hdf5(path) as handle:
        for name, found in results.items():
            group = handle.create_group(name)
            group.create_dataset("ids", data=found.structures.ids.astype(f"S{ID_LENGTH}"))
            group.create_dataset("label", data=found.labels)
            fields = {
                "mean": found.mean,
                "std": found.std,
                "probabilities": found.prediction.probabilities,
                "votes": found.prediction.votes,
                **{key: mean for key, _, mean in found.beside()},
                **{f"{key}_std": found.prediction.std.get(key) for key, _, _ in found.beside()},
                "std_with_noise": found.std_with_noise,
            }
            for field, values in fields.items():
                if values is not None:
                    group.create_dataset(field, data=values)


def read_predictions(path: str, metric: str) -> dict[str, Any] | None:
    """Return ids, labels and predictions of a metric's structures, arrays by name as in the file; None: no such metric."""
    with h5py.File(path, "r") as handle:
        return {name: handle[metric][name][()] for name in handle[metric]} if metric in handle else None
