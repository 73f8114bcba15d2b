"""Stresses and charges from each engine against independent numbers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from quarry.config.engines.ase import AseLabeling
from quarry.config.engines.replay import ReplayLabeling
from quarry.errors import QuarryError
from quarry.labeling.engines.registry import make_engine
from quarry.properties import PROPERTIES, Property
from quarry.structures import Structure
from support.commands import command_engines
from support.crystals import GPA, HARTREE_GPA, MOLECULE, STRESSES, STRUCTURES, VOIGT, ase_section, copper, energy


class Charged(Calculator):
    """Charges of the atoms by their distance from the first, which nothing rotates."""

    implemented_properties = ("energy", "charges")

    def calculate(self, atoms=None, properties=("energy",), system_changes=("positions",)) -> None:
        super().calculate(atoms, properties, system_changes)
        distances = np.linalg.norm(self.atoms.positions - self.atoms.positions[0], axis=1)
        self.results = {"energy": float(distances.sum()), "charges": distances - distances.mean()}


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
