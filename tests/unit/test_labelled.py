"""The data set: HDF5 that is byte-deterministic, extended XYZ that ASE reads."""

from __future__ import annotations

import ase.io
import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarry.properties import PROPERTIES
from quarry.structures import Structure
from quarry.structures.frames import write_extxyz
from quarry.structures.labelled import LabelledSet

RNG = np.random.default_rng(5)
PERIODIC = Structure.create([13], np.zeros((1, 3)), cell=np.eye(3) * 4.05, pbc=(True, True, True))
STRUCTURES = [
    Structure.create([8, 1, 1], RNG.normal(0, 1, (3, 3))),
    Structure.create([1, 1], RNG.normal(0, 1, (2, 3)), charge=1, multiplicity=2),
    Structure.create([6, 1, 1, 1, 1], RNG.normal(0, 1, (5, 3))),
    PERIODIC,
]


def label(structure: Structure, **changes) -> dict:
    values = {
        "energy": -2079.1234567890123 + float(structure.positions.sum()),
        "forces": (structure.positions * 1.2345678901234567).tolist(),
        "homo": -7.25,
        "lumo": 1.5,
        "gap": 8.75,
        "dipole": [0.1, -0.2, 1 / 3],
        "excitation_energies": [4.5, 5.25 + float(structure.positions.sum()) % 1, 7.0],
        "oscillator_strengths": [0.0, 0.125, 1 / 7],
        "state_order": [0.0, 2.0, 1.0],
        "state_overlap": [1.0, 0.75, 1 / 3],
        "class": 2,
        "value": -0.125,
        "stress": [[0.25, -1 / 3, 0.0], [-1 / 3, -0.5, 1 / 7], [0.0, 1 / 7, 0.75]],
        "state_energies": [-2.0, -1.5],
        "state_forces": np.stack([structure.positions, structure.positions / 3], axis=1).tolist(),
        "charges": (structure.positions[:, 0] / 3).tolist(),
    }
    return {**values, **changes}


def full(structures=STRUCTURES) -> LabelledSet:
    roles = ["test", "train", "train", "test"][: len(structures)]
    return LabelledSet.from_records(structures, roles, range(len(structures)), [label(s) for s in structures])


def assert_equal(found: LabelledSet, expected: LabelledSet) -> None:
    assert found.structures.ids.tolist() == expected.structures.ids.tolist()
    assert found.structures.positions.tobytes() == expected.structures.positions.tobytes()
    assert found.roles.tolist() == expected.roles.tolist()
    assert found.iterations.tolist() == expected.iterations.tolist()
    assert found.properties.keys() == expected.properties.keys()
    for name, values in expected.properties.items():
        assert np.array_equal(found.properties[name], values, equal_nan=True), name


class TestHdf5:
    def test_round_trip(self, tmp_path):
        full().write(tmp_path / "a.h5", {"method_id": "m"})
        assert_equal(LabelledSet.read(tmp_path / "a.h5"), full())

    def test_the_same_labels_give_the_same_bytes(self, tmp_path):
        full().write(tmp_path / "a.h5", {"method_id": "m"})
        shuffled = [dict(reversed(list(label(s).items()))) for s in STRUCTURES]
        again = LabelledSet.from_records(STRUCTURES, full().roles.tolist(), range(4), shuffled)
        again.write(tmp_path / "b.h5", {"method_id": "m"})
        LabelledSet.read(tmp_path / "a.h5").write(tmp_path / "c.h5", {"method_id": "m"})
        content = (tmp_path / "a.h5").read_bytes()
        assert (tmp_path / "b.h5").read_bytes() == content
        assert (tmp_path / "c.h5").read_bytes() == content

    def test_nothing_in_the_file_carries_a_time(self, tmp_path):
        """Two quick writes would not show it."""
        full().write(tmp_path / "a.h5", {})
        times = {}
        with h5py.File(tmp_path / "a.h5") as handle:
            handle.visititems(lambda name, item: times.update({name: h5py.h5g.get_objinfo(item.id).mtime}))
        assert len(times) > 10 and set(times.values()) == {0}

    @pytest.mark.parametrize(
        "name", ["properties/energy", "properties/forces", "structures/positions", "structures/charges", "iterations"]
    )
    def test_a_number_that_somebody_changed_is_refused(self, tmp_path, name):
        """Whenever that was: a time stamp says nothing."""
        path = tmp_path / "d.h5"
        full().write(path, {})
        with h5py.File(path, "r+") as handle:
            row = (0,) * handle[name].ndim
            handle[name][row] = handle[name][row] + 1
        with pytest.raises(ValueError, match=r"d\.h5: damaged labels: they are not those that were written$"):
            LabelledSet.read(path)

    def test_files_of_earlier_versions_and_with_fields_of_other_programs_are_read(self, tmp_path):
        path = tmp_path / "d.h5"
        full().write(path, {})
        with h5py.File(path, "r+") as handle:
            handle["split"] = np.zeros(4)
            assert LabelledSet.read(path).properties.keys() == full().properties.keys()
            del handle.attrs["labels_sha256"]
            handle["properties/energy"][0] = 1.0
        assert LabelledSet.read(path).properties["energy"][0] == 1.0

    def test_units_are_in_the_file(self, tmp_path):
        full().write(tmp_path / "a.h5", {"method_id": "m"})
        with h5py.File(tmp_path / "a.h5") as handle:
            found = {name: handle["properties"][name].attrs["unit"] for name in handle["properties"]}
            assert handle.attrs["method_id"] == "m"
        assert found == {
            "energy": "eV",
            "homo": "eV",
            "lumo": "eV",
            "gap": "eV",
            "forces": "eV/Angstrom",
            "state_energies": "eV",
            "state_forces": "eV/Angstrom",
            "dipole": "e*Angstrom",
            "excitation_energies": "eV",
            "oscillator_strengths": "1",
            "state_order": "1",
            "state_overlap": "1",
            "class": "1",
            "value": "1",
            "stress": "eV/Angstrom^3",
            "charges": "e",
        }
        assert found == {entry.name: entry.unit for entry in PROPERTIES.values()}


class TestExtendedXyz:
    @pytest.fixture
    def frames(self, tmp_path):
        write_extxyz(full(), tmp_path / "a.extxyz")
        return ase.io.read(tmp_path / "a.extxyz", index=":")

    def test_ase_gives_energies_and_forces_back(self, frames):
        for atoms, structure in zip(frames, STRUCTURES, strict=True):
            expected = label(structure)
            assert atoms.get_potential_energy() == pytest.approx(expected["energy"], rel=0, abs=1e-9)
            assert atoms.get_forces() == pytest.approx(np.array(expected["forces"]), rel=0, abs=1e-8)
            assert atoms.get_dipole_moment() == pytest.approx(expected["dipole"], abs=1e-8)
            assert atoms.get_stress(voigt=False) == pytest.approx(np.array(expected["stress"]), abs=1e-8)
            assert atoms.get_charges() == pytest.approx(expected["charges"], abs=1e-8)

    def test_it_holds_exactly_the_labelled_structures(self, frames):
        for atoms, structure in zip(frames, STRUCTURES, strict=True):
            assert Structure.from_atoms(atoms).structure_id == structure.structure_id
            assert atoms.info["structure_id"] == "s" + structure.structure_id

    def test_roles_iterations_and_orbital_energies(self, frames):
        assert [a.info["role"] for a in frames] == ["test", "train", "train", "test"]
        assert [a.info["iteration"] for a in frames] == [0, 1, 2, 3]
        assert {(a.info["homo_eV"], a.info["lumo_eV"], a.info["gap_eV"]) for a in frames} == {(-7.25, 1.5, 8.75)}

    def test_excited_states(self, frames):
        for atoms, structure in zip(frames, STRUCTURES, strict=True):
            expected = label(structure)
            assert atoms.info["excitation_energies_eV"] == pytest.approx(expected["excitation_energies"], abs=1e-8)
            for name in ("oscillator_strengths", "state_order", "state_overlap"):
                assert atoms.info[name] == pytest.approx(expected[name], abs=1e-8)

    def test_a_single_excited_state_is_an_array_too(self, tmp_path):
        one = label(STRUCTURES[0], excitation_energies=[4.5], oscillator_strengths=[0.25])
        write_extxyz(LabelledSet.from_records(STRUCTURES[:1], ["train"], [0], [one]), tmp_path / "a.extxyz")
        found = ase.io.read(tmp_path / "a.extxyz").info
        assert np.shape(found["excitation_energies_eV"]) == (1,) and found["oscillator_strengths"] == [0.25]

    def test_the_same_labels_give_the_same_bytes(self, tmp_path):
        write_extxyz(full(), tmp_path / "a.extxyz")
        write_extxyz(full(), tmp_path / "b.extxyz")
        assert (tmp_path / "a.extxyz").read_bytes() == (tmp_path / "b.extxyz").read_bytes()

    def test_a_label_that_lacks_forces_has_none_in_the_file(self, tmp_path):
        properties = [label(STRUCTURES[0]), {"energy": -1.0, "lumo": None}]
        write_extxyz(LabelledSet.from_records(STRUCTURES[:2], ["train"] * 2, [0, 0], properties), tmp_path / "a.extxyz")
        complete, partial = ase.io.read(tmp_path / "a.extxyz", index=":")
        assert complete.get_forces().shape == (3, 3)
        assert partial.get_potential_energy() == -1.0
        assert "forces" not in partial.calc.results and "lumo_eV" not in partial.info
        assert not np.isnan(partial.get_potential_energy())


class TestMixedProperties:
    def test_what_one_label_lacks_is_not_a_number(self):
        a, b, c = STRUCTURES[:3]
        properties = [label(a, lumo=None, gap=None), {"energy": 1.0}, {"forces": np.ones((5, 3)), "lumo": 2.0}]
        mixed = LabelledSet.from_records([a, b, c], ["train"] * 3, [0] * 3, properties)
        assert np.isnan(mixed.properties["energy"]).tolist() == [False, False, True]
        assert np.isnan(mixed.properties["lumo"]).tolist() == [True, True, False]
        assert np.isnan(mixed.properties["homo"]).tolist() == [False, True, True]
        assert np.isnan(mixed.properties["dipole"]).all(axis=1).tolist() == [False, True, True]
        assert np.isnan(mixed.properties["forces"]).all(axis=1).tolist() == [False] * 3 + [True] * 2 + [False] * 5
        assert "gap" not in mixed.properties

    def test_labels_with_fewer_excited_states_keep_theirs(self):
        a, b, c = STRUCTURES[:3]
        properties = [label(a), label(b, excitation_energies=[1.0]), {"energy": 1.0}]
        mixed = LabelledSet.from_records([a, b, c], ["train"] * 3, [0] * 3, properties)
        assert mixed.properties["excitation_energies"].shape == (3, 3)
        assert np.isnan(mixed.properties["excitation_energies"]).sum(axis=1).tolist() == [0, 2, 3]
        assert_equal(mixed.joined(LabelledSet.from_records([], [], [], [])), mixed)

    def test_a_property_that_no_label_has_is_absent(self):
        only = LabelledSet.from_records(STRUCTURES[:2], ["train"] * 2, [0] * 2, [{"gap": 1.0}, {"gap": 2.0}])
        assert list(only.properties) == ["gap"]

    @given(st.lists(st.tuples(st.integers(0, 3), st.sets(st.sampled_from(list(PROPERTIES))))))
    def test_a_record_gives_back_what_was_packed(self, content):
        items = [STRUCTURES[i] for i, _ in content]
        properties = [{name: label(s)[name] for name in names} for s, (_, names) in zip(items, content, strict=True)]
        packed = LabelledSet.from_records(items, ["train"] * len(items), [0] * len(items), properties)
        for index, expected in enumerate(properties):
            found = {k: v for k, v in packed.record(index).items() if not np.isnan(v).any()}
            assert found.keys() == expected.keys()
            assert all(np.array_equal(found[k], expected[k]) for k in expected)

    @given(
        st.lists(
            st.sets(st.sampled_from(["energy", "gap", "forces", "dipole", "excitation_energies"])),
            min_size=4,
            max_size=4,
        ),
        st.integers(0, 4),
    )
    def test_joining_is_the_same_as_packing_at_once(self, names, cut):
        properties = [{n: label(s)[n] for n in chosen} for s, chosen in zip(STRUCTURES, names, strict=True)]

        def packed(part: slice) -> LabelledSet:
            count = len(STRUCTURES[part])
            roles = ["test", "train", "train", "test"][part]
            return LabelledSet.from_records(STRUCTURES[part], roles, [7] * count, properties[part])

        assert_equal(packed(slice(0, cut)).joined(packed(slice(cut, 4))), packed(slice(0, 4)))


REFERENCE = {"structure_id": "a" * 20, "characters": {"weights": [[0.99, 0.125], [1.0]], "orbitals": "AAAA"}}


class TestStateReference:
    """The geometry that states are tracked from goes with the data set."""

    def packed(self, rows: slice, reference) -> LabelledSet:
        properties = [label(s) for s in STRUCTURES[rows]]
        count = len(properties)
        return LabelledSet.from_records(STRUCTURES[rows], ["train"] * count, [0] * count, properties, reference)

    def test_round_trip(self, tmp_path):
        with_one, without = self.packed(slice(4), REFERENCE), self.packed(slice(4), None)
        for labelled, name in ((with_one, "a.h5"), (without, "b.h5")):
            labelled.write(tmp_path / name, {})
            again = LabelledSet.read(tmp_path / name)
            assert again.state_reference == labelled.state_reference
            again.write(tmp_path / "c.h5", {})
            assert (tmp_path / "c.h5").read_bytes() == (tmp_path / name).read_bytes()

    def test_joining_keeps_the_earlier_one(self):
        other = {**REFERENCE, "structure_id": "b" * 20}
        first, second = slice(0, 2), slice(2, 4)
        for one, two, kept in (
            (REFERENCE, other, REFERENCE),
            (None, other, other),
            (REFERENCE, None, REFERENCE),
            (None, None, None),
        ):
            assert self.packed(first, one).joined(self.packed(second, two)).state_reference == kept


def test_indices_and_targets():
    labelled = full()
    assert labelled.indices("train").tolist() == [1, 2]
    assert labelled.indices("test").tolist() == [0, 3]
    assert labelled.indices("validation").tolist() == []
    assert labelled.targets("gap").tolist() == [8.75] * 4
    assert labelled.targets("dipole") == pytest.approx(np.sqrt(0.01 + 0.04 + 1 / 9))
