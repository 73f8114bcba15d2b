"""MC dropout: equation 4 by hand, and what neurons that are left out must and must not change."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from quarry.models.network import initial_network
from support.networks import by_hand, numbers, trained

DROPOUT = {"uncertainty": "mc_dropout", "dropout": 0.3, "passes": 4}


def test_mean_and_variance_by_hand(tmp_path):
    """The masks again from the seed in the file; the rest in numpy."""
    data = numbers()
    model = trained(data, **DROPOUT, calibrate=False)
    model.save(tmp_path / "m.h5")
    generator = torch.Generator().manual_seed(model._mask_seed)
    network, scale = model._trained[0].network, data.targets.std()
    each = []
    for _ in range(4):
        masks = [mask.numpy() for mask in network.masks(1, 0.3, generator)]
        each.append(data.targets.mean() + scale * by_hand(tmp_path / "m.h5", data.features, masks=masks)[:, 0])
    mean = sum(each) / 4
    found = model.predict(data.structures, data.features)
    assert found.mean == pytest.approx(mean, abs=1e-5)
    assert found.std == pytest.approx(np.sqrt(sum((values - mean) ** 2 for values in each) / 4), abs=1e-5)


def test_a_prediction_is_repeatable_and_does_not_depend_on_the_other_structures():
    data = numbers()
    model = trained(data, **DROPOUT)
    whole = model.predict(data.structures, data.features)
    assert np.array_equal(model.predict(data.structures, data.features).std, whole.std)
    few = model.predict(data.structures.subset([5, 3]), data.features[[5, 3]])
    assert few.mean == pytest.approx(whole.mean[[5, 3]], abs=1e-5)
    assert few.std == pytest.approx(whole.std[[5, 3]], abs=1e-5)


def test_masks_leave_out_the_share_asked_for_and_keep_the_mean():
    network = initial_network([3, 4000, 50, 1], "relu", np.random.default_rng(0))
    first, second = network.masks(2, 0.25, torch.Generator().manual_seed(1))
    assert first.shape == (2, 4000) and second.shape == (2, 50)
    assert first.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert float((first == 0).float().mean()) == pytest.approx(0.25, abs=0.02)
    assert not torch.equal(first[0], first[1])


def test_more_dropout_is_more_uncertain():
    data = numbers(100)
    stds = [
        trained(data, **{**DROPOUT, "dropout": p, "passes": 40, "calibrate": False})
        .predict(data.structures, data.features)
        .std
        for p in (0.02, 0.5)
    ]
    assert np.mean(stds[0]) < 0.5 * np.mean(stds[1])


def test_dropout_without_passes_only_regularises():
    data = numbers()
    model = trained(data, dropout=0.5)
    assert model.predict(data.structures, data.features).std is None
    plain = trained(data, dropout=0.0)
    assert not torch.equal(model._trained[0].network.weights[0], plain._trained[0].network.weights[0])
