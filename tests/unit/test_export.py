"""``quarry export``: labels of a campaign in formats of other programs, read back by the programs' own readers."""

import json
import os
import subprocess
import sys
import tomllib

import ase.db
import ase.io
import h5py
import numpy as np
import pandas
import pytest

from quarry.command_line.main import main
from quarry.product.formats import formats
from quarry.product.formats.base import Package
from quarry.structures.files import read_files
from quarry.structures.labelled import LabelledSet
from quarry.structures.structure import Structure
from support.campaigns import REPOSITORY
from support.data_sets import campaign_of, of_all_kinds, structures
from support.faults import fill, small_disk

ENDINGS = {"extxyz": "a.extxyz", "ase-db": "a.db", "qcschema": "a.json", "table": "a.csv", "hdf5": "a.h5"}
LABELLED = of_all_kinds()
MOLECULES = LABELLED.subset(np.array([0, 1, 3, 4, 5]))
IN_ENVIRONMENT = [
    pytest.param(
        name,
        marks=[
            pytest.mark.skipif(not package.is_installed, reason=f"{package.module} is not installed")
            for ending, package in entry.packages
            if not ending
        ],
    )
    for name, entry in formats().items()
]


def files_in(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def exported(folder, name, labelled=LABELLED, *more):
    campaign_of(folder / "mine", labelled, identity={"validation": {"fraction": 0.6}})
    target = folder / ENDINGS[name]
    assert main(["export", str(folder / "mine"), "--format", name, "--to", str(target), *more]) == 0
    return target


def test_extended_xyz(tmp_path):
    frames = ase.io.read(exported(tmp_path, "extxyz"), ":")
    assert {atoms.info["split"] for atoms in frames} == {"train", "validation", "test"} and len(frames) == 6
    assert frames[0].info["REF_energy"] == LABELLED.label(0)["energy"]


def test_database_of_ase(tmp_path):
    target = exported(tmp_path, "ase-db")
    with ase.db.connect(target) as database:
        rows = list(database.select())
        assert [row.split for row in database.select(split="test")] == ["test"]
    assert len(rows) == 6
    for number, row in enumerate(rows):
        structure, label = LABELLED.structures[number], LABELLED.label(number)
        assert row.energy == label["energy"] and row.homo_eV == label["homo"]
        assert (row.forces == label["forces"]).all() and (row.charges == label["charges"]).all()
        assert row.dipole == pytest.approx(label["dipole"], abs=1e-15)
        assert (row.total_charge, row.total_spin) == (structure.charge, structure.multiplicity)
        assert row.structure_id == f"s{structure.structure_id}"
        assert (row.get("stress") is not None) == any(structure.pbc)
        if any(structure.pbc):
            assert row.toatoms().get_stress(voigt=False) == pytest.approx(label["stress"], abs=1e-15)
    assert read_files([(target, ":")], 0, 1).ids.tolist() == LABELLED.structures.ids.tolist(), "a pool of Quarry again"


@pytest.mark.skipif(not formats()["qcschema"].packages[0][1].is_installed, reason="qcelemental is not installed")
def test_qcschema(tmp_path):
    from qcelemental.models import AtomicResult
    from qcelemental.physical_constants import PhysicalConstantsContext

    constants = PhysicalConstantsContext("CODATA2014")
    hartree, bohr = constants.conversion_factor("hartree", "eV"), constants.conversion_factor("bohr", "angstrom")
    found = [AtomicResult(**entry) for entry in json.loads(exported(tmp_path, "qcschema", MOLECULES).read_text())]
    assert len(found) == len(MOLECULES)
    for number, result in enumerate(found):
        structure, label = MOLECULES.structures[number], MOLECULES.label(number)
        assert result.properties.return_energy * hartree == pytest.approx(label["energy"], rel=1e-8)
        assert -result.return_result * hartree / bohr == pytest.approx(np.array(label["forces"]), rel=1e-7, abs=1e-10)
        assert result.molecule.geometry * bohr == pytest.approx(structure.positions, rel=1e-7, abs=1e-9)
        assert (result.molecule.molecular_charge, result.molecule.molecular_multiplicity) == (
            structure.charge,
            structure.multiplicity,
        )
        assert (result.model.method, result.model.basis) == ("b3lyp", "6-31g*")
        assert result.extras["properties"]["homo"] == label["homo"]


def test_qcschema_holds_no_cells(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Package, "is_installed", True)
    campaign_of(tmp_path / "mine", LABELLED)
    assert main(["export", str(tmp_path / "mine"), "--format", "qcschema", "--to", str(tmp_path / "a.json")]) == 1
    assert "periodic" in capsys.readouterr().err and not (tmp_path / "a.json").exists()


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_table(name, tmp_path, monkeypatch):
    monkeypatch.setitem(ENDINGS, "table", name)
    table = pandas.read_csv(exported(tmp_path, "table"))
    for row in table.itertuples():
        label = LABELLED.label(row.Index)
        assert row.energy_eV == label["energy"] and json.loads(row.forces_eV_A) == np.array(label["forces"]).tolist()
        assert row.dipole_z_eA == label["dipole"][2]
        assert (row.charge, row.multiplicity) == (
            LABELLED.structures[row.Index].charge,
            LABELLED.structures[row.Index].multiplicity,
        )
        assert np.isnan(row.stress_yz_eV_A3) if "stress" not in label else row.stress_yz_eV_A3 == label["stress"][1][2]


def test_a_table_says_along_which_vectors_a_slab_is_periodic(tmp_path):
    crystal = structures()[2]
    pbc = [[True, True, False], [False, False, True], [True] * 3]
    cells = [Structure.create(crystal.numbers, crystal.positions, cell=crystal.cell, pbc=axes) for axes in pbc]
    labels = [{"energy": float(number)} for number in range(4)]
    mixed = LabelledSet.from_records([*cells, structures()[0]], ["train"] * 4, [0] * 4, labels)
    table = pandas.read_csv(exported(tmp_path, "table", mixed))
    assert table.periodic.tolist() == [True] * 3 + [False]
    for number, axes in enumerate(pbc):
        again = Structure.create(
            json.loads(table.numbers[number]),
            json.loads(table.positions_A[number]),
            cell=json.loads(table.cell_A[number]),
            pbc=json.loads(table.pbc[number]),
        )
        assert json.loads(table.pbc[number]) == axes
        assert f"s{again.structure_id}" == table.structure_id[number]
    assert table[["pbc", "cell_A"]].isna().iloc[3].all()


def test_hdf5(tmp_path):
    target = exported(tmp_path, "hdf5")
    again = LabelledSet.read(target)
    assert again.structures.ids.tolist() == LABELLED.structures.ids.tolist()
    assert all(
        (again.properties[name] == values)[np.isfinite(values)].all() for name, values in LABELLED.properties.items()
    )
    with h5py.File(target) as handle:
        assert handle["split"][()].astype(str)[-1] == "test" and handle.attrs["method_id"] == "fedcba9876543210"


@pytest.mark.parametrize("name", IN_ENVIRONMENT)
def test_a_full_disk_is_one_line(name, tmp_path):
    campaign_of(tmp_path / "mine", MOLECULES)
    command = "import sys; from quarry.command_line.main import main; sys.exit(main(sys.argv[1:]))"
    with small_disk(tmp_path / "disk", 64) as disk:
        filler = fill(disk)
        found = subprocess.run(
            [
                sys.executable,
                "-c",
                command,
                "export",
                str(tmp_path / "mine"),
                f"--format={name}",
                f"--to={disk / ENDINGS[name]}",
            ],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY / "workflow_scripts")},
            capture_output=True,
            text=True,
        )
        assert list(disk.iterdir()) == [filler]
    assert found.returncode == 1
    (line,) = found.stderr.splitlines()
    assert "cannot be written" in line and "make room" in line


@pytest.mark.parametrize("name", IN_ENVIRONMENT)
def test_the_same_labels_give_the_same_bytes(name, tmp_path):
    both = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        both.append(exported(tmp_path / folder, name, MOLECULES).read_bytes())
    assert both[0] == both[1]


@pytest.mark.parametrize("name", IN_ENVIRONMENT)
def test_one_part_and_no_label_that_is_left_out(name, tmp_path, capsys):
    out = LabelledSet.from_records(
        structures()[:2] + structures()[5:],
        ["train", "train", "test"],
        [0] * 3,
        [{"energy": -1.0}] * 3,
        rejected=frozenset({structures()[0].structure_id}),
    )
    exported(tmp_path, name, out)
    assert "wrote 2 of them" in capsys.readouterr().out
    (tmp_path / "part").mkdir()
    exported(tmp_path / "part", name, out, "--split", "test")
    assert "wrote 1 of them" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--to", "there.csv"], "there already"),
        (["--to", "a.txt"], "ends in .csv, .csv.gz or .parquet"),
        (["--to", "no/folder/a.csv"], "no folder"),
        (["--to", "a.csv", "--arm", "other"], "no arm other"),
        (["--to", "a.csv", "--split", "train"], "nothing is written"),
    ],
)
def test_bad_input_is_one_line_and_no_write(more, words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    campaign_of(tmp_path / "mine", LABELLED.subset(np.array([5])))
    (tmp_path / "there.csv").write_text("mine")
    before = files_in(tmp_path)
    assert main(["export", "mine", "--format", "table", *more]) == 1
    out, err = capsys.readouterr()
    assert words in err and err.count("\n") == 1 and out == ""
    assert files_in(tmp_path) == before


def test_a_package_that_is_not_installed_is_named_with_the_line_to_type(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Package, "is_installed", False)
    campaign_of(tmp_path / "mine", MOLECULES)
    assert main(["export", str(tmp_path / "mine"), "--format", "qcschema", "--to", str(tmp_path / "a.json")]) == 1
    assert "-m pip install qcelemental==" in capsys.readouterr().err


def test_packages_are_those_of_the_extra():
    extra = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]["export"]
    assert {p.requirement for entry in formats().values() for _, p in entry.packages} == set(extra)


@pytest.mark.parametrize("command", ["export", "card"])
@pytest.mark.parametrize("state", ["empty", "manifest", "damaged", "no_labels", "running", "cut", "older"])
def test_campaigns_in_every_state(command, state, tmp_path, capsys):
    folder = tmp_path / "mine"
    folder.mkdir()
    if state not in ("empty", "damaged"):
        paths = campaign_of(
            folder, LABELLED, iterations={"manifest": 0, "no_labels": 0}.get(state, 2), finished=state == "older"
        )
    if state == "damaged":
        (folder / "campaign.json").write_text('{"identity": [')
    if state == "no_labels":
        (folder / "main" / "iter_000").mkdir(parents=True)
    if state == "cut":
        place = tmp_path / "mine" / "main" / "iter_001" / "dataset.h5"
        place.write_bytes(place.read_bytes()[:3000])
    if state == "older":
        assert not (folder / "dataset_card.md").exists()
    before = files_in(folder)
    more = ["--format", "extxyz", "--to", str(tmp_path / "a.extxyz")] if command == "export" else []
    code = main([command, str(folder), *more])
    out, err = capsys.readouterr()
    assert files_in(folder) == before, "the campaign is only read"
    if state in ("running", "cut", "older"):
        assert code == 0 and err == ""
        assert ("not finished" in out) == (state != "older")
        assert ("passed over" in out) == (state == "cut") and paths.root in out + paths.root
    else:
        assert code == 1 and out == "" and err.startswith("Quarry: ") and err.count("\n") == 1
        assert not (tmp_path / "a.extxyz").exists()
