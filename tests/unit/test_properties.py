"""The table of properties: what every line must say, and that one more line is a property everywhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import ase.io
import numpy as np
import pytest

import quarry.properties
from quarry.config.engines.command import CommandOutput
from quarry.config.engines.replay import ReplayLabeling
from quarry.config.units import UNITS, unit_factor, units_of
from quarry.config.verification import Verification
from quarry.labeling.engines.answers import converted, plain_properties
from quarry.labeling.plain import check_numbers
from quarry.labeling.record import LabelRecord
from quarry.properties import PROPERTIES, Property, Shape, answerable, given_by, statable
from quarry.structures import Structure
from quarry.structures.frames import write_extxyz
from quarry.structures.labelled import LabelledSet

WATER = Structure.create([8, 1, 1], np.random.default_rng(1).normal(0, 1, (3, 3)))
HYDROGEN = Structure.create([1, 1], np.random.default_rng(2).normal(0, 1, (2, 3)))
BORN = Property("born_charges", "e", "per_atom_vector", "a test")
ENERGIES = Property("atomic_energies", "eV", "per_atom", "a test", extxyz="atomic_energies_eV")
POLARISABILITY = Property("polarisability", "1", "tensor", "a test")


@pytest.mark.parametrize("entry", PROPERTIES.values(), ids=lambda entry: entry.name)
def test_every_line_of_the_table(entry: Property) -> None:
    assert PROPERTIES[entry.name] is entry and re.fullmatch(r"[a-z_]+", entry.name)
    assert UNITS[entry.unit][entry.unit] == 1.0 and entry.shape in get_args(Shape)
    assert entry.meaning and "\n" not in entry.meaning
    keys = set(Verification.model_fields)
    for tolerance in (entry.recomputed, entry.rotated):
        assert tolerance is None or tolerance in keys or (isinstance(tolerance, float) and tolerance > 0)
    assert entry.rank == {"vector": 1, "per_atom_vector": 1, "per_atom_state_vector": 1, "tensor": 2}.get(
        entry.shape, 0
    )
    shape = entry.dimensions(5, 7)
    assert (5 in shape, 7 in shape) == (entry.of_atoms, entry.state_axis is not None)


def test_names_in_frames_are_different() -> None:
    keys = [entry.key for entry in PROPERTIES.values()]
    assert len(set(keys)) == len(keys)


def test_names_that_programs_may_use() -> None:
    assert set(statable()) == {*answerable(), "gradient", "state_gradients"} and "state_order" not in statable()
    assert given_by(["gradient", "energy", "stress"]) == {"forces", "energy", "stress"}


@pytest.mark.parametrize("name", ["virial", "Stress", "state_order"])
def test_an_unknown_name_is_one_line(name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}' is no property; known are energy, .*stress.*gradient") as error:
        units_of(name)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=f"unknown properties: {name}; known are energy"):
        plain_properties({"energy": 1.0, name: 2.0}, 2)


def test_units_of_a_stress() -> None:
    """1 GPa is 1e9 J/m^3, 1 eV 1.602176634e-19 J, 1 hartree/bohr^3 29421.015697 GPa (CODATA 2018)."""
    assert unit_factor("stress", "GPa") == pytest.approx(1e9 * 1e-30 / 1.602176634e-19, rel=1e-12)
    assert unit_factor("stress", "kbar") == unit_factor("stress", "gpa") / 10
    assert unit_factor("stress", "hartree/bohr^3") / unit_factor("stress", "GPa") == pytest.approx(
        29421.015697, rel=1e-10
    )
    assert unit_factor("stress", "eV/Angstrom^3") == 1.0
    with pytest.raises(ValueError, match="'GPa' is no unit of forces"):
        unit_factor("forces", "GPa")


def test_it_imports_next_to_nothing() -> None:
    """Records are read while Snakemake reads its rules."""
    code = "import sys; before = set(sys.modules); import quarry.properties; print(*sorted(set(sys.modules) - before))"
    path = str(Path(quarry.properties.__file__).parents[1])
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": path}, check=True
    )
    ours = {name for name in found.stdout.split() if name.startswith("quarry")}
    assert ours == {"quarry", "quarry.properties"}
    assert not {"numpy", "pydantic", "ase", "h5py"} & set(found.stdout.split())


class TestOneMoreLine:
    """What a line in the table is enough for."""

    @pytest.fixture(params=[BORN, ENERGIES, POLARISABILITY], ids=lambda entry: entry.name)
    def entry(self, request, monkeypatch) -> Property:
        monkeypatch.setitem(PROPERTIES, request.param.name, request.param)
        return request.param

    def values(self, entry: Property, structure: Structure) -> np.ndarray:
        numbers = np.random.default_rng(len(structure)).normal(size=entry.dimensions(len(structure)))
        return numbers + numbers.T if entry.shape == "tensor" else numbers

    def packed(self, entry: Property) -> LabelledSet:
        structures = [WATER, HYDROGEN, WATER]
        labels = [{"energy": -1.0, entry.name: self.values(entry, s).tolist()} for s in structures[:2]] + [
            {"energy": 1.0}
        ]
        return LabelledSet.from_records(structures, ["train"] * 3, [0, 1, 2], labels)

    def test_answers(self, entry):
        values = self.values(entry, WATER)
        plain = plain_properties(converted({entry.name: values}, {entry.name: entry.unit}), 3)
        assert np.array_equal(plain[entry.name], values)
        with pytest.raises(ValueError, match=f"{entry.name} has the shape"):
            plain_properties({entry.name: np.zeros((7, 3))}, 3)
        check_numbers(plain)
        with pytest.raises(ValueError, match=f"{entry.name} is 1e\\+13"):
            check_numbers({entry.name: [1e13]})

    def test_data_set(self, entry, tmp_path):
        labels = self.packed(entry)
        labels.write(tmp_path / "a.h5", {})
        again = LabelledSet.read(tmp_path / "a.h5")
        again.write(tmp_path / "b.h5", {})
        assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
        for one in (
            again,
            labels,
            labels.subset(np.array([2])).joined(labels.subset(np.array([1, 0]))).subset(np.array([2, 1, 0])),
        ):
            assert np.array_equal(one.record(0)[entry.name], self.values(entry, WATER))
            assert np.array_equal(one.record(1)[entry.name], self.values(entry, HYDROGEN))
            assert np.isnan(one.record(2)[entry.name]).all()
            assert one.record(2)[entry.name].shape == entry.dimensions(3)

    def test_frames(self, entry, tmp_path):
        write_extxyz(self.packed(entry), tmp_path / "a.extxyz")
        frames = ase.io.read(tmp_path / "a.extxyz", ":")
        for atoms, structure in zip(frames[:2], (WATER, HYDROGEN), strict=True):
            place = atoms.arrays if entry.of_atoms else atoms.info
            assert np.reshape(place[entry.key], entry.dimensions(len(atoms))) == pytest.approx(
                self.values(entry, structure), abs=1e-7
            )
        assert entry.key not in frames[2].arrays and entry.key not in frames[2].info

    def test_configuration(self, entry):
        section = {"engine": "replay", "file": "a.npz", "columns": {entry.name: "x"}}
        assert ReplayLabeling.model_validate(section).gives() == ("columns", {entry.name})
        output = {"file": "a", "format": "json", "units": {entry.name: entry.unit.upper()}}
        assert CommandOutput.model_validate(output).units == {entry.name: entry.unit}
        settings = Verification.model_validate({"tolerances": {entry.name: 0.25}})
        assert settings.tolerances == {entry.name: 0.25}


def test_records_of_another_version_can_be_read() -> None:
    """A store may hold a property that this version does not know."""
    record = LabelRecord("a", "m", {}, "ok", "", {"energy": 1.0, "hardness": [1.0, 2.0]}, [], {}, {}, "", {}, "")
    assert LabelRecord.from_json(record.to_json()) == record
