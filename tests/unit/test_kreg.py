"""KREG against scikit-learn, brute force and the published dissociation curve of hydrogen; its settings and its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF
from sklearn.kernel_ridge import KernelRidge

from quarry.config.loading import load_configuration
from quarry.config.models import Kreg
from quarry.config.targets import TARGETS
from quarry.descriptors.distances import inverse_distances
from quarry.errors import QuarryError
from quarry.models.registry import load_regression, make_regression
from quarry.models.regression import RegressionData, Validated
from quarry.structures import Structure, StructureSet
from support.configurations import WIGNER, changed

H2 = Path(__file__).parents[1] / "data" / "h2_fci_451.npz"


def any_structures(n):
    one = StructureSet.from_structures([Structure.create([1, 1], [[0, 0, 0], [0, 0, 0.7]])])
    return one.subset(np.zeros(n, dtype=np.int64))


def states(n, seed):
    """Three smooth functions of four features near 1, of different size and width."""
    rng = np.random.default_rng(seed)
    x = 1 + 0.2 * rng.normal(size=(n, 4))
    y = np.stack([5 + np.sin(3 * x[:, 0]) * x[:, 1], 0.1 * np.cos(x).prod(axis=1), np.sin(9 * x[:, 2])], axis=1)
    return RegressionData(any_structures(n), x, y)


def one_of(data, column):
    return RegressionData(data.structures, data.features, data.targets[:, column])


def fitted(data, validation=None, target="excitations", **keys):
    model = make_regression(Kreg(kind="kreg", **keys), TARGETS[target])
    model.fit(data, validation, np.random.default_rng(0))
    return model


def predicted(model, data, with_std=True):
    return model.predict(data.structures, data.features, with_std)


def kernel(a, b, sigma):
    return np.exp(-cdist(a, b, "sqeuclidean") / (2 * sigma**2))


@pytest.mark.parametrize("regularisation", [1e-8, 1e-2])
def test_mean_and_standard_deviation_equal_scikit_learn(regularisation):
    data, new = states(60, 0), states(150, 1)
    sigma = 0.3
    found = predicted(fitted(data, sigma=sigma, regularisation=regularisation, calibrate=False), new)
    prior = data.targets.mean(axis=0)
    ridge = KernelRidge(kernel="rbf", gamma=1 / (2 * sigma**2), alpha=regularisation)
    expected = prior + ridge.fit(data.features, data.targets - prior).predict(new.features)
    np.testing.assert_allclose(found.mean, expected, atol=1e-9)
    process = GaussianProcessRegressor(RBF(sigma), alpha=regularisation, optimizer=None)
    matrix = kernel(data.features, data.features, sigma) + regularisation * np.eye(60)
    for column in range(3):
        y = data.targets[:, column] - prior[column]
        std = process.fit(data.features, y).predict(new.features, return_std=True)[1]
        amplitude = np.sqrt(y @ np.linalg.solve(matrix, y) / 60)
        np.testing.assert_allclose(found.std[:, column], amplitude * std, rtol=1e-4, atol=1e-6 * amplitude)
    assert predicted(fitted(data, sigma=0.3, regularisation=1e-2), new, with_std=False).std is None


def brute_force(data, held, column, depth=2):
    """The grid by one linear solve for each of its points, without what the model shares between them."""
    prior = data.targets[:, column].mean()
    y, wanted = data.targets[:, column] - prior, held.targets[:, column]
    sigmas, lambdas, best = np.linspace(-10, 9, 11), np.linspace(-25, -1, 11), (np.inf, 0.0, 0.0)
    for _ in range(depth):
        for s in sigmas:
            matrix, across = (kernel(x, data.features, 2.0**s) for x in (data.features, held.features))
            for exponent in lambdas:
                weights = np.linalg.solve(matrix + 2.0**exponent * np.eye(len(y)), y)
                error = np.sqrt(np.mean((prior + across @ weights - wanted) ** 2))
                best = min(best, (error, s, exponent))
        sigmas, lambdas = (
            np.linspace(b - (g[1] - g[0]), b + g[1] - g[0], 11)
            for b, g in zip(best[1:], (sigmas, lambdas), strict=True)
        )
    return best


def test_each_target_gets_the_hyperparameters_of_a_brute_force_search():
    data, held = states(40, 2), states(12, 3)
    model = fitted(data, held)
    found = model.hyperparameters
    for column in range(3):
        error, log2_sigma, log2_lambda = brute_force(data, held, column)
        assert found["validation_error"][column] == pytest.approx(error, rel=1e-6)
        assert np.log2(found["sigma"][column]) == pytest.approx(log2_sigma, abs=1e-6)
        assert np.log2(found["regularisation"][column]) == pytest.approx(log2_lambda, abs=1e-6)
    assert len(set(found["sigma"])) == 3


def test_the_search_is_of_the_sub_training_data_and_the_model_of_all():
    data, held, new = states(40, 4), states(10, 5), states(30, 6)
    model = fitted(data, held)
    assert isinstance(model, Validated)
    found = model.hyperparameters
    errors = np.sqrt(np.mean((model.validation.mean - held.targets) ** 2, axis=0))
    np.testing.assert_allclose(errors, found["validation_error"], rtol=1e-6)
    everything = RegressionData(
        any_structures(50), *(np.concatenate(p) for p in ((data.features, held.features), (data.targets, held.targets)))
    )
    for column in range(3):
        chosen = {"sigma": found["sigma"][column], "regularisation": found["regularisation"][column]}
        alone, both = (fitted(one_of(part, column), target="homo", **chosen) for part in (data, everything))
        for mine, its in ((model.validation, predicted(alone, held)), (predicted(model, new), predicted(both, new))):
            np.testing.assert_allclose(mine.mean[:, column], its.mean, rtol=1e-9)
            np.testing.assert_allclose(mine.std[:, column], its.std, rtol=1e-6)
        assert alone.validation.mean.size == 0
        assert alone.hyperparameters["validation_error"] is None
    # Without validation data the last fifth serves.
    again = fitted(everything)
    assert again.hyperparameters == found
    np.testing.assert_array_equal(again.validation.mean, model.validation.mean)


def test_a_target_is_learnt_alone_as_among_others_in_any_order():
    data, held, new = states(30, 7), states(8, 8), states(20, 9)
    order = [2, 0, 1]
    swapped = [RegressionData(d.structures, d.features, d.targets[:, order]) for d in (data, held)]
    model, other = fitted(data, held), fitted(*swapped)
    expected, found = predicted(model, new), predicted(other, new)
    np.testing.assert_allclose(found.mean, expected.mean[:, order], rtol=1e-9)
    np.testing.assert_allclose(found.std, expected.std[:, order], rtol=1e-6)
    alone = fitted(one_of(data, 1), one_of(held, 1), "homo")
    np.testing.assert_allclose(predicted(alone, new).mean, expected.mean[:, 1], rtol=1e-9)
    assert alone.hyperparameters["sigma"] == pytest.approx(model.hyperparameters["sigma"][1])
    assert alone.hyperparameters["noise_variance"] == pytest.approx(
        model.hyperparameters["amplitude"][1] ** 2 * model.hyperparameters["regularisation"][1]
    )


def test_the_prior_mean_is_that_of_the_training_targets_or_zero():
    data = one_of(states(20, 10), 0)
    far = RegressionData(any_structures(1), np.full((1, 4), 1e3), np.zeros(1))
    fixed = {"sigma": 0.3, "regularisation": 1e-6}
    assert predicted(fitted(data, target="homo", **fixed), far).mean[0] == pytest.approx(data.targets.mean())
    model = fitted(data, target="homo", prior_mean="zero", **fixed)
    assert predicted(model, far).mean[0] == 0.0
    assert predicted(model, far).std[0] == pytest.approx(model.hyperparameters["amplitude"])


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 6), st.integers(0, 3), st.integers(0, 2**16))
def test_few_structures_and_constant_or_repeated_data_give_finite_predictions(n, d, seed):
    rng = np.random.default_rng(seed)
    features = rng.integers(0, 2, size=(n, d)).astype(float)
    targets = np.stack([np.full(n, -2078.123), rng.integers(0, 2, size=n)], axis=1)
    data = RegressionData(any_structures(n), features, targets)
    found = predicted(fitted(data), data)
    assert np.all(np.isfinite(found.mean))
    assert np.all(np.isfinite(found.std))
    np.testing.assert_allclose(found.mean[:, 0], -2078.123, rtol=1e-12)


def test_a_regularisation_that_rounding_swallows_is_left_out_or_raised():
    x = np.repeat(np.linspace(0.9, 1.1, 10), 2)[:, None]
    data = RegressionData(any_structures(20), x, np.sin(9 * x[:, 0]))
    model = fitted(data, target="homo", log2_regularisation={"minimum": -90, "maximum": -40})
    assert model.hyperparameters["regularisation"] >= 16 * 1e-15
    assert not model.hyperparameters["regularisation_raised"]
    forced = fitted(data, target="homo", sigma=0.5, regularisation=1e-30)
    assert forced.hyperparameters["regularisation_raised"]
    for found in (model, forced):
        np.testing.assert_allclose(predicted(found, data).mean, data.targets, atol=1e-6)
    with pytest.raises(QuarryError, match=r"kreg cannot learn.*log2_regularisation\.minimum"):
        fitted(data, target="homo", log2_regularisation={"minimum": -90, "maximum": -70})


def test_hyperparameters_at_an_end_of_their_grid_are_named():
    data, held = states(30, 11), states(8, 12)
    ends = fitted(data, held, log2_sigma={"minimum": -3, "maximum": -2.9}, grid_depth=1).hyperparameters["grid_ends"]
    assert all(any(end.startswith("sigma") for end in found) for found in ends)
    fixed = fitted(data, held, sigma=0.3, log2_regularisation={"minimum": -60, "maximum": 30}).hyperparameters
    assert fixed["grid_ends"] == [[], [], []]
    assert fixed["sigma"] == [0.3, 0.3, 0.3]


def test_a_saved_model_is_the_model_and_the_same_model_the_same_bytes(tmp_path):
    data, held, new = states(30, 13), states(8, 14), states(20, 15)
    model = fitted(data, held)
    model.save(tmp_path / "a.h5")
    fitted(data, held).save(tmp_path / "b.h5")
    load_regression(tmp_path / "a.h5", "kreg").save(tmp_path / "c.h5")
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes() == (tmp_path / "c.h5").read_bytes()
    loaded = load_regression(tmp_path / "a.h5", "kreg")
    assert loaded.hyperparameters == model.hyperparameters
    for mine, its in ((loaded.validation, model.validation), (predicted(loaded, new), predicted(model, new))):
        np.testing.assert_array_equal(mine.mean, its.mean)
        np.testing.assert_allclose(mine.std, its.std, rtol=1e-12)


def test_the_feature_map_is_the_kernel_of_the_mean_width():
    data = states(30, 16)
    model = fitted(data)
    maps = model.embed(data.structures, data.features, "kernel", np.random.default_rng(0)).astype(float)
    sigma = np.prod(model.hyperparameters["sigma"]) ** (1 / 3)
    np.testing.assert_allclose(maps @ maps.T, kernel(data.features, data.features, sigma), atol=1e-5)
    with pytest.raises(QuarryError, match=r"query\.embedding.*'gradient'.*kernel"):
        model.embed(data.structures, data.features, "gradient", np.random.default_rng(0))


def test_bad_data_are_named():
    data = states(10, 17)
    with pytest.raises(QuarryError, match=r"query\.initial: kreg needs at least 2.*there is 1"):
        fitted(data.subset([0]))
    data.targets[3, 1] = np.nan
    with pytest.raises(QuarryError, match="not a finite number"):
        fitted(data)
    model = fitted(states(10, 18))
    with pytest.raises(QuarryError, match=r"descriptor: .*4 features.*have 3"):
        model.predict(any_structures(2), np.ones((2, 3)))
    with pytest.raises(QuarryError, match="not a finite number"):
        model.predict(any_structures(2), np.full((2, 4), np.inf))


def hydrogen():
    with np.load(H2) as archive:
        lengths, energies = archive["R_A"], archive["E_fci_hartree"]
    structures = StructureSet.from_structures(Structure.create([1, 1], [[0, 0, 0], [0, 0, r]]) for r in lengths)
    return RegressionData(structures, inverse_distances(structures, structures[int(np.argmin(energies))]), energies)


@pytest.mark.parametrize("lowest", [-25, -50])
def test_the_dissociation_curve_of_hydrogen_is_learnt_as_published(lowest):
    """MLatom 2.1: RMSE 4.80e-7 hartree on 90 validation points, 4.90e-7 on all 451 (every fifth point validates here)."""
    data = hydrogen()
    held = np.arange(4, 451, 5)
    parts = data.subset(np.setdiff1d(np.arange(451), held)), data.subset(held)
    model = fitted(*parts, "energy", log2_regularisation={"minimum": lowest, "maximum": -1})
    assert model.hyperparameters["validation_error"] < 4.8e-7
    assert np.sqrt(np.mean((predicted(model, data, with_std=False).mean - data.targets) ** 2)) <= 4.9e-7


KREG = {"model.kind": "kreg"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({**KREG, "descriptor.kind": "coulomb_matrix"}, r"model\.kind: kreg needs descriptor\.kind: inverse_distances"),
        (
            {
                **KREG,
                "target": "class",
                "classification": {"property": "energy", "boundaries": [0.0], "names": ["a", "b"]},
            },
            "use mlp",
        ),
        ({"target": "energy_forces"}, r"model\.kind: gpr learns no forces.*kreg"),
        (
            {**KREG, "target": "energy_forces", "arms": {"net": {"model": {"kind": "mlp"}}}},
            r"arms\.net\.model\.kind: mlp learns no",
        ),
        ({**KREG, "target": "energy_forces", "labeling.method.forces": False}, r"labeling\.method\.forces: .*set True"),
        ({**KREG, "model.log2_sigma": {"minimum": 2, "maximum": 1}}, r"model\.log2_sigma: maximum = 1.*minimum = 2"),
    ],
)
def test_settings_that_contradict_each_other_are_named_in_one_line(changes, message):
    with pytest.raises(QuarryError, match=message) as caught:
        load_configuration(changed(WIGNER, changes), "campaign.yaml")
    assert "\n" not in str(caught.value)


def test_the_settings_fit_the_strategies():
    for strategy in ("uncertainty", "lcmd", "random"):
        assert load_configuration(changed(WIGNER, {**KREG, "query.strategy": strategy}), "x").model.kind == "kreg"
    assert load_configuration(changed(WIGNER, {**KREG, "target": "energy_forces"}), "x").target == "energy_forces"
