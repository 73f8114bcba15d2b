"""Predictions of models of one variable for the whole pool, for the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quarry.campaign.iterations import folder_name, number_of
from quarry.models.base import STD, main_std, main_values
from quarry.reporting.function_plots import Snapshot, plot_function
from quarry.stages.arm_models import ArmModels
from quarry.structures import StructureSet
from quarry.structures.files import read_pool
from quarry.structures.labelled import LabelledSet


def draw_function(arm: ArmModels, models: Sequence[str], datasets: Sequence[str], output: str) -> None:
    """Draw the models of some iterations of arm main, each with the structures of its next batch.

    models, datasets: ``model/model.h5`` and ``dataset.h5`` of the same iterations, in their order; the last data set may
    have no model beside it in the picture.
    """
    target = arm.target
    pool = read_pool(arm.pool)
    pool = pool.subset(np.argsort(_variable(pool), kind="stable"))
    x, snapshots = _variable(pool), []
    for model in models:
        folder = Path(model).parents[1]
        iteration = number_of(folder)
        assert iteration is not None
        prediction = arm.load(model).predict(pool, frozenset((*target.main, STD)))
        data = arm.data(LabelledSet.read(folder / "dataset.h5"), "train")
        following = folder.with_name(folder_name(iteration + 1)) / "dataset.h5"
        added = np.zeros(0)
        if str(following) in datasets:
            later = arm.data(LabelledSet.read(following), "train").structures
            added = _variable(later)[~np.isin(later.ids, data.structures.ids)]
        mean, std = main_values(target, prediction.mean), main_std(target, prediction)
        labels = main_values(target, data.targets)
        snapshots.append(Snapshot(iteration, x, mean, std, _variable(data.structures), labels, added))
    pool_settings = arm.configuration.pool
    assert pool_settings.source == "table"
    plot_function(snapshots, pool_settings.features[0], target, output)


def _variable(rows: StructureSet) -> NDArray[np.float64]:
    assert rows.features is not None
    return rows.features[:, 0]
