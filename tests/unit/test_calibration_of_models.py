"""Standard deviations scaled by errors of labels that were held out: the factor, its closed forms, and what it covers."""

from __future__ import annotations

import numpy as np
import pytest

from quarry.config.descriptors import InverseDistances
from quarry.config.models import Gpr, Kreg
from quarry.config.targets import TARGETS
from quarry.descriptors.compute import compute_features
from quarry.evaluation.calibration import coverage
from quarry.models.calibration import FEW, FEWEST, Calibration, held_blocks
from quarry.models.gaussian_process import GaussianProcess
from quarry.models.hyperparameters import Hyperparameters
from quarry.models.kernel_derivatives import DerivativeProcess, points_of
from quarry.models.registry import load_regression, make_regression
from quarry.models.regression import RegressionData
from quarry.structures import Structure, StructureSet
from support.networks import dimers, trained


def wavy(n, seed, noise=0.1):
    x = np.random.default_rng(seed).normal(size=(n, 3))
    rng = np.random.default_rng([seed, 1])
    return RegressionData(dimers(n), x, np.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2] + noise * rng.standard_t(4, size=n))


def covered(prediction, labels):
    std = np.hypot(prediction.std, prediction.noise_variance**0.5)
    return np.mean(np.abs(prediction.mean - labels) <= 1.959964 * std)


def test_the_factor_by_hand():
    errors, std = np.arange(1.0, 101.0), np.full(100, 2.0)
    # ceil(0.95 * 101) = 96 of 100 scores lie at or below the quantile.
    assert Calibration.of(errors, std).factor == pytest.approx(96 / 2 / 1.959964, rel=1e-6)
    assert Calibration.of(errors, std).account() == {
        "std_factor": pytest.approx(24.49, abs=0.01),
        "calibration_labels": 100,
    }
    few = Calibration.of(errors[: FEWEST - 1], std[: FEWEST - 1])
    assert (few.factor, few.done, few.account()["std_factor"]) == (1.0, False, None)
    assert not Calibration.of(np.zeros(100), std).done, "errors of zero say nothing"
    assert Calibration.of(errors, np.where(errors > 60, 0.0, std)).count == 60


def test_labels_that_contradict_each_other_do_not_blow_up_the_others():
    """Noise fixed at nothing, and three structures labelled twice: each is certain of its twin, and wrong."""
    data = wavy(60, 0)
    twice = np.concatenate([np.arange(60), [0, 1, 2]])
    both = RegressionData(dimers(63), data.features[twice], data.targets[twice] + np.where(np.arange(63) < 60, 0, 0.3))
    model = of(Gpr(noise_variance=1e-10), both)
    new = wavy(200, 9)
    std = model.predict(new.structures, new.features).std
    assert std.max() < 30 * np.std(both.targets), "and not a million times, as their twins' certainty would have it"


def test_the_factor_of_n_errors_covers_what_it_says():
    """Simulation: heavy tails, a std that is five times too small, 60 errors each."""
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(400):
        scale = rng.uniform(0.5, 2.0, 60 + 500)
        errors = scale * rng.standard_t(3, 560)
        factor = Calibration.of(errors[:60], 0.2 * scale[:60]).factor
        shares.append(np.mean(np.abs(errors[60:]) <= 1.959964 * factor * 0.2 * scale[60:]))
    assert np.mean(shares) == pytest.approx(0.96, abs=0.01)


def test_leaving_a_point_out_in_closed_form_is_training_without_it():
    data = wavy(40, 1)
    parameters = Hyperparameters(2.0, 1.1, 0.03)
    errors, variances = GaussianProcess(data.features, data.targets, parameters).leave_out(
        [np.array([row]) for row in (3, 17, 39)]
    )
    for number, row in enumerate((3, 17, 39)):
        rest = np.setdiff1d(np.arange(40), row)
        without = GaussianProcess(data.features[rest], data.targets[rest], parameters)
        mean, std = without.predict(data.features[[row]])
        assert errors[number] == pytest.approx(data.targets[row] - mean[0], rel=1e-8)
        assert variances[number] == pytest.approx(std[0] ** 2 + 0.03, rel=1e-8)


@pytest.mark.parametrize("settings", [Gpr(), Kreg(kind="kreg")], ids=["gpr", "kreg"])
def test_copies_are_left_out_together_and_are_in_the_same_half(settings):
    """Each structure three times: a twin must not vouch for a short length scale, nor for small errors."""
    data, new = wavy(60, 3, noise=0.0), wavy(300, 4, noise=0.0)
    rows, groups = np.tile(np.arange(60), 3), np.tile(np.arange(60), 3)
    close = 1e-5 * np.random.default_rng(0).normal(size=(180, 3))
    copies = RegressionData(dimers(180), data.features[rows] + close, data.targets[rows], groups=groups)
    held = wavy(40, 8, noise=0.0)
    once, thrice = make_regression(settings, TARGETS["homo"]), make_regression(settings, TARGETS["homo"])
    once.fit(data, held, np.random.default_rng(0))
    thrice.fit(copies, RegressionData(held.structures, held.features, held.targets, groups=1000 + np.arange(40)), None)
    errors = [
        np.sqrt(np.mean((m.predict(new.structures, new.features).mean - new.targets) ** 2)) for m in (once, thrice)
    ]
    assert errors[1] < 1.3 * errors[0]
    blocks = thrice.hyperparameters["calibration_labels"]
    assert blocks == once.hyperparameters["calibration_labels"], "labels that were held out, not their copies"
    assert covered(thrice.predict(new.structures, new.features), new.targets) > 0.85


def geometries(n, seed):
    rng = np.random.default_rng(seed)
    base = np.array([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    structures = StructureSet.from_structures(
        Structure.create([8, 1, 1], base + 0.08 * rng.normal(size=(3, 3))) for _ in range(n)
    )
    features = compute_features(
        structures, InverseDistances(kind="inverse_distances"), Structure.create([8, 1, 1], base)
    )
    positions = structures.positions.reshape(n, 3, 3)
    energies, forces = np.zeros(n), np.zeros((n, 3, 3))
    for a, b, length in ((0, 1, 0.96), (0, 2, 0.96), (1, 2, 1.5)):
        bond = positions[:, a] - positions[:, b]
        r = np.linalg.norm(bond, axis=1)
        energies += 5 * (r - length) ** 2 + 4 * (r - length) ** 3
        slope = (10 * (r - length) + 12 * (r - length) ** 2)[:, None] * bond / r[:, None]
        forces[:, a] -= slope
        forces[:, b] += slope
    return RegressionData(structures, features, energies, forces=forces.reshape(-1, 3))


def test_leaving_a_structure_out_with_its_forces():
    """A block of the inverse against a process of the other structures."""
    data = geometries(12, 0)
    points = points_of(data.structures, data.features)
    targets = np.concatenate([data.targets, -data.forces.reshape(-1)])
    errors, variances = DerivativeProcess(points, targets, 0.5, 1e-4).leave_out([np.array([0]), np.array([7])])
    for number, row in enumerate((0, 7)):
        rest = np.setdiff1d(np.arange(12), row)
        others = data.subset(rest)
        without = DerivativeProcess(
            points_of(others.structures, others.features),
            np.concatenate([others.targets, -others.forces.reshape(-1)]),
            0.5,
            1e-4,
        )
        value, _, std = without.predict(data.features[[row]])
        assert errors[number] == pytest.approx(data.targets[row] - value[0], rel=1e-6)
        assert variances[number] == pytest.approx(std[0] ** 2 + 1e-4, rel=1e-6)


MODELS = {
    "gpr": lambda data: of(Gpr(), data),
    "kreg": lambda data: of(Kreg(kind="kreg"), data),
    "committee": lambda data: trained(data, uncertainty="committee", members=3, epochs=60, hidden=[16]),
    "dropout": lambda data: trained(data, uncertainty="mc_dropout", passes=20, epochs=60, hidden=[16]),
}


def of(settings, data):
    model = make_regression(settings, TARGETS["homo"])
    model.fit(data, None, np.random.default_rng(0))
    return model


@pytest.mark.parametrize("kind", MODELS)
def test_intervals_of_new_structures_cover_from_a_hundred_labels_on(kind, tmp_path):
    shares, ranks = [], True
    for seed in range(3):
        data, new = wavy(100, seed), wavy(600, seed + 50)
        model = MODELS[kind](data)
        prediction = model.predict(new.structures, new.features)
        shares.append(covered(prediction, new.targets))
        assert model.hyperparameters["calibration_labels"] == 100
        model.save(tmp_path / "model.h5")
        loaded = load_regression(tmp_path / "model.h5", model.kind)
        again = loaded.predict(new.structures, new.features)
        np.testing.assert_array_equal(again.std, prediction.std)
        assert again.noise_variance == prediction.noise_variance
        assert loaded.hyperparameters == model.hyperparameters
        ranks = ranks and len(np.unique(np.round(prediction.std, 12))) > 100
    assert 0.9 <= np.mean(shares) <= 0.985, shares
    assert ranks, "one factor for all: the standard deviations still differ"


def test_a_committee_without_calibration_is_too_sure():
    """What the factor is for: the same committee, not calibrated."""
    data, new = wavy(100, 0), wavy(600, 50)
    model = trained(data, uncertainty="committee", members=3, epochs=60, hidden=[16], calibrate=False)
    assert covered(model.predict(new.structures, new.features), new.targets) < 0.85
    assert model.hyperparameters["std_factor"] is None


def test_kreg_with_forces_is_calibrated_by_structures_left_out():
    data, new = geometries(60, 1), geometries(300, 2)
    model = make_regression(Kreg(kind="kreg"), TARGETS["energy_forces"])
    model.fit(data, None, np.random.default_rng(0))
    prediction = model.predict(new.structures, new.features)
    assert model.hyperparameters["calibration_labels"] == 60
    assert 0.85 <= covered(prediction, new.targets) <= 1.0


@pytest.mark.parametrize("kind", MODELS)
def test_too_few_labels_are_said_not_to_calibrate(kind):
    model = MODELS[kind](wavy(FEWEST - 10, 0))
    assert model.hyperparameters["std_factor"] is None


def test_many_labels_are_looked_at_evenly():
    assert [block.tolist() for block in held_blocks(3)] == [[0], [1], [2]]
    assert [block.tolist() for block in held_blocks(4, np.array([7, 2, 7, 9]))] == [[1], [0, 2], [3]]
    rows = np.concatenate(held_blocks(10_000))
    assert len(rows) == 1000 and rows[0] == 0 and rows[-1] == 9999 and len(np.unique(rows)) == 1000


# --- split-conformal factors of committees and ensembles


def test_it_covers_what_it_says_from_few_labels():
    """Over many sets of labels the mean coverage is the level, and a little more, whatever the errors' distribution."""
    rng = np.random.default_rng(0)
    for count, level in ((FEW, 0.68), (49, 0.68), (50, 0.95), (200, 0.95)):
        shares = []
        for _ in range(400):
            std = rng.uniform(0.5, 2.0, count + 200)
            errors = 3.0 * std * rng.standard_t(4, count + 200)
            factor = Calibration.of(errors[:count], std[:count], fewest=FEW).factor
            shares.append(coverage(errors[count:], factor * std[count:], (level,))[0])
        assert level - 0.01 < np.mean(shares) < level + 1 / (count + 1) + 0.01


def test_it_covers_components_of_structures():
    """Components of one structure err together; the count that matters is that of structures."""
    rng = np.random.default_rng(1)
    for count, level in ((FEW, 0.68), (60, 0.95)):
        shares = []
        for _ in range(300):
            sizes = np.exp(rng.normal(0, 0.7, (2 * count, 1)))
            errors = sizes * rng.normal(size=(2 * count, 27))
            std = np.full((2 * count, 27), 0.2)
            known = Calibration.of(errors[:count].ravel(), std[:count].ravel(), count, FEW)
            assert known.done and known.count == count
            shares.append(coverage(errors[count:].ravel(), known.factor * std[count:].ravel(), (level,))[0])
        assert level - 0.01 < np.mean(shares) < level + 0.06


def test_too_few_structures_calibrate_nothing_however_many_components_they_have():
    errors, std = np.ones(19 * 27), np.ones(19 * 27)
    few = Calibration.of(errors, std, 19, FEW)
    assert (few.factor, few.done, few.account()) == (1.0, False, {"std_factor": None, "calibration_labels": 19})
    assert Calibration.of(errors, std, 20, FEW).done
    missing = np.full(50, np.nan)
    assert not Calibration.of(missing, np.ones(50), 50, FEW).done, "labels that are not there (stresses of molecules)"
