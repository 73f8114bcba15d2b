"""A bias force along the gradient of the uncertainty: gradients against finite differences, strength, wells that are reached."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from quarry.config import load_configuration
from quarry.config.descriptors import InverseDistances
from quarry.config.dynamics import Explore
from quarry.config.models import Gpr, Kreg
from quarry.config.targets import TARGETS
from quarry.descriptors.cache import FeatureCache
from quarry.dynamics import exploration
from quarry.dynamics.bias import Bias
from quarry.dynamics.exploration import Course, explore
from quarry.dynamics.files import Trajectories
from quarry.dynamics.integrators import Forces, Langevin
from quarry.dynamics.uncertainty import MEASURES, informativeness_of
from quarry.dynamics.walkers import Walkers, heated
from quarry.errors import QuarryError
from quarry.models.base import STD, STD_GRADIENT, TrainingData, UncertaintyGradient
from quarry.models.gmnn.model import GaussianMomentModel
from quarry.models.registry import make_model
from quarry.randomness import generator
from quarry.stages.arm_models import ArmModels
from quarry.stages.exploring import Explored, bias_of, check_bias, explore_candidates
from quarry.structures import Structure, StructureSet
from quarry.structures.labelled import LabelledSet
from support.campaigns import stand_in_configuration
from support.dynamics import TwoWells
from support.potentials import strained_copper, toy_data, trained
from support.progress import facts
from support.toys import EQUILIBRIUM, NUMBERS, labelled, set_of

ALL = frozenset({"energy", "forces", "stress", STD, STD_GRADIENT})
NOTHING = StructureSet.from_structures([])
BIASED = {"ensemble": "langevin", "bias": {"strength": 0.8}}


# --- the gradient


UNCERTAINTIES = [
    {"uncertainty": "committee", "members": 3},
    {"uncertainty": "auxiliary"},
    {"uncertainty": "shallow_ensemble", "readouts": 4},
]


@pytest.mark.parametrize("uncertainty", UNCERTAINTIES, ids=lambda value: value["uncertainty"])
def test_the_gradient_of_a_potentials_standard_deviation_is_that_of_finite_differences(uncertainty):
    """Single precision: the step is long, and the comparison is along random directions."""
    model, step = trained(toy_data(40), epochs=10, held_out=0.6, **uncertainty), 2e-3
    assert model.hyperparameters["std_factor"] not in (None, 1.0)
    at, rng = toy_data(6, seed=9).structures, np.random.default_rng(0)
    found = model.predict(at, ALL)
    for _ in range(5):
        along = rng.normal(size=at.positions.shape)
        up, down = (
            model.predict(replace(at, positions=at.positions + sign * step * along), ALL).std["energy"]
            for sign in (1, -1)
        )
        owners = np.repeat(np.arange(len(at)), np.diff(at.offsets))
        slopes = np.bincount(owners, (found.std_gradient.by_positions * along).sum(axis=1))
        np.testing.assert_allclose((up - down) / (2 * step), slopes, rtol=2e-2, atol=2e-3 * np.abs(slopes).max())


def test_the_bias_stress_is_the_derivative_by_the_strain_over_the_volume():
    data, step = strained_copper(24, 0), 2e-3
    model = trained(data, epochs=5, uncertainty="shallow_ensemble", readouts=4)
    at, rng = strained_copper(2, 3).structures, np.random.default_rng(0)
    found = model.predict(at, ALL).std_gradient.by_strain
    volumes = np.abs(np.linalg.det(at.cells))
    for _ in range(3):
        strain = rng.normal(size=(3, 3))
        strain = 0.5 * (strain + strain.T)

        def strained(sign, strain=strain):
            move = np.eye(3) + sign * step * strain
            return model.predict(replace(at, positions=at.positions @ move, cells=at.cells @ move), ALL).std["energy"]

        expected = (strained(1) - strained(-1)) / (2 * step) / volumes
        slopes = (found * strain).sum(axis=(1, 2))
        np.testing.assert_allclose(expected, slopes, rtol=3e-2, atol=2e-3 * np.abs(slopes).max())


@pytest.mark.parametrize(
    ("settings", "target"),
    [(Gpr(noise=1e-3), "energy"), (Kreg(kind="kreg"), "energy"), (Kreg(kind="kreg"), "energy_forces")],
    ids=["gpr", "kreg", "kreg with forces"],
)
def test_the_gradient_of_a_kernel_models_standard_deviation_is_that_of_finite_differences(settings, target):
    reference = Structure.create(NUMBERS, EQUILIBRIUM)
    descriptor = FeatureCache(InverseDistances(kind="inverse_distances"), {"width": 3}, reference)
    model, made, step = make_model(settings, TARGETS[target], descriptor), labelled(40, 0), 1e-3
    forces = {"forces": made.forces} if target == "energy_forces" else {}
    model.fit(TrainingData(made.structures, {"energy": made.targets, **forces}), None, np.random.default_rng(0))
    frames = EQUILIBRIUM + 0.05 * np.random.default_rng(5).normal(size=(2, 3, 3)).round(3)
    want = frozenset({"energy", "forces", STD, STD_GRADIENT})
    found = model.predict(set_of(frames), want).std_gradient.by_positions.reshape(2, 3, 3)
    assert np.abs(found).max() > 1e-4
    for index in np.ndindex(2, 3, 3):
        moved = np.repeat(frames[None], 2, axis=0)
        moved[(0, *index)] += step
        moved[(1, *index)] -= step
        up, down = (model.predict(set_of(part), want).std["energy"][index[0]] for part in moved)
        assert found[index] == pytest.approx((up - down) / (2 * step), rel=1e-2, abs=2e-5), index


@pytest.mark.parametrize("count", [40, 3])
def test_the_gradient_of_the_informativeness_is_that_of_finite_differences(count):
    """Of more energies than weights and of fewer, where it is that of the numerator."""
    training, step = toy_data(count), 4e-3
    model = trained(training, epochs=5)
    at, rng = toy_data(6, seed=9).structures, np.random.default_rng(0)
    measure = informativeness_of(training.structures, frozenset({"energy"}))
    found = measure.gradient(model, at, None)
    owners = np.repeat(np.arange(len(at)), np.diff(at.offsets))
    for _ in range(4):
        along = rng.normal(size=at.positions.shape)
        up, down = (
            measure.of(model, replace(at, positions=at.positions + sign * step * along), None) for sign in (1, -1)
        )
        slopes = np.bincount(owners, (found.by_positions * along).sum(axis=1))
        np.testing.assert_allclose((up - down) / (2 * step), slopes, rtol=5e-2, atol=1e-2 * np.abs(slopes).max())


# --- strength


def bias(strength=0.25, stress_strength=0.0, skipped=(), kept=0.99):
    return Bias(MEASURES["energy"], strength, stress_strength, frozenset(skipped), kept)


def cells(n, atoms=None):
    made = [Structure.from_atoms(atoms or bulk("Cu", cubic=True))] * n
    return Walkers.at_rest(StructureSet.from_structures(made))


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_the_bias_force_has_its_share_of_the_force_whatever_the_size_of_the_gradient(size):
    rng, walkers, settings = np.random.default_rng(0), cells(3), bias(strength=0.25, stress_strength=0.4)
    averages, ratios = Bias.no_averages(3), []
    for step in range(2000):
        forces = rng.normal(size=(12, 3)) * np.repeat([1.0, 2.0, 5.0], 4)[:, None]
        stress = rng.normal(size=(3, 3, 3))
        gradient = UncertaintyGradient(size * rng.normal(size=(12, 3)), size * rng.normal(size=(3, 3, 3)))
        pushed, averages = settings.added(Forces(forces, stress), gradient, walkers, averages)
        push, pull = pushed.forces - forces, pushed.stress - stress
        # Along the gradient, and against it in the stress: a cell grows where the stress is negative.
        assert (push * gradient.by_positions).sum() > 0
        assert (pull * gradient.by_strain).sum() < 0
        if step >= 500:
            ratios.append([(push**2).sum(), (forces**2).sum(), (pull**2).sum(), (stress**2).sum()])
    of_push, of_force, of_pull, of_stress = np.sum(ratios, axis=0)
    assert np.sqrt(of_push / of_force) == pytest.approx(0.25, rel=0.05)
    assert np.sqrt(of_pull / of_stress) == pytest.approx(0.4, rel=0.05)


def test_a_spike_of_the_gradient_is_bounded_and_no_gradient_is_no_force():
    walkers, settings = cells(1), bias(strength=0.5, kept=0.99)
    forces, averages = np.ones((4, 3)), Bias.no_averages(1)
    calm = UncertaintyGradient(np.full((4, 3), 1e-3))
    for _ in range(1000):
        pushed, averages = settings.added(Forces(forces), calm, walkers, averages)
    np.testing.assert_allclose(pushed.forces - forces, 0.5)
    spike = UncertaintyGradient(np.full((4, 3), 1e6))
    pushed, _ = settings.added(Forces(forces), spike, walkers, averages)
    np.testing.assert_allclose(pushed.forces - forces, 0.5 / np.sqrt(0.01), rtol=1e-4)
    flat = UncertaintyGradient(np.zeros((4, 3)))
    none, _ = settings.added(Forces(forces), flat, walkers, Bias.no_averages(1))
    np.testing.assert_array_equal(none.forces, forces)


def test_elements_that_are_left_out_feel_nothing_and_do_not_set_the_scale():
    water = cells(1, Atoms("OH2", [[0, 0, 0], [0, 0, 1], [0, 1, 0]]))
    forces, gradient = np.array([[1.0, 0, 0], [50.0, 0, 0], [0, 50.0, 0]]), UncertaintyGradient(np.full((3, 3), 7.0))
    pushed, _ = bias(strength=0.5, skipped=[1]).added(Forces(forces), gradient, water, Bias.no_averages(1))
    np.testing.assert_array_equal(pushed.forces[1:], forces[1:])
    np.testing.assert_allclose(pushed.forces[0] - forces[0], 0.5 / np.sqrt(3.0))


# --- trajectories


def wells(n):
    atoms = [Atoms("Cu", [[-1.0, 0.0, 0.0]])] * n
    structures = StructureSet.from_structures([Structure.from_atoms(one) for one in atoms])
    return heated(Walkers.at_rest(structures), 300.0, chances(n))


def chances(n):
    return [generator(7, "well", k) for k in range(n)]


def run(model, n, pushed, steps=1500, checkpoint=None):
    walkers = wells(n)
    rngs = chances(n)
    return explore(
        model,
        walkers,
        Langevin(2.0, 10.0),
        Course(steps, (300.0, 300.0), np.inf, 1e3),
        MEASURES["energy"],
        rngs,
        checkpoint,
        pushed,
    )


def test_biased_trajectories_reach_the_second_well_and_others_do_not():
    """The barrier of 0.5 eV is 19 k_B T."""
    plain = run(TwoWells(), 6, None).walkers.structures.positions[:, 0]
    drawn = run(TwoWells(), 6, bias(strength=0.8)).walkers.structures.positions[:, 0]
    assert (plain < 0).all()
    assert (drawn > 0.5).sum() >= 5


def test_no_strength_is_no_bias_to_the_last_digit():
    assert bias_of(Explore(ensemble="langevin", bias={"strength": 0}), NOTHING) is None
    assert bias_of(Explore(bias={"strength": 0}), NOTHING) is None
    assert bias_of(Explore(), NOTHING) is None
    plain, nothing = run(TwoWells(), 3, None, 200), run(TwoWells(), 3, bias(strength=0.0), 200)
    np.testing.assert_array_equal(plain.walkers.structures.positions, nothing.walkers.structures.positions)
    np.testing.assert_array_equal(plain.uncertainty, nothing.uncertainty)


@pytest.mark.parametrize("died_after", [1, 20, 150])
def test_a_killed_biased_exploration_goes_on_to_the_same_end(died_after, tmp_path, monkeypatch):
    monkeypatch.setattr(exploration, "CHECKPOINT_S", 0.0)
    pushed, checkpoint = bias(strength=0.8), tmp_path / "state.npz"
    whole = run(TwoWells(), 3, pushed, 200)
    with pytest.raises(KeyboardInterrupt):
        run(TwoWells(die_after=died_after), 3, pushed, 200, checkpoint)
    again = TwoWells()
    found = run(again, 3, pushed, 200, checkpoint)
    assert again.calls <= 201 - died_after + (died_after == 1)
    np.testing.assert_array_equal(found.walkers.structures.positions, whole.walkers.structures.positions)
    np.testing.assert_array_equal(found.averages, whole.averages)


def test_a_biased_trajectory_does_not_depend_on_those_beside_it():
    together = run(TwoWells(), 3, bias(), 100)
    alone = explore(
        TwoWells(),
        wells(3).subset(np.array([2])),
        Langevin(2.0, 10.0),
        Course(100, (300.0, 300.0), np.inf, 1e3),
        MEASURES["energy"],
        [chances(3)[2]],
        None,
        bias(),
    )
    np.testing.assert_array_equal(alone.walkers.structures.positions[0], together.walkers.structures.positions[2])


# --- settings


def test_settings_become_a_bias():
    made = bias_of(
        Explore(ensemble="langevin", bias={"skip_elements": ["H", "Cl"], "average_fs": 25.0}, time_step_fs=0.5), NOTHING
    )
    assert (made.strength, made.stress_strength, made.skipped) == (0.25, 0.0, frozenset({1, 17}))
    assert made.kept == pytest.approx(np.exp(-0.02))
    cell = bias_of(Explore(ensemble="npt", bias={"strength": 0.3}), NOTHING)
    assert (cell.strength, cell.stress_strength) == (0.3, 0.3)
    assert bias_of(Explore(ensemble="npt", bias={"stress_strength": 0.1}), NOTHING).stress_strength == 0.1


@pytest.mark.parametrize(
    ("skipped", "words"),
    [
        (["H"], ""),
        (["O"], ""),
        (["Cl"], "no structure of the pool has Cl; remove it"),
        (["O", "H"], "O, H is all that structure"),
    ],
)
def test_elements_to_leave_out_are_checked(skipped, words):
    waters = cells(2, Atoms("OH2", [[0, 0, 0], [0, 0, 1], [0, 1, 0]])).structures
    settings = Explore(**{**BIASED, "bias": {"skip_elements": skipped}})
    if not words:
        check_bias(settings, waters)
        return
    with pytest.raises(QuarryError) as refused:
        check_bias(settings, waters)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


# --- a job


def explored(folder, name, **explore):
    """The file of a job's trajectories, from a data set and a model that are made once."""
    changes = {"uncertainty": "forces", "threshold": "99 eV/Angstrom"} if explore.pop("forces", False) else {}
    settings = {"trajectories": 2, "length_fs": 30.0, "time_step_fs": 1.0, "ensemble": "langevin", "threshold": "99 eV"}
    pool = {"source": "dynamics", "initial": {"source": "file", "files": ["pool.extxyz"]}}
    pool["explore"] = {**settings, **changes, **explore}
    made = load_configuration(
        stand_in_configuration(
            pool=pool,
            target="energy_forces",
            model={"kind": "gmnn", "uncertainty": "shallow_ensemble"},
            test={"size": 19},
        ),
        "campaign.yaml",
    )
    output = folder / f"{name}.h5"
    last = Explored(str(folder / "model.h5"), str(folder / "dataset.h5"), [str(folder / "facts.json")])
    explore_candidates(ArmModels(made, "main", pool=""), 1, 0, last, str(output))
    return output


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    folder = tmp_path_factory.mktemp("job")
    data = toy_data(30)
    trained(data, epochs=3, uncertainty="shallow_ensemble").save(folder / "model.h5")
    structures = list(data.structures)
    forces = np.split(data.targets["forces"], data.structures.offsets[1:-1])
    labels = [{"energy": e, "forces": f} for e, f in zip(data.targets["energy"], forces, strict=True)]
    roles = ["test"] * 19 + ["train"] * 11
    LabelledSet.from_records(structures, roles, [0] * 30, labels).write(folder / "dataset.h5", {})
    facts(0).write(folder / "facts.json")
    return folder


def test_a_job_without_strength_writes_the_bytes_of_one_without_a_bias(job):
    plain = explored(job, "plain").read_bytes()
    assert explored(job, "nothing", bias={"strength": 0}).read_bytes() == plain
    assert explored(job, "biased", bias={"strength": 0.5}).read_bytes() != plain


@pytest.mark.parametrize("forces", [False, True])
def test_a_job_says_the_factor_of_its_bounds(job, forces):
    plain, bound = (
        Trajectories.read(explored(job, name, forces=forces, calibration=name)) for name in ("none", "conformal")
    )
    factor = bound.facts["calibration_factor"]
    assert "calibration_factor" not in plain.facts
    np.testing.assert_allclose(bound.uncertainty, factor * plain.uncertainty)
    np.testing.assert_array_equal(bound.structures.positions, plain.structures.positions)
    # All of the 19 errors of the test set are within.
    test = toy_data(30).structures.subset(np.arange(19))
    measure = MEASURES["forces" if forces else "energy"]
    model = GaussianMomentModel.load(job / "model.h5")
    said, targets = model.predict(test, measure.wants), toy_data(30).targets
    labels = {"energy": targets["energy"][:19], "forces": targets["forces"][: len(test.numbers)]}
    shares = measure.error(test, said, labels) / measure.of(model, test, said)
    assert factor == pytest.approx(shares.max())
