"""Several states: their numbers in labels and data sets, and a model of each."""

import ase.io
import numpy as np
import pytest

from quarry.config.targets import TARGETS
from quarry.errors import QuarryError
from quarry.labeling.engines.answers import plain_properties
from quarry.models.base import STD, TrainingData
from quarry.models.registry import load_model, make_model
from quarry.structures import Structure
from quarry.structures.frames import write_extxyz
from quarry.structures.labelled import LabelledSet
from support.potentials import settings, toy_data

TARGET = TARGETS["state_energies_forces"]
WANT = frozenset(TARGET.learnt)


def two_states(n: int, seed: int = 0) -> TrainingData:
    """The toy potential, and above it one of twice the forces that is 1 eV higher on the average."""
    data = toy_data(n, seed=seed)
    energies, forces = data.targets["energy"], data.targets["forces"]
    middle = energies.mean()
    upper = middle + 2 * (energies - middle) + 30.0
    targets = {"state_energies": np.stack([energies, upper], 1), "state_forces": np.stack([forces, 2 * forces], 1)}
    return TrainingData(data.structures, targets)


def one_state(data: TrainingData, state: int) -> TrainingData:
    values = {name: data.targets[of_all][:, state] for name, of_all in (("energy", WANTED[0]), ("forces", WANTED[1]))}
    return TrainingData(data.structures, values)


WANTED = ("state_energies", "state_forces")
STRUCTURES = [Structure.create([1, 1], [[0, 0, 0], [0, 0, 0.7 + 0.1 * n]]) for n in range(3)]


class TestModel:
    @pytest.fixture(scope="class")
    def model(self):
        model = make_model(settings(epochs=5), TARGET)
        model.fit(two_states(20), None, np.random.default_rng(1))
        return model

    def test_each_state_is_the_model_of_its_labels_alone(self, model):
        data, new = two_states(20), two_states(6, seed=5)
        found = model.predict(new.structures, WANT | {"energy", "forces"}).mean
        streams = np.random.default_rng(1).spawn(2)
        for state in (0, 1):
            alone = make_model(settings(epochs=5), TARGETS["energy_forces"])
            alone.fit(one_state(data, state), None, streams[state])
            said = alone.predict(new.structures, frozenset(("energy", "forces"))).mean
            assert np.array_equal(said["energy"], found["state_energies"][:, state])
            assert np.array_equal(said["forces"], found["state_forces"][:, state])
        assert np.array_equal(found["energy"], found["state_energies"][:, 0])
        assert np.array_equal(found["forces"], found["state_forces"][:, 0])

    def test_states_are_sorted_by_energy_where_the_models_cross(self, model):
        new = two_states(6, seed=5).structures
        before = model.predict(new, WANT).mean
        model.models.reverse()
        after = model.predict(new, WANT).mean
        model.models.reverse()
        assert all(np.array_equal(before[name], after[name]) for name in WANT)

    def test_a_file_holds_all_states_and_is_the_same_again(self, model, tmp_path):
        first, second = tmp_path / "one.h5", tmp_path / "two.h5"
        model.save(first)
        again = load_model(first, settings(epochs=5), TARGET)
        again.save(second)
        new = two_states(6, seed=5).structures
        said = [one.predict(new, WANT).mean for one in (model, again)]
        assert all(np.array_equal(said[0][name], said[1][name]) for name in WANT)
        assert first.read_bytes() == second.read_bytes() and len(model.warnings) == len(again.warnings)
        maps = again.features(new, "last_layer", np.random.default_rng(0))
        assert len(maps) == len(new) and maps.shape[1] % 2 == 0
        with pytest.raises(QuarryError, match="this is not an intact model file"):
            alone = make_model(settings(epochs=1), TARGETS["energy_forces"])
            alone.fit(one_state(two_states(8), 0), None, np.random.default_rng(0))
            alone.save(first)
            load_model(first, settings(epochs=1), TARGET)

    def test_committees_are_joined_state_by_state(self):
        committee = settings(epochs=2, uncertainty="committee", members=2)
        data, members = two_states(10), []
        for number in (0, 1):
            members.append(make_model(committee, TARGET))
            members[-1].fit_member(number, data, None, np.random.default_rng(2))
        whole, at_once = make_model(committee, TARGET), make_model(committee, TARGET)
        whole.join(members)
        at_once.fit(data, None, np.random.default_rng(2))
        new = two_states(4, seed=5).structures
        said = [one.predict(new, WANT | {STD}) for one in (whole, at_once)]
        assert said[0].std["state_energies"].shape == (4, 2)
        for name in WANT:
            assert np.allclose(said[0].mean[name], said[1].mean[name], atol=1e-5)


class TestNumbers:
    def labels(self):
        rng = np.random.default_rng(0)
        counts = (2, 3, 2)
        records = [
            {
                "state_energies": np.sort(rng.normal(size=n)).tolist(),
                "state_forces": rng.normal(size=(2, n, 3)).tolist(),
            }
            for n in counts
        ]
        return records, LabelledSet.from_records(STRUCTURES, ["train"] * 3, [0] * 3, records)

    def test_labels_of_different_numbers_of_states_keep_theirs(self):
        records, labels = self.labels()
        assert labels.properties["state_forces"].shape == (6, 3, 3)
        for labelled in (labels, labels.joined(labels)):
            for row, record in enumerate(records):
                assert all(np.array_equal(labelled.label(row)[name], record[name]) for name in record)

    def test_an_extended_xyz_has_the_states_side_by_side(self, tmp_path):
        records, labels = self.labels()
        write_extxyz(labels, tmp_path / "set.extxyz")
        frame = ase.io.read(tmp_path / "set.extxyz", index=1)
        given = {"state_energies": frame.info["state_energies_eV"], "state_forces": frame.arrays["state_forces"]}
        back = plain_properties(given, 2)
        assert np.allclose(back["state_forces"], records[1]["state_forces"], atol=1e-7)

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            ({"state_energies": [0.0, 1.0], "state_forces": np.zeros((2, 3, 3))}, "different numbers of states"),
            ({"state_forces": np.zeros((3, 2, 3))}, r"has the shape \(3, 2, 3\) instead of \(2, 2, 3\)"),
            ({"state_energies": [1.0, 0.0]}, "ascending"),
        ],
    )
    def test_wrong_answers_are_refused(self, answer, words):
        with pytest.raises(ValueError, match=words):
            plain_properties(answer, 2)

    def test_excited_states_may_be_others_than_those_with_forces(self):
        answer = {"excitation_energies": [1.0], "state_energies": [0.0, 1.0, 2.0], "state_forces": np.zeros((2, 3, 3))}
        assert len(plain_properties(answer, 2)["state_energies"]) == 3
