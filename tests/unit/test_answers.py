"""What may be a number of a label: one rule for functions, calculators, programs, tables and records of the store."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.io import write

from quarry.config.engines.replay import ReplayLabeling
from quarry.errors import QuarryError
from quarry.files import digest_of
from quarry.labeling.engines.answers import converted, plain_properties
from quarry.labeling.engines.outputs import properties_from
from quarry.labeling.engines.replay import ReplayEngine
from quarry.labeling.plain import MOST_STATES
from quarry.labeling.record import LabelRecord, encode_records, read_records
from quarry.structures import Structure
from quarry.written_numbers import meant_by, number_of

HYDROGEN = Structure.create([1, 1], np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.8]]))
MASKED = np.ma.array([[0.0, 0.0, 0.1], [0.0, 0.0, -0.1]], mask=[[0, 0, 1], [0, 0, 0]])


class WithUnit(float):
    units = "hartree"


NO_NUMBERS = {
    "complex": 1.0 + 2.0j,
    "complex without imaginary part": np.complex128(1.0),
    "true": True,
    "numpy true": np.True_,
    "array of truths": np.array(True),
    "text": "-1.5",
    "numpy text": np.str_("-1.5"),
    "array of text": np.array("-1.5"),
    "bytes": b"-1.5",
    "none": None,
    "masked": np.ma.masked,
    "masked array": np.ma.array(-1.5, mask=True),
    "decimal": Decimal("-1.5"),
    "fraction": Fraction(3, 2),
    "date": np.datetime64("2026-11-26"),
    "duration": np.timedelta64(3, "s"),
    "object": np.array(object()),
    "dictionary": {"energy": 1.0},
    "set": {1.0},
    "view of bytes": memoryview(b"\1"),
    "view of a number": memoryview(np.array(1.5)),
    "array of bytes": bytearray(b"\1"),
    "range": range(1, 2),
    "text with underscore": "1_0",
    "exponent of Fortran": "-1.0D+01",
    "queue": deque([1.5]),
    "record": np.zeros((), dtype=[("energy", float)]),
    "quantity": WithUnit(1.0),
    "nan": float("nan"),
    "infinite": np.float32("inf"),
    "too large": 1e13,
    "too large a whole number": 10**400,
    "two numbers": [1.0, 2.0],
    "no number": [],
}


@pytest.mark.parametrize("name", NO_NUMBERS)
def test_no_energy(name: str) -> None:
    with pytest.raises(ValueError, match=r"^energy ") as caught:
        plain_properties({"energy": NO_NUMBERS[name]}, 2)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "name", [n for n in NO_NUMBERS if n not in ("none", "too large", "two numbers", "no number", "nan", "infinite")]
)
def test_no_energy_in_another_unit(name: str) -> None:
    """Units are converted before shapes and sizes are looked at: nothing is dropped there either."""
    with pytest.raises(ValueError, match=r"^energy "):
        converted({"energy": NO_NUMBERS[name]}, {"energy": "hartree"})


@pytest.mark.parametrize(
    "forces",
    [
        MASKED,
        [[0, 0, True], [0, 0, 1]],
        [[0, 0, "1"], [0, 0, 1]],
        [[0, 0, None], [0, 0, 1]],
        [[0, 0, 1j], [0, 0, 1]],
        [[0, 0, np.ma.masked], [0, 0, 1]],
        [np.zeros(3), np.zeros(3, dtype=bool)],
        [[0, 0, 1], [0, 0]],
        [[0, 0, 2e12], [0, 0, 0]],
        [range(3), range(3)],
        [bytearray(3), bytearray(3)],
        memoryview(np.zeros((2, 3))),
        np.zeros((2, 3), dtype=complex),
    ],
)
def test_no_forces(forces: Any) -> None:
    with pytest.raises(ValueError, match=r"^forces "):
        plain_properties({"energy": 1.0, "forces": forces}, 2)


@pytest.mark.parametrize(
    "energy",
    [
        -1,
        -1.0,
        np.float32(-1),
        np.float16(-1),
        np.int8(-1),
        [-1.0],
        np.array([[-1.0]]),
        np.ma.array(-1.0),
        np.longdouble(-1),
    ],
)
def test_an_energy(energy: Any) -> None:
    found = plain_properties({"energy": energy}, 2)
    assert found == {"energy": -1.0} and type(found["energy"]) is float


def test_forces_of_any_kind() -> None:
    expected = {"forces": [[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]]}
    whole = [[0, 0, 1], [0, 0, -1]]
    rows = [np.array(row, dtype=np.float32) for row in whole]
    for forces in (whole, rows, np.array(whole), np.ma.array(whole), tuple(map(tuple, whole))):
        assert plain_properties({"forces": forces}, 2) == expected


class Tensor:
    """An array of another library."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.array([0.0, 0.0, 1.0])


def test_arrays_of_other_libraries() -> None:
    assert plain_properties({"dipole": Tensor()}, 2) == {"dipole": [0.0, 0.0, 1.0]}
    assert plain_properties({"forces": [Tensor(), Tensor()]}, 2) == {"forces": [[0.0, 0.0, 1.0]] * 2}


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("-1.0D+01", "-1.0e+01"),
        ("1.d0", "1.e0"),
        ("1.0-100", "1.0e-100"),
        ("1,5", "1.5"),
        ("-1.234,56", "-1234.56"),
        ("1_0", "10"),
        ("\u22123.5", "-3.5"),
        ("\u22123,5D2", "-3.5e2"),
        ("n/a", ""),
        ("****", ""),
        ("2026-11-26", ""),
        ("1.5-10", ""),
        ("1,2,3", ""),
        ("\uff11\uff12", ""),
        ("0x10", ""),
        ("", ""),
    ],
)
def test_texts_that_are_no_numbers(text: str, meant: str) -> None:
    assert meant_by(text) == meant
    with pytest.raises(ValueError) as caught:
        number_of(text)
    assert str(caught.value) == f"'{text}' is no number" + (f"; write {meant}" if meant else "")


@pytest.mark.parametrize("text", ["-1.5", " 1e-3 ", "+.5E3", "7.", "007", "inf", "-NaN"])
def test_texts_that_are_numbers(text: str) -> None:
    assert repr(number_of(text)) == repr(float(text)) and not meant_by(text)


def test_the_gradient_of_a_program(tmp_path: Path) -> None:
    lines = ["2", "-1.5", *["0.0"] * 6, "1 0 0 0", "1 0 0 1.511780799"]
    (tmp_path / "x.engrad").write_text("\n".join(lines))
    structure = Structure.create([1, 1], np.array([[0, 0, 0], [0, 0, 0.8]]))
    assert set(properties_from(tmp_path / "x.engrad", structure, "engrad")) == {"energy", "forces"}
    (tmp_path / "x.engrad").write_text("\n".join(lines).replace("-1.5", "-1_5"))
    with pytest.raises(ValueError, match=r"is no \.engrad file \('-1_5' is no number; write -15\)"):
        properties_from(tmp_path / "x.engrad", structure, "engrad")


def test_sizes() -> None:
    most = np.ones(MOST_STATES)
    assert len(plain_properties({"excitation_energies": most}, 2)["excitation_energies"]) == MOST_STATES
    for many in (np.ones(3_000_000), [1.0] * (MOST_STATES + 1)):
        with pytest.raises(ValueError, match=r"excitation_energies has \d+ numbers, more than 10000"):
            plain_properties({"excitation_energies": many}, 2)
    assert plain_properties({"value": 1e100, "class": 3}, 2) == {"value": 1e100, "class": 3.0}
    for name, number in (("value", 1e200), ("class", 1e9), ("oscillator_strengths", [1e20])):
        with pytest.raises(ValueError, match="no label is that large"):
            plain_properties({name: number}, 2)


@pytest.mark.parametrize("energy", ['"-1.5"', "true", "[[1, 2]]", "1e400", '"****"', '"1.0D-3"'])
def test_programs(energy: str, tmp_path: Path) -> None:
    (tmp_path / "out.json").write_text(f'{{"energy": {energy}}}')
    with pytest.raises(ValueError, match=r"^energy "):
        properties_from(tmp_path / "out.json", HYDROGEN, "json", units={"energy": "hartree"})


class TestReplay:
    def engine(self, folder: Path, file: str) -> ReplayEngine:
        labeling = {"engine": "replay", "file": file, "columns": {"energy": "E"}, "units": {"energy": "hartree"}}
        return ReplayEngine(ReplayLabeling.model_validate(labeling), folder)

    @pytest.mark.parametrize("kind", [complex, bool, "U8", "S8", "datetime64[s]"])
    def test_a_table_without_numbers_is_refused_before_any_job(self, kind: Any, tmp_path: Path) -> None:
        positions = HYDROGEN.positions[None]
        np.savez(tmp_path / "t.npz", Z=HYDROGEN.numbers, R=positions, E=np.array([1], dtype="i8").astype(kind))
        with pytest.raises(QuarryError, match=r"^labeling\.columns\.energy: 'E' in .* holds no real numbers"):
            self.engine(tmp_path, "t.npz").check([1])

    def of_features(self, folder: Path) -> ReplayEngine:
        section = {
            "engine": "replay",
            "file": "t.csv",
            "columns": {"value": "E"},
            "match": "features",
            "features": ["x"],
        }
        return ReplayEngine(ReplayLabeling.model_validate(section), folder)

    def test_holes_of_a_csv_file_are_holes(self, tmp_path: Path) -> None:
        (tmp_path / "t.csv").write_text("x,E\n1,2.5\n2,n/a\n3,\n4,****\n5,1e3\n")
        engine = self.of_features(tmp_path)
        engine.check([])
        found = [engine.label(Structure.of_features(np.array([float(x)])), 1) for x in range(1, 6)]
        assert [result.status for result in found] == ["ok", "engine_error", "engine_error", "engine_error", "ok"]
        assert [found[0].properties, found[4].properties] == [{"value": 2.5}, {"value": 1000.0}]
        (tmp_path / "t.csv").write_text("x,E\n1,low\n2,n/a\n")
        with pytest.raises(QuarryError, match=r"holds no real numbers"):
            self.of_features(tmp_path).check([])

    @pytest.mark.parametrize(("text", "meant"), [("-1.0D+01", "-1.0e+01"), ('"1,5"', "1.5"), ("1_0", "10")])
    def test_numbers_of_a_csv_file_that_are_written_otherwise(self, text: str, meant: str, tmp_path: Path) -> None:
        """Rows without a label they would be: refused before any job, with what to write."""
        (tmp_path / "t.csv").write_text(f"x,E\n1,2.5\n2,{text}\n")
        with pytest.raises(QuarryError, match=r"^labeling\.columns\.value: 'E' in .*t\.csv, row 2: ") as caught:
            self.of_features(tmp_path).check([])
        plain = text.strip('"')
        assert str(caught.value).endswith(f"'{plain}' is no number; write {meant}")

    @pytest.mark.parametrize(("sign", "name"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars")])
    def test_tables_with_other_separators(self, sign: str, name: str, tmp_path: Path) -> None:
        (tmp_path / "t.csv").write_text(f"x{sign}E\n1,0{sign}2,5\n")
        with pytest.raises(QuarryError) as caught:
            self.of_features(tmp_path).check([])
        assert str(caught.value) == (
            f"labeling.file: {tmp_path}/t.csv: its columns are separated by {name}; write commas between them, and numbers "
            "with points (1.5)"
        )

    @pytest.mark.parametrize("energy", [True, "low"])
    def test_frames(self, energy: Any, tmp_path: Path) -> None:
        atoms = Atoms("H2", HYDROGEN.positions)
        atoms.info["E"] = energy
        write(tmp_path / "t.extxyz", atoms)
        with pytest.raises(QuarryError, match=r"^labeling\.columns\.energy: .*'E' .*no real number"):
            self.engine(tmp_path, "t.extxyz").check([1])


@pytest.mark.parametrize("energy", [True, "-1.5", 1e15, None, [1.0, True], {"a": 1.0}])
def test_records_of_the_store(energy: Any, tmp_path: Path) -> None:
    cost = {"wall_s": 1.0, "threads": 1}
    record = LabelRecord("a" * 20, "m", {}, "ok", "", {"energy": -1.5, "lumo": None}, [], cost, {}, "h", {}, "now")
    path = tmp_path / "record.json"
    path.write_bytes(encode_records([record]))
    assert read_records(path) == [record]
    body = {k: v for k, v in record.to_json().items() if k != "checksum"} | {"properties": {"energy": energy}}
    path.write_text(json.dumps([{**body, "checksum": digest_of(body)}]))
    with pytest.raises(ValueError, match="damaged label record: energy is "):
        read_records(path)
    failed = replace(record, status="engine_error", properties={})
    path.write_bytes(encode_records([failed]))
    assert read_records(path) == [failed]
