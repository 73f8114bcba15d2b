"""The search of hyperparameters: likelihoods against scikit-learn, the criterion by brute force, and one optimum for all."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import multivariate_normal
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from quarry.config.models import Gpr
from quarry.config.targets import TARGETS
from quarry.models.gaussian_process import GaussianProcess
from quarry.models.hyperparameter_search import Tridiagonal, optimise_hyperparameters, terms_of
from quarry.models.hyperparameters import Hyperparameters, Start, pairwise_lower
from quarry.models.registry import make_regression
from quarry.models.regression import RegressionData
from quarry.structures import Structure, StructureSet


def toy(n, d, seed, noise=0.05):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-2, 2, size=(n, d))
    y = np.sin(x).sum(axis=1) + 0.3 * x[:, 0] ** 2 + noise * rng.normal(size=n)
    return x, (y - y.mean()) / (y.std() or 1.0)


def bowl(n, seed, d=20):
    """A sum of squares of many coordinates, as energies near a minimum are; standardised."""
    x = np.random.default_rng(seed).normal(size=(n, d))
    y = (x**2).sum(axis=1)
    return x, (y - y.mean()) / y.std()


def covariance(x, found, floor=0.0):
    kernel = found.signal_variance * np.exp(-0.5 * cdist(x, x, "sqeuclidean") / found.length_scale**2)
    return kernel + (found.noise_variance + floor * found.signal_variance) * np.eye(len(x))


def predictive(x, y, found, floor=0.0):
    """log p(half | other half) of both halves, from the conditional distribution itself."""
    matrix, total = covariance(x, found, floor), 0.0
    for here in (np.arange(0, len(y), 2), np.arange(1, len(y), 2)):
        there = np.setdiff1d(np.arange(len(y)), here)
        gain = np.linalg.solve(matrix[np.ix_(there, there)], matrix[np.ix_(there, here)]).T
        mean = gain @ y[there]
        rest = matrix[np.ix_(here, here)] - gain @ matrix[np.ix_(there, here)]
        total += multivariate_normal(mean, (rest + rest.T) / 2).logpdf(y[here])
    return total


@pytest.mark.parametrize("n", [1, 2, 3, 40])
def test_the_likelihood_of_all_ratios_equals_scikit_learn(n):
    x, y = toy(n, 2, 3)
    ratios = np.geomspace(1e-4, 10, 5)
    found = Tridiagonal(np.exp(-0.5 / 1.3**2 * pairwise_lower(x)), y).likelihoods(ratios)
    reference = GaussianProcessRegressor(ConstantKernel() * RBF() + WhiteKernel(), alpha=1e-20, optimizer=None).fit(
        x, y
    )
    for signal in (0.2, 3.0):
        expected = [reference.log_marginal_likelihood(np.log([signal, 1.3, signal * ratio])) for ratio in ratios]
        np.testing.assert_allclose(found.value(np.full(5, signal)), expected, rtol=1e-9, atol=1e-9)


def test_the_criterion_is_what_each_half_says_of_the_other():
    x, y = toy(31, 2, 4)
    ratio, length, signal = 0.02, 0.9, 1.7
    total = 0.0
    for weight, rows in terms_of(31, "predictive"):
        part = Tridiagonal(np.asfortranarray(np.exp(-0.5 / length**2 * pairwise_lower(x[rows]))), y[rows])
        total += weight * float(part.likelihoods(np.array([ratio])).value(np.array([signal]))[0])
    assert total == pytest.approx(predictive(x, y, Hyperparameters(signal, length, ratio * signal)), rel=1e-8)
    assert [weight for weight, _ in terms_of(31, "likelihood")] == [1.0]
    assert len(terms_of(5, "predictive")) == 1, "from five points nothing can be predicted"


@pytest.mark.parametrize("seed", [0, 1])
def test_no_point_of_a_fine_grid_is_better(seed):
    x, y = toy(50, 2, seed)
    optimum = optimise_hyperparameters(x, y, Start())
    reached = predictive(x, y, optimum.hyperparameters, optimum.floor)
    values = [
        predictive(x, y, Hyperparameters(signal, length, noise))
        for length in np.geomspace(0.3, 30, 9)
        for signal in np.geomspace(0.1, 1e4, 7)
        for noise in np.geomspace(1e-3, 0.3, 5)
    ]
    assert reached >= max(values) - 1e-6
    near = [
        predictive(x, y, Hyperparameters(h.signal_variance * a, h.length_scale * b, h.noise_variance * c))
        for h in [optimum.hyperparameters]
        for a, b, c in np.exp(np.random.default_rng(0).normal(0, 0.05, (60, 3)))
    ]
    assert reached >= max(near) - 1e-3


def rmse_beside_the_mean(criterion, seed):
    x, y = bowl(700, seed)
    optimum = optimise_hyperparameters(x[:200], y[:200], Start(), criterion)
    mean, _ = GaussianProcess(x[:200], y[:200], optimum.hyperparameters, optimum.floor).predict(x[200:], False)
    return np.sqrt(np.mean((mean - y[200:]) ** 2)) / y[200:].std()


def test_of_two_optima_the_one_that_predicts_is_found():
    """The likelihood prefers a fit with hardly anything learnt: it counts how the other one did with the first labels."""
    for seed in range(3):
        assert rmse_beside_the_mean("likelihood", seed) > 0.6
        assert rmse_beside_the_mean("predictive", seed) < 0.5


def test_where_nothing_can_be_learnt_nothing_is():
    """Labels of chance: the model is their mean, not a function through them."""
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(300, 10)), rng.normal(size=300)
    optimum = optimise_hyperparameters(x[:100], y[:100], Start())
    mean, _ = GaussianProcess(x[:100], y[:100], optimum.hyperparameters, optimum.floor).predict(x[100:], False)
    assert np.sqrt(np.mean((mean - y[100:]) ** 2)) < 1.1 * y[100:].std()


def data_of(x, y):
    lengths = 0.5 + np.arange(len(y)) / 1000
    structures = StructureSet.from_structures(Structure.create([1, 1], [[0, 0, 0], [0, 0, r]]) for r in lengths)
    return RegressionData(structures, x, y)


@pytest.mark.parametrize("subset", [None, 60])
def test_neither_seed_nor_order_changes_the_model(subset):
    data = data_of(*bowl(120, 7))
    new = bowl(20, 8)[0]
    found = []
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(120)
        model = make_regression(Gpr(subset=subset), TARGETS["homo"])
        model.fit(data.subset(order), None, np.random.default_rng(seed))
        found.append(model.predict(data.structures.subset(range(20)), new))
    for other in found[1:]:
        np.testing.assert_allclose(other.mean, found[0].mean, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(other.std, found[0].std, rtol=1e-6, atol=1e-8)


def test_an_optimum_at_a_bound_says_so():
    x, y = toy(60, 2, 9)
    assert optimise_hyperparameters(x, y, Start()).length_end == ""
    bounded = optimise_hyperparameters(*bowl(100, 0, d=3), Start(length_scale=0.5, bounds_factor=2.0))
    assert bounded.length_end == "highest"
    assert bounded.hyperparameters.length_scale == pytest.approx(1.0, rel=0.02)


def test_noise_and_signal_keep_within_their_bounds():
    x, y = toy(60, 1, 9, noise=0.5)
    found = optimise_hyperparameters(x, y, Start(noise_variance=1e-3, signal_variance=0.01, bounds_factor=5.0))
    assert found.hyperparameters.noise_variance == 1e-3
    assert 0.002 <= found.hyperparameters.signal_variance <= 0.05 * (1 + 1e-12)
