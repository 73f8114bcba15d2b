"""Stresses and charges from each engine against independent numbers, in data sets, and computed again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from numpy.typing import NDArray

from quarry.config import load_configuration
from quarry.config.engines.ase import AseLabeling
from quarry.config.engines.replay import ReplayLabeling
from quarry.config.verification import Verification
from quarry.errors import QuarryError
from quarry.labeling.audit.absurd import check_absurd
from quarry.labeling.audit.repeats import label_difference
from quarry.labeling.engines.answers import plain_properties
from quarry.labeling.engines.registry import make_engine
from quarry.labeling.store import LabelStore
from quarry.labeling.wanted import Wanted
from quarry.properties import PROPERTIES, Property
from quarry.stages.verification import CHECK_ROTATIONS, VERIFY, compare_labels, recompute_label, turned_copy
from quarry.structures import Structure
from quarry.structures.files import FileSource, read_files
from quarry.structures.labelled import LabelledSet
from support.campaigns import stand_in_configuration
from support.commands import command_engines
from support.stages import METHOD_ID

GPA, HARTREE_GPA = 160.2176634, 29421.015697
"""GPa in 1 eV/Angstrom^3 (exact in the SI since 2019) and in 1 hartree/bohr^3 (CODATA 2018)."""
VOIGT = [0, 4, 8, 5, 2, 1]
"""Where xx, yy, zz, yz, xz, xy stand in nine numbers."""
JOB = {"base": ".", "threads": 1, "memory_MB": 2000, "walltime_min": 600}
SHEAR = np.array([[0.02, 0.01, -0.015], [0.01, -0.01, 0.02], [-0.015, 0.02, 0.03]])


def strained(atoms: Atoms, strain: NDArray[np.float64]) -> Atoms:
    """Return atoms in a cell that is strained, x' = (1 + e) x."""
    copy = atoms.copy()
    copy.set_cell(atoms.cell @ (np.eye(3) + strain), scale_atoms=True)
    return copy


def copper(seed: int = 0) -> Atoms:
    """A cubic cell of copper that is sheared, its atoms displaced."""
    atoms = strained(bulk("Cu", "fcc", a=3.7, cubic=True), SHEAR)
    atoms.positions += np.random.default_rng(seed).normal(0, 0.05, (4, 3))
    return atoms


def energy(atoms: Atoms) -> float:
    copy = atoms.copy()
    copy.calc = EMT()
    return float(copy.get_potential_energy())


def slope(atoms: Atoms, step: float = 1e-5) -> NDArray[np.float64]:
    """Return the derivative of the energy by the strain over the volume, by differences, shape (3, 3)."""
    stress = np.zeros((3, 3))
    for i in range(3):
        for j in range(3):
            strain = np.zeros((3, 3))
            strain[i, j] += step / 2
            strain[j, i] += step / 2
            stress[i, j] = (energy(strained(atoms, strain)) - energy(strained(atoms, -strain))) / (2 * step)
    return stress / atoms.get_volume()


ATOMS = [copper(seed) for seed in range(3)]
STRUCTURES = [Structure.from_atoms(atoms) for atoms in ATOMS]
STRESSES = [slope(s.to_atoms()) for s in STRUCTURES]
MOLECULE = Structure.from_atoms(molecule("H2O"))


class Charged(Calculator):
    """Charges of the atoms by their distance from the first, which nothing rotates."""

    implemented_properties = ("energy", "charges")

    def calculate(self, atoms=None, properties=("energy",), system_changes=("positions",)) -> None:
        super().calculate(atoms, properties, system_changes)
        distances = np.linalg.norm(self.atoms.positions - self.atoms.positions[0], axis=1)
        self.results = {"energy": float(distances.sum()), "charges": distances - distances.mean()}


def ase_section(
    calculator: str = "ase.calculators.emt:EMT", properties: tuple[str, ...] = ("energy", "stress")
) -> dict:
    return {"engine": "ase", "calculator": calculator, "properties": list(properties), "periodic": True}


def test_the_derivative_is_of_a_size_that_tells() -> None:
    assert all(np.abs(stress).min() > 1e-4 and np.abs(stress - stress.T).max() < 1e-6 for stress in STRESSES)


class TestAse:
    def engine(self, **changes: Any):
        return make_engine(AseLabeling.model_validate(ase_section(**changes)), ".")

    def test_the_stress_is_the_slope_of_the_energy(self):
        engine = self.engine()
        engine.check([29])
        for structure, stress in zip(STRUCTURES, STRESSES, strict=True):
            result = engine.label(structure, 1)
            assert result.status == "ok" and np.array(result.properties["stress"]) == pytest.approx(stress, abs=1e-7)

    @pytest.mark.parametrize("pbc", [False, (True, True, False)])
    def test_what_has_no_volume_has_a_label_without_it(self, pbc):
        atoms = copper()
        atoms.pbc = pbc
        structure = Structure.from_atoms(atoms)
        result = self.engine().label(structure, 1)
        assert result.status == "ok" and result.properties.keys() == {"energy"}
        alone = self.engine(properties=("stress",)).label(structure, 1)
        assert alone.status == "invalid_structure" and "has no stress" in alone.message

    def test_a_calculator_without_stress_is_refused(self):
        with pytest.raises(
            QuarryError, match=r"labeling.properties: .*Charged gives no stress; it knows energy, charges"
        ):
            self.engine(calculator="unit.test_stress:Charged").check([1])

    def test_charges(self):
        engine = self.engine(calculator="unit.test_stress:Charged", properties=("energy", "charges"))
        engine.check([1])
        distances = np.linalg.norm(MOLECULE.positions - MOLECULE.positions[0], axis=1)
        result = engine.label(MOLECULE, 1)
        assert result.properties["charges"] == pytest.approx((distances - distances.mean()).tolist())

    def test_what_else_calculators_give_is_one_line_of_the_table(self, monkeypatch):
        """Energies of the atoms, which no method of ASE's atoms is named after, from the embedded-atom method."""
        monkeypatch.setitem(PROPERTIES, "energies", Property("energies", "eV", "per_atom", "a test", ase=True))
        section = AseLabeling.model_validate(ase_section()).model_copy(update={"properties": ["energy", "energies"]})
        result = make_engine(section, ".").label(STRUCTURES[0], 1)
        assert result.status == "ok" and len(result.properties["energies"]) == 4
        assert sum(result.properties["energies"]) == pytest.approx(energy(STRUCTURES[0].to_atoms()), abs=1e-9)

    def test_configuration(self):
        with pytest.raises(ValueError, match="stress is of periodic structures; set periodic: true, or remove it"):
            AseLabeling.model_validate({**ase_section(), "periodic": False})
        with pytest.raises(ValueError, match="'virial' is nothing that calculators of ASE give; known are energy, "):
            AseLabeling.model_validate(ase_section(properties=("virial",)))

    def test_the_identity_of_methods_is_what_it_was(self):
        """Of the version before there were stresses."""
        section = {"engine": "ase", "calculator": "ase.calculators.emt:EMT", "properties": ["forces", "energy"]}
        assert make_engine(AseLabeling.model_validate(section), ".").method_identity() == {
            "engine": "ase",
            "calculator": "ase.calculators.emt:EMT",
            "arguments": {},
            "files": {},
            "properties": ["energy", "forces"],
            "charge_key": None,
            "multiplicity_key": None,
        }


PROGRAM = """
import json, sys
from ase.calculators.emt import EMT
from ase.io import read, write

atoms = read("structure.xyz")
atoms.calc = EMT()
energy = atoms.get_potential_energy()
form = sys.argv[1]
if form == "frame":
    atoms.get_stress()
    atoms.get_forces()
    write("out.extxyz", atoms)
else:
    answer = {"energy": energy}
    if atoms.pbc.all():
        stress = atoms.get_stress(voigt=form == "voigt") * 160.2176634
        answer["stress in GPa"] = (stress.ravel() if form == "nine" else stress).tolist()
    json.dump(answer, sys.stdout)
"""


class TestCommand:
    @pytest.fixture
    def engine(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        make = command_engines(tmp_path)
        (tmp_path / "campaign" / "program.py").write_text(PROGRAM)

        def of(form: str, output: dict[str, Any]):
            return make(f"{sys.executable} $base/program.py {form}", output, periodic=True)

        return of

    @pytest.mark.parametrize("form", ["full", "nine", "voigt"])
    def test_json_in_gigapascal(self, engine, form):
        output = {
            "file": "stdout.txt",
            "format": "json",
            "keys": {"energy": "energy", "stress": "stress in GPa"},
            "units": {"stress": "gpa"},
        }
        of_this_form = engine(form, output)
        result = of_this_form.label(STRUCTURES[0], 1)
        assert result.status == "ok", result.message
        assert np.array(result.properties["stress"]) == pytest.approx(STRESSES[0], abs=1e-7)
        if form == "full":
            hydrogen = Structure.create([1, 1], [[0, 0, 0], [0, 0, 1.0]])
            assert of_this_form.label(hydrogen, 1).properties.keys() == {"energy"}

    def test_frames_of_ase(self, engine):
        result = engine("frame", {"file": "out.extxyz", "format": "extxyz"}).label(STRUCTURES[1], 1)
        assert result.status == "ok", result.message
        assert result.properties.keys() == {"energy", "forces", "stress"}
        assert np.array(result.properties["stress"]) == pytest.approx(STRESSES[1], abs=1e-7)


class TestReplay:
    def label(self, path: Path, columns: dict[str, Any], structure: Structure, **keys: Any):
        section = {"engine": "replay", "file": path.name, "columns": columns, **keys}
        return make_engine(ReplayLabeling.model_validate(section), path.parent).label(structure, 1)

    def frames(self, path: Path) -> Path:
        frames = []
        for structure, stress in zip(STRUCTURES, STRESSES, strict=True):
            atoms = structure.to_atoms()
            atoms.info["REF_stress"] = stress * GPA * 10
            atoms.calc = EMT()
            atoms.get_stress()
            frames.append(atoms)
        water = MOLECULE.to_atoms()
        water.calc = SinglePointCalculator(water, energy=-1.0)
        ase.io.write(path, [*frames, water])
        return path

    def test_frames_that_ase_wrote(self, tmp_path):
        path = self.frames(tmp_path / "a.extxyz")
        for structure, stress in zip(STRUCTURES, STRESSES, strict=True):
            result = self.label(path, {"energy": "energy", "stress": "stress"}, structure)
            assert np.array(result.properties["stress"]) == pytest.approx(stress, abs=1e-7)
            named = self.label(path, {"stress": "REF_stress"}, structure, units={"stress": "kbar"})
            assert np.array(named.properties["stress"]) == pytest.approx(stress, abs=1e-7)

    def test_only_a_crystal_is_none_without_it(self, tmp_path):
        path = self.frames(tmp_path / "a.extxyz")
        columns = {"energy": "energy", "stress": "stress"}
        assert self.label(path, columns, MOLECULE).properties == {"energy": -1.0}
        frames = ase.io.read(path, ":")
        del frames[0].calc.results["stress"]
        ase.io.write(tmp_path / "b.extxyz", frames)
        result = self.label(tmp_path / "b.extxyz", columns, STRUCTURES[0])
        assert result.status == "engine_error" and "has no stress" in result.message

    def by_id(self, folder: Path, file: str, stress: str | list[str]):
        """An engine that finds the rows of a table by their ids."""
        section = {"engine": "replay", "file": file, "columns": {"energy": "E", "stress": stress}, "match": "id"}
        settings = ReplayLabeling.model_validate({**section, "units": {"stress": "hartree/bohr^3"}})
        return make_engine(settings, folder)

    @pytest.mark.parametrize("form", ["full", "nine", "voigt", "columns"])
    def test_arrays(self, tmp_path, form):
        """Not of a structure without a volume, whatever stands in its row."""
        full = np.array([*STRESSES, np.full((3, 3), np.nan)]) * GPA / HARTREE_GPA
        nine = full.reshape(4, 9)
        columns = {"full": full, "nine": nine, "voigt": nine[:, VOIGT], "columns": nine[:, VOIGT]}[form]
        arrays = {f"s{i}": column for i, column in enumerate(columns.T)} if form == "columns" else {"S": columns}
        ids = np.array([s.structure_id for s in (*STRUCTURES, MOLECULE)], dtype="S20")
        np.savez(tmp_path / "t.npz", E=np.arange(4.0), structure_id=ids, **arrays)
        engine = self.by_id(tmp_path, "t.npz", "S" if len(arrays) == 1 else sorted(arrays))
        for structure, expected in zip(STRUCTURES, STRESSES, strict=True):
            result = engine.label(structure, 1)
            assert result.status == "ok", result.message
            assert np.array(result.properties["stress"]) == pytest.approx(expected, rel=1e-8)
        assert engine.label(MOLECULE, 1).properties == {"energy": 3.0}

    def test_columns_of_texts(self, tmp_path):
        names = ["xx", "yy", "zz", "yz", "xz", "xy"]
        lines = [",".join(["structure_id", "E", *names])]
        for structure, stress in zip(STRUCTURES, STRESSES, strict=True):
            numbers = [repr(float(x)) for x in stress.ravel()[VOIGT] * GPA / HARTREE_GPA]
            lines.append(",".join([structure.structure_id, "1.0", *numbers]))
        (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
        engine = self.by_id(tmp_path, "t.csv", names)
        for structure, expected in zip(STRUCTURES, STRESSES, strict=True):
            found = engine.label(structure, 1).properties["stress"]
            assert np.array(found) == pytest.approx(expected, rel=1e-7, abs=1e-9)
        with pytest.raises(QuarryError, match=r"columns.stress: 5 numbers for each structure in .*; stress has 6 or 9"):
            self.by_id(tmp_path, "t.csv", names[:5]).check([29])

    @pytest.mark.parametrize("ragged", [True, False])
    def test_charges_of_tables(self, tmp_path, ragged):
        rng = np.random.default_rng(3)
        waters = [Structure.create([8, 1, 1], rng.normal(0, 1, (3, 3))) for _ in range(2)]
        charges = rng.normal(size=(2, 3))
        positions = np.array([s.positions for s in waters])
        arrays: dict[str, Any] = {"Z": np.array([8, 1, 1]), "R": positions, "q": charges}
        geometry = {"numbers": "Z", "positions": "R"}
        if ragged:
            arrays = {"Z": np.tile([8, 1, 1], 2), "R": positions.reshape(-1, 3), "q": charges.ravel(), "n": [0, 3, 6]}
            geometry["offsets"] = "n"
        np.savez(tmp_path / "t.npz", **arrays)
        for structure, expected in zip(waters, charges, strict=True):
            result = self.label(tmp_path / "t.npz", {"charges": "q"}, structure, geometry=geometry)
            assert result.status == "ok" and result.properties["charges"] == expected.tolist()
        with pytest.raises(ValueError, match=r"text.charges: numbers for each atom are read from a file"):
            ReplayLabeling.model_validate(
                {"engine": "replay", "text": {"charges": "q.dat"}, "match": "row", "structures": ["a.xyz"]}
            )


class TestAnswers:
    def test_shapes_of_a_tensor(self):
        full = STRESSES[0]
        voigt = full.ravel()[VOIGT]
        symmetric = (full + full.T) / 2
        for answer in (full, full.ravel(), full.tolist()):
            assert np.array_equal(plain_properties({"stress": answer}, 4)["stress"], symmetric)
        assert np.array(plain_properties({"stress": voigt}, 4)["stress"]) == pytest.approx(full, abs=1e-9)

    @pytest.mark.parametrize(
        ("stress", "reason"),
        [
            (np.zeros((4, 3)), r"stress has the shape \(4, 3\) instead of \(3, 3\)"),
            (1.0, r"stress has the shape \(\) instead of \(3, 3\)"),
            ([[1, 0.5, 0], [0, 1, 0], [0, 0, 1]], "stress is not symmetric: components differ by 0.5 eV/Angstrom"),
            (None, "stress is no real number: None"),
        ],
    )
    def test_what_is_no_stress(self, stress, reason):
        with pytest.raises(ValueError, match=reason):
            plain_properties({"stress": stress}, 4)

    def test_only_a_target_needs_it(self):
        assert Wanted(["energy"]).lacking({"energy": 1.0}) == ""
        assert Wanted(["energy", "stress"]).lacking({"energy": 1.0}) == "no stress, which the target needs"


class TestDataSet:
    @pytest.fixture
    def written(self, tmp_path) -> tuple[LabelledSet, Path]:
        everything = [*STRUCTURES, MOLECULE]
        properties: list[dict[str, Any]] = [{"energy": -1.0, "stress": stress.tolist()} for stress in STRESSES]
        labels = LabelledSet.from_records(
            everything, ["train"] * 4, range(4), [*properties, {"energy": -2.0, "charges": [-0.5, 0.25, 0.25]}]
        )
        labels.write(tmp_path / "a.h5", {})
        labels.write_extxyz(tmp_path / "a.extxyz")
        return labels, tmp_path / "a.extxyz"

    def test_ase_gives_it_back(self, written):
        """And so MACE, which takes energies, forces and stresses of frames from what ASE gives back."""
        labels, path = written
        assert labels.properties["stress"].shape == (4, 3, 3) and labels.properties["charges"].shape == (15,)
        frames = ase.io.read(path, ":")
        for atoms, stress in zip(frames[:3], STRESSES, strict=True):
            assert atoms.get_stress(voigt=False) == pytest.approx(stress, abs=1e-8)
            assert atoms.get_stress() == pytest.approx(stress.ravel()[VOIGT], abs=1e-8)
        assert "stress" not in frames[3].calc.results and frames[3].get_charges().tolist() == [-0.5, 0.25, 0.25]

    def test_it_can_be_a_pool(self, written):
        labels, path = written
        again = read_files([FileSource(path, ":")], 0, 1, "pool.files")
        assert [s.structure_id for s in again] == labels.structures.ids.tolist()

    def test_it_can_be_replayed(self, written):
        labels, path = written
        section = {"engine": "replay", "file": path.name, "columns": {"energy": "energy", "stress": "stress"}}
        engine = make_engine(ReplayLabeling.model_validate(section), path.parent)
        for row, structure in enumerate(STRUCTURES):
            found = engine.label(structure, 1).properties["stress"]
            assert np.array(found) == pytest.approx(labels.record(row)["stress"], abs=1e-8)


class TestAudit:
    def test_a_stress_beyond_all_physics(self):
        labels = [
            {"energy": -1.0, "stress": (stress * (1e5 if k == 1 else 1)).tolist()} for k, stress in enumerate(STRESSES)
        ]
        found = check_absurd(LabelledSet.from_records(STRUCTURES, ["train"] * 3, [0] * 3, labels))
        assert [(f.structure_id, f.check, f.unit) for f in found] == [
            (STRUCTURES[1].structure_id, "absurd_stress", "eV/Angstrom^3")
        ]
        assert found[0].words.startswith("stress off the others of ")

    def test_the_labels_of_rotated_copies_are_the_same(self):
        copy, rotation = turned_copy(STRUCTURES[0], np.random.default_rng(0))
        assert not np.allclose(slope(copy.to_atoms()), STRESSES[0], atol=1e-3)
        assert slope(copy.to_atoms()) == pytest.approx(rotation @ STRESSES[0] @ rotation.T, abs=1e-7)
        name, difference = label_difference({"stress": STRESSES[0]}, {"stress": slope(copy.to_atoms())})
        assert name == "stress" and difference < 1e-7


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    folder = tmp_path_factory.mktemp("again")
    configuration = load_configuration(stand_in_configuration(labeling=ase_section()), "campaign.yaml")
    engine = make_engine(configuration.labeling, ".")
    properties = [engine.label(s, 1).properties for s in STRUCTURES]
    LabelledSet.from_records(STRUCTURES, ["train"] * 3, [0] * 3, properties).write(folder / "dataset.h5", {})
    paths = {}
    for check in (VERIFY, CHECK_ROTATIONS):
        paths[check] = [str(folder / f"{check}_{n}.json") for n in range(3)]
        for n, path in enumerate(paths[check]):
            recompute_label(configuration, check, n, str(folder / "dataset.h5"), path, **JOB)
    return folder, properties, paths


class TestComputedAgain:
    """`snakemake verify` and `check_rotations` of a campaign with stresses."""

    def compare(self, case, check: str, dataset: str = "dataset.h5", **settings: Any):
        folder, _, paths = case
        store = LabelStore(folder / "store", METHOD_ID, {})
        return compare_labels(Verification(**settings), check, paths[check], str(folder / dataset), store)

    @pytest.mark.parametrize("check", [VERIFY, CHECK_ROTATIONS])
    def test_right_labels(self, case, check):
        rows = self.compare(case, check)
        assert {row.quantity for row in rows} == {"energy", "stress"} and not any(row.bad for row in rows)
        stresses = [row for row in rows if row.quantity == "stress"]
        assert len(stresses) == 3 and all(row.difference < 1e-10 for row in stresses)
        assert {row.unit for row in stresses} == {"eV/Angstrom^3"}

    @pytest.mark.parametrize("check", [VERIFY, CHECK_ROTATIONS])
    def test_a_wrong_sign_and_a_component_in_another_place(self, case, check):
        folder, properties, _ = case
        wrong = [{**p, "stress": np.array(p["stress"])} for p in properties]
        wrong[0]["stress"] = -wrong[0]["stress"]
        wrong[2]["stress"] = wrong[2]["stress"][[1, 0, 2]][:, [1, 0, 2]]
        LabelledSet.from_records(STRUCTURES, ["train"] * 3, [0] * 3, wrong).write(folder / "wrong.h5", {})
        bad = {row.structure_id for row in self.compare(case, check, "wrong.h5") if row.bad}
        assert bad == {STRUCTURES[0].structure_id, STRUCTURES[2].structure_id}

    def test_tolerances_can_be_set(self, case):
        folder, properties, _ = case
        off = [{**p, "stress": np.array(p["stress"]) + 1e-4 * np.eye(3)} for p in properties]
        LabelledSet.from_records(STRUCTURES, ["train"] * 3, [0] * 3, off).write(folder / "off.h5", {})
        assert sum(row.bad for row in self.compare(case, VERIFY, "off.h5")) == 3
        assert not any(row.bad for row in self.compare(case, VERIFY, "off.h5", tolerances={"stress": 1e-3}))
        assert not any(row.bad for row in self.compare(case, CHECK_ROTATIONS, "off.h5"))
        rows = self.compare(case, CHECK_ROTATIONS, "off.h5", rotation_tolerances={"stress": 1e-5})
        assert sum(row.bad for row in rows) == 3
