"""The Gaussian process as published and at size: settings, torch, subsets, files and feature maps; scikit-learn is the
reference."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from pydantic import ValidationError
from scipy.spatial.distance import cdist
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel

from quarry.config.loading import load_configuration
from quarry.config.models import Gpr
from quarry.config.targets import TARGETS
from quarry.errors import QuarryError
from quarry.models import gaussian_process, linear_algebra, nystroem
from quarry.models.gaussian_process import GaussianProcess
from quarry.models.hyperparameter_search import optimise_hyperparameters
from quarry.models.hyperparameters import Hyperparameters, Start
from quarry.models.nystroem import choose_landmarks
from quarry.models.registry import load_regression, make_regression
from quarry.models.regression import RegressionData
from quarry.structures import Structure, StructureSet
from support.configurations import WIGNER, changed

SEED_SETUP = {"prior_mean": "zero", "length_scale": 700.0, "signal_variance": 20.0}


def any_structures(n):
    one = StructureSet.from_structures([Structure.create([1, 1], [[0, 0, 0], [0, 0, 0.7]])])
    return one.subset(np.zeros(n, dtype=np.int64))


def homo_like(n, seed):
    """Features of the size of MBTR's, HOMO energies in eV."""
    rng = np.random.default_rng(seed)
    x = (60 * rng.normal(size=(n, 12)) * np.geomspace(1, 0.1, 12)).astype(np.float32)
    y = -6.5 + 0.5 * np.sin(x[:, 0] / 60) + 0.3 * np.cos(x[:, 1] / 40) + 0.05 * rng.normal(size=n)
    return RegressionData(any_structures(n), x, y)


def fitted(data, seed=0, **keys):
    model = make_regression(Gpr(**keys), TARGETS["homo"])
    model.fit(data, None, np.random.default_rng(seed))
    return model


def published(noise, optimizer="fmin_l_bfgs_b"):
    kernel = ConstantKernel(20.0, (0.2, 2000.0)) * RBF(700.0, (7.0, 7e4))
    return GaussianProcessRegressor(kernel, alpha=noise, optimizer=optimizer, n_restarts_optimizer=2, random_state=0)


@pytest.mark.parametrize("torch_from", [0, 10**9])
def test_a_thousand_points_equal_scikit_learn_by_numpy_and_by_torch(torch_from, monkeypatch):
    monkeypatch.setattr(linear_algebra, "TORCH_FROM", torch_from)
    monkeypatch.setattr(linear_algebra, "PANEL", 64)
    monkeypatch.setattr(gaussian_process, "BLOCK", 300)
    data, new = homo_like(200, 0), homo_like(1000, 1)
    model = fitted(data, **SEED_SETUP, noise_variance=1e-3, optimise=False, calibrate=False)
    assert isinstance(model._process._arrays, linear_algebra.TorchArrays) == (torch_from == 0)
    mean, std = published(1e-3, None).fit(data.features, data.targets).predict(new.features, return_std=True)
    prediction = model.predict(new.structures, new.features)
    np.testing.assert_allclose(prediction.mean, mean, atol=1e-6)
    np.testing.assert_allclose(prediction.std, std, atol=1e-6)
    alone = model.predict(new.structures, new.features, with_std=False)
    assert alone.std is None
    np.testing.assert_array_equal(alone.mean, prediction.mean)


@pytest.mark.parametrize("noise", [1e-10, 0.05])
def test_the_published_setup_finds_what_scikit_learn_finds(noise):
    data, new = homo_like(60, 2), homo_like(100, 3)
    reference = published(noise).fit(data.features.astype(float), data.targets)
    model = fitted(data, **SEED_SETUP, noise_variance=noise, criterion="likelihood", calibrate=False)
    found = model.hyperparameters
    assert found["log_marginal_likelihood"] == pytest.approx(reference.log_marginal_likelihood_value_, abs=1e-3)
    assert found["noise_variance"] == pytest.approx(noise, rel=1e-12)
    assert found["noise_floor"] == 0
    signal, length = np.exp(reference.kernel_.theta)
    assert found["signal_variance"] == pytest.approx(signal, rel=0.02)
    assert found["length_scale"] == pytest.approx(length, rel=0.02)
    mean, std = reference.predict(new.features, return_std=True)
    prediction = model.predict(new.structures, new.features)
    np.testing.assert_allclose(prediction.mean, mean, atol=2e-3)
    np.testing.assert_allclose(prediction.std, std, rtol=0.02)


def test_the_optimum_keeps_within_the_bounds():
    data = homo_like(40, 4)
    free = fitted(data, noise=0.05).hyperparameters["length_scale"]
    bounded = fitted(data, noise=0.05, length_scale=free / 4, bounds_factor=2.0).hyperparameters["length_scale"]
    assert bounded == pytest.approx(free / 2, rel=1e-9)


def test_hyperparameters_come_from_the_subset_and_the_model_from_all_data():
    data, new = homo_like(80, 5), homo_like(10, 6)
    model = fitted(data, subset=30, noise=0.02, calibrate=False)
    rows = np.linspace(0, 79, 30).astype(int)
    residuals = (data.targets - data.targets.mean()) / data.targets.std()
    features = data.features.astype(float)
    best = optimise_hyperparameters(features[rows], residuals[rows], Start(noise_variance=0.02), rows=80)
    assert model.hyperparameters["length_scale"] == pytest.approx(best.hyperparameters.length_scale, rel=1e-9)
    mean, std = GaussianProcess(features, residuals, best.hyperparameters, best.floor).predict(new.features)
    prediction = model.predict(new.structures, new.features)
    np.testing.assert_allclose(prediction.mean, data.targets.mean() + data.targets.std() * mean, atol=1e-9)
    np.testing.assert_allclose(prediction.std, data.targets.std() * std, atol=1e-9)
    assert fitted(data, subset=80).hyperparameters == fitted(data).hyperparameters


def test_prior_means():
    data, far = homo_like(30, 7), np.full((1, 12), 1e6, dtype=np.float32)
    means = {"zero": 0.0, "constant": data.targets.mean(), "auto": data.targets.mean()}
    means["composition"] = data.targets.mean()
    for name, expected in means.items():
        prediction = fitted(data, prior_mean=name, noise=0.05).predict(any_structures(1), far)
        assert prediction.mean[0] == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_the_file_holds_single_precision_where_exact_and_means_need_no_factorisation(tmp_path, monkeypatch):
    data, new = homo_like(40, 8), homo_like(5, 9)
    model = fitted(data, noise=0.05)
    model.save(tmp_path / "model.h5")
    with h5py.File(tmp_path / "model.h5") as handle:
        assert handle["features"].dtype == np.float32
    double = RegressionData(data.structures, data.features.astype(float) + 1e-9, data.targets)
    fitted(double, noise=0.05).save(tmp_path / "double.h5")
    with h5py.File(tmp_path / "double.h5") as handle:
        assert handle["features"].dtype == np.float64
    loaded = load_regression(tmp_path / "model.h5", "gpr")
    monkeypatch.setattr(gaussian_process, "factorise", None)
    expected = model.predict(new.structures, new.features, with_std=False).mean
    np.testing.assert_array_equal(loaded.predict(new.structures, new.features, with_std=False).mean, expected)
    with pytest.raises(TypeError):
        loaded.predict(new.structures, new.features)


def kernel_of(model, features):
    found = model.hyperparameters
    squared = cdist(features.astype(float), features.astype(float), "sqeuclidean")
    return found["signal_variance"] * np.exp(-0.5 * squared / found["length_scale"] ** 2)


def test_the_feature_map_is_the_kernel_when_every_point_is_a_landmark():
    data, new = homo_like(30, 10), homo_like(50, 11)
    model = fitted(data, noise=0.05, length_scale=30.0, optimise=False)
    both = np.concatenate([data.features, new.features])
    maps = model.embed(any_structures(80), both, "kernel", np.random.default_rng(0))
    # 30 training points are among the candidates twice, and chosen once.
    assert maps.shape == (80, 80)
    expected = kernel_of(model, both)
    np.testing.assert_allclose(maps @ maps.T, expected, atol=1e-5 * expected[0, 0])
    again = model.embed(any_structures(80), both, "kernel", np.random.default_rng(0))
    np.testing.assert_array_equal(maps, again)
    with pytest.raises(QuarryError, match=r"query\.embedding.*'gradient'.*kernel"):
        model.embed(any_structures(80), both, "gradient", np.random.default_rng(0))


def test_fewer_landmarks_approximate_the_kernel_nearly_as_well_as_any_can(monkeypatch):
    monkeypatch.setattr(nystroem, "LANDMARKS", 25)
    monkeypatch.setattr(nystroem, "LANDMARK_CANDIDATES", 120)
    data, new = homo_like(100, 12), homo_like(200, 13)
    model = fitted(data, noise=0.05, length_scale=120.0, optimise=False)
    maps = model.embed(new.structures, new.features, "kernel", np.random.default_rng(0)).astype(float)
    assert maps.shape == (200, 25)
    kernel = kernel_of(model, new.features)
    error = kernel - maps @ maps.T
    best = np.sort(np.linalg.eigvalsh(kernel))[:-25].sum()
    assert np.linalg.eigvalsh(error).min() > -1e-6
    assert best < np.trace(error) < 3 * best
    assert np.trace(error) < 0.15 * np.trace(kernel)


def test_landmarks_are_distinct_and_end_when_nothing_is_left_to_explain():
    points = np.repeat(np.arange(6.0), 4)[:, None]
    kernel = np.exp(-0.5 * cdist(points, points, "sqeuclidean"))
    landmarks, factor = choose_landmarks(kernel, 20, np.random.default_rng(1))
    assert sorted(points[landmarks, 0]) == [0, 1, 2, 3, 4, 5]
    np.testing.assert_allclose(factor @ factor.T, kernel[np.ix_(landmarks, landmarks)], atol=1e-12)


def test_other_features_and_numbers_that_are_none_are_named():
    data, new = homo_like(10, 14), homo_like(4, 15)
    model = fitted(data, noise=0.05)
    with pytest.raises(QuarryError, match=r"descriptor: .*12 features.*have 11"):
        model.predict(new.structures, new.features[:, 1:])
    new.features[2, 3] = np.nan
    with pytest.raises(QuarryError, match=r"descriptor\.kind: a feature of structure"):
        model.predict(new.structures, new.features)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"noise": 0.1, "noise_variance": 0.05}, "two ways to say"),
        ({"optimise": False}, "set noise_variance"),
        ({"bounds_factor": 1.0}, "greater than 1"),
        ({"subset": 1}, "greater than or equal to 2"),
        ({"prior_mean": "mean"}, "'auto', 'zero', 'constant' or 'composition'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(keys, message):
    with pytest.raises(ValidationError, match=message):
        Gpr(**keys)


def test_a_table_has_no_composition():
    changes = {"model": {"kind": "gpr", "prior_mean": "composition"}}
    load_configuration(changed(WIGNER, changes), "x.yaml")
    table = {"source": "table", "files": ["x.csv"], "features": ["a"]}
    labeling = {"engine": "function", "function": "toy:label"}
    raw = changed(
        WIGNER, {**changes, "pool": table, "labeling": labeling, "descriptor": {"kind": "table"}, "target": "value"}
    )
    with pytest.raises(QuarryError, match=r"model\.prior_mean: composition .* set constant"):
        load_configuration(raw, "x.yaml")


def test_settings_and_scale_survive_the_file(tmp_path):
    data = homo_like(20, 16)
    model = fitted(data, **SEED_SETUP, noise_variance=0.05)
    model.save(tmp_path / "model.h5")
    loaded = load_regression(tmp_path / "model.h5", "gpr")
    assert loaded.settings == model.settings
    assert loaded.hyperparameters == model.hyperparameters
    assert loaded._process.hyperparameters == Hyperparameters(
        model.hyperparameters["signal_variance"] / model.scale**2,
        model.hyperparameters["length_scale"],
        pytest.approx(0.05 / model.scale**2),
    )
