"""Structures: identity, the job inputs of label jobs, HDF5, and the user's own files."""

from __future__ import annotations

import hashlib
import io
import struct
import tempfile

import ase.io
import h5py
import numpy as np
import pytest
from ase import Atoms
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from quarry.errors import QuarryError
from quarry.structures import Structure, StructureSet
from quarry.structures.files import (
    JobInputEntry,
    job_input_text,
    read_files,
    read_job_input,
    read_pool,
    read_pool_ids,
    write_job_input,
    write_pool,
)

WATER = np.array([[0.0, 0.0, 0.117], [0.0, 0.757, -0.469], [0.0, -0.757, -0.469]])
COORDINATE_STEPS = st.integers(-50_000_000, 50_000_000)
CHANGES_THAT_ROUND_AWAY = st.floats(-4.9e-7, 4.9e-7)


@st.composite
def structures(draw, max_atoms=6):
    """Any structure: molecules, ions, wires, slabs and crystals."""
    n = draw(st.integers(1, max_atoms))
    return Structure.create(
        draw(st.lists(st.integers(1, 118), min_size=n, max_size=n)),
        draw(arrays(np.int64, (n, 3), elements=COORDINATE_STEPS)) * 1e-6,
        charge=draw(st.integers(-3, 3)),
        multiplicity=draw(st.integers(1, 5)),
        cell=draw(st.none() | arrays(np.int64, (3, 3), elements=COORDINATE_STEPS).map(lambda steps: steps * 1e-6)),
        pbc=draw(st.tuples(st.booleans(), st.booleans(), st.booleans())),
    )


def assert_same(found: Structure, expected: Structure) -> None:
    """Equal to the last bit."""
    assert np.array_equal(found.numbers, expected.numbers)
    assert found.positions.tobytes() == expected.positions.tobytes()
    assert (found.charge, found.multiplicity, found.pbc) == (expected.charge, expected.multiplicity, expected.pbc)
    cells = [np.zeros((3, 3)) if s.cell is None else s.cell for s in (found, expected)]
    assert cells[0].tobytes() == cells[1].tobytes()
    assert found.structure_id == expected.structure_id


class TestIdentity:
    def test_of_water_never_changes(self):
        """Label stores on disk are addressed by it."""
        assert Structure.create([8, 1, 1], WATER).structure_id == "3c87e3b73f1b2b253cfb"
        slab = Structure.create([8, 1, 1], WATER, 1, 2, np.eye(3) * 5, (True, True, False))
        assert slab.structure_id == "55a9552a34c27e6f84af"

    @given(structures())
    def test_is_the_hash_of_the_integers_that_the_design_names(self, structure):
        steps = [round(x * 1e6) for x in structure.positions.ravel()]
        cell = [0] * 9 if structure.cell is None else [round(x * 1e6) for x in structure.cell.ravel()]
        integers = [*structure.numbers, *steps, *cell, *structure.pbc, structure.charge, structure.multiplicity]
        packed = struct.pack(f"<{len(integers)}q", *(int(i) for i in integers))
        assert structure.structure_id == hashlib.sha256(packed).hexdigest()[:20]

    @given(structures(), st.data())
    def test_keeps_what_rounds_away(self, structure, data):
        change = data.draw(arrays(float, structure.positions.shape, elements=CHANGES_THAT_ROUND_AWAY))
        cell = None
        if structure.cell is not None:
            cell = structure.cell + data.draw(arrays(float, (3, 3), elements=CHANGES_THAT_ROUND_AWAY))
        moved = Structure.create(
            structure.numbers,
            structure.positions + change,
            structure.charge,
            structure.multiplicity,
            cell,
            structure.pbc,
        )
        assert_same(moved, structure)

    @given(structures(), st.data())
    def test_sees_two_millionths_of_an_angstrom(self, structure, data):
        atom, axis = data.draw(st.integers(0, len(structure) - 1)), data.draw(st.integers(0, 2))
        positions = structure.positions.copy()
        positions[atom, axis] += data.draw(st.sampled_from([-2e-6, 2e-6]))
        moved = Structure.create(
            structure.numbers,
            positions,
            structure.charge,
            structure.multiplicity,
            structure.cell,
            structure.pbc,
        )
        assert moved.structure_id != structure.structure_id

    @given(structures())
    def test_rounding_again_changes_nothing(self, structure):
        again = Structure.create(
            structure.numbers,
            structure.positions,
            structure.charge,
            structure.multiplicity,
            structure.cell,
            structure.pbc,
        )
        assert_same(again, structure)

    @given(structures())
    def test_positions_are_the_numbers_that_six_decimals_say(self, structure):
        """So that any program that reads the job input labels exactly the structure in the pool."""
        assert structure.positions.ravel().tolist() == [float(f"{x:.6f}") for x in structure.positions.ravel()]

    @pytest.mark.parametrize("zero", [-0.0, 1e-9, -1e-9, -4.9e-7])
    def test_has_one_zero(self, zero):
        positions = np.where(WATER == 0.0, zero, WATER)
        structure = Structure.create([8, 1, 1], positions)
        assert_same(structure, Structure.create([8, 1, 1], WATER))
        assert not np.signbit(structure.positions[structure.positions == 0.0]).any()

    def test_sees_the_order_of_atoms(self):
        order = [1, 0, 2]
        swapped = Structure.create(np.array([8, 1, 1])[order], WATER[order])
        assert swapped.structure_id != Structure.create([8, 1, 1], WATER).structure_id

    def test_sees_every_field(self):
        cell, periodic = np.eye(3) * 5.0, (True, True, True)
        ids = {
            Structure.create([8, 1, 1], WATER).structure_id,
            Structure.create([16, 1, 1], WATER).structure_id,
            Structure.create([8, 1, 1], WATER, charge=1).structure_id,
            Structure.create([8, 1, 1], WATER, charge=-1).structure_id,
            Structure.create([8, 1, 1], WATER, multiplicity=3).structure_id,
            Structure.create([8, 1, 1], WATER, charge=1, multiplicity=2).structure_id,
            Structure.create([8, 1, 1], WATER, cell=cell, pbc=periodic).structure_id,
            Structure.create([8, 1, 1], WATER, cell=cell + 2e-6, pbc=periodic).structure_id,
            Structure.create([8, 1, 1], WATER, cell=cell, pbc=(True, True, False)).structure_id,
            Structure.create([8, 1, 1], WATER, pbc=periodic).structure_id,
        }
        assert len(ids) == 10

    def test_does_not_see_the_box_of_a_molecule(self):
        boxed = Structure.create([8, 1, 1], WATER, cell=np.eye(3) * 5)
        assert boxed.cell is None
        assert_same(boxed, Structure.create([8, 1, 1], WATER))

    @pytest.mark.filterwarnings("ignore:invalid value")
    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_a_position_that_is_no_number_is_refused(self, value):
        positions = WATER.copy()
        positions[1, 2] = value
        with pytest.raises((QuarryError, ValueError)):
            Structure.create([8, 1, 1], positions)

    @given(structures())
    def test_through_ase_atoms(self, structure):
        atoms = structure.to_atoms()
        assert atoms.info["structure_id"] == structure.structure_id
        assert_same(Structure.from_atoms(atoms, charge=17, multiplicity=18), structure)

    def test_electrons(self):
        assert Structure.create([8, 1, 1], WATER, charge=-1).electrons == 11


class TestJobInput:
    @given(st.lists(structures(), min_size=1, max_size=3))
    def test_round_trip_is_exact(self, items):
        read = read_job_input_text(job_input_of(items))
        assert len(read) == len(items)
        for found, expected in zip(read, items, strict=True):
            assert_same(found, expected)

    @settings(max_examples=50)
    @given(st.lists(structures(), min_size=1, max_size=3))
    def test_ase_reads_the_same_structures(self, items):
        frames = ase.io.read(io.StringIO(job_input_of(items)), index=":", format="extxyz")
        assert [f.info["structure_id"] for f in frames] == ["s" + s.structure_id for s in items]
        for atoms, expected in zip(frames, items, strict=True):
            assert_same(Structure.from_atoms(atoms, charge=17, multiplicity=18), expected)

    ION = Structure.create([8, 1, 1], WATER, 1, 2, np.diag([4.0, 5.0, 6.125]), (True, False, True))

    def test_every_changed_character_is_refused_or_harmless(self):
        """Of every character of the file, replaced by a digit, a letter, a blank and a sign."""
        text = job_input_of([self.ION])
        harmless = []
        for place in range(len(text)):
            for character in "17X -\n":
                if character == text[place]:
                    continue
                try:
                    found = read_job_input_text(text[:place] + character + text[place + 1 :])
                except QuarryError:
                    continue
                assert len(found) == 1
                assert_same(found[0], self.ION)
                harmless.append(place)
        assert len(set(harmless)) < len(text) / 2

    def test_every_changed_digit_of_a_position_is_refused(self):
        text = job_input_of([self.ION])
        first = text.index("\n", text.index("\n") + 1)
        digits = [i for i in range(first, len(text)) if text[i].isdigit()]
        assert len(digits) == 3 * 3 * 7
        for place in digits:
            for digit in "0123456789":
                if digit != text[place]:
                    with pytest.raises(QuarryError, match="damaged"):
                        read_job_input_text(text[:place] + digit + text[place + 1 :])

    def test_every_truncation_is_refused_or_loses_only_zeros(self):
        text = job_input_of([self.ION])
        for length in range(len(text)):
            try:
                found = read_job_input_text(text[:length])
            except QuarryError as error:
                assert "\n" not in str(error) and "remove it" in str(error)
            else:
                assert set(text[length:]) <= {"0", "\n"}
                assert_same(found[0], self.ION)

    def test_a_missing_job_input_is_one_line(self, tmp_path):
        with pytest.raises(QuarryError, match="damaged") as caught:
            read_job_input(tmp_path / "absent.extxyz")
        assert "\n" not in str(caught.value)

    def test_keys_predictions_and_size(self, tmp_path):
        entries = [JobInputEntry(self.ION, self.ION.structure_id + "_r2", 12.25), JobInputEntry(self.ION)]
        for size in (0, 2000):
            write_job_input(tmp_path / "a.extxyz", entries, size)
            found = read_job_input(tmp_path / "a.extxyz")
            assert [(e.key, e.predicted_s) for e in found] == [
                (self.ION.structure_id + "_r2", 12.25),
                (self.ION.structure_id, None),
            ]
            assert len(ase.io.read(tmp_path / "a.extxyz", index=":")) == 2
        assert (tmp_path / "a.extxyz").stat().st_size == 2000

    def test_every_truncation_of_several_structures_is_refused_or_loses_only_zeros(self):
        """Also the one exactly between two structures."""
        text = job_input_of([self.ION, self.ION, self.ION])
        for length in range(len(text)):
            try:
                found = read_job_input_text(text[:length])
            except QuarryError:
                continue
            assert set(text[length:]) <= {"0", "\n"} and len(found) == 3

    def test_a_key_of_another_structure_is_refused(self):
        text = job_input_of([self.ION]).replace(f"key=s{self.ION.structure_id}", "key=s" + "0" * 20)
        with pytest.raises(QuarryError, match="is another structure's"):
            read_job_input_text(text)

    def test_write_job_input(self, tmp_path):
        write_job_input(tmp_path / "a.extxyz", [JobInputEntry(self.ION)])
        assert_same(read_job_input(tmp_path / "a.extxyz")[0].structure, self.ION)


def job_input_of(items: list[Structure]) -> str:
    return job_input_text(map(JobInputEntry, items))


def read_job_input_text(text: str) -> list[Structure]:
    with tempfile.NamedTemporaryFile("w", suffix=".extxyz") as handle:
        handle.write(text)
        handle.flush()
        return [entry.structure for entry in read_job_input(handle.name)]


class TestSet:
    @given(st.lists(structures(), max_size=5))
    def test_packs_and_unpacks(self, items):
        packed = StructureSet.from_structures(items)
        assert len(packed) == len(items)
        assert packed.ids.tolist() == [s.structure_id for s in items]
        for found, expected in zip(packed, items, strict=True):
            assert_same(found, expected)

    @given(st.lists(structures(), min_size=1, max_size=4), st.data())
    def test_subset_and_index(self, items, data):
        packed, duplicates = StructureSet.from_structures(items).without_duplicates()
        assert duplicates == len(items) - len({s.structure_id for s in items})
        chosen = data.draw(st.lists(st.integers(0, len(packed) - 1)))
        part = packed.subset(chosen)
        assert part.ids.tolist() == packed.ids[chosen].tolist()
        assert packed.index_of(part.ids).tolist() == chosen

    def test_an_unknown_id_is_a_key_error(self):
        with pytest.raises(KeyError, match="absent"):
            StructureSet.from_structures([Structure.create([1], np.zeros((1, 3)))]).index_of(["absent"])

    def test_the_first_of_each_duplicate_stays_in_its_place(self):
        atoms = [Structure.create([z], np.zeros((1, 3))) for z in (5, 3, 5, 1, 3, 5)]
        kept, dropped = StructureSet.from_structures(atoms).without_duplicates()
        assert (kept.numbers.tolist(), dropped) == ([5, 3, 1], 3)

    def test_hdf5_is_exact_and_byte_deterministic(self, tmp_path):
        items = [
            Structure.create([8, 1, 1], WATER),
            Structure.create([1], np.full((1, 3), 1 / 3), -1),
            TestJobInput.ION,
        ]
        packed = StructureSet.from_structures(items)
        for name in ("a.h5", "b.h5"):
            write_pool(tmp_path / name, packed, {"duplicates_dropped": 3})
        assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
        with h5py.File(tmp_path / "a.h5") as handle:
            assert handle.attrs["duplicates_dropped"] == 3
            # Object times would make the bytes differ between two seconds, which two quick writes do not show.
            assert {h5py.h5g.get_objinfo(handle[name].id).mtime for name in handle} == {0}
        for found, expected in zip(read_pool(tmp_path / "a.h5"), items, strict=True):
            assert_same(found, expected)
        assert read_pool_ids(tmp_path / "a.h5").tolist() == [s.structure_id for s in items]

    def test_a_set_read_back_is_written_with_the_same_bytes(self, tmp_path):
        write_pool(tmp_path / "a.h5", StructureSet.from_structures([TestJobInput.ION]))
        write_pool(tmp_path / "b.h5", read_pool(tmp_path / "a.h5"))
        assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()

    def test_the_empty_set(self, tmp_path):
        write_pool(tmp_path / "empty.h5", StructureSet.from_structures([]))
        assert len(read_pool(tmp_path / "empty.h5")) == 0


class TestUserFiles:
    @pytest.fixture
    def frames(self):
        rng = np.random.default_rng(0)
        return [Atoms("OHH", WATER + rng.normal(0, 0.1, (3, 3))) for _ in range(10)]

    def test_several_files_and_slices_keep_their_order(self, tmp_path, frames):
        ase.io.write(tmp_path / "a.extxyz", frames)
        ase.io.write(tmp_path / "b.xyz", frames[::-1])
        read = read_files(
            [(tmp_path / "a.extxyz", ":"), (tmp_path / "b.xyz", "2:8:3"), (tmp_path / "a.extxyz", "-1")], 0, 1
        )
        expected = [*frames, frames[7], frames[4], frames[9]]
        found = read.positions.reshape(-1, 3, 3)
        assert found == pytest.approx(np.array([f.positions for f in expected]), abs=6e-7)
        assert read.without_duplicates()[1] == 3

    def test_charge_and_multiplicity_of_the_file_win(self, tmp_path, frames):
        frames[0].info.update(charge=-1, multiplicity=2)
        frames[1].info.update(charge=2)
        ase.io.write(tmp_path / "a.extxyz", frames[:3])
        read = read_files([(tmp_path / "a.extxyz", ":")], charge=1, multiplicity=4)
        assert read.charges.tolist() == [-1, 2, 1]
        assert read.multiplicities.tolist() == [2, 4, 4]

    def test_periodic_files(self, tmp_path):
        ase.io.write(tmp_path / "POSCAR", Atoms("Cu", cell=[2.5, 2.5, 2.5], pbc=True), format="vasp")
        read = read_files([(tmp_path / "POSCAR", ":")], 0, 1)
        assert read.pbc.all() and np.array_equal(read.cells[0], np.eye(3) * 2.5)

    @pytest.mark.parametrize(
        ("name", "content", "index", "words"),
        [
            ("absent.xyz", None, ":", "does not exist"),
            ("empty.xyz", "", ":", "no structure|cannot read"),
            ("text.xyz", "this is\nno structure\n", ":", "cannot read"),
            ("short.xyz", "3\n\nO 0 0 0\nH 0 0 1\n", ":", "cannot read"),
            ("unknown.what", "abc", ":", "cannot read"),
            ("range.xyz", "1\n\nH 0 0 0\n", "5", "cannot read"),
            ("slice.xyz", "1\n\nH 0 0 0\n", "5:", "no structure"),
            ("index.xyz", "1\n\nH 0 0 0\n", "first", "cannot read"),
            ("atoms.xyz", "0\n\n", ":", "without atoms|cannot read"),
        ],
    )
    def test_what_cannot_be_read_is_one_line_with_the_file(self, tmp_path, name, content, index, words):
        if content is not None:
            (tmp_path / name).write_text(content)
        with pytest.raises(QuarryError, match=words) as caught:
            read_files([(tmp_path / name, index)], 0, 1)
        message = str(caught.value)
        assert message.startswith("pool.files: ") and name in message and "\n" not in message

    @pytest.mark.parametrize("value", ["'plus one'", "0.5"])
    def test_a_charge_that_is_no_whole_number_is_one_line(self, tmp_path, value):
        (tmp_path / "a.extxyz").write_text(f"1\nProperties=species:S:1:pos:R:3 charge={value}\nH 0 0 0\n")
        with pytest.raises(QuarryError, match="charge"):
            read_files([(tmp_path / "a.extxyz", ":")], 0, 1)
