"""The Gaussian-moment network as a model: file, feature maps, what it refuses, and its section of the configuration."""

from __future__ import annotations

import re
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
import yaml

from quarry.config import load_configuration
from quarry.config.targets import TARGETS
from quarry.errors import QuarryError
from quarry.models.base import HasFeatureMaps, TrainingData
from quarry.models.gmnn.atomic_network import BIAS
from quarry.models.gmnn.model import GaussianMomentModel
from quarry.models.gmnn.neighbours import Neighbourhoods
from quarry.models.registry import load_model, make_model
from quarry.structures import Structure, StructureSet
from support.campaigns import REPOSITORY, stand_in_configuration
from support.potentials import settings, toy_data, trained

DATA = toy_data(12)
MODEL = trained(DATA, epochs=2)
UNSEEN = toy_data(6, seed=5).structures
ALL = frozenset({"energy", "forces", "stress"})


def test_a_file_holds_the_model_and_is_the_same_each_time(tmp_path):
    MODEL.save(tmp_path / "one.h5")
    again = load_model(tmp_path / "one.h5", settings(), TARGETS["energy_forces"])
    assert isinstance(again, GaussianMomentModel) and again.settings == MODEL.settings
    again.save(tmp_path / "two.h5")
    trained(DATA, epochs=2).save(tmp_path / "three.h5")
    assert (
        (tmp_path / "one.h5").read_bytes() == (tmp_path / "two.h5").read_bytes() == (tmp_path / "three.h5").read_bytes()
    )
    one, other = MODEL.predict(UNSEEN, ALL), again.predict(UNSEEN, ALL)
    for name in ("energy", "forces"):
        assert np.array_equal(one.mean[name], other.mean[name])
    assert again.hyperparameters == MODEL.hyperparameters and again.warnings == MODEL.warnings
    assert isinstance(again, HasFeatureMaps)


def test_files_that_are_no_model_are_refused(tmp_path):
    path, target = tmp_path / "model.h5", TARGETS["energy_forces"]
    MODEL.save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(QuarryError, match="not an intact model file"):
        load_model(path, settings(), target)
    path.write_bytes(whole)
    with h5py.File(path, "a") as handle:
        del handle["scale"]
    with pytest.raises(QuarryError, match="not an intact model file"):
        load_model(path, settings(), target)
    path.write_bytes(whole)
    with h5py.File(path, "a") as handle:
        handle.attrs["version"] = 7
    with pytest.raises(QuarryError, match="a gmnn of version 7, this Quarry reads 1"):
        load_model(path, settings(), target)
    with h5py.File(path, "a") as handle:
        handle.attrs["kind"] = "mlp"
    with pytest.raises(QuarryError, match=r"a model of kind 'mlp', but model\.kind is gmnn"):
        load_model(path, settings(), target)
    (tmp_path / "text.h5").write_text("not HDF5")
    with pytest.raises(QuarryError, match="not an intact model file"):
        load_model(tmp_path / "text.h5", settings(), target)


def test_structures_that_it_cannot_judge_are_refused_by_name():
    strange = Structure.create([1, 17], np.array([[0, 0, 0], [0, 0, 1.3]]))
    with pytest.raises(QuarryError, match=rf"nothing of the element Cl \(structure {strange.structure_id}, 1 in all\)"):
        MODEL.predict(StructureSet.from_structures([UNSEEN[0], strange]), ALL)
    close = replace(UNSEEN[0], positions=np.zeros((len(UNSEEN[0]), 3)))
    with pytest.raises(QuarryError, match="are in one place"):
        MODEL.predict(StructureSet.from_structures([close]), ALL)
    rows = StructureSet.from_structures([Structure.of_features(np.array([1.0 + n])) for n in range(3)])
    with pytest.raises(QuarryError, match="these have no atoms"):
        trained(TrainingData(rows, {"energy": np.zeros(3)}))
    with pytest.raises(QuarryError, match="has no kernel features; use last_layer or gradient"):
        MODEL.features(UNSEEN, "kernel", np.random.default_rng(0))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(QuarryError, match=r"model\.device: cuda, but torch finds no GPU"):
        trained(DATA, device="cuda")


def test_an_atom_alone_has_an_energy_and_no_force():
    alone = StructureSet.from_structures([Structure.create([8], np.zeros((1, 3)))])
    found = MODEL.predict(alone, ALL)
    assert np.isfinite(found.mean["energy"]).all() and not found.mean["forces"].any()


def test_a_prediction_does_not_depend_on_what_is_asked_with_it(monkeypatch):
    """Energies alone, in other blocks, and one by one: the same but for rounding in single precision."""
    whole = MODEL.predict(UNSEEN, ALL)
    energies = MODEL.predict(UNSEEN, frozenset({"energy"})).mean["energy"]
    assert np.array_equal(energies, whole.mean["energy"])
    monkeypatch.setattr("quarry.models.gmnn.training.TOGETHER", 4)
    blocks = MODEL.predict(UNSEEN, ALL)
    for name in ("energy", "forces"):
        assert np.allclose(blocks.mean[name], whole.mean[name], atol=1e-5)


def test_neighbours_of_a_pool_are_found_block_by_block(monkeypatch):
    """Those of a large pool at once take gigabytes."""
    asked, find = [], Neighbourhoods.of
    monkeypatch.setattr("quarry.models.gmnn.training.TOGETHER", 8)
    monkeypatch.setattr(
        Neighbourhoods, "of", staticmethod(lambda some, cutoff: asked.append(len(some)) or find(some, cutoff))
    )
    MODEL.predict(UNSEEN, ALL)
    MODEL.informativeness(UNSEEN, DATA.structures, frozenset({"energy"}))
    assert max(asked) < len(UNSEEN) and sum(asked) >= 2 * len(UNSEEN)


def test_parameters_may_be_changed_after_training():
    assert not any(tensor.is_inference() for one in MODEL._trained for tensor in one.parameters.tensors)


def test_last_layer_features_are_slopes_of_the_energy(tmp_path):
    """Each is the change of the energy with a weight or the bias of the last layer, in single precision."""
    found = MODEL.features(UNSEEN, "last_layer", np.random.default_rng(0))
    assert found.shape == (len(UNSEEN), settings().hidden[-1] + 1)
    MODEL.save(tmp_path / "model.h5")
    other = GaussianMomentModel.load(tmp_path / "model.h5")
    parameters = other._trained[0].parameters
    before = MODEL.predict(UNSEEN, frozenset({"energy"})).mean["energy"]
    for column in (0, 3):
        parameters.weights[-1][column, 0] += 0.5
        after = other.predict(UNSEEN, frozenset({"energy"})).mean["energy"]
        assert np.allclose((after - before) / 0.5, found[:, column], atol=1e-4)
        parameters.weights[-1][column, 0] -= 0.5
    parameters.biases[-1] += 0.5
    after = other.predict(UNSEEN, frozenset({"energy"})).mean["energy"]
    assert np.allclose((after - before) / 0.5, found[:, -1], atol=1e-4)
    counts = [sum(float(parameters.scale[e]) for e in np.searchsorted(other.elements, s.numbers)) for s in UNSEEN]
    assert np.allclose(found[:, -1], BIAS * np.array(counts), rtol=1e-5)


def test_charges_that_it_does_not_see_are_pointed_out():
    one = DATA.structures[0]
    ion = replace(one, charge=1, multiplicity=2)
    data = TrainingData(
        StructureSet.from_structures([one, Structure.create(ion.numbers, ion.positions, 1, 2)]),
        {"energy": np.array([-1.0, -2.0])},
    )
    assert "of 2 charges or multiplicities, which gmnn does not see" in trained(data, epochs=1).warnings[0]


def campaign(**changes):
    """A configuration with a model of this kind and no descriptor."""
    query = {"strategy": "random", "initial": 8, "batch": {"schedule": "constant", "size": 4}}
    base = stand_in_configuration(target="energy_forces", model={"kind": "gmnn"}, query=query)
    base.pop("descriptor", None)
    for key, value in changes.items():
        base[key] = {**base[key], **value} if isinstance(value, dict) and isinstance(base.get(key), dict) else value
    return load_configuration(base, "config.yaml")


def test_the_section_has_the_published_settings_by_default():
    conf = campaign().model
    assert (conf.cutoff_A, conf.hidden, conf.epochs, conf.batch_size) == (4.0, [256, 128], 5000, 32)
    assert (conf.learning_rate, conf.schedule, conf.energy_weight, conf.forces_weight) == (1e-3, "constant", 1.0, 100.0)
    assert conf.start == "fresh" and not conf.traits.warm_start and not conf.traits.needs_descriptor
    assert make_model(conf, campaign().goal).learnt == ("energy", "forces")


def test_the_section_of_the_documentation_is_right():
    page = (REPOSITORY / "docs" / "models.md").read_text().partition("`gmnn`\n")[2]
    section = yaml.safe_load(re.search(r"```yaml\n(.*?)```", page, re.DOTALL)[1])
    found = campaign(**section)
    assert found.model.epochs == section["model"]["epochs"] and found.query.strategy == "lcmd"


def test_schedules():
    linear, cosine = (settings(schedule=name, epochs=4) for name in ("linear", "cosine"))
    assert [linear.share_of_rate(epoch) for epoch in (1, 2, 3, 4)] == [1.0, 0.75, 0.5, 0.25]
    assert [cosine.share_of_rate(epoch) for epoch in (1, 3)] == pytest.approx([1.0, 0.5])
    assert settings().share_of_rate(20) == 1.0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"query": {"strategy": "uncertainty"}}, "query.strategy: uncertainty needs"),
        ({"target": "homo"}, "model.kind: gmnn learns no homo"),
        ({"target": ["energy", "charges"]}, "model.kind: gmnn learns"),
        (
            {"pool": {"source": "table", "files": ["a.csv"], "features": ["x"]}, "descriptor": {"kind": "table"}},
            "model.kind: gmnn needs the atoms of a structure, but pool.source is table; choose another kind",
        ),
        ({"model": {"cutoff_A": 0.2}}, "model.*cutoff_A"),
        ({"model": {"energy_weight": 0, "forces_weight": 0}}, "are both 0; raise one"),
        ({"model": {"schedule": "exponential"}}, "schedule"),
    ],
)
def test_what_it_cannot_do_is_refused_before_any_job(changes, words):
    with pytest.raises(QuarryError, match=words) as caught:
        campaign(**changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("strategy", ["lcmd", "k_means_plus_plus", "maxdet", "bait"])
def test_strategies_that_look_at_feature_maps_fit(strategy):
    assert campaign(query={"strategy": strategy}).query.strategy == strategy
    assert campaign(target=["energy", "forces", "stress"]).goal.learnt == ("energy", "forces", "stress")
