"""Delta learning: what a model learns is the difference to a baseline, and predictions have the baseline again."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from quarry.config import Configuration
from quarry.config.models import Gpr
from quarry.errors import QuarryError
from quarry.models.base import STD, TrainingData
from quarry.models.delta import DeltaModel
from quarry.models.registry import load_model, make_model
from quarry.randomness import generator
from quarry.stages.arm_models import ArmModels
from quarry.stages.network_checks import check_networks
from quarry.stages.pool import build_baseline, build_features
from quarry.structures import Structure, StructureSet
from quarry.structures.files import JobInputEntry, write_job_input, write_pool
from support.calculators import pairs_energy_and_forces, write_calculator
from support.campaigns import WATER
from support.potentials import SMALL
from support.stages import configuration

ATOM_EV = {1: -13.0, 6: -1030.0, 8: -2040.0}
WANT = frozenset({"energy", "forces"})


def waters(count: int, seed: int = 0) -> StructureSet:
    rng = np.random.default_rng(seed)
    return StructureSet.from_structures(
        [Structure.create([8, 1, 1], WATER + rng.normal(0, 0.1, (3, 3))) for _ in range(count)]
    )


def labels(structures: StructureSet, correction: float) -> TrainingData:
    """Energies and forces: the baseline's, atomic references, and so much of a harmonic correction of the first bond."""
    energies, forces = [], []
    for s in structures:
        energy, force = pairs_energy_and_forces(s)
        d = s.positions[1] - s.positions[0]
        r = np.linalg.norm(d)
        pull = correction * (r - 1.0) * d / r
        force = force + np.array([pull, -pull, *np.zeros((len(s) - 2, 3))])
        reference = sum(ATOM_EV[int(z)] for z in s.numbers)
        energies.append(energy + reference + 0.5 * correction * (r - 1.0) ** 2)
        forces.append(force)
    return TrainingData(structures, {"energy": np.array(energies), "forces": np.concatenate(forces)})


@pytest.fixture
def baseline(tmp_path, request) -> dict:
    """A calculator in the campaign's folder, a module of its own in each test."""
    name = f"pairs_of_{request.node.originalname}"
    yield {"kind": "ase", "calculator": write_calculator(tmp_path, name)}
    sys.modules.pop(name, None)
    sys.path[:] = [entry for entry in sys.path if entry != str(tmp_path)]


def asked(baseline: dict) -> list[int]:
    return sys.modules[baseline["calculator"].partition(":")[0]].Pairs.asked


def campaign(model: dict, **changes) -> Configuration:
    query = {"strategy": "random", "initial": 8, "batch": {"schedule": "constant", "size": 5}}
    return configuration(model=model, target=changes.pop("target", "energy_forces"), query=query, **changes)


def models(folder: Path, conf: Configuration, pool: StructureSet) -> ArmModels:
    """The arm's models on a pool whose features and baseline are stored, where the campaign has them."""
    paths = [str(folder / name) for name in ("structures.h5", "reference.extxyz", "features.h5", "baseline.h5")]
    write_pool(paths[0], pool)
    write_job_input(paths[1], [JobInputEntry(pool[0])])
    if conf.descriptor is not None:
        build_features(paths[0], paths[1], conf.descriptor, paths[2], folder)
    stored = None
    if conf.baselines:
        build_baseline(conf, paths[0], paths[3], folder)
        stored = paths[3]
    return ArmModels(conf, "main", paths[0], paths[2] if conf.descriptor is not None else "", folder, stored)


@pytest.mark.parametrize(
    "model",
    [
        {"kind": "gpr"},
        {"kind": "kreg", "calibrate": False},
        {**SMALL, "epochs": 3},
        {"kind": "mlp", "epochs": 5},
    ],
    ids=lambda model: model["kind"],
)
def test_labels_of_the_baseline_and_atomic_references_are_known_at_once(tmp_path, baseline, model):
    """Where nothing but references is to be learnt, every model says it to rounding, and without a baseline none does."""
    pool = waters(16)
    target, descriptor = (
        ("energy", {"kind": "inverse_distances"})
        if model["kind"] in ("gpr", "mlp")
        else ("energy_forces", {"kind": "inverse_distances"})
    )
    errors = []
    for extra in ({"baseline": baseline}, {}):
        conf = campaign({**model, **extra}, target=target, descriptor=descriptor)
        made = models(tmp_path, conf, pool)
        data = labels(pool, 0.0)
        learn, test = data.subset(range(10)), data.subset(range(10, 16))
        validation = data.subset(range(8, 10)) if made.traits.validates else None
        trained = made.make()
        trained.fit(learn.subset(range(8)) if validation else learn, validation, generator(1, "train"))
        said = trained.predict(test.structures, WANT if target == "energy_forces" else frozenset({"energy"}))
        errors.append([float(np.abs(said.mean[n] - test.targets[n]).max()) for n in said.mean if n != "stress"])
    learnt, plain = errors
    # A potential adds a network that has hardly learnt that there is nothing.
    small = 2e-2 if model["kind"] == "gmnn" else 1e-6
    assert max(learnt) < small < max(plain)


def test_it_is_the_model_of_the_difference_plus_the_baseline(tmp_path, baseline):
    pool, conf = waters(20), campaign({"kind": "gpr", "baseline": baseline}, target="energy")
    made, data = models(tmp_path, conf, pool), labels(pool, 5.0)
    learn, others = data.subset(range(12)), pool.subset(range(12, 20))
    delta = made.make()
    assert isinstance(delta, DeltaModel)
    delta.fit(learn, None, generator(1, "train"))
    said = delta.predict(others, frozenset({"energy", STD}))
    known = np.array([pairs_energy_and_forces(s)[0] for s in pool])
    plain = make_model(Gpr(), conf.goal, made.descriptor)
    plain.fit(
        TrainingData(learn.structures, {"energy": learn.targets["energy"] - known[:12]}), None, generator(1, "train")
    )
    expected = plain.predict(others, frozenset({"energy", STD}))
    np.testing.assert_allclose(said.mean["energy"], expected.mean["energy"] + known[12:], atol=1e-9)
    np.testing.assert_allclose(said.std["energy"], expected.std["energy"], atol=1e-12)
    assert said.noise_variance == expected.noise_variance and delta.hyperparameters == plain.hyperparameters
    np.testing.assert_array_equal(
        delta.features(pool, "kernel", generator(2, "e")), plain.features(pool, "kernel", generator(2, "e"))
    )


def test_validation_data_get_the_baseline_too(tmp_path, baseline):
    pool, conf = waters(20), campaign({"kind": "kreg", "baseline": baseline})
    made, data = models(tmp_path, conf, pool), labels(pool, 1.0)
    delta = made.make()
    held = data.subset(range(12, 16))
    delta.fit(data.subset(range(12)), held, generator(1, "train"))
    said = delta.validation
    assert np.abs(said.mean["energy"] - held.targets["energy"]).max() < 0.1
    assert np.abs(said.mean["forces"] - held.targets["forces"]).max() < 1.0


def test_the_baseline_of_a_pool_is_asked_once_and_of_others_when_they_come(tmp_path, baseline):
    pool, conf = waters(12), campaign({"kind": "kreg", "baseline": baseline})
    made, data = models(tmp_path, conf, pool), labels(pool, 1.0)
    assert len(asked(baseline)) == 12
    delta = made.make()
    delta.fit(data.subset(range(8)), data.subset([8, 9]), generator(1, "train"))
    delta.predict(pool.subset([3, 11, 5]), WANT)
    assert len(asked(baseline)) == 12
    stored = delta.baseline.of(pool.subset([3, 11, 5]), True)
    new = waters(2, seed=9)
    found = delta.predict(new.joined(pool.subset([4])), WANT)
    assert len(asked(baseline)) == 15 and len(found.mean["forces"]) == 9
    for row, structure in enumerate(pool.subset([3, 11, 5])):
        energy, forces = pairs_energy_and_forces(structure)
        assert stored["energy"][row] == pytest.approx(energy, abs=1e-12)
        np.testing.assert_allclose(stored["forces"][3 * row : 3 * row + 3], forces, atol=1e-12)


@pytest.mark.parametrize("model", [{"kind": "kreg", "calibrate": False}, SMALL], ids=lambda model: model["kind"])
def test_file(tmp_path, baseline, model):
    """The file names the baseline, is the same for the same model, and without the stored baseline predicts the same."""
    (tmp_path / "depth.txt").write_text("2.0")
    pool, conf = waters(12), campaign({**model, "baseline": {**baseline, "files": {"table": "depth.txt"}}})
    made, data = models(tmp_path, conf, pool), labels(pool, 1.0)
    delta = made.make()
    delta.fit(data.subset(range(9)), data.subset([9, 10, 11]), generator(1, "train"))
    paths = [tmp_path / "a" / "model.h5", tmp_path / "b.h5"]
    for path in paths:
        delta.save(path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    alone = load_model(paths[0], conf.model, conf.goal, base=tmp_path)
    before, after = (model.predict(pool, WANT) for model in (delta, alone))
    for name in WANT:
        np.testing.assert_allclose(after.mean[name], before.mean[name], atol=1e-9)
    (tmp_path / "depth.txt").write_text("2.5")
    with pytest.raises(
        QuarryError, match=r"model\.baseline: .*depth\.txt is not the file with which .*model\.h5 was trained"
    ):
        load_model(paths[0], conf.model, conf.goal, base=tmp_path)
    (tmp_path / "depth.txt").unlink()
    with pytest.raises(QuarryError, match=r"depth\.txt is not the file"):
        load_model(paths[0], conf.model, conf.goal, base=tmp_path)


def test_a_model_without_baseline_is_refused(tmp_path, baseline):
    pool = waters(12)
    made = models(tmp_path, campaign({"kind": "gpr"}, target="energy"), pool)
    plain = made.make()
    plain.fit(labels(pool, 1.0), None, generator(1, "train"))
    plain.save(tmp_path / "model.h5")
    conf = campaign({"kind": "gpr", "baseline": baseline}, target="energy")
    with pytest.raises(QuarryError, match=r"model\.h5: this model was trained without model\.baseline; remove it"):
        load_model(tmp_path / "model.h5", conf.model, conf.goal, base=tmp_path)


def test_training_begins_from_the_last_model_of_the_difference(tmp_path, baseline):
    pool, settings = waters(12), {**SMALL, "epochs": 1, "learning_rate": 1e-9, "start": "last", "baseline": baseline}
    made, data = models(tmp_path, campaign(settings), pool), labels(pool, 5.0)
    first = made.make()
    first.fit(data, None, generator(1, "train"))
    again, fresh = made.make(), made.make()
    again.fit(data, None, generator(2, "train"), start=first)
    fresh.fit(data, None, generator(2, "train"))
    said = [m.predict(pool, WANT).mean["forces"] for m in (first, again, fresh)]
    assert np.abs(said[1] - said[0]).max() < 1e-4 < np.abs(said[2] - said[0]).max()


@pytest.mark.parametrize(
    ("model", "target"),
    [
        ({"kind": "mlp", "uncertainty": "committee", "members": 2, "epochs": 3, "calibrate": False}, "energy"),
        ({**SMALL, "epochs": 2, "uncertainty": "committee", "members": 2}, "energy_forces"),
    ],
    ids=["mlp", "gmnn"],
)
def test_a_committee_whose_members_are_trained_one_by_one(tmp_path, baseline, model, target):
    pool = waters(16)
    made, data = models(tmp_path, campaign({**model, "baseline": baseline}, target=target), pool), labels(pool, 5.0)
    whole, joined = made.make(), made.make()
    whole.fit(data, None, generator(1, "train"))
    members = []
    for number in range(2):
        members.append(made.make())
        members[-1].fit_member(number, data, None, generator(1, "train"), start=None, checkpoint=None)
        members[-1].save(tmp_path / f"{number}.h5")
    joined.join([made.load(tmp_path / f"{number}.h5") for number in range(2)])
    want = frozenset({"energy", STD})
    said = [m.predict(pool, want) for m in (whole, joined)]
    np.testing.assert_allclose(said[0].mean["energy"], said[1].mean["energy"], atol=1e-6)
    np.testing.assert_allclose(said[0].std["energy"], said[1].std["energy"], atol=1e-6)
    assert np.abs(said[0].mean["energy"] - data.targets["energy"]).max() < 50.0


class TestRefused:
    def test_a_structure_that_the_calculator_cannot_do(self, tmp_path, baseline):
        chlorine = Structure.create([17, 1], np.array([[0, 0, 0], [0, 0, 1.3]]))
        pool = waters(3).joined(StructureSet.from_structures([chlorine]))
        conf = campaign({**SMALL, "baseline": baseline}, descriptor=None)
        with pytest.raises(QuarryError) as told:
            check_networks(conf, pool, tmp_path)
        line = str(told.value)
        assert line.startswith(
            f"model.baseline: {baseline['calculator']} failed with structure {chlorine.structure_id}"
        )
        assert "no parameters for Cl" in line and line.endswith("or leave the structure out of the pool")
        assert len(asked(baseline)) == 1

    def test_an_argument_that_it_does_not_take(self, tmp_path, baseline):
        conf = campaign({**SMALL, "baseline": {**baseline, "arguments": {"dept": 1.0}}}, descriptor=None)
        with pytest.raises(
            QuarryError, match=r"model\.baseline\.arguments: .* has no argument 'dept'; did you mean 'depth'"
        ):
            check_networks(conf, waters(3), tmp_path)

    @pytest.mark.parametrize(
        ("changes", "line"),
        [
            ({"target": "dipole"}, r"model\.baseline: a baseline knows energy, forces, stress, not dipole_norm"),
            (
                {"arms": {"b": {"model": {"kind": "kreg", "baseline": {"kind": "ase", "calculator": "a:B"}}}}},
                r"arms\.b\.model\.kind: kreg learns|arms\.b\.model\.baseline: a baseline knows",
            ),
        ],
    )
    def test_targets_of_which_it_knows_nothing(self, changes, line):
        model = {"kind": "gpr", **({} if "arms" in changes else {"baseline": {"kind": "ase", "calculator": "a:B"}})}
        with pytest.raises(QuarryError, match=line):
            configuration(model=model, **{"target": "homo", **changes})

    def test_no_trained_network(self):
        with pytest.raises(QuarryError, match="mace comes with no trained network; set model to the file of one"):
            configuration(model={"kind": "gpr", "baseline": {"kind": "mace"}})
