"""The ASE engine: calculators by import path, charge and multiplicity told or refused, answers checked."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import ase.units
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from quarry.config.engines.ase import AseLabeling
from quarry.errors import QuarryError
from quarry.files import canonical_json
from quarry.labeling.engines.ase_engine import AseEngine
from quarry.labeling.engines.registry import make_engine
from quarry.structures import Structure

HYDROGEN = Structure.create([1, 1], np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.8]]))
CATION = Structure.create([1, 1], HYDROGEN.positions, charge=1, multiplicity=2)

SOURCE = """
import json
from pathlib import Path

import numpy as np
from ase.calculators.calculator import Calculator, SCFError, all_changes


class Spring(Calculator):
    implemented_properties = ["energy", "forces", "dipole"]

    def __init__(self, charge=0, dft=None, model=None, trouble=None, **arguments):
        super().__init__(**arguments)
        self.told = {"charge": charge, "multiplicity": (dft or {}).get("mult", 1)}
        self.model = model
        self.trouble = trouble

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        Path("calculator.log").write_text("calculators write where they stand")
        if self.trouble == "scf":
            raise SCFError()
        if self.trouble == "message":
            raise RuntimeError("SCF not converged in\\n 3 cycles")
        if self.trouble == "memory":
            raise MemoryError
        if self.trouble == "other":
            raise ValueError("no parameters for element H")
        stiffness = json.loads(Path(self.model).read_text())["stiffness"] if self.model else 1.0
        vector = atoms.positions[1] - atoms.positions[0]
        distance = np.linalg.norm(vector)
        force = stiffness * (distance - 0.7) * vector / distance
        energy = 0.5 * stiffness * (distance - 0.7) ** 2
        self.results["energy"] = np.nan if self.trouble == "nan" else energy
        self.results["forces"] = np.array([force, -force])[: 1 if self.trouble == "shape" else 2]
        told = [self.told["charge"], self.told["multiplicity"], atoms.info.get("spin", 0)]
        moments = [atoms.get_initial_charges().sum(), atoms.get_initial_magnetic_moments().sum(), 0]
        self.results["dipole"] = moments if self.trouble == "moments" else told


def made_by_function(**arguments):
    return Spring(**arguments)
"""


@pytest.fixture(autouse=True)
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_calculator.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_calculator", raising=False)


def engine(name: str = "my_calculator:Spring", base: str | Path = ".", **settings: Any) -> AseEngine:
    made = make_engine(AseLabeling(engine="ase", calculator=name, **settings), base)
    assert isinstance(made, AseEngine)
    return made


@pytest.mark.parametrize("name", ["my_calculator:Spring", "my_calculator:made_by_function"])
def test_energy_and_forces(name: str, tmp_path: Path) -> None:
    tested = engine(name)
    tested.check([1])
    result = tested.label(HYDROGEN, 1)
    assert result.status == "ok"
    assert result.properties["energy"] == pytest.approx(0.005)
    assert np.array(result.properties["forces"]) == pytest.approx(np.array([[0, 0, 0.1], [0, 0, -0.1]]))
    assert result.size == {"atoms": 2}
    canonical_json(result.properties)
    assert not (tmp_path / "calculator.log").exists(), "calculators work in a scratch folder"
    assert Path.cwd() == tmp_path


def test_charge_and_multiplicity_reach_the_calculator() -> None:
    properties: dict[str, Any] = {"properties": ["dipole"]}
    nested = engine(charge_key="charge", multiplicity_key="dft.mult", arguments={"dft": {"xc": "pbe"}}, **properties)
    assert nested.label(CATION, 1).properties["dipole"] == [1, 2, 0]
    assert nested.label(HYDROGEN, 1).properties["dipole"] == [0, 1, 0]
    assert nested.labeling.arguments == {"dft": {"xc": "pbe"}}, "the configuration stays as it is"
    info = engine(charge_key="charge", multiplicity_key="info:spin", **properties)
    assert info.label(CATION, 1).properties["dipole"] == [1, 1, 2]
    moments = engine(
        charge_key="initial_charges",
        multiplicity_key="initial_magnetic_moments",
        arguments={"trouble": "moments"},
        **properties,
    )
    assert moments.label(CATION, 1).properties["dipole"] == [1, 1, 0]


def test_charge_and_multiplicity_are_never_ignored() -> None:
    result = engine(charge_key="charge").label(CATION, 1)
    assert result.status == "invalid_structure"
    assert "multiplicity 2" in result.message
    engine().check_states([(0, 1)])
    with pytest.raises(QuarryError, match=r"charge -1.*labeling\.charge_key"):
        engine(multiplicity_key="info:spin").check_states([(0, 1), (-1, 1)])
    engine(charge_key="charge", multiplicity_key="dft.mult").check_states([(0, 1), (-1, 1), (0, 3)])


@pytest.mark.parametrize(
    ("trouble", "status", "reason"),
    [
        ("scf", "scf_not_converged", "SCFError"),
        ("message", "scf_not_converged", "SCF not converged in 3 cycles"),
        ("memory", "out_of_memory", "out of memory"),
        ("other", "engine_error", "no parameters for element H"),
        ("nan", "engine_error", "energy is not finite"),
        ("shape", "engine_error", "forces has the shape (1, 3)"),
    ],
)
def test_trouble_is_a_typed_result(trouble: str, status: str, reason: str) -> None:
    result = engine(arguments={"trouble": trouble}).label(HYDROGEN, 1)
    assert (result.status, result.properties) == (status, {})
    assert reason in result.message and "\n" not in result.message


def test_periodic_structures_only_where_declared() -> None:
    cell = Structure.create([1, 1], HYDROGEN.positions, cell=3 * np.eye(3), pbc=(True, True, True))
    assert engine().label(cell, 1).status == "invalid_structure"
    assert (engine().periodic, engine(periodic=True).periodic) == (False, True)
    assert engine(periodic=True).label(cell, 1).status == "ok"


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"name": "no_such_package:Calculator"}, "cannot import 'no_such_package:Calculator'"),
        ({"name": "my_calculator:Sprung"}, "cannot import"),
        ({"arguments": {"dft": 3}}, "cannot be made with these"),
        ({"name": "ase.calculators.lj:LennardJones", "properties": ["energy", "dipole"]}, "gives no dipole"),
    ],
)
def test_check_refuses_in_one_line(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(QuarryError, match=r"^labeling") as caught:
        engine(**settings).check([1])
    assert reason in str(caught.value) and "\n" not in str(caught.value)


def test_identity_is_what_changes_the_number(tmp_path: Path) -> None:
    (tmp_path / "campaign").mkdir()
    model = tmp_path / "campaign" / "model.json"
    model.write_text('{"stiffness": 2.0}')

    def identity(**settings: Any) -> str:
        return canonical_json(engine(base=tmp_path / "campaign", **settings).method_identity())

    soft = engine(base=tmp_path / "campaign", files={"model": "model.json"})
    assert soft.label(HYDROGEN, 1).properties["energy"] == pytest.approx(0.01)
    one = identity(files={"model": "model.json"})
    assert one == identity(files={"model": "model.json"}, heartbeat_s=3.0, store="elsewhere", periodic=True)
    model.write_text('{"stiffness": 3.0}')
    others = [
        identity(files={"model": "model.json"}),
        identity(),
        identity(arguments={"charge": 1}),
        identity(charge_key="q"),
    ]
    assert len({one, *others}) == 5


# G2 geometries of ASE: neutral, cation, anion, doublet, triplet.
STATES = [("H2O", 0, 1), ("CH3CH2OH", 0, 1), ("H2O", 1, 2), ("OH", 0, 2), ("O2", 0, 3), ("OH", -1, 1)]


@pytest.mark.parametrize(("name", "charge", "multiplicity"), STATES)
def test_gfn2_of_tblite_is_that_of_the_xtb_program(name: str, charge: int, multiplicity: int, tmp_path: Path) -> None:
    """tblite's library and the older program xtb are two implementations of GFN2-xTB: same energies and forces."""
    pytest.importorskip("tblite")
    if shutil.which("xtb") is None:
        pytest.skip("the program xtb is not installed")
    structure = Structure.of_atoms(molecule(name), charge, multiplicity)
    tested = engine(
        "tblite.ase:TBLite",
        arguments={"method": "GFN2-xTB", "verbosity": 0},
        charge_key="charge",
        multiplicity_key="multiplicity",
        properties=["energy", "forces", "dipole"],
    )
    tested.check([])
    result = tested.label(structure, 1)
    assert result.status == "ok"
    lines = [
        f"{s} {x} {y} {z}" for s, (x, y, z) in zip(Atoms(structure.numbers).symbols, structure.positions, strict=True)
    ]
    (tmp_path / "x.xyz").write_text("\n".join([str(len(structure)), "", *lines, ""]))
    command = ["xtb", "x.xyz", "--gfn", "2", "--grad", "--chrg", str(charge), "--uhf", str(multiplicity - 1)]
    printed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    energy = float(printed.rpartition("TOTAL ENERGY")[2].split()[0])
    # tblite's calculator converts with the constants of ase.units.
    assert result.properties["energy"] / ase.units.Hartree == pytest.approx(energy, abs=1e-7)
    rows = [line.replace("D", "E").split() for line in (tmp_path / "gradient").read_text().splitlines()]
    gradient = np.array([row for row in rows if len(row) == 3 and not row[0].startswith("$")], dtype=float)
    expected = -gradient * ase.units.Hartree / ase.units.Bohr
    assert np.array(result.properties["forces"]) == pytest.approx(expected, abs=2e-4)
    if charge == 0:
        moment = [
            float(x)
            for x in printed.rpartition("full:")[0].rpartition("molecular dipole:")[2].split("full:")[1].split()[:3]
        ]
        assert result.properties["dipole"] == pytest.approx(np.array(moment) * ase.units.Bohr, abs=2e-3)
