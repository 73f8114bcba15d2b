"""Charge and spin in tables, in ASE databases and in files of programs."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from ase.build import molecule
from ase.db import connect

from quarry.config.pool import FilePool
from quarry.errors import QuarryError
from quarry.stages.pool import state_keys
from quarry.structures import Structure
from quarry.structures.files import FileSource, read_files
from quarry.structures.labelled import LabelledSet
from quarry.structures.program_files import state_in_text


class TestTables:
    Z, R = np.array([8, 8]), np.array([[[0, 0, 0], [0, 0, 1.2 + n / 50]] for n in range(3)])

    def read(self, folder, index=":", keys=None, **columns):
        np.savez(folder / "a.npz", Z=self.Z, R=self.R, **{name: np.asarray(values) for name, values in columns.items()})
        pool = FilePool.model_validate({"source": "file", "files": ["a.npz"], **(keys or {})})
        found = read_files([(folder / "a.npz", index)], pool.charge, pool.multiplicity, keys=state_keys(pool))
        return list(zip(found.charges.tolist(), found.multiplicities.tolist(), strict=True))

    def test_a_number_for_each_row(self, tmp_path):
        assert self.read(tmp_path, total_charge=[0, 1, -1], spin=[3, 2, 2]) == [(0, 3), (1, 2), (-1, 2)]
        assert self.read(tmp_path, "1:", charges=[0, 1, -1], multiplicities=[3, 2, 2]) == [(1, 2), (-1, 2)]
        assert self.read(tmp_path, charge=[[0], [0], [0]], multiplicity=[[1.0], [3.0], [1.0]])[1] == (0, 3)

    def test_one_number_for_all(self, tmp_path):
        assert self.read(tmp_path, charge=2, mult=[3]) == [(2, 3)] * 3

    def test_sums_of_atoms(self, tmp_path):
        assert self.read(tmp_path, initial_magmoms=np.ones((3, 2))) == [(0, 3)] * 3

    def test_charges_of_atoms_are_labels(self, tmp_path):
        assert self.read(tmp_path, charges=np.full((3, 2), 0.5), mulliken_charges=np.ones((3, 2))) == [(0, 1)] * 3

    def test_refused(self, tmp_path):
        for columns, message in (
            ({"Q": [0, 1, 0]}, "1 structure carries Q = 1, which looks like a charge"),
            ({"spin": [2, 2, 2]}, "3 structures carry spin = 2, read as multiplicity 2"),
            ({"charge": [0, 0, 1], "total_charge": [0, 0, 0]}, "1 structure carries charge = 1 and total_charge = 0"),
        ):
            with pytest.raises(QuarryError, match=message):
                self.read(tmp_path, **columns)
        assert self.read(tmp_path, ":1", Q=[0, 1, 0]) == [(0, 1)]

    def test_keys(self, tmp_path):
        keys = {"charge_key": "Q", "multiplicity_key": "M"}
        assert self.read(tmp_path, keys=keys, Q=[0, 2, 0], M=[1, 3, 3]) == [(0, 1), (2, 3), (0, 3)]

    def test_our_own_hdf5(self, tmp_path):
        structures = [Structure.create(self.Z, r, multiplicity=3) for r in self.R]
        LabelledSet.from_records(structures, ["train"] * 3, [0] * 3, [{"energy": 1.0}] * 3).write(tmp_path / "d.h5", {})
        names = tuple(f"structures/{name}" for name in ("numbers", "positions", "offsets"))
        found = read_files([FileSource(tmp_path / "d.h5", ":", names)], 0, 1)
        assert found.ids.tolist() == [s.structure_id for s in structures]

    def test_columns_of_other_geometries_are_another_thing(self, tmp_path):
        with h5py.File(tmp_path / "a.h5", "w") as handle:
            handle["set/Z"], handle["set/R"], handle["other/charge"] = self.Z, self.R, [1, 1, 1]
            handle["other/Z"], handle["other/R"] = self.Z, self.R
        assert (
            read_files([FileSource(tmp_path / "a.h5", ":", ("set/Z", "set/R", "o"))], 0, 1).charges.tolist() == [0] * 3
        )


def test_key_value_pairs_of_a_database(tmp_path):
    with connect(tmp_path / "a.db") as database:
        for name, spin in (("O2", 3), ("H2O", 1)):
            database.write(molecule(name), total_charge=0, spin=spin, name=name)
    found = read_files([(tmp_path / "a.db", ":")], 0, 1)
    assert found.multiplicities.tolist() == [3, 1]
    assert read_files([(tmp_path / "a.db", "-1")], 0, 1).ids[0] == found.ids[1]
    assert read_files([(tmp_path / "a.db", "name=O2")], 0, 1).ids.tolist() == [found.ids[0]]


GAUSSIAN = """ Entering Gaussian System, Link 0=g16
 Charge =  1 Multiplicity = 2
                          Input orientation:
 ---------------------------------------------------------------------
 Center     Atomic      Atomic             Coordinates (Angstroms)
 Number     Number       Type             X           Y           Z
 ---------------------------------------------------------------------
      1          8           0        0.000000    0.000000    0.000000
      2          8           0        0.000000    0.000000    1.200000
 ---------------------------------------------------------------------
 SCF Done:  E(RHF) =  -147.0     A.U. after    8 cycles
"""
MOLFILE = """name
  prog

  2  1  0  0  0  0  0  0  0  0999 V2000
    0.0000    0.0000    0.0000 O   0  0
    0.0000    0.0000    1.0000 H   0  0
  1  2  1  0
{}M  END
$$$$
"""
PROGRAMS = {
    "Gaussian's output": ("a.log", GAUSSIAN, (1, 2)),
    "Gaussian's input": ("a.com", "# b3lyp\n\ntitle 5\n\n-1 2\nO 0.0 0.0 0.0\nO 0.0 0.0 1.2\n\n", (-1, 2)),
    "an ion in a molfile": ("a.sdf", MOLFILE.format("M  CHG  1   1  -1\n"), (-1, 1)),
    "a radical in a molfile": ("a.mol", MOLFILE.format("M  RAD  1   1   2\n").partition("$$$$")[0], (0, 2)),
    "a molfile that says nothing": ("a.sdf", MOLFILE.format(""), (0, 1)),
}


class TestPrograms:
    @pytest.mark.parametrize(("name", "text", "state"), PROGRAMS.values(), ids=PROGRAMS)
    def test_what_ase_leaves_out(self, tmp_path, name, text, state):
        (tmp_path / name).write_text(text)
        found = read_files([(tmp_path / name, ":")], 0, 1)
        assert (found.charges[0], found.multiplicities[0]) == state

    def test_the_output_of_orca(self, tmp_path):
        """As in its section SCF SETTINGS; ASE needs more of the output than that to find a geometry."""
        lines = " Total Charge           Charge          ....   -1\n Multiplicity           Mult            ....    2\n"
        (tmp_path / "a.out").write_text(lines)
        assert state_in_text(tmp_path / "a.out") == {"charge": -1, "multiplicity": 2}

    def test_several_statements_are_refused(self, tmp_path):
        (tmp_path / "a.log").write_text(GAUSSIAN + " Charge =  0 Multiplicity = 2\n")
        with pytest.raises(QuarryError, match=r"charge = 0 or 1, which is no whole number"):
            read_files([(tmp_path / "a.log", ":")], 0, 1)
        (tmp_path / "a.sdf").write_text(MOLFILE.format("M  RAD  2   1   2   2   2\n"))
        with pytest.raises(QuarryError, match=r"spin = 2 radical centres, which is no whole number"):
            read_files([(tmp_path / "a.sdf", ":")], 0, 1)
