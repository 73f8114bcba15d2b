"""Labels as frames under the names that ASE, MACE, SevenNet and fairchem read without options."""

import ase.io
import numpy as np
import pytest

from quarry.structures.files import read_files
from quarry.structures.frames import frames_of, reference_atoms, write_extxyz, write_frames
from quarry.structures.labelled import LabelledSet
from quarry.structures.sources import Source
from quarry.structures.structure import Structure
from support.data_sets import of_all_kinds


def written(labelled, tmp_path):
    write_extxyz(labelled, tmp_path / "a.extxyz")
    return ase.io.read(tmp_path / "a.extxyz", ":")


def test_mace_s_names_are_those_of_the_results_of_ase(tmp_path):
    labelled = of_all_kinds()
    for row, atoms in enumerate(written(labelled, tmp_path)):
        expected = labelled.label(row)
        assert atoms.info["REF_energy"] == atoms.get_potential_energy() == expected["energy"]
        assert (atoms.arrays["REF_forces"] == expected["forces"]).all() and (
            atoms.get_forces() == expected["forces"]
        ).all()
        assert (atoms.arrays["REF_charges"] == expected["charges"]).all()
        assert atoms.info["REF_dipole"] == pytest.approx(expected["dipole"], abs=1e-15)
        assert atoms.info["total_charge"] == labelled.structures[row].charge
        assert atoms.info["total_spin"] == labelled.structures[row].multiplicity
        assert ("REF_stress" in atoms.info) == ("stress" in expected)
        if "stress" in expected:
            assert atoms.info["REF_stress"].tolist() == atoms.get_stress().tolist()
            assert atoms.get_stress(voigt=False) == pytest.approx(expected["stress"], abs=1e-15)


def test_free_atoms_are_references_of_mace(tmp_path):
    frames = written(of_all_kinds(), tmp_path)
    assert [atoms.info.get("config_type") for atoms in frames] == [
        None,
        None,
        None,
        "IsolatedAtom",
        "IsolatedAtom",
        None,
    ]


def test_the_reference_of_an_element_is_its_lowest_neutral_atom():
    ion = Structure.create([8], np.zeros((1, 3)), charge=-1, multiplicity=2)
    singlet, triplet = (Structure.create([8], np.zeros((1, 3)), multiplicity=m) for m in (1, 3))
    cell = {"cell": 3.0 * np.eye(3), "pbc": [True] * 3}
    crystal, lonely = (Structure.create([29], np.zeros((1, 3)), **{**cell, "cell": c * np.eye(3)}) for c in (2.5, 20.0))
    chosen = [ion, singlet, triplet, crystal, lonely]
    energies = [-2043.0, -2040.0, -2042.0, -50.0, -45.0]
    labelled = LabelledSet.from_records(chosen, ["train"] * 5, [0] * 5, [{"energy": e} for e in energies])
    assert reference_atoms(labelled) == {2, 4}, "no ion, not the excited state, and no crystal of one atom a cell"
    without = LabelledSet.from_records(
        chosen, ["train"] * 5, [0] * 5, [{"energy": e} for e in energies], rejected=frozenset({triplet.structure_id})
    )
    assert reference_atoms(without) == {1, 4}


def test_the_user_s_own_type_of_a_free_atom_is_kept(tmp_path):
    sources = [
        None,
        None,
        None,
        Source("a.extxyz", 3, '{"config_type":"atoms"}'),
        None,
        Source("a.extxyz", 4, '{"config_type":"md"}'),
    ]
    frames = written(of_all_kinds(sources=sources), tmp_path)
    assert frames[3].info["config_type"] == "IsolatedAtom" and frames[3].info["source_config_type"] == "atoms"
    assert frames[5].info["config_type"] == "md"


def test_a_pool_is_read_of_it_again(tmp_path):
    labelled = of_all_kinds()
    write_extxyz(labelled, tmp_path / "a.extxyz")
    again = read_files([(tmp_path / "a.extxyz", ":")], 0, 1)
    assert again.ids.tolist() == labelled.structures.ids.tolist()


def test_no_frames_are_an_empty_file(tmp_path):
    write_frames(tmp_path / "a.extxyz", frames_of(of_all_kinds(), []))
    assert (tmp_path / "a.extxyz").read_bytes() == b""
