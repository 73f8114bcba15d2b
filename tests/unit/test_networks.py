"""Potentials of other packages: a network that stands for a package's, so that nothing needs to be installed."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from quarry.config import installed
from quarry.config.descriptors import Pretrained
from quarry.config.extras import EXTRAS
from quarry.config.installed import check_extras
from quarry.config.models import Ani
from quarry.descriptors.cache import FeatureCache
from quarry.descriptors.compute import compute_features
from quarry.errors import QuarryError
from quarry.models.base import TrainingData
from quarry.models.network_potential import NetworkModel
from quarry.models.registry import load_model, make_model
from quarry.networks import base, registry
from quarry.randomness import generator
from quarry.stages.network_checks import check_networks
from quarry.stages.pool import build_features
from quarry.structures import Structure, StructureSet
from quarry.structures.files import JobInputEntry, write_job_input, write_pool
from support.calculators import ToyNetwork
from support.campaigns import REPOSITORY, WATER
from support.potentials import random_molecule, small_cell
from support.stages import configuration

WANT = frozenset({"energy", "forces"})
ATOM_EV = {1: -13.0, 6: -1030.0, 8: -2040.0}


@pytest.fixture
def toy(monkeypatch) -> None:
    """Every kind of network is the stand-in, and no package is needed."""
    path = "support.calculators:ToyNetwork"
    monkeypatch.setattr(registry, "NETWORKS", dict.fromkeys(registry.NETWORKS, path))
    monkeypatch.setattr(installed, "lacking", lambda extra, what: None)


def molecules(count: int, seed: int = 0) -> StructureSet:
    numbers = ([8, 1, 1], [6, 1, 1, 1, 1], [6, 8, 1, 1])
    return StructureSet.from_structures([random_molecule(numbers[k % 3], 1000 * seed + k) for k in range(count)])


def labels(structures: StructureSet) -> TrainingData:
    """What another stand-in says, with weights of its own, and atomic references."""
    teacher = ToyNetwork.pretrained("teacher", None)
    teacher.module.weights.data *= 2.0
    said = base.predict(teacher, structures, True)
    references = np.array([sum(ATOM_EV[int(z)] for z in s.numbers) for s in structures])
    return TrainingData(structures, {"energy": said["energy"] + references, "forces": said["forces"]})


def settings(**changes) -> Ani:
    return Ani.model_validate({"kind": "ani", "epochs": 60, "learning_rate": 0.05, "batch_size": 8, **changes})


def refusal(conf) -> str:
    with pytest.raises(QuarryError) as told:
        check_extras(conf)
    return str(told.value)


class TestNotInstalled:
    @pytest.mark.parametrize(
        ("changes", "extra", "what"),
        [
            ({"model": {"kind": "sevenn"}}, "sevenn", "model.kind: sevenn"),
            ({"model": {"kind": "ani"}}, "ani", "model.kind: ani"),
            ({"model": {"kind": "gpr", "baseline": {"kind": "sevenn"}}}, "sevenn", "model.baseline.kind: sevenn"),
            ({"descriptor": {"kind": "pretrained"}}, "sevenn", "descriptor.network: sevenn"),
            ({"arms": {"b": {"model": {"kind": "mace"}}}}, "mace", "arms.b.model.kind: mace"),
            ({"model": {"kind": "mlp"}}, "torch", "model.kind: mlp"),
            ({"model": {"kind": "gmnn"}, "target": "energy_forces", "descriptor": None}, "torch", "model.kind: gmnn"),
            ({"model": {"kind": "gpr", "device": "cuda"}}, "torch", "model.device: cuda"),
            ({"descriptor": {"kind": "soap"}}, "soap", "descriptor.kind: soap"),
        ],
    )
    def test_one_line_with_what_to_type(self, monkeypatch, changes, extra, what):
        query = {"strategy": "random", "initial": 8, "batch": {"schedule": "constant", "size": 5}}
        conf = configuration(query=query, **changes)
        monkeypatch.setattr(installed, "find_spec", lambda name: None if name in EXTRAS[extra].modules else True)
        monkeypatch.setattr(installed, "REPOSITORY", Path("elsewhere"))
        line = refusal(conf)
        apart = {"sevenn": "mace-torch", "mace": "sevenn"}.get(extra)
        between = f", in an environment without {apart}" if apart else ""
        modules = " and ".join(EXTRAS[extra].modules)
        verb = "are" if len(EXTRAS[extra].modules) > 1 else "is"
        assert line.startswith(
            f"{what} needs {modules}, which {verb} not installed{between}; type: {sys.executable} -m pip "
        )
        assert all(requirement in line for requirement in EXTRAS[extra].requirements) and "\n" not in line
        assert ("torch==" in line) == (extra != "soap"), "no other package brings another torch"

    def test_torch_comes_first(self, monkeypatch):
        """The package of a network would bring a torch of its own choice: the one for GPUs, gigabytes."""
        monkeypatch.setattr(installed, "find_spec", lambda name: None)
        query = {"strategy": "random", "initial": 8, "batch": {"schedule": "constant", "size": 5}}
        conf = configuration(model={"kind": "ani"}, query=query)
        assert "model.kind: ani needs torch and numba, which are not installed" in refusal(conf)

    def test_the_environment_of_the_makefile_has_a_shorter_line(self, monkeypatch, tmp_path):
        monkeypatch.setattr(installed, "REPOSITORY", tmp_path)
        monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
        assert "pip install" in installed.line_to_type("torch")
        (tmp_path / "Makefile").write_text("torch:\n")
        assert installed.line_to_type("torch") == f"make -C {tmp_path} torch"
        monkeypatch.chdir(tmp_path)
        assert installed.line_to_type("torch") == "make torch"
        assert "pip install ani" in installed.line_to_type("ani").replace("torchani", "ani")
        monkeypatch.setenv("QUARRY_TO_ADD_EXTRA", "build again with {extra}")
        assert installed.line_to_type("torch") == "build again with torch", "an image says how it is built"
        targets = re.findall(r"^([a-z]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
        assert {name for name, extra in EXTRAS.items() if extra.has_make_target} <= set(targets)

    def test_nothing_is_asked_of_other_campaigns(self, monkeypatch):
        monkeypatch.setattr(installed, "find_spec", lambda name: None)
        check_extras(configuration(arms={"b": {"model": {"kind": "kreg"}}, "c": {"query": {"strategy": "random"}}}))

    def test_a_job_says_the_same(self, monkeypatch):
        monkeypatch.setattr(installed, "find_spec", lambda name: None)
        with pytest.raises(QuarryError, match=r"descriptor\.model: sevenn needs torch and numba, which are not"):
            compute_features(molecules(2), Pretrained(kind="pretrained"), None)

    def test_versions_stand_in_one_place(self):
        """pyproject's optional dependencies, the table, the environment of mace and the manual name the same."""
        project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        assert {name: list(extra.requirements) for name, extra in EXTRAS.items()} == {
            name: project[name] for name in EXTRAS
        }
        parts = yaml.safe_load((REPOSITORY / "envs" / "mace.yaml").read_text())["dependencies"]
        assert EXTRAS["mace"].requirements[0] in parts[-1]["pip"]
        manual = (REPOSITORY / "config" / "README.md").read_text()
        for requirement in (r for name in ("sevenn", "mace", "ani") for r in EXTRAS[name].requirements):
            assert set(re.findall(rf"{requirement.partition('==')[0]}==[\d.]*\d", manual)) == {requirement}


class TestModel:
    def test_it_learns_energies_forces_and_references(self, toy):
        data = labels(molecules(45))
        model = make_model(settings(epochs=80), configuration(target="energy_forces", **NO_STD).goal)
        model.fit(data.subset(range(30)), None, generator(1, "train"))
        test = data.subset(range(30, 45))
        said = model.predict(test.structures, WANT)
        assert np.abs(said.mean["energy"] - test.targets["energy"]).mean() < 0.05
        assert np.abs(said.mean["forces"] - test.targets["forces"]).mean() < 0.05
        assert set(model.predict(test.structures, frozenset({"energy"})).mean) == {"energy"}

    def test_order_and_file(self, toy, tmp_path):
        """Labels in another order give the same bytes, and what is read predicts the same."""
        data, paths = labels(molecules(20)), [tmp_path / "a.h5", tmp_path / "b.h5"]
        for path, order in zip(paths, (range(20), reversed(range(20))), strict=True):
            model = NetworkModel(settings(epochs=8), ("energy", "forces"))
            model.fit(data.subset(list(order)), None, generator(1, "train"))
            model.save(path)
        assert paths[0].read_bytes() == paths[1].read_bytes()
        goal = configuration(target="energy_forces", **NO_STD).goal
        again = load_model(paths[0], settings(), goal)
        for name in WANT:
            np.testing.assert_array_equal(
                again.predict(data.structures, WANT).mean[name], model.predict(data.structures, WANT).mean[name]
            )
        assert again.hyperparameters == model.hyperparameters
        assert again.hyperparameters["elements"] == ["H", "C", "O"]

    def test_a_killed_training_goes_on_to_the_same_weights(self, toy, tmp_path, monkeypatch):
        data = labels(molecules(20))
        monkeypatch.setattr("quarry.models.network_training.CHECKPOINT_S", 0.0)

        def trained(folder, stop_at: int | None = None) -> NetworkModel:
            model, calls = NetworkModel(settings(epochs=12), ("energy", "forces")), []
            if stop_at is not None:
                plain = ToyNetwork.evaluate

                def evaluate(network, graphs, derivatives, learn):
                    calls.append(learn)
                    if len(calls) > stop_at:
                        raise KeyboardInterrupt
                    return plain(network, graphs, derivatives, learn)

                with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
                    patched.setattr(ToyNetwork, "evaluate", evaluate)
                    model.fit(data, None, generator(1, "train"), checkpoint=folder)
                return model
            model.fit(data, None, generator(1, "train"), checkpoint=folder)
            return model

        whole, killed = tmp_path / "whole", tmp_path / "killed"
        for folder in (whole, killed):
            folder.mkdir()
        expected = trained(whole)
        trained(killed, stop_at=20)
        assert (killed / "training.pt").exists()
        found = trained(killed)
        for one, other in zip(
            expected.predict(data.structures, WANT).mean.values(),
            found.predict(data.structures, WANT).mean.values(),
            strict=True,
        ):
            np.testing.assert_array_equal(one, other)

    def test_it_begins_from_the_last_model(self, toy):
        data = labels(molecules(20))
        first, again = (NetworkModel(settings(epochs=1, learning_rate=1e-9), ("energy", "forces")) for _ in range(2))
        first.fit(data, None, generator(1, "train"))
        again.fit(data, None, generator(2, "train"), start=first)
        said = [model.predict(data.structures, WANT).mean["forces"] for model in (first, again)]
        assert np.abs(said[0] - said[1]).max() < 1e-5

    def test_structures_of_which_it_sees_no_distance(self, toy):
        model = NetworkModel(settings(epochs=1), ("energy", "forces"))
        model.fit(labels(molecules(8)), None, generator(1, "train"))
        pairs = [Structure.create([8, 1], np.array([[0, 0, 0], [0, 0, d]])) for d in (3.9, 4.1)]
        asked = StructureSet.from_structures([*pairs, Structure.create([8], np.zeros((1, 3)))])
        assert model.beyond_reach(asked).tolist() == [False, True, True]

    def test_a_damaged_file_is_one_line(self, toy, tmp_path):
        model = NetworkModel(settings(epochs=1), ("energy", "forces"))
        model.fit(labels(molecules(8)), None, generator(1, "train"))
        model.save(tmp_path / "model.h5")
        with h5py.File(tmp_path / "model.h5", "a") as handle:
            del handle["references"]
        with pytest.raises(QuarryError, match=r"model\.h5: this is not an intact model file"):
            NetworkModel.load(tmp_path / "model.h5")

    def test_labels_that_are_no_numbers(self, toy):
        data = labels(molecules(8))
        data.targets["forces"][3, 1] = np.nan
        with pytest.raises(QuarryError, match=r"model\.kind: ani: a training label's forces is not a finite number"):
            NetworkModel(settings(), ("energy", "forces")).fit(data, None, generator(1, "train"))


NO_STD = {
    "query": {"strategy": "random", "initial": 8, "batch": {"schedule": "constant", "size": 5}},
    "model": {"kind": "ani"},
}


class TestDomain:
    def test_elements_that_a_network_does_not_know(self, toy, tmp_path):
        """The stand-in of sevenn knows H, C and O."""
        chlorine = Structure.create([17, 1], np.array([[0, 0, 0], [0, 0, 1.3]]))
        pool = molecules(4).joined(StructureSet.from_structures([chlorine]))
        conf = configuration(**{**NO_STD, "model": {"kind": "sevenn"}}, target="energy_forces")
        words = f"model.kind: sevenn: the network does not know the element Cl (structure {chlorine.structure_id}); use another"
        with pytest.raises(QuarryError) as told:
            check_networks(conf, pool, tmp_path)
        assert str(told.value).startswith(words)
        check_networks(conf, molecules(4), tmp_path)
        with pytest.raises(
            QuarryError, match=r"descriptor\.kind: pretrained: the network does not know the element Cl"
        ):
            compute_features(pool, Pretrained(kind="pretrained"), None)

    def test_cells_where_it_takes_molecules(self, toy, tmp_path):
        cell = small_cell()
        conf = configuration(**NO_STD, target="energy_forces")
        with pytest.raises(
            QuarryError, match=f"model.kind: ani: it takes molecules only, and structure {cell.structure_id}"
        ):
            check_networks(conf, StructureSet.from_structures([cell]), tmp_path)

    def test_a_file_that_is_not_there(self, toy, tmp_path):
        conf = configuration(**{**NO_STD, "model": {"kind": "mace", "model": "own.model"}}, target="energy_forces")
        with pytest.raises(QuarryError, match=r"model\.model: mace cannot make the network \(.*own\.model"):
            check_networks(conf, molecules(2), tmp_path)

    def test_an_element_without_training_label(self, toy):
        model = NetworkModel(settings(epochs=1), ("energy",))
        data = labels(StructureSet.from_structures([s for s in molecules(12) if 6 not in s.numbers]))
        model.fit(TrainingData(data.structures, {"energy": data.targets["energy"]}), None, generator(1, "train"))
        with pytest.raises(QuarryError, match=r"model\.kind: ani has learnt nothing of the element C; label some"):
            model.predict(molecules(3), frozenset({"energy"}))


class TestDescriptor:
    @pytest.mark.parametrize(("pooling", "width"), [("mean", 2), ("sum", 2), ("elements", 6)])
    def test_pooling(self, toy, pooling, width):
        pool, network = molecules(9), ToyNetwork.pretrained("any", None)
        found = compute_features(pool, Pretrained(kind="pretrained", pooling=pooling), None)
        assert found.shape == (9, width)
        for row, structure in enumerate(pool):
            atoms = network.atomic_features([network.graph(structure)]).numpy()
            parts = {
                "mean": atoms.mean(axis=0),
                "sum": atoms.sum(axis=0),
                "elements": np.concatenate([atoms[structure.numbers == z].sum(axis=0) for z in (1, 6, 8)]),
            }
            np.testing.assert_allclose(found[row], parts[pooling], atol=1e-12)

    def test_rotated_and_relabelled_structures_have_the_same_features(self, toy):
        rng = np.random.default_rng(0)
        rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        order = [2, 0, 1]
        turned = Structure.create(np.array([8, 1, 1])[order], (WATER @ rotation.T + 3.0)[order])
        pool = StructureSet.from_structures([Structure.create([8, 1, 1], WATER), turned])
        found = compute_features(pool, Pretrained(kind="pretrained"), None)
        np.testing.assert_allclose(found[0], found[1], atol=1e-5)

    def test_they_are_computed_once_and_others_when_they_come(self, toy, tmp_path, monkeypatch):
        paths = [str(tmp_path / name) for name in ("structures.h5", "reference.extxyz", "features.h5")]
        pool, section = molecules(10), Pretrained(kind="pretrained", pooling="elements")
        write_pool(paths[0], pool)
        write_job_input(paths[1], [JobInputEntry(pool[0])])
        assert build_features(*paths[:2], section, paths[2], tmp_path) == ""
        calls, plain = [], ToyNetwork.atomic_features
        monkeypatch.setattr(
            ToyNetwork, "atomic_features", lambda self, graphs: calls.extend(graphs) or plain(self, graphs)
        )
        cache = FeatureCache.of_pool(paths[2], section, tmp_path)
        rows = cache.of(pool.subset([7, 2]))
        assert not calls
        with_new = cache.of(pool.subset([2]).joined(molecules(1, seed=5)))
        np.testing.assert_array_equal(with_new[0], rows[1])
        # The other one, and an atom by which the width is known.
        assert len(calls) == 2 and np.isfinite(with_new).all()
        with h5py.File(tmp_path / "cache.h5", "w") as handle:
            cache.write(handle.create_group("descriptor"))
            alone = FeatureCache.read(handle["descriptor"], tmp_path)
        np.testing.assert_allclose(alone.of(pool), cache.of(pool), atol=1e-6)
        assert json.loads(section.model_dump_json())["model"] == "7net-0"
