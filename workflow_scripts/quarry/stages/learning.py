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
from quarry.evaluation.intervals import (
    change_interval,
    error_interval,
    share_change_interval,
    share_interval,
    spread_ratio,
    spread_ratio_at_most,
    spread_ratio_interval,
)
from quarry.files import atomic_path, write_json
from quarry.models.base import Committee, Model, Prediction, TrainingData, Validated
from quarry.models.baselines import CompositionBaseline
from quarry.models.classes import check_classes
from quarry.models.metrics import (
    confusion_matrix,
    excitation_metrics,
    geometric,
    mae,
    regression_metrics,
    rmse,
    rrmse,
)
from quarry.models.registry import load_model, make_model
from quarry.models.splits import folds_of
from quarry.randomness import generator
from quarry.stages.auditing import audit_account
from quarry.stages.searching import pool_account, search_account
from quarry.stages.targets import split, training_data
from quarry.stages.warnings import TOTAL_ENERGIES, warnings_of
from quarry.structures.labelled import LabelledSet
from quarry.structures.structure import ID_LENGTH

PREDICTED = ("mean", "std", "probabilities", "votes", "forces")
"""Fields of a Prediction; what the model does not give is left out of ``predictions.h5``."""


def train_model(
    configuration: Configuration,
    arm: str,
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
        _fit(model, data, configuration, "train")
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    model.save(output)
    return [f"{settings.model.kind} trained on {len(data)} labels", *warning]


def _fit(model: Model, data: TrainingData, configuration: Configuration, purpose: str, *fold: int) -> None:
    """Train a model; one that is ``Validated`` gets its validation data split off.

    purpose, fold: what the generators are seeded with, beside the campaign's seed. Neither arm nor iteration: the same
    labels give the same model everywhere.
    """
    validation = None
    if isinstance(model, Validated):
        rng = generator(configuration.seed, "validation split", *fold)
        learnt, held = split(len(data), configuration, rng, data.groups)
        data, validation = data.subset(learnt), data.subset(held)
    model.fit(data, validation, generator(configuration.seed, purpose, *fold))


def in_order_of_ids(data: TrainingData, configuration: Configuration) -> TrainingData:
    """Return training labels in the order of their ids, so that a model depends on which they are, not on when they came.

    Where the last labels validate (validation.order: sequence), their order is what the user asks for.
    """
    if configuration.validation.order == "sequence":
        return data
    return data.subset(np.argsort(data.structures.ids, kind="stable"))


def train_member(configuration: Configuration, arm: str, member: int, dataset: str, features: str, output: str) -> str:
    """Train one member of the arm's committee, as training them all at once would; return a line about it."""
    settings = configuration.arm(arm)
    data, _ = _learnt(configuration, dataset, features)
    model = make_model(settings.model, configuration.target)
    assert isinstance(model, Committee)
    model.fit_member(member, data, None, generator(configuration.seed, "train"))
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    model.save(output)
    return f"{settings.model.kind}, member {member}, trained on {len(data)} labels"


def _learnt(configuration: Configuration, dataset: str, features: str) -> tuple[TrainingData, list[str]]:
    """Return the training labels, and a line about classes without an example where there are any."""
    labelled = LabelledSet.read(dataset)
    data = in_order_of_ids(training_data(labelled, "train", features, configuration), configuration)
    if not len(data):
        raise QuarryError(f"{dataset}: no training label succeeded, nothing to train on; see failures.csv")
    return data, check_classes(data) if data.classes else []


def evaluate_model(
    configuration: Configuration,
    arm: str,
    model: str,
    dataset: str,
    features: str,
    previous: str | None,
    predictions: str,
    metrics: str,
    structures: str = "",
    truth: str | None = None,
    audit: str | None = None,
) -> None:
    """Write predictions beside labels for each metric, and errors with 95 % intervals.

    The test set is always evaluated where there is one; the validation split and cross-validation where stop.metric
    asks for them, with models trained anew on the rest, hyperparameters included. previous: predictions of the last
    iteration, for rRMSE = |RMSE(N) - RMSE(N - step)| / RMSE(N) (lecture of P. O. Dral, 2024) and its interval.
    structures, truth: the pool and the target of all its structures, where a targeted search can be measured by them.
    audit: the table of the labels' audit.
    """
    labelled = LabelledSet.read(dataset)
    metric, classes = configuration.stop.metric, configuration.classification
    train = in_order_of_ids(training_data(labelled, "train", features, configuration), configuration)
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
        results[metric] = _held_back(configuration, arm, train, trained)
    # The bootstrap's stream depends on the metric only, so that equal errors give equal intervals in every arm.
    summary = {
        name: _summary(data, result, configuration.target, generator(configuration.seed, "bootstrap", name))
        for name, (data, result) in results.items()
    }
    _write_predictions(predictions, results)
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
    audited, doubts = audit_account(configuration, audit, train, results)
    known = labelled.without_left_out()
    doubts = doubts + warnings_of(configuration, trained, train, results, summary, known, structures)
    found = {"errors": summary, "hyperparameters": hyperparameters, "search": search, "warnings": doubts}
    if configuration.spectrum:
        from quarry.spectra.states import swap_account

        found["states"] = swap_account(known, configuration.n_states)
    write_json(metrics, {**counts, **relative, **found, **audited})


def _held_back(
    configuration: Configuration, arm: str, train: TrainingData, trained: Model
) -> tuple[TrainingData, Prediction]:
    """Predict training labels by models that did not see them: a validation split, or every fold in turn.

    trained: the model of all training labels. One that is ``Validated`` has predicted its validation data itself.
    """
    settings, validation = configuration.arm(arm), configuration.validation
    rng = generator(configuration.seed, "validation split")
    if configuration.stop.metric == "validation":
        rest, held = split(len(train), configuration, rng, train.groups)
        if isinstance(trained, Validated):
            return train.subset(held), trained.validation
        parts = [held]
    else:
        count = min(validation.folds, len(train))
        parts = folds_of(rng.permutation(len(train)), count, train.groups)
    predictions = []
    for number, part in enumerate(parts):
        model = make_model(settings.model, configuration.target)
        rest = np.setdiff1d(np.arange(len(train)), part)
        _fit(model, train.subset(rest), configuration, "validation", number)
        predictions.append(model.predict(train.structures.subset(part), train.features[part]))
    return train.subset(np.concatenate(parts)), _joined(predictions)


def _joined(predictions: Sequence[Prediction]) -> Prediction:
    def joined(field: str) -> Any:
        parts = [getattr(p, field) for p in predictions]
        return None if parts[0] is None else np.concatenate(parts)

    noise = float(np.average([p.noise_variance for p in predictions], weights=[len(p.mean) for p in predictions]))
    return Prediction(**{field: joined(field) for field in PREDICTED}, noise_variance=noise)


def _errors(
    labels: NDArray[np.float64], predicted: NDArray[np.float64], classes: Classification | None
) -> NDArray[np.float64]:
    """Return the errors of numbers, and 1 for a wrong class and 0 for a right one."""
    return predicted - labels if classes is None else (predicted != labels).astype(np.float64)


def _summary(data: TrainingData, prediction: Prediction, target: str, rng: np.random.Generator) -> dict[str, Any]:
    """Return the errors of a metric as ``Facts.errors`` holds them."""
    if data.classes:
        return _class_summary(data, prediction.mean)
    errors = prediction.mean - data.targets
    rmse_low, rmse_high = error_interval(errors, 2, rng)
    mae_low, mae_high = error_interval(errors, 1, rng)
    intervals = {"rmse_low": rmse_low, "rmse_high": rmse_high, "mae_low": mae_low, "mae_high": mae_high}
    intervals |= _beside_the_spread(errors, _about_elements(data, target), rng)
    if errors.ndim == 2:
        fit = {} if prediction.std is None else calibration(*_by_spread(data.targets, errors, prediction.std))
        return {**excitation_metrics(errors), **intervals, **fit, "n": len(errors)}
    # Told apart from the errors themselves: a model without uncertainties has none of these.
    fit = (
        {} if prediction.std is None else calibration(errors, np.hypot(prediction.std, prediction.noise_variance**0.5))
    )
    if prediction.forces is not None and data.forces is not None:
        of_forces = regression_metrics((prediction.forces - data.forces).ravel())
        spread = float(data.forces.std())
        ratio = of_forces["rmse"] / spread if spread else None
        fit |= {"forces_rmse": of_forces["rmse"], "forces_mae": of_forces["mae"], "forces_rmse_over_std": ratio}
    sizes = np.diff(data.structures.offsets)
    if target in ("energy", "energy_forces") and (sizes > 0).all():
        per_atom = errors / sizes
        fit |= {"rmse_per_atom": rmse(per_atom), "mae_per_atom": mae(per_atom)}
    return {**regression_metrics(errors), **intervals, **fit, "n": len(errors)}


def _class_summary(data: TrainingData, predicted: NDArray[np.float64]) -> dict[str, Any]:
    """Return accuracy and confusion, beside what always naming the most frequent class of the labels would reach."""
    n, confusion = len(data), confusion_matrix(data.targets, predicted, len(data.classes))
    right, majority = int(np.trace(confusion)), int(confusion.sum(axis=1).max())
    low, high = share_interval(right, n)
    return {
        "accuracy": right / n,
        "accuracy_low": low,
        "accuracy_high": high,
        "majority": majority / n,
        "error_over_majority_error": (n - right) / (n - majority) if majority < n else None,
        "confusion": confusion.tolist(),
        "n": n,
    }


def _about_elements(data: TrainingData, target: str) -> NDArray[np.float64]:
    """Return targets whose spread a model must beat: total energies less their best sum over elements, others as they are.

    Total energies of different molecules are thousands of eV apart, which counting atoms explains but for a few. Those of
    one composition lose their mean only.
    """
    if target not in TOTAL_ENERGIES or not len(data.structures.numbers):
        return data.targets
    return data.targets - CompositionBaseline.fit(data.structures, data.targets).mean(data.structures)


def _beside_the_spread(
    errors: NDArray[np.float64], targets: NDArray[np.float64], rng: np.random.Generator
) -> dict[str, float | None]:
    """Return RMSE / std of the targets and, of one quantity, R^2 = 1 - (RMSE / std)^2, with intervals.

    rmse_over_std_at_most: see ``spread_ratio_at_most``.
    """
    ratio, (low, high) = spread_ratio(errors, targets), spread_ratio_interval(errors, targets, rng)
    found = {"rmse_over_std": ratio, "rmse_over_std_low": low, "rmse_over_std_high": high}
    found["rmse_over_std_at_most"] = spread_ratio_at_most(errors, targets)
    if errors.ndim == 1:
        for name, value in (("r2", ratio), ("r2_low", high), ("r2_high", low)):
            found[name] = None if value is None else 1 - value**2
    return found


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
) -> dict[str, float | None]:
    """Return rRMSE and its interval, for classes the same of the share of wrong ones.

    The interval is paired where both errors are of the same structures.
    """
    if current is None or before is None:
        return {"rrmse": 1.0, "rrmse_low": 1.0, "rrmse_high": 1.0}
    previous = _errors(before["label"], before["mean"], classes)
    statistic = geometric(rmse) if classes is None else mae
    paired = np.array_equal(before["ids"].astype(str), ids)
    low, high = (
        change_interval(previous, current, paired, rng)
        if classes is None
        else share_change_interval(previous, current, paired)
    )
    return {"rrmse": rrmse(statistic(previous), statistic(current)), "rrmse_low": low, "rrmse_high": high}


def _write_predictions(path: str, results: dict[str, tuple[TrainingData, Prediction]]) -> None:
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as handle:
        for name, (data, prediction) in results.items():
            group = handle.create_group(name)
            group.create_dataset("ids", data=data.structures.ids.astype(f"S{ID_LENGTH}"))
            group.create_dataset("label", data=data.targets)
            for field in PREDICTED:
                if getattr(prediction, field) is not None:
                    group.create_dataset(field, data=getattr(prediction, field))
            if prediction.std is not None:
                group.create_dataset("std_with_noise", data=np.hypot(prediction.std, prediction.noise_variance**0.5))


def read_predictions(path: str, metric: str) -> dict[str, Any] | None:
    """Return ids, label and what the model predicts (``PREDICTED``) of a metric's structures, or None."""
    with h5py.File(path, "r") as handle:
        return {name: handle[metric][name][()] for name in handle[metric]} if metric in handle else None
