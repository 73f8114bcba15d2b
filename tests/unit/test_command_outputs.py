"""The command engine reads what programs write: JSON, extended XYZ, .engrad, a user-defined reader."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from ase.build import molecule

from quarry.config.resources import LabelResources
from quarry.errors import QuarryError
from quarry.files import canonical_json
from quarry.labeling.engines.base import EngineResult
from quarry.labeling.engines.command import CommandEngine
from quarry.labeling.engines.orca import read_orca
from quarry.labeling.engines.outputs import properties_from
from quarry.structures import Structure
from support.campaigns import REPOSITORY
from support.commands import CATION, JSON, WATER, command_engines

HARTREE, BOHR = 27.211386245988, 0.529177210903
"""eV and Angstrom (CODATA 2018)."""


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., CommandEngine]:
    monkeypatch.chdir(tmp_path)
    return command_engines(tmp_path)


def test_json_with_other_names_and_units(engine: Callable[..., CommandEngine]) -> None:
    program = (
        """echo '{"total energy": -2.0, "slope": [[0, 0, 1], [0, 0, -1], [0, 0, 0]], "mu": [1, 0, 0], "cpu": 3}'"""
    )
    output = {
        **JSON,
        "keys": {"energy": "total energy", "gradient": "slope", "dipole": "mu"},
        "units": {"energy": "hartree", "gradient": "hartree/bohr", "dipole": "e*bohr"},
    }
    result = engine(program, output).label(WATER, 1)
    assert result.status == "ok", result.message
    assert result.properties["energy"] == pytest.approx(-2 * HARTREE)
    assert np.array(result.properties["forces"])[:2, 2] == pytest.approx([-HARTREE / BOHR, HARTREE / BOHR])
    assert result.properties["dipole"] == pytest.approx([BOHR, 0, 0])
    assert "gradient" not in result.properties
    canonical_json([result.properties, result.details])
    assert result.details["exit_code"] == 0
    assert result.size == {"atoms": 3}


def test_extxyz_must_be_of_this_structure(engine: Callable[..., CommandEngine], tmp_path: Path) -> None:
    script = tmp_path / "campaign" / "program.py"
    script.write_text(
        "import sys\nfrom ase.io import read, write\n"
        "from ase.calculators.singlepoint import SinglePointCalculator\n"
        "atoms = read('structure.xyz')\n"
        "forces = atoms.positions * 2\n"
        "if 'moved' in sys.argv: atoms.positions[1] += 0.01\n"
        "if 'sorted' in sys.argv: atoms = atoms[[1, 2, 0]]\n"
        "atoms.calc = SinglePointCalculator(atoms, energy=atoms.info['charge'] + 0.5, forces=forces)\n"
        "atoms.info['gap'] = 7.0\n"
        "write('out.xyz', [atoms, atoms])\n"
    )
    output = {"file": "out.xyz", "format": "extxyz"}
    run = f"{sys.executable} $base/program.py"
    result = engine(run, output).label(CATION, 1)
    assert result.status == "ok", result.message
    assert (result.properties["energy"], result.properties["gap"]) == (1.5, 7.0)
    assert np.array(result.properties["forces"]) == pytest.approx(2 * CATION.positions, abs=1e-7)
    assert "another geometry" in engine(run + " moved", output).label(CATION, 1).message
    assert "in another order" in engine(run + " sorted", output).label(CATION, 1).message


def test_parser_of_the_user(
    engine: Callable[..., CommandEngine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_reader.py").write_text(
        "def read(path):\n"
        "    words = path.read_text().split()\n"
        "    return {'energy': float(words[words.index('E') + 1])} if 'E' in words else words\n"
    )
    monkeypatch.setattr(sys, "path", list(sys.path))
    output = {"file": "stdout.txt", "parser": "my_reader:read", "units": {"energy": "kcal/mol"}}
    assert engine("echo E 2.5", output).label(WATER, 1).properties["energy"] == pytest.approx(2.5 * 0.0433641043)
    assert engine("echo E low", output).label(WATER, 1).status == "engine_error"
    assert "must return a dictionary" in engine("echo F 1", output).label(WATER, 1).message
    with pytest.raises(QuarryError, match=r"labeling\.output\.parser: cannot import"):
        engine("echo E 1", {"file": "stdout.txt", "parser": "my_reader:lies"}).check([])


def test_xtb_from_debian(engine: Callable[..., CommandEngine]) -> None:
    """A program's .engrad file gives the energy that the program prints, and forces that are its derivative."""
    if shutil.which("xtb") is None:
        pytest.skip("the program xtb is not installed")
    xtb = engine(
        "xtb structure.xyz --gfn 2 --grad --acc 0.001 --chrg $charge --uhf $unpaired",
        {"file": "structure.engrad", "format": "engrad"},
        success="normal termination of xtb",
        version_command="xtb --version 2>&1 | grep -m1 version",
        state_in_xyz=False,
    )
    xtb.check([8, 1])
    xtb.check_states([(1, 2)])
    structure = Structure.from_atoms(molecule("CH3OH"), 1, 2)
    result = xtb.label(structure, 1)
    assert result.status == "ok", result.message
    assert "xtb version" in xtb.versions()["command"]
    energies = []
    for step in (0.002, -0.002):
        moved = structure.positions.copy()
        moved[2, 1] += step
        energies.append(xtb.label(Structure.create(structure.numbers, moved, 1, 2), 1).properties["energy"])
    assert -(energies[0] - energies[1]) / 0.004 == pytest.approx(result.properties["forces"][2][1], abs=2e-3)
    broken = xtb.label(Structure.create([1, 1], np.zeros((2, 3))), 1)
    assert broken.status == "engine_error"


ORCA_SAMPLE = REPOSITORY / "tests" / "support" / "orca"
SAMPLE = Structure.create([8, 1, 1], np.array([[0.02, 0.0, 0.12], [0.0, 0.80, -0.47], [0.1, -0.74, -0.5]]))


def orca(engine: Callable[..., CommandEngine], folder: Path, structure: Structure = SAMPLE) -> EngineResult:
    """Label with the section of the ORCA template; `orca` is a program that answers with a sample of ORCA's output."""
    campaign = folder / "campaign"
    section = yaml.safe_load((REPOSITORY / "config" / "engines" / "orca" / "campaign.yaml").read_text())["labeling"]
    shutil.copy(REPOSITORY / "config" / "engines" / "orca" / "orca.inp", campaign)
    if not (campaign / "sample").exists():
        shutil.copytree(ORCA_SAMPLE, campaign / "sample")
    program = campaign / "orca"
    program.write_text(
        f"#!/bin/sh\nset -e\ncp $1 {campaign}/seen.inp\ncp {campaign}/sample/job.engrad .\ncat {campaign}/sample/stdout.txt\n"
    )
    program.chmod(0o755)
    del section["engine"], section["modules"]
    section["environment"] = {"PATH": f"$base:{os.environ['PATH']}"}
    tested = engine(**section, resources=LabelResources(tasks=4, memory_MB=16000), state_in_xyz=False)
    tested.check([1, 8])
    tested.check_states([(1, 2)])
    return tested.label(structure, 1)


def test_orca_template_and_reader(engine: Callable[..., CommandEngine], tmp_path: Path) -> None:
    result = orca(engine, tmp_path)
    assert result.status == "ok", result.message
    found = result.properties
    assert found["energy"] == pytest.approx(-76.383001234567 * HARTREE)
    assert found["forces"][0][2] == pytest.approx(-0.025875751709 * HARTREE / BOHR)
    assert found["dipole"] == pytest.approx(np.array([0.045520384, 0.032977868, -0.902800490]) * BOHR)
    assert found["homo"] == pytest.approx(-7.6192, abs=1e-4), "as ORCA prints it in eV"
    assert found["lumo"] == pytest.approx(1.6327, abs=1e-4)
    assert found["gap"] == pytest.approx(1.6327 + 7.6192, abs=2e-4)
    lines = (tmp_path / "campaign" / "seen.inp").read_text().splitlines()
    assert "%maxcore 3000" in lines and "%pal nprocs 4 end" in lines and "* xyz 0 1" in lines
    assert lines[lines.index("* xyz 0 1") + 1].split() == ["O", "0.020000", "0.000000", "0.120000"]


def test_orca_takes_both_spins(tmp_path: Path) -> None:
    shutil.copytree(ORCA_SAMPLE, tmp_path / "sample")
    printed = tmp_path / "sample" / "stdout.txt"
    head, table, rest = printed.read_text().partition("  NO   OCC")
    up, end, rest = (table + rest).partition("*Only")
    up = up.replace("2.0000", "1.0000")
    down = up.replace("1.0000      -0.280000", "0.0000      -0.100000")
    printed.write_text(
        f"{head}                 SPIN UP ORBITALS\n{up}\n                 SPIN DOWN ORBITALS\n{down}\n{end}{rest}"
    )
    found = read_orca(tmp_path / "sample" / "job.engrad")
    assert (found["homo"], found["lumo"]) == pytest.approx((-0.28 * HARTREE, -0.1 * HARTREE))


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        (("stdout.txt", "TERMINATED NORMALLY", "finished by error termination"), "engine_error", "did not print"),
        (("stdout.txt", "MULLIKEN", "SCF NOT CONVERGED AFTER 125 CYCLES"), "scf_not_converged", "SCF NOT CONVERGED"),
        (("stdout.txt", "-76.383001234567", "-76.283001234567"), "engine_error", "is not the final energy"),
        (("job.engrad", "   1     0.1889726   -1.3983973   -0.9448631 \n", ""), "engine_error", "cut short"),
        (("job.engrad", "       0.025875751709\n", ""), "engine_error", ".engrad"),
        (("job.engrad", "       0.025875751709\n", "       nan\n"), "engine_error", "not finite"),
        (("job.engrad", "0.0377945", "0.0477945"), "engine_error", "another geometry"),
        (("job.engrad", "   8     0.03", "   9     0.03"), "engine_error", "other atoms"),
        (("job.engrad", "# Number", "\0\xff"), "engine_error", ".engrad"),
    ],
)
def test_damaged_orca_output_is_never_a_label(
    change: tuple[str, str, str], status: str, reason: str, engine: Callable[..., CommandEngine], tmp_path: Path
) -> None:
    orca(engine, tmp_path)
    name, old, new = change
    path = tmp_path / "campaign" / "sample" / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    result = orca(engine, tmp_path)
    assert (result.status, result.properties) == (status, {})
    assert reason in result.message


def test_a_file_cut_anywhere_is_never_a_label(tmp_path: Path) -> None:
    whole = (ORCA_SAMPLE / "job.engrad").read_text()
    path = tmp_path / "job.engrad"
    last = len(whole.rstrip()) - len("0.9448631")
    for length in range(0, last, 7):
        path.write_text(whole[:length])
        with pytest.raises(ValueError):
            properties_from(path, SAMPLE, "engrad")
    path.write_text(whole)
    assert properties_from(path, SAMPLE, "engrad")["energy"] == pytest.approx(-76.383001234567 * HARTREE)
