"""The Gaussian process against scikit-learn, finite differences and known functions; its file."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from ase.build import molecule
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import LinAlgError
from scipy.spatial.distance import cdist
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from quarry.config.descriptors import CoulombMatrix, InverseDistances
from quarry.config.models import Gpr as ModelSettings
from quarry.config.targets import TARGETS
from quarry.descriptors.compute import compute_features
from quarry.errors import QuarryError
from quarry.models import gaussian_process, hyperparameters
from quarry.models.baselines import CompositionBaseline
from quarry.models.gaussian_process import GaussianProcess
from quarry.models.hyperparameter_search import optimise_hyperparameters
from quarry.models.hyperparameters import ROUNDING_FLOOR, Hyperparameters, Start, pairwise_lower, squared_distances
from quarry.models.registry import load_regression, make_regression
from quarry.models.regression import RegressionData
from quarry.structures import Structure, StructureSet


def toy(n, d, seed, noise=0.05):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-2, 2, size=(n, d))
    y = np.sin(x).sum(axis=1) + 0.3 * x[:, 0] ** 2 + noise * rng.normal(size=n)
    return x, (y - y.mean()) / y.std()


def sklearn_lml(x, y):
    kernel = ConstantKernel(1.0) * RBF(1.0) + WhiteKernel(0.1)
    return GaussianProcessRegressor(kernel, alpha=1e-20, optimizer=None).fit(x, y)


def water_like(n, seed):
    """Distorted water with Morse stretches, a harmonic bend and a coupling, in eV; features r_eq / r."""
    rng = np.random.default_rng(seed)
    lengths = 0.96 + 0.06 * rng.normal(size=(n, 2))
    angles = np.radians(104.5 + 6 * rng.normal(size=n))
    frames = []
    for (a, b), angle in zip(lengths, angles, strict=True):
        frames.append([[0, 0, 0], [a, 0, 0], [b * np.cos(angle), b * np.sin(angle), 0]])
    structures = StructureSet.from_structures(Structure.create([8, 1, 1], np.array(frame)) for frame in frames)
    stretch = 5.4 * (1 - np.exp(-2.2 * (lengths - 0.96))) ** 2
    bend = 0.5 * 4.3 * (angles - np.radians(104.5)) ** 2
    energy = -2078.5 + stretch.sum(axis=1) + bend - 0.6 * np.prod(lengths - 0.96, axis=1)
    reference = Structure.from_atoms(molecule("H2O"))
    return RegressionData(
        structures, compute_features(structures, InverseDistances(kind="inverse_distances"), reference), energy
    )


def any_structures(n):
    return StructureSet.from_structures(Structure.create([1, 1], [[0, 0, 0], [0, 0, 0.7 + 0.01 * i]]) for i in range(n))


def data_of(x, y):
    return RegressionData(any_structures(len(y)), x, y)


def fitted(data, target="homo", seed=0, **settings_):
    model = make_regression(ModelSettings(**settings_), TARGETS[target])
    model.fit(data, None, np.random.default_rng(seed))
    return model


def test_squared_distances_equal_scipy():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(30, 7)), rng.normal(size=(20, 7))
    np.testing.assert_allclose(squared_distances(a, b), cdist(a, b, "sqeuclidean"), atol=1e-13)
    lower = pairwise_lower(a)
    np.testing.assert_allclose(lower + lower.T, cdist(a, a, "sqeuclidean"), atol=1e-13)
    assert np.all(np.triu(lower) == 0)


@pytest.mark.parametrize("noise", [1e-6, 0.05])
def test_mean_and_standard_deviation_equal_scikit_learn(noise, monkeypatch):
    x, y = toy(80, 3, 1)
    new = np.random.default_rng(2).uniform(-3, 3, size=(200, 3))
    reference = GaussianProcessRegressor(ConstantKernel(2.5) * RBF(1.7), alpha=noise, optimizer=None).fit(x, y)
    expected_mean, expected_std = reference.predict(new, return_std=True)
    process = GaussianProcess(x, y, Hyperparameters(2.5, 1.7, noise))
    mean, std = process.predict(new)
    np.testing.assert_allclose(mean, expected_mean, atol=1e-8)
    np.testing.assert_allclose(std, expected_std, atol=1e-8)
    monkeypatch.setattr(gaussian_process, "BLOCK", 7)
    np.testing.assert_allclose(np.array(process.predict(new)), [mean, std], atol=1e-11)


@pytest.mark.parametrize("seed", [4, 5])
def test_the_optimum_is_not_worse_than_that_of_scikit_learn(seed):
    x, y = toy(60, 2, seed)
    kernel = ConstantKernel(1.0, (1e-3, 1e5)) * RBF(1.0, (1e-2, 1e2)) + WhiteKernel(0.1, (1e-12, 1.0))
    reference = GaussianProcessRegressor(kernel, alpha=1e-20, n_restarts_optimizer=4, random_state=0).fit(x, y)
    optimum = optimise_hyperparameters(x, y, Start(), "likelihood")
    assert optimum.floor == ROUNDING_FLOOR * len(x)
    found = optimum.hyperparameters
    theta = np.log([found.signal_variance, found.length_scale, found.noise_variance])
    value = sklearn_lml(x, y).log_marginal_likelihood(theta)
    assert value >= reference.log_marginal_likelihood_value_ - 1e-3
    process = GaussianProcess(x, y, found, optimum.floor)
    assert process.log_marginal_likelihood() == pytest.approx(value, rel=1e-6)


def test_the_noise_of_the_data_is_found():
    x, y = toy(400, 1, 6, noise=0.2)
    found = optimise_hyperparameters(x, y, Start()).hyperparameters.noise_variance
    raw = np.sin(x[:, 0]) + 0.3 * x[:, 0] ** 2
    true = 0.2**2 / (np.var(raw) + 0.2**2)
    assert found == pytest.approx(true, rel=0.2)


def test_a_fixed_noise_stays():
    x, y = toy(40, 2, 7)
    optimum = optimise_hyperparameters(x, y, Start(noise_variance=0.03))
    assert optimum.hyperparameters.noise_variance == pytest.approx(0.03, rel=1e-12)


def test_a_smooth_energy_is_learned_to_millielectronvolts_and_the_errors_are_as_predicted():
    model = fitted(water_like(150, 0), "energy")
    new = water_like(500, 1)
    prediction = model.predict(new.structures, new.features)
    errors = prediction.mean - new.targets
    assert np.std(new.targets) > 0.1
    # Most geometries are interpolated to microelectronvolts; the RMSE is that of the few beyond the training data.
    assert np.sqrt(np.mean(errors**2)) < 2e-3
    assert np.median(np.abs(errors)) < 5e-5
    z = errors / prediction.std
    assert 0.1 < np.sqrt(np.mean(z**2)) < 3
    order = np.argsort(prediction.std)
    assert np.mean(np.abs(errors[order[250:]])) > 1.5 * np.mean(np.abs(errors[order[:250]]))


def test_predictions_return_to_the_prior_mean_far_from_the_data():
    x, y = toy(50, 2, 8)
    data = data_of(x, 3.0 + 2.0 * y)
    model = fitted(data)
    prediction = model.predict(any_structures(1), np.full((1, 2), 1e9))
    found = model.hyperparameters
    assert prediction.mean[0] == pytest.approx(3.0)
    assert prediction.std[0] == pytest.approx(found["std_factor"] * np.sqrt(found["signal_variance"]))


def test_doubling_the_unit_of_the_target_doubles_everything():
    x, y = toy(40, 2, 9)
    one, two = fitted(data_of(x, y)), fitted(data_of(x, 2 * y))
    new = np.random.default_rng(0).normal(size=(5, 2))
    first, second = one.predict(any_structures(5), new), two.predict(any_structures(5), new)
    np.testing.assert_allclose(second.mean, 2 * first.mean, rtol=1e-10)
    np.testing.assert_allclose(second.std, 2 * first.std, rtol=1e-10)
    a, b = one.hyperparameters, two.hyperparameters
    for name in ("signal_variance", "noise_variance", "noise_floor"):
        assert b[name] == pytest.approx(4 * a[name])
    assert b["length_scale"] == pytest.approx(a["length_scale"])
    assert b["log_marginal_likelihood"] == pytest.approx(a["log_marginal_likelihood"] - 40 * np.log(2))


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 4), st.integers(0, 3), st.integers(0, 2**16))
def test_few_structures_and_constant_or_repeated_data_give_finite_predictions(n, d, seed):
    rng = np.random.default_rng(seed)
    features = rng.integers(0, 2, size=(n, d)).astype(float)
    for targets in (np.full(n, -2078.123), rng.integers(0, 2, size=n).astype(float)):
        for target in ("energy", "gap"):
            prediction = fitted(data_of(features, targets), target).predict(any_structures(n), features)
            assert np.all(np.isfinite(prediction.mean))
            assert np.all(np.isfinite(prediction.std))
            if np.ptp(targets) == 0:
                np.testing.assert_allclose(prediction.mean, targets, rtol=1e-12)


def test_labels_that_contradict_each_other_become_noise():
    x = np.repeat(np.linspace(-1, 1, 20), 2)[:, None]
    y = np.sin(3 * x[:, 0]) + np.tile([0.3, -0.3], 20)
    model = fitted(data_of(x, y))
    assert np.sqrt(model.hyperparameters["noise_variance"]) == pytest.approx(0.3, rel=0.25)
    mean = model.predict(any_structures(40), x).mean
    assert np.max(np.abs(mean - np.sin(3 * x[:, 0]))) < 0.15


def test_a_matrix_that_cannot_be_factorised_raises_the_floor_and_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(hyperparameters, "ROUNDING_FLOOR", 1e-21)
    data = data_of(np.zeros((6, 1)), np.array([0.0, 1.0, 0.0, 1.0, 0.0, 1.0]))
    model = fitted(data, noise=1e-30)
    assert model.hyperparameters["noise_floor_raised"] is True
    np.testing.assert_allclose(model.predict(data.structures, data.features).mean, 0.5, atol=0.05)
    model.save(tmp_path / "model.h5")
    with h5py.File(tmp_path / "model.h5") as handle:
        assert handle.attrs["noise_floor_raised"]
    assert load_regression(tmp_path / "model.h5", "gpr").hyperparameters == model.hyperparameters
    monkeypatch.setattr(hyperparameters, "ROUNDING_FLOOR", 0.0)
    with pytest.raises(QuarryError, match=r"model\.kind.*model\.noise"):
        fitted(data, noise=1e-30)
    with pytest.raises(LinAlgError):
        GaussianProcess(np.zeros((2, 1)), np.zeros(2), Hyperparameters(1.0, 1.0, 0.0))


def mixed(*names):
    return StructureSet.from_structures(Structure.from_atoms(molecule(name)) for name in names)


def test_the_energy_baseline_is_a_sum_over_elements():
    structures = mixed("CH4", "C2H6", "H2O", "CH3OH", "CO2", "H2")
    per_atom = {1: -16.0, 6: -1035.0, 8: -2050.0}
    energies = np.array([sum(per_atom[int(z)] for z in s.numbers) for s in structures])
    baseline = CompositionBaseline.fit(structures, energies)
    np.testing.assert_allclose(baseline.coefficients, [-16.0, -1035.0, -2050.0], rtol=1e-10)
    new = mixed("C2H4", "H2O2")
    np.testing.assert_allclose(baseline.mean(new), [-2134.0, -4132.0], rtol=1e-10)
    np.testing.assert_array_equal(baseline.extra_std(new), 0.0)


def test_the_energy_baseline_of_one_composition_is_the_mean():
    data = water_like(10, 2)
    mean = CompositionBaseline.fit(data.structures, data.targets).mean(data.structures)
    np.testing.assert_allclose(mean, np.mean(data.targets), rtol=1e-13)


def test_an_element_that_no_label_has_makes_the_energy_uncertain():
    structures = mixed("CH4", "C2H6", "C2H4", "C2H2", "H2")
    features = compute_features(structures, CoulombMatrix(kind="coulomb_matrix"), None)
    energies = np.array([-1102.0, -2171.0, -2138.0, -2104.0, -32.0])
    prediction = fitted(RegressionData(structures, features, energies), "energy").predict(
        mixed("CH4", "CH3Cl"), features[:2]
    )
    assert prediction.std[0] < 10
    assert prediction.std[1] > 500


@pytest.mark.parametrize("target", ["energy", "dipole"])
def test_a_saved_model_predicts_the_same_and_the_same_model_has_the_same_bytes(tmp_path, target):
    data, new = water_like(30, 3), water_like(20, 4)
    model = fitted(data, target, noise=1e-6 if target == "dipole" else None)
    paths = [tmp_path / name for name in ("a.h5", "b.h5", "c.h5", "d.h5")]
    model.save(paths[0])
    model.save(paths[1])
    fitted(data, target, noise=model.settings.noise).save(paths[2])
    loaded = load_regression(paths[0], "gpr")
    loaded.save(paths[3])
    assert len({path.read_bytes() for path in paths}) == 1
    first, second = model.predict(new.structures, new.features), loaded.predict(new.structures, new.features)
    np.testing.assert_array_equal(first.mean, second.mean)
    np.testing.assert_array_equal(first.std, second.std)
    with h5py.File(paths[0]) as handle:
        assert handle.attrs["kind"] == "gpr"
        assert handle.attrs["target"] == target
        assert handle.attrs["length_scale"] == model.hyperparameters["length_scale"]
        assert handle.attrs["signal_variance"] == model.hyperparameters["signal_variance"]


def test_what_is_not_a_number_is_named():
    data = water_like(4, 5)
    data.targets[2] = np.nan
    with pytest.raises(QuarryError, match=rf"'energy'.*{data.structures.ids[2]}"):
        fitted(data, "energy")
    data = water_like(4, 5)
    data.features[1, 0] = np.inf
    with pytest.raises(QuarryError, match=rf"descriptor\.kind.*{data.structures.ids[1]}"):
        fitted(data, "energy")
    with pytest.raises(QuarryError, match=r"query\.initial"):
        fitted(data.subset([]), "energy")


def test_a_file_that_is_no_model_is_an_error(tmp_path):
    damaged = tmp_path / "model.h5"
    damaged.write_bytes(b"not HDF5")
    with pytest.raises(QuarryError, match="not an intact model file"):
        load_regression(damaged, "gpr")
    with h5py.File(tmp_path / "other.h5", "w") as handle:
        handle.attrs["kind"] = "mace"
    with pytest.raises(QuarryError, match="'mace'"):
        load_regression(tmp_path / "other.h5", "gpr")


def test_subset_of_training_data_keeps_rows_together():
    data = water_like(6, 6)
    part = data.subset([4, 1])
    assert part.structures.ids.tolist() == data.structures.ids[[4, 1]].tolist()
    np.testing.assert_array_equal(part.features, data.features[[4, 1]])
    np.testing.assert_array_equal(part.targets, data.targets[[4, 1]])
