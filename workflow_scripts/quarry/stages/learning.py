"""Training and evaluating the model of an iteration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from quarry.config.campaign import Configuration
from quarry.errors import QuarryError
from quarry.files import atomic_path, write_json
from quarry.models.base import Prediction, TrainingData
from quarry.models.metrics import bootstrap_interval, mae, regression_metrics, rmse, rrmse, rrmse_interval
from quarry.models.registry import load_model, make_model
from quarry.randomness import generator
from quarry.stages.pool import pool_rows, read_features
from quarry.structures.labelled import LabelledSet
from quarry.structures.structure import ID_LENGTH


def training_data(dataset: LabelledSet, role: str, features: str, target: str) -> TrainingData:
    """Return the labelled structures of a role that have the target."""
    if target not in dataset.properties:
        raise QuarryError(f"target: the labels hold no {target}; they hold {', '.join(dataset.properties)}")
    values = dataset.targets(target)
    chosen = [int(i) for i in dataset.indices(role) if np.isfinite(values[i])]
    structures = dataset.structures.subset(chosen)
    return TrainingData(structures, read_features(features, pool_rows(features, structures.ids)), values[chosen])


def train_model(
    configuration: Configuration, arm: str, iteration: int, dataset: str, features: str, output: str
) -> str:
    """Train the arm's model on all training labels so far; return a line about it."""
    settings = configuration.arm(arm)
    data = training_data(LabelledSet.read(dataset), "train", features, configuration.target)
    if not len(data):
        raise QuarryError(f"{dataset}: no training label succeeded, nothing to train on; see failures.csv")
    model = make_model(settings.model, configuration.target)
    model.fit(data, None, generator(settings.seed, arm, iteration, "train"))
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    model.save(output)
    return f"{settings.model.kind} trained on {len(data)} labels"


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
) -> None:
    """Write predictions beside labels for each metric, and errors with 95 % bootstrap intervals.

    The test set is always evaluated where there is one; the validation split and cross-validation where stop.metric
    asks for them, with models trained anew on the rest, hyperparameters included. previous: predictions of the last
    iteration, for rRMSE = |RMSE(N) - RMSE(N - step)| / RMSE(N) (lecture of P. O. Dral, 2024) and its interval.
    """
    labelled = LabelledSet.read(dataset)
    target, metric = configuration.target, configuration.stop.metric
    train = training_data(labelled, "train", features, target)
    test = training_data(labelled, "test", features, target)
    results: dict[str, tuple[TrainingData, Prediction]] = {}
    if metric == "test" and configuration.test.size and not len(test):
        raise QuarryError(
            f"{dataset}: no label of the test set succeeded, so there is no error to stop by; see failures.csv"
        )
    trained = load_model(model)
    if len(test):
        results["test"] = (test, trained.predict(test.structures, test.features))
    if metric != "test":
        results[metric] = _held_back(configuration, arm, iteration, train)
    # The bootstrap's stream depends on the metric only, so that equal errors give equal intervals in every arm.
    errors = {name: result.mean - data.targets for name, (data, result) in results.items()}
    summary = {
        name: _summary(values, generator(configuration.seed, "bootstrap", name)) for name, values in errors.items()
    }
    _write_predictions(predictions, results)
    ids = results[metric][0].structures.ids if metric in results else np.zeros(0, dtype=str)
    rng = generator(configuration.seed, "bootstrap rrmse")
    relative = _relative_change(errors.get(metric), ids, read_predictions(previous, metric) if previous else None, rng)
    hyperparameters = trained.hyperparameters
    counts = {"n_train": len(train), "n_test": len(test), "n_labels": len(labelled)}
    write_json(metrics, {**counts, **relative, "errors": summary, "hyperparameters": hyperparameters})


def _held_back(
    configuration: Configuration, arm: str, iteration: int, train: TrainingData
) -> tuple[TrainingData, Prediction]:
    """Predict training labels by models that did not see them: a validation split, or every fold in turn."""
    settings, validation = configuration.arm(arm), configuration.validation
    order = generator(settings.seed, arm, iteration, "validation split").permutation(len(train))
    if configuration.stop.metric == "validation":
        held = max(1, round(validation.fraction * len(train)))
        parts = [order[:held]]
    else:
        parts = list(np.array_split(order, min(validation.folds, len(train))))
    means, stds = [], []
    for number, part in enumerate(parts):
        model = make_model(settings.model, configuration.target)
        rest = np.setdiff1d(order, part)
        model.fit(train.subset(rest), None, generator(settings.seed, arm, iteration, "validation", number))
        prediction = model.predict(train.structures.subset(part), train.features[part])
        means.append(prediction.mean)
        stds.append(np.full(len(part), np.nan) if prediction.std is None else prediction.std)
    return train.subset(np.concatenate(parts)), Prediction(np.concatenate(means), np.concatenate(stds))


def _summary(errors: NDArray[np.float64], rng: np.random.Generator) -> dict[str, float]:
    rmse_low, rmse_high = bootstrap_interval(errors, rmse, rng)
    mae_low, mae_high = bootstrap_interval(errors, mae, rng)
    intervals = {"rmse_low": rmse_low, "rmse_high": rmse_high, "mae_low": mae_low, "mae_high": mae_high}
    return {**regression_metrics(errors), **intervals, "n": len(errors)}


def _relative_change(
    current: NDArray[np.float64] | None,
    ids: NDArray[np.str_],
    before: dict[str, Any] | None,
    rng: np.random.Generator,
) -> dict[str, float]:
    """Return rRMSE and its interval; the bootstrap is paired where both errors are of the same structures."""
    if current is None or before is None:
        return {"rrmse": 1.0, "rrmse_low": 1.0, "rrmse_high": 1.0}
    previous = before["mean"] - before["label"]
    paired = np.array_equal(before["ids"].astype(str), ids)
    low, high = rrmse_interval(previous, current, paired, rng)
    return {"rrmse": rrmse(rmse(previous), rmse(current)), "rrmse_low": low, "rrmse_high": high}


def _write_predictions(path: str, results: dict[str, tuple[TrainingData, Prediction]]) -> None:
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as handle:
        for name, (data, prediction) in results.items():
            group = handle.create_group(name)
            group.create_dataset("ids", data=data.structures.ids.astype(f"S{ID_LENGTH}"))
            group.create_dataset("label", data=data.targets)
            group.create_dataset("mean", data=prediction.mean)
            if prediction.std is not None:
                group.create_dataset("std", data=prediction.std)


def read_predictions(path: str, metric: str) -> dict[str, Any] | None:
    """Return ids, label, mean and (where the model has it) std of a metric's structures, or None."""
    with h5py.File(path, "r") as handle:
        return {name: handle[metric][name][()] for name in handle[metric]} if metric in handle else None
