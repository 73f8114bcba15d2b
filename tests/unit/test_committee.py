"""Query by committee: equation 3 by hand, and members that are trained one by one."""

from __future__ import annotations

import numpy as np
import pytest

from quarry.errors import QuarryError
from quarry.models.mlp import MultilayerPerceptron
from quarry.models.network import train_network
from quarry.models.registry import load_regression
from quarry.randomness import generator
from quarry.stages.training import train_member, train_model
from support.arms import models_in
from support.networks import SMALL, by_hand, numbers, settings, trained
from support.stages import ROWS, configuration, write_dataset

COMMITTEE = {"uncertainty": "committee", "members": 3}


def member(number, data, seed=1, **changes):
    model = MultilayerPerceptron(settings(**{**COMMITTEE, **changes}), "homo")
    model.fit_member(number, data, None, np.random.default_rng(seed))
    return model


def test_mean_and_variance_by_hand(tmp_path):
    """Equation 3: the variance has 1/M, not 1/(M - 1)."""
    data = numbers()
    model = trained(data, **COMMITTEE, calibrate=False)
    model.save(tmp_path / "m.h5")
    scale = data.targets.std()
    each = [data.targets.mean() + scale * by_hand(tmp_path / "m.h5", data.features, n)[:, 0] for n in range(3)]
    mean = (each[0] + each[1] + each[2]) / 3
    variance = sum((values - mean) ** 2 for values in each) / 3
    found = model.predict(data.structures, data.features)
    assert found.mean == pytest.approx(mean, abs=1e-5)
    assert found.std == pytest.approx(np.sqrt(variance), abs=1e-5)
    assert np.all(variance > 0), "the members differ"


def test_members_trained_one_by_one_are_the_committee(tmp_path):
    data = numbers()
    trained(data, **COMMITTEE).save(tmp_path / "whole.h5")
    for number in (2, 0, 1):
        member(number, data).save(tmp_path / f"{number}.h5")
    joined = MultilayerPerceptron(settings(**COMMITTEE), "homo")
    joined.join([load_regression(tmp_path / f"{number}.h5", "mlp") for number in range(3)])
    joined.save(tmp_path / "joined.h5")
    assert (tmp_path / "joined.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


def test_the_stage_joins_what_member_jobs_trained(tmp_path, pool, features):
    conf = configuration(model={**SMALL, **COMMITTEE})
    dataset = write_dataset(tmp_path / "dataset.h5", pool, ROWS)
    files = [str(tmp_path / "model" / "members" / f"{n:03d}.h5") for n in range(3)]
    for number, file in enumerate(files):
        line = train_member(models_in(conf, features), number, dataset, file)
        assert line == f"mlp, member {number}, trained on 12 labels"
    joined, whole = str(tmp_path / "joined.h5"), str(tmp_path / "whole.h5")
    assert train_model(models_in(conf, features), dataset, joined, files) == ["mlp trained on 12 labels"]
    train_model(models_in(conf, features), dataset, whole)
    assert (tmp_path / "joined.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


@pytest.mark.parametrize("wrong", ["too few", "other data", "another seed"])
def test_what_is_no_committee_is_one_line(wrong):
    data = numbers()
    last = {
        "too few": [],
        "other data": [member(2, numbers(seed=3))],
        "another seed": [member(2, data, seed=5)],
    }[wrong]
    with pytest.raises(QuarryError, match=r"^model\.members: these are not 3 members trained on the same data; "):
        MultilayerPerceptron(settings(**COMMITTEE), "homo").join([member(0, data), member(1, data), *last])


def test_members_hold_out_other_structures_and_bootstrap_draws_with_replacement(monkeypatch):
    seen = []

    def spy(inputs, targets, held_inputs, held_targets, *rest):
        seen.append((targets, held_targets))
        return train_network(inputs, targets, held_inputs, held_targets, *rest)

    monkeypatch.setattr("quarry.models.mlp.train_network", spy)
    trained(numbers(40), **COMMITTEE, held_out=0.25)
    trained(numbers(40), **COMMITTEE, held_out=0.25, bootstrap=True)
    assert [len(targets) for targets, _ in seen] == [30] * 6 and [len(held) for _, held in seen] == [10] * 6
    assert len({held.tobytes() for _, held in seen[:3]}) == 3
    assert [len(np.unique(targets)) for targets, _ in seen[:3]] == [30] * 3
    assert all(15 <= len(np.unique(targets)) < 27 for targets, _ in seen[3:]), "about 1 - 1/e of them"
    assert not any(set(targets) & set(held) for targets, held in seen), "the held-out share is never learnt"


def test_last_layer_maps_give_the_mean_kernel():
    data = numbers()
    model = trained(data, **COMMITTEE)
    found = model.embed(data.structures, data.features, "last_layer", np.random.default_rng(0))
    singles = []
    for trained_network in model._trained:
        single = trained(data)
        single._trained = [trained_network]
        singles.append(single.embed(data.structures, data.features, "last_layer", np.random.default_rng(0)))
    assert found @ found.T == pytest.approx(np.mean([s @ s.T for s in singles], axis=0), rel=1e-4)


def test_gradient_maps_approximate_the_mean_kernel():
    """Their length does not grow with the members: the cross terms of independent projections vanish in the mean."""
    data = numbers(20)
    model = trained(data, **COMMITTEE, hidden=[4])
    import torch

    from quarry.models.network_features import gradient_factors

    exact = np.zeros((20, 20))
    for training in model._trained:
        factors = gradient_factors(training.network, torch.from_numpy(model._inputs(data.features)))
        full = torch.cat([torch.einsum("na,nb->nab", a, d).flatten(1) for a, d in factors], dim=1).numpy()
        exact += full @ full.T / 3
    kernels = []
    for seed in range(40):
        found = model.embed(data.structures, data.features, "gradient", generator(seed, "test"))
        assert found.shape == (20, 512)
        kernels.append(found @ found.T)
    error = np.std(kernels, axis=0) / np.sqrt(40)
    assert np.all(np.abs(np.mean(kernels, axis=0) - exact) < 5 * error)
    assert np.max(error) < 0.05 * np.max(exact)
