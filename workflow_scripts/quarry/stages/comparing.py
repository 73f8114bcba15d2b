"""Arm main beside its control arms, from their files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np

from quarry.config.campaign import MAIN_ARM, Configuration
from quarry.evaluation.comparison import Comparison
from quarry.evaluation.curves import Array
from quarry.files import write_json
from quarry.stages.evaluation import read_predictions
from quarry.stopping.facts import Facts

TEST = "test"


def by_arm(files: Sequence[str]) -> dict[str, list[str]]:
    """Return files of iterations (``<arm>/iter_000/...``) by arm, in their order."""
    arms: dict[str, list[str]] = {}
    for path in files:
        arms.setdefault(Path(path).parents[1].name, []).append(path)
    return arms


def compare_arms(
    configuration: Configuration, facts_files: Sequence[str], predictions: Sequence[str], output: str
) -> Comparison:
    """Write the labels saved by arm main against its control arms (``savings.json``), and return them.

    facts_files, predictions: ``facts.json`` and ``predictions.h5`` of every iteration of main and of every arm that section
    control makes.
    """
    facts = {arm: [Facts.read(path) for path in files] for arm, files in by_arm(facts_files).items()}
    mains, controls = [MAIN_ARM, *configuration.repeats], configuration.controls
    influences: dict[str, tuple[list[Array], list[Array]]] = {}
    if not configuration.splits and TEST in facts[MAIN_ARM][0].errors:
        influences = influences_of_structures(
            by_arm(predictions), mains, controls, configuration.classification is not None
        )
    found = Comparison.of(
        [facts[arm] for arm in mains],
        [facts[arm] for arm in controls],
        [(facts[main], facts[control]) for main, control in configuration.splits],
        influences,
    )
    write_json(output, found.to_json())
    return found


def influences_of_structures(
    predictions: Mapping[str, Sequence[str]], mains: Sequence[str], controls: Sequence[str], classes: bool
) -> dict[str, tuple[list[Array], list[Array]]]:
    """Return by measure what every test structure adds to the logarithm of each error, for mains and for controls.

    predictions: files of the arms' iterations. An entry has shape (n_test, n_sizes), structures that all of them have in
    the same order: e^2 / (2 <e^2>) for the RMSE, |e| / <|e|> for the MAE, and the same of wrong classes (0 or 1), with <> the
    mean over structures; of several quantities the mean over them. The largest error is one structure's: it has none.
    """
    read = {arm: [read_predictions(path, TEST) for path in predictions[arm]] for arm in (*mains, *controls)}
    if any(found is None for files in read.values() for found in files):
        return {}
    kept: list[dict[str, Any]] = [found for files in read.values() for found in files if found is not None]
    common = reduce(np.intersect1d, [found["ids"] for found in kept])

    def of_arm(arm: str, power: int) -> Array:
        columns = []
        for found in read[arm]:
            assert found is not None
            rows = np.argsort(found["ids"])[np.searchsorted(np.sort(found["ids"]), common)]
            label, mean = found["label"][rows], found["mean"][rows]
            columns.append(_influence((label != mean) if classes else np.abs(label - mean), power))
        return np.stack(columns, axis=1)

    powers = {"accuracy": 1} if classes else {"rmse": 2, "mae": 1}
    return {
        name: ([of_arm(arm, power) for arm in mains], [of_arm(arm, power) for arm in controls])
        for name, power in powers.items()
    }


def _influence(sizes: Array, power: int) -> Array:
    """Return the influence of each structure, shape (n,). sizes: of the errors, shape (n,) or (n, n_quantities)."""
    raised = np.asarray(sizes, dtype=float).reshape(len(sizes), -1) ** power
    mean = raised.mean(axis=0)
    parts = np.divide(raised, power * mean, out=np.zeros_like(raised), where=mean > 0)
    return parts[:, mean > 0].mean(axis=1) if (mean > 0).any() else np.zeros(len(sizes))
