"""What models of one variable say of the whole pool, for the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from quarry.campaign.iterations import folder_name, number_of
from quarry.config.campaign import Configuration
from quarry.models.registry import load_model
from quarry.reporting.function_plots import Snapshot, plot_function
from quarry.stages.pool import read_features
from quarry.stages.targets import training_data
from quarry.structures.files import read_pool
from quarry.structures.labelled import LabelledSet


def draw_function(
    configuration: Configuration,
    models: Sequence[str],
    datasets: Sequence[str],
    structures: str,
    features: str,
    output: str,
) -> None:
    """Draw the models of some iterations of arm main, each with what its next batch added.

    models, datasets: ``model/model.h5`` and ``dataset.h5`` of the same iterations, in their order; the last data set may
    have no model beside it in the picture.
    """
    pool, x = read_pool(structures), read_features(features)
    order = np.argsort(x[:, 0], kind="stable")
    pool, x = pool.subset(order), x[order]
    snapshots = []
    for model in models:
        folder = Path(model).parents[1]
        iteration = number_of(folder)
        assert iteration is not None
        trained = load_model(model)
        prediction = trained.predict(pool, x)
        data = training_data(LabelledSet.read(folder / "dataset.h5"), "train", features, configuration)
        following = folder.with_name(folder_name(iteration + 1)) / "dataset.h5"
        added = np.zeros(0)
        if str(following) in datasets:
            later = training_data(LabelledSet.read(following), "train", features, configuration)
            added = later.features[~np.isin(later.structures.ids, data.structures.ids), 0]
        snapshots.append(
            Snapshot(iteration, x[:, 0], prediction.mean, prediction.std, data.features[:, 0], data.targets, added)
        )
    pool_settings = configuration.pool
    assert pool_settings.source == "table"
    plot_function(snapshots, pool_settings.features[0], configuration.target, output)
