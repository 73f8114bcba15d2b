"""Training and evaluating the model of an iteration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from quarry.config.campaign import Configuration
from quarry.config.classification import Classification
from quarry.errors import QuarryError
from quarry.evaluation.calibration import calibration
from quarry.files import atomic_path, write_json
from quarry.models.base import Committee, Model, Prediction, TrainingData, Validated
from quarry.models.classes import check_classes
from quarry.models.metrics import (
    bootstrap_interval,
    confusion_matrix,
    excitation_metrics,
    geometric,
    mae,
    regression_metrics,
    rmse,
    rrmse,
    rrmse_interval,
)
from quarry.models.registry import load_model, make_model
from quarry.randomness import generator
from quarry.stages.searching import pool_account, search_account
from quarry.stages.targets import split, training_data
from quarry.structures.labelled import LabelledSet
from quarry.structures.structure import ID_LENGTH

PREDICTED = ("mean", "std", "probabilities", "votes", "forces")
"""Fields of a Prediction; what the model does not give is left out of ``predictions.h5``."""


def train_model(
    configuration: Configuration,
    arm: str,
    iteration: int,
    dataset: str,
    features: str,
    output: str,
    members: Sequence[str] = (),
) -> list[str]:
    """Train the arm's model on all training labels so far; return a line about it, and one about classes of none.

    members: files of a committee's members that were trained one by one; they are joined instead.
    """
    settings = configuration.arm(arm)
    data, warning = _learnt(configuration, dataset, features)
    model = make_model(settings.model, configuration.target)
    if members:
        assert isinstance(model, Committee)
        model.join([load_model(member) for member in members])
    else:
        _fit(model, data, configuration, (settings.seed, arm, iteration), "train")
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    model.save(output)
    return [f"{settings.model.kind} trained on {len(data)} labels", *warning]


def _fit(
    model: Model,
    data: TrainingData,
    configuration: Configuration,
    origin: tuple[int, str, int],
    purpose: str,
    *fold: int,
) -> None:
    """Train a model; one that is ``Validated`` gets its validation data split off.

    origin (seed, arm, iteration), purpose, fold: what the generators are seeded with.
    """
    validation = None
    if isinstance(model, Validated):
        learnt, held = split(len(data), configuration, generator(*origin, "validation split", *fold))
        data, validation = data.subset(learnt), data.subset(held)
    model.fit(data, validation, generator(*origin, purpose, *fold))


def train_member(
    configuration: Configuration, arm: str, iteration: int, member: int, dataset: str, features: str, output: str
) -> str:
    """Train one member of the arm's committee, as training them all at once would; return a line about it."""
    settings = configuration.arm(arm)
    data, _ = _learnt(configuration, dataset, features)
    model = make_model(settings.model, configuration.target)
    assert isinstance(model, Committee)
    model.fit_member(member, data, None, generator(settings.seed, arm, iteration, "train"))
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    model.save(output)
    return f"{settings.model.kind}, member {member}, trained on {len(data)} labels"


def _learnt(configuration: Configuration, dataset: str, features: str) -> tuple[TrainingData, list[str]]:
    """Return the training labels, and a line about classes without an example where there are any."""
    labelled = LabelledSet.read(dataset)
    data = training_data(labelled, "train", features, configuration)
    if not len(data):
        raise QuarryError(f"{dataset}: no training label succeeded, nothing to train on; see failures.csv")
    return data, check_classes(data) if data.classes else []


def evaluate_model(
    configuration: Configuration,
    arm: str,
    iteration: int,
    model: str,
    dataset: str,
    features: str,
    previous: str | None,
    predictions: str,
    metrics: str,
    structures: str = "",
    truth: str | None = None,
) -> None:
    """Write predictions beside labels for each metric, and errors with 95 % bootstrap intervals.

    The test set is always evaluated where there is one; the validation split and cross-validation where stop.metric
    asks for them, with models trained anew on the rest, hyperparameters included. previous: predictions of the last
    iteration, for rRMSE = |RMSE(N) - RMSE(N - step)| / RMSE(N) (lecture of P. O. Dral, 2024) and its interval.
    structures, truth: the pool and the target of all its structures, where a targeted search can be measured by them.
    """
    labelled = LabelledSet.read(dataset)
    metric, classes = configuration.stop.metric, configuration.classification
    train = training_data(labelled, "train", features, configuration)
    test = training_data(labelled, "test", features, configuration)
    results: dict[str, tuple[TrainingData, Prediction]] = {}
    if metric == "test" and configuration.test.size and not len(test):
        raise QuarryError(
            f"{dataset}: no label of the test set succeeded, so there is no error to stop by; see failures.csv"
        )
    trained = load_model(model)
    if len(test):
        results["test"] = (test, trained.predict(test.structures, test.features))
    if metric != "test":
        results[metric] = _held_back(configuration, arm, iteration, train, trained)
    noise_variance = float(trained.hyperparameters.get("noise_variance", 0.0))
    # The bootstrap's stream depends on the metric only, so that equal errors give equal intervals in every arm.
    summary = {
        name: _summary(data, result, noise_variance, generator(configuration.seed, "bootstrap", name))
        for name, (data, result) in results.items()
    }
    _write_predictions(predictions, results, noise_variance)
    ids = results[metric][0].structures.ids if metric in results else np.zeros(0, dtype=str)
    rng = generator(configuration.seed, "bootstrap rrmse")
    now = _errors(results[metric][0].targets, results[metric][1].mean, classes) if metric in results else None
    before = read_predictions(previous, metric) if previous else None
    relative = _relative_change(now, ids, before, classes, rng)
    hyperparameters = trained.hyperparameters
    counts = {"n_train": len(train), "n_test": len(test), "n_labels": len(labelled)}
    search: dict[str, Any] = {}
    if configuration.search:
        search = search_account(configuration, train, test, results["test"][1].mean if len(test) else None)
    if truth:
        search |= pool_account(configuration, trained, labelled, structures, features, truth)
    found = {"errors": summary, "hyperparameters": hyperparameters, "search": search}
    if configuration.spectrum:
        from quarry.spectra.states import swap_account

        found["states"] = swap_account(labelled, configuration.n_states)
    write_json(metrics, {**counts, **relative, **found})


def _held_back(
    configuration: Configuration, arm: str, iteration: int, train: TrainingData, trained: Model
) -> tuple[TrainingData, Prediction]:
    """Predict training labels by models that did not see them: a validation split, or every fold in turn.

    trained: the model of all training labels. One that is ``Validated`` has predicted its validation data itself.
    """
    settings, validation = configuration.arm(arm), configuration.validation
    rng = generator(settings.seed, arm, iteration, "validation split")
    if configuration.stop.metric == "validation":
        rest, held = split(len(train), configuration, rng)
        if isinstance(trained, Validated):
            return train.subset(held), trained.validation
        parts = [held]
    else:
        parts = list(np.array_split(rng.permutation(len(train)), min(validation.folds, len(train))))
    predictions = []
    for number, part in enumerate(parts):
        model = make_model(settings.model, configuration.target)
        rest = np.setdiff1d(np.arange(len(train)), part)
        _fit(model, train.subset(rest), configuration, (settings.seed, arm, iteration), "validation", number)
        predictions.append(model.predict(train.structures.subset(part), train.features[part]))
    return train.subset(np.concatenate(parts)), _joined(predictions)


def _joined(predictions: Sequence[Prediction]) -> Prediction:
    def joined(field: str) -> Any:
        parts = [getattr(p, field) for p in predictions]
        return None if parts[0] is None else np.concatenate(parts)

    return Prediction(**{field: joined(field) for field in PREDICTED})


def _errors(
    labels: NDArray[np.float64], predicted: NDArray[np.float64], classes: Classification | None
) -> NDArray[np.float64]:
    """Return the errors of numbers, and 1 for a wrong class and 0 for a right one."""
    return predicted - labels if classes is None else (predicted != labels).astype(np.float64)


def _summary(
    data: TrainingData, prediction: Prediction, noise_variance: float, rng: np.random.Generator
) -> dict[str, Any]:
    """Return the errors of a metric as ``Facts.errors`` holds them.

    noise_variance: what the model takes for noise of the labels; errors from labels are to be compared with both.
    """
    if data.classes:
        wrong = (prediction.mean != data.targets).astype(np.float64)
        low, high = bootstrap_interval(wrong, mae, rng)
        confusion = confusion_matrix(data.targets, prediction.mean, len(data.classes)).tolist()
        found = {"accuracy": 1 - mae(wrong), "accuracy_low": 1 - high, "accuracy_high": 1 - low}
        return {**found, "confusion": confusion, "n": len(wrong)}
    errors = prediction.mean - data.targets
    rmse_low, rmse_high = bootstrap_interval(errors, geometric(rmse), rng)
    mae_low, mae_high = bootstrap_interval(errors, geometric(mae), rng)
    intervals = {"rmse_low": rmse_low, "rmse_high": rmse_high, "mae_low": mae_low, "mae_high": mae_high}
    if errors.ndim == 2:
        fit = {} if prediction.std is None else calibration(*_by_spread(data.targets, errors, prediction.std))
        return {**excitation_metrics(errors), **intervals, **fit, "n": len(errors)}
    # Told apart from the errors themselves: a model without uncertainties has none of these.
    fit = {} if prediction.std is None else calibration(errors, np.hypot(prediction.std, noise_variance**0.5))
    if prediction.forces is not None and data.forces is not None:
        of_forces = regression_metrics((prediction.forces - data.forces).ravel())
        fit |= {"forces_rmse": of_forces["rmse"], "forces_mae": of_forces["mae"]}
    return {**regression_metrics(errors), **intervals, **fit, "n": len(errors)}


def _by_spread(
    targets: NDArray[np.float64], errors: NDArray[np.float64], std: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return errors and standard deviations of all quantities in units of each quantity's spread, flat."""
    spread = targets.std(axis=0)
    varying = spread > 0
    return (errors[:, varying] / spread[varying]).ravel(), (std[:, varying] / spread[varying]).ravel()


def _relative_change(
    current: NDArray[np.float64] | None,
    ids: NDArray[np.str_],
    before: dict[str, Any] | None,
    classes: Classification | None,
    rng: np.random.Generator,
) -> dict[str, float]:
    """Return rRMSE and its interval, for classes the same of the share of wrong ones.

    The bootstrap is paired where both errors are of the same structures.
    """
    if current is None or before is None:
        return {"rrmse": 1.0, "rrmse_low": 1.0, "rrmse_high": 1.0}
    previous = _errors(before["label"], before["mean"], classes)
    statistic = geometric(rmse) if classes is None else mae
    paired = np.array_equal(before["ids"].astype(str), ids)
    low, high = rrmse_interval(previous, current, paired, rng, statistic=statistic)
    return {"rrmse": rrmse(statistic(previous), statistic(current)), "rrmse_low": low, "rrmse_high": high}


def _write_predictions(path: str, results: dict[str, tuple[TrainingData, Prediction]], noise_variance: float) -> None:
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as handle:
        for name, (data, prediction) in results.items():
            group = handle.create_group(name)
            group.create_dataset("ids", data=data.structures.ids.astype(f"S{ID_LENGTH}"))
            group.create_dataset("label", data=data.targets)
            for field in PREDICTED:
                if getattr(prediction, field) is not None:
                    group.create_dataset(field, data=getattr(prediction, field))
            if prediction.std is not None:
                group.create_dataset("std_with_noise", data=np.hypot(prediction.std, noise_variance**0.5))


def read_predictions(path: str, metric: str) -> dict[str, Any] | None:
    """Return ids, label and what the model predicts (``PREDICTED``) of a metric's structures, or None."""
    with h5py.File(path, "r") as handle:
        return {name: handle[metric][name][()] for name in handle[metric]} if metric in handle else None
