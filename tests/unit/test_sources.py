"""File, frame and the user's own names go with a structure to its label."""

from __future__ import annotations

import ase.io
import h5py
import numpy as np
import pytest
from ase import Atoms

from quarry.stages.pool import build_pool
from quarry.structures import Structure
from quarry.structures.files import FileSource, find_in_file, read_files, read_pool, read_pool_sources, write_pool
from quarry.structures.frames import write_extxyz
from quarry.structures.labelled import LabelledSet
from quarry.structures.sources import Source
from support.campaigns import WATER
from support.iterations import POOL, Iteration
from support.stages import configuration

RNG = np.random.default_rng(3)


def waters(n: int) -> list[Atoms]:
    return [Atoms("OHH", WATER + RNG.normal(0, 0.08, (3, 3))) for _ in range(n)]


class TestReading:
    def test_names_and_numbers_of_frames(self, tmp_path):
        frames = waters(6)
        for number, atoms in enumerate(frames):
            atoms.info.update(
                name=f"w{number}", config_type="md run", step=number, weights=np.arange(3), big=np.ones(2000)
            )
            atoms.info.update(charge=0, spin=1, text="x" * 2000)
        ase.io.write(tmp_path / "a.extxyz", frames)
        for index, numbers in ((":", [*range(6)]), ("1::2", [1, 3, 5]), ("4", [4]), ("-2:", [None, None])):
            found = find_in_file(FileSource(tmp_path / "a.extxyz", index), 0, 1)
            assert [item.frame for item in found] == numbers
        values = Source("a", 0, found[0].info).values()
        assert values == {"name": "w4", "config_type": "md run", "step": 4, "weights": [0, 1, 2]}

    def test_names_that_look_like_numbers_stay_as_they_are(self, tmp_path):
        comments = ["id=00012 tag=72318893525186926e78 n=12 x=1.50", "id=00013 tag=abc n=13 x=2.50"]
        text = "".join(f"2\n{comment}\nO 0 0 0\nO 0 0 {1.2 + n}\n" for n, comment in enumerate(comments))
        (tmp_path / "a.xyz").write_text(text)
        for index, place in ((":", 0), ("0:1", 0)):
            values = Source("", 0, find_in_file(FileSource(tmp_path / "a.xyz", index), 0, 1)[place].info).values()
            assert values == {"id": "00012", "tag": "72318893525186926e78", "n": 12, "x": 1.5}

    def test_columns_of_a_table(self, tmp_path):
        names, r = np.array(["a", "b", "c"]), np.arange(18.0).reshape(3, 2, 3)
        np.savez(tmp_path / "a.npz", Z=[8, 8], R=r, smiles=names, gdb_id=[7, 8, 9], E=[0.5, 1, 2], charge=[0, 0, 0])
        found = find_in_file(FileSource(tmp_path / "a.npz", "1:"), 0, 1)
        assert [item.frame for item in found] == [1, 2]
        assert Source("", 0, found[1].info).values() == {"smiles": "c", "gdb_id": 9}


class TestPool:
    @pytest.fixture
    def built(self, tmp_path):
        frames = waters(40)
        for number, atoms in enumerate(frames):
            atoms.info["name"] = f"w{number}"
        ase.io.write(tmp_path / "pool.extxyz", [*frames, frames[3]])
        outputs = [str(tmp_path / name) for name in ("structures.h5", "reference.extxyz", "filtered.csv")]
        build_pool(configuration(), tmp_path, None, *outputs)
        return tmp_path / "structures.h5", outputs

    def test_every_structure_has_its_own(self, built, tmp_path):
        pool = read_pool(built[0])
        rows = np.array([5, 0, 39])
        found = read_pool_sources(built[0], rows)
        assert [(s.file, s.frame, s.values()) for s in found] == [
            ("pool.extxyz", n, {"name": f"w{n}"}) for n in rows.tolist()
        ]
        assert find_in_file(FileSource(tmp_path / "pool.extxyz", "5"), 0, 1)[0].structure.structure_id == pool.ids[5]

    def test_the_same_bytes_again(self, built, tmp_path):
        before = built[0].read_bytes()
        build_pool(configuration(), tmp_path, None, *built[1])
        assert built[0].read_bytes() == before

    def test_structures_of_no_file_have_no_group(self, tmp_path):
        pool = read_files_of(tmp_path)
        write_pool(tmp_path / "a.h5", pool, None, None, [None] * len(pool))
        write_pool(tmp_path / "b.h5", pool)
        assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
        assert read_pool_sources(tmp_path / "a.h5", np.arange(2)) == [None, None]

    def test_few_rows_of_many(self, tmp_path):
        pool = read_files_of(tmp_path).subset([0, 1] * 200)
        sources = [Source("f", n, f'{{"n":{n}}}') for n in range(400)]
        write_pool(tmp_path / "a.h5", pool, None, None, sources)
        assert read_pool_sources(tmp_path / "a.h5", np.array([399, 2])) == [sources[399], sources[2]]


def read_files_of(folder):
    ase.io.write(folder / "w.extxyz", waters(2))
    return read_files([(folder / "w.extxyz", ":")], 0, 1)


class TestDataSet:
    STRUCTURES = (
        Structure.create([8, 1, 1], WATER),
        Structure.create([8, 8], np.array([[0, 0, 0], [0, 0, 1.2]]), multiplicity=3),
        Structure.create([1, 1], np.array([[0, 0, 0], [0, 0, 0.8]]), charge=1, multiplicity=2),
    )
    INFO = (
        '{"class":"a b","config_type":"md","frame 1":true,"id":"00012","n":7,"role":"mine","tags":[1,2]}',
        '{"DFT_gap":1.5,"REF_energy":-1.0,"energy":2.0,"name":"x=y \\"z\\""}',
    )

    def labelled(self, rows=slice(0, 3)):
        sources = [Source("b.extxyz", 4, self.INFO[0]), Source("a.extxyz", 0, self.INFO[1]), None][rows]
        structures = self.STRUCTURES[rows]
        n = len(structures)
        return LabelledSet.from_records(structures, ["train"] * n, [0] * n, [{"energy": -7.0}] * n, None, sources)

    def test_hdf5(self, tmp_path):
        self.labelled().write(tmp_path / "a.h5", {})
        found = LabelledSet.read(tmp_path / "a.h5")
        assert found.sources == self.labelled().sources
        found.write(tmp_path / "b.h5", {})
        joined = self.labelled(slice(0, 1)).joined(self.labelled(slice(1, 3)))
        joined.write(tmp_path / "c.h5", {})
        content = (tmp_path / "a.h5").read_bytes()
        assert (tmp_path / "b.h5").read_bytes() == content and (tmp_path / "c.h5").read_bytes() == content
        with h5py.File(tmp_path / "a.h5") as handle:
            assert handle["sources/files"].asstr()[()].tolist() == ["a.extxyz", "b.extxyz"]
            assert handle["sources/file"][()].tolist() == [1, 0, -1] and handle["sources/frame"][()].tolist() == [
                4,
                0,
                -1,
            ]

    def test_files_of_earlier_versions(self, tmp_path):
        self.labelled().write(tmp_path / "a.h5", {})
        with h5py.File(tmp_path / "a.h5", "a") as handle:
            del handle["sources"]
        before = LabelledSet.read(tmp_path / "a.h5")
        assert list(before.sources) == [None] * 3
        assert before.joined(self.labelled(slice(0, 1))).sources == [None] * 3 + list(self.labelled().sources[:1])

    def test_extended_xyz(self, tmp_path):
        write_extxyz(self.labelled(), tmp_path / "a.extxyz")
        first, second, third = ase.io.read(tmp_path / "a.extxyz", ":")
        assert first.info["source_file"] == "b.extxyz" and first.info["source_frame"] == 4
        assert first.info["config_type"] == "md" and first.info["n"] == 7 and first.info["role"] == "train"
        assert first.info["source_role"] == "mine" and first.info["source_class"] == "a b"
        assert first.info["tags"].tolist() == [1, 2] and "id=00012" in (tmp_path / "a.extxyz").read_text()
        assert second.info["name"] == 'x=y "z"'
        # Another label is under no name by which somebody may train on it.
        assert second.info["source_REF_energy"] == -1.0 and second.info["source_DFT_gap"] == 1.5
        assert second.get_potential_energy() == -7.0 and second.info["source_energy"] == 2.0
        assert second.info["REF_energy"] == -7.0, "MACE's name is that of the label, not of the file's energy"
        assert not {"source_REF_energy", "DFT_gap", "source_file"} & set(third.info)

    def test_charge_and_spin_have_the_names_of_mace_and_fairchem(self, tmp_path):
        write_extxyz(self.labelled(), tmp_path / "a.extxyz")
        for atoms, structure in zip(ase.io.read(tmp_path / "a.extxyz", ":"), self.STRUCTURES, strict=True):
            assert atoms.info["total_charge"] == atoms.info["charge"] == structure.charge
            assert (
                atoms.info["total_spin"] == atoms.info["spin"] == atoms.info["multiplicity"] == structure.multiplicity
            )
        again = read_files([(tmp_path / "a.extxyz", ":")], 5, 6)
        assert again.ids.tolist() == [s.structure_id for s in self.STRUCTURES]

    @pytest.mark.parametrize(
        "gone", [("multiplicity",), ("multiplicity", "total_spin"), ("charge", "multiplicity", "spin")]
    )
    def test_each_of_the_names_is_read_alone(self, tmp_path, gone):
        write_extxyz(self.labelled(), tmp_path / "a.extxyz")
        frames = ase.io.read(tmp_path / "a.extxyz", ":")
        for atoms in frames:
            for name in gone:
                del atoms.info[name]
        ase.io.write(tmp_path / "b.extxyz", frames)
        assert read_files([(tmp_path / "b.extxyz", ":")], 5, 6).ids.tolist() == [
            s.structure_id for s in self.STRUCTURES
        ]

    def test_every_merged_label_has_its_own(self, tmp_path):
        sources = [Source("pool.extxyz", n, f'{{"name":"h{n}"}}') for n in range(len(POOL))]
        first = Iteration(tmp_path)
        first.sources = sources
        first.fill([7, 3, 11, 0], failed={3: "timeout"}, tests=[7])
        first.merge(limit=0.5)
        second = first.next()
        second.fill([5, 4])
        second.merge(limit=0.5)
        assert list(second.dataset.sources) == [sources[n] for n in (7, 11, 0, 5, 4)]
