"""KREG of energies with forces: derivatives against finite differences, solutions against brute force, invariances."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from quarry.config.models import Kreg
from quarry.config.targets import TARGETS
from quarry.errors import QuarryError
from quarry.models import kernel_derivatives, kreg
from quarry.models.kernel_derivatives import DerivativeKernels, DerivativeProcess, kernel_of_points, points_of
from quarry.models.registry import load_regression, make_regression
from quarry.models.regression import RegressionData
from support.toys import EQUILIBRIUM, energy_and_forces, features_of, labelled, set_of

STEP = 1e-4


def fitted(data, validation=None, **keys):
    model = make_regression(Kreg(kind="kreg", **keys), TARGETS["energy_forces"])
    model.fit(data, validation, np.random.default_rng(0))
    return model


def displaced(frame):
    """The frame with each coordinate moved by a step up (first half) and down."""
    moves = np.concatenate([STEP * np.eye(9), -STEP * np.eye(9)]).reshape(18, 3, 3)
    return set_of(frame + moves)


def slope(values):
    """Derivatives by coordinate of values at displaced frames, along the first axis."""
    return (values[:9] - values[9:]) / (2 * STEP)


def rmse(errors):
    return np.sqrt(np.mean(np.square(errors)))


@pytest.fixture(scope="module")
def learnt():
    return fitted(labelled(12, 0))


def test_the_toy_is_a_potential():
    frame = labelled(1, 0).structures.positions
    energies = np.array([energy_and_forces(s.positions)[0] for s in displaced(frame)])
    np.testing.assert_allclose(-slope(energies).reshape(3, 3), energy_and_forces(frame)[1], atol=1e-6)


@pytest.mark.parametrize("block", [1, 4_000_000])
def test_the_kernel_of_gradients_is_the_derivative_of_the_kernel(block, monkeypatch):
    monkeypatch.setattr(kernel_derivatives, "BLOCK_ELEMENTS", block)
    rows, columns = labelled(3, 1), labelled(2, 2)
    sigma = 0.4
    found = kernel_of_points(
        points_of(rows.structures, rows.features), points_of(columns.structures, columns.features), sigma
    )
    assert found.shape == (30, 20)

    def gauss(a, b):
        return np.exp(-np.sum((a[:, None] - b) ** 2, axis=2) / (2 * sigma**2))

    np.testing.assert_allclose(found[:3, :2], gauss(rows.features, columns.features), rtol=1e-13)
    for i in range(3):
        around = features_of(displaced(rows.structures[i].positions))
        mine = slice(3 + 9 * i, 12 + 9 * i)
        np.testing.assert_allclose(found[mine, :2], slope(gauss(around, columns.features)), atol=1e-6)
        for j in range(2):
            other = features_of(displaced(columns.structures[j].positions))
            its = slice(2 + 9 * j, 11 + 9 * j)
            np.testing.assert_allclose(found[i, its], slope(gauss(other, rows.features[i : i + 1])[:, 0]), atol=1e-6)
            np.testing.assert_allclose(found[mine, its], slope(slope(gauss(around, other)).T).T, atol=1e-4)


def test_prediction_equals_the_solution_of_the_whole_system():
    data, new = labelled(8, 3), labelled(5, 4)
    sigma, regularisation = 0.5, 1e-7
    points, at = (points_of(d.structures, d.features) for d in (data, new))
    y = np.concatenate([data.targets - data.targets.mean(), -data.forces.ravel()])
    matrix = kernel_of_points(points, points, sigma) + regularisation * np.eye(80)
    across = kernel_of_points(at, points, sigma)
    expected = across @ np.linalg.solve(matrix, y)
    model = fitted(data, sigma=sigma, regularisation=regularisation)
    found = model.predict(new.structures, new.features)
    np.testing.assert_allclose(found.mean - data.targets.mean(), expected[:5], atol=1e-9)
    np.testing.assert_allclose(-found.forces.ravel(), expected[5:], atol=1e-8)
    # 8 energies and 8 x 3 internal gradients; six rigid motions of each structure say nothing.
    amplitude = np.sqrt(y @ np.linalg.solve(matrix, y) / 32)
    assert model.hyperparameters["amplitude"] == pytest.approx(amplitude, rel=1e-6)
    variance = 1 - np.einsum("ij,ji->i", across[:5], np.linalg.solve(matrix, across[:5].T))
    np.testing.assert_allclose(found.std, amplitude * np.sqrt(variance), rtol=1e-4)
    assert model.predict(new.structures, new.features, with_std=False).std is None


@pytest.mark.parametrize("with_forces", [True, False])
def test_forces_are_minus_the_gradient_of_the_energy(with_forces):
    model = fitted(labelled(12, 5, with_forces=with_forces))
    frame = labelled(1, 6).structures.positions
    around, here = displaced(frame), set_of(frame[None])
    energies = model.predict(around, features_of(around), with_std=False).mean
    forces = model.predict(here, features_of(here)).forces
    np.testing.assert_allclose(-slope(energies).reshape(3, 3), forces, rtol=1e-5, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**16))
def test_energies_do_not_turn_and_forces_turn_with_the_molecule(learnt, seed):
    rng = np.random.default_rng(seed)
    frame = EQUILIBRIUM + 0.08 * rng.normal(size=(3, 3))
    turn = Rotation.random(random_state=rng).as_matrix()
    both = set_of(np.stack([frame, frame @ turn.T + rng.uniform(-9, 9, size=3)]))
    found = learnt.predict(both, features_of(both))
    assert found.mean[1] == pytest.approx(found.mean[0], abs=1e-4)
    np.testing.assert_allclose(found.forces[3:], found.forces[:3] @ turn.T, atol=1e-3)
    np.testing.assert_allclose(found.forces.reshape(2, 3, 3).sum(axis=1), 0, atol=1e-10)


def test_gradients_save_structures():
    test = labelled(100, 7)
    errors = {}
    for with_forces in (False, True):
        for n in (10, 20, 40):
            model = fitted(labelled(40, 8, with_forces=with_forces).subset(np.arange(n)))
            found = model.predict(test.structures, test.features, with_std=False)
            errors[n, with_forces] = rmse(found.mean - test.targets), rmse(found.forces - test.forces)
    for n in (10, 20, 40):
        assert np.all(np.array(errors[n, True]) < 0.5 * np.array(errors[n, False]))
    assert errors[40, True] < errors[20, True] < errors[10, True]
    assert errors[10, True][0] < errors[20, False][0]


def test_the_search_weighs_energies_and_forces_alike():
    data, held = labelled(8, 9), labelled(4, 10)
    points, at = (points_of(d.structures, d.features) for d in (data, held))
    y = np.concatenate([data.targets - data.targets.mean(), -data.forces.ravel()])
    best = (np.inf, 0.0, 0.0)
    for sigma in 2.0 ** np.linspace(-10, 9, 11):
        matrix, across = DerivativeKernels(points, at).matrices(sigma)
        for regularisation in 2.0 ** np.linspace(-25, -1, 11):
            prediction = across @ np.linalg.solve(matrix + regularisation * np.eye(80), y)
            of_energies = rmse(prediction[:4] + data.targets.mean() - held.targets)
            best = min(best, (np.sqrt(of_energies * rmse(prediction[4:] + held.forces.ravel())), sigma, regularisation))
    model = fitted(data, held, grid_depth=1)
    found = model.hyperparameters
    assert (found["validation_error"], found["sigma"], found["regularisation"]) == pytest.approx(best, rel=1e-6)
    errors = rmse(model.validation.mean - held.targets), rmse(model.validation.forces - held.forces)
    assert found["validation_error"] == pytest.approx(np.sqrt(np.prod(errors)), rel=1e-6)
    assert fitted(data, held).hyperparameters["validation_error"] < best[0]


def test_net_forces_and_torques_of_labels_change_nothing():
    data, new = labelled(8, 11), labelled(5, 12)
    rng = np.random.default_rng(0)
    arms = data.structures.positions.reshape(8, 3, 3)
    net = rng.normal(size=(8, 1, 3)) + np.cross(rng.normal(size=(8, 1, 3)), arms)
    pushed = RegressionData(data.structures, data.features, data.targets, forces=data.forces + net.reshape(-1, 3))
    fixed = {"sigma": 0.5, "regularisation": 1e-8}
    mine, its = (fitted(d, **fixed).predict(new.structures, new.features) for d in (data, pushed))
    np.testing.assert_allclose(mine.mean, its.mean, atol=1e-7)
    np.testing.assert_allclose(mine.forces, its.forces, atol=1e-6)
    np.testing.assert_allclose(mine.std, its.std, rtol=1e-6)


def test_a_saved_model_is_the_model(tmp_path):
    data, new = labelled(8, 13), labelled(5, 14)
    model = fitted(data)
    model.save(tmp_path / "a.h5")
    load_regression(tmp_path / "a.h5", "kreg").save(tmp_path / "b.h5")
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    loaded = load_regression(tmp_path / "a.h5", "kreg")
    for mine, its in (
        (loaded.validation, model.validation),
        (loaded.predict(new.structures, new.features), model.predict(new.structures, new.features)),
    ):
        for name in ("mean", "std", "forces"):
            np.testing.assert_allclose(getattr(mine, name), getattr(its, name), rtol=1e-12)
    assert loaded.hyperparameters == model.hyperparameters


def test_what_does_not_fit_into_memory_and_bad_forces_are_refused(monkeypatch):
    data = labelled(8, 15)
    monkeypatch.setattr(kreg, "LARGEST_SYSTEM_BYTES", 16 * 70**2)
    with pytest.raises(QuarryError, match=r"kreg with forces .*8 training structures.*keep to 7 \(stop\.max_labels\)"):
        fitted(data)
    fitted(data.subset(np.arange(7)), sigma=0.5, regularisation=1e-6)
    data.forces[5, 1] = np.nan
    with pytest.raises(QuarryError, match=data.structures.ids[1]):
        fitted(data)


def test_no_structures_have_no_forces(learnt):
    nothing = labelled(2, 16).subset([])
    found = learnt.predict(nothing.structures, nothing.features)
    assert found.mean.shape == (0,)
    assert found.forces.shape == (0, 3)


def test_a_matrix_that_cannot_be_factorised_is_said(monkeypatch):
    data = labelled(3, 17)
    points = points_of(data.structures, data.features)
    with pytest.raises(np.linalg.LinAlgError):
        DerivativeProcess(points, np.zeros(30), 0.5, -10.0)
