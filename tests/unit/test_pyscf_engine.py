"""The PySCF engine: numbers against literature, finite differences and the libraries called directly; refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyscf import dft, gto, lib, scf
from pyscf.dispersion import dftd3, dftd4
from scipy.spatial.transform import Rotation

from quarry.config.engines.pyscf import PyscfLabeling
from quarry.config.methods import PyscfMethod
from quarry.errors import QuarryError
from quarry.files import canonical_json
from quarry.labeling.engines import pyscf_calculator
from quarry.labeling.engines.pyscf_calculator import BOHR_A, HARTREE_EV
from quarry.labeling.engines.pyscf_engine import PyscfEngine
from quarry.labeling.engines.registry import make_engine
from quarry.structures import Structure
from support.molecules import bent_water, hydroxyl, method, unrounded

LIBRARY = Path(pyscf_calculator.__file__).parents[3]


def energy_of(engine: PyscfEngine, structure: Structure) -> float:
    result = engine.label(structure, 1)
    assert result.status == "ok", result.message
    return result.properties["energy"]


# Crawford group, Programming Project 3, https://github.com/CrawfordGroup/ProgrammingProjects (water, STO-3G, bohr).
CRAWFORD_BOHR = [
    [0.0, -0.143225816552, 0.0],
    [1.638036840407, 1.136548822547, 0.0],
    [-1.638036840407, 1.136548822547, 0.0],
]


def test_water_energy_and_dipole_match_the_literature() -> None:
    result = PyscfEngine(method()).label(unrounded([8, 1, 1], np.array(CRAWFORD_BOHR) * BOHR_A), 1)
    assert result.status == "ok"
    assert result.properties["energy"] == pytest.approx(-74.942079928192 * 27.211386245988, abs=1e-6)
    # Hydrogen is the positive end.
    assert result.properties["dipole"] == pytest.approx([0.0, 0.603521296525 * 0.529177210903, 0.0], abs=1e-5)
    (attempt,) = result.attempts
    assert attempt["name"] == "plain"
    assert attempt["converged"] is True
    assert 3 <= attempt["cycles"] <= 20
    assert attempt["cpu_s"] > 0
    json.dumps(result.properties, allow_nan=False)


@pytest.mark.parametrize(
    ("level", "structure", "tolerance"),
    [
        (method("hf"), bent_water(), 1e-4),
        (method("hf", density_fitting=True), bent_water(), 1e-4),
        (method("hf"), hydroxyl(), 1e-4),
        # The gradient of a functional leaves out the response of the grid: 2e-3 eV/Angstrom at level 5.
        (method("pbe", grid_level=5, dispersion="d3bj"), bent_water(), 4e-3),
        (method("b3lyp", grid_level=5), hydroxyl(), 4e-3),
        (method("pbe", grid_level=5, dispersion="d4", density_fitting=True), bent_water(), 4e-3),
    ],
    ids=["rhf", "rhf-df", "uhf", "rks-d3bj", "uks", "rks-d4-df"],
)
def test_forces_are_the_negative_derivative_of_the_energy(
    level: PyscfMethod, structure: Structure, tolerance: float
) -> None:
    engine = PyscfEngine(level)
    forces = np.array(engine.label(structure, 1).properties["forces"])
    direction = np.random.default_rng(5).standard_normal(forces.shape)
    direction /= np.linalg.norm(direction)
    step = 2e-3
    ahead, behind = (
        energy_of(
            engine,
            unrounded(
                list(structure.numbers), structure.positions + s * direction, multiplicity=structure.multiplicity
            ),
        )
        for s in (step, -step)
    )
    assert np.abs(forces).max() > 0.3
    assert (forces * direction).sum() == pytest.approx(-(ahead - behind) / (2 * step), abs=tolerance)


def test_dispersion_forces_are_in_the_forces() -> None:
    # Two water molecules at 3.5 Angstrom: the difference of two labels is the dispersion gradient alone.
    water = bent_water()
    pair = unrounded([8, 1, 1] * 2, np.vstack([water.positions, water.positions + np.array([3.5, 0.3, 0.0])]))
    plain, corrected = (PyscfEngine(method(dispersion=d)).label(pair, 1).properties for d in (None, "d3bj"))
    molecule = gto.M(atom=list(zip(["O", "H", "H"] * 2, pair.positions, strict=True)), basis="sto-3g", verbose=0)
    model = dftd3.DFTD3Dispersion(molecule, xc="hf", version="d3bj")
    gradient = model.get_dispersion(grad=True)["gradient"] * HARTREE_EV / BOHR_A
    difference = np.array(corrected["forces"]) - np.array(plain["forces"])
    assert np.abs(gradient).max() > 1e-3
    assert difference == pytest.approx(-gradient, abs=1e-7)


@pytest.mark.parametrize("dispersion", ["d3bj", "d4"])
def test_dispersion_energy_is_the_library_s(dispersion: str) -> None:
    water = bent_water()
    molecule = gto.M(atom=list(zip(["O", "H", "H"], water.positions, strict=True)), basis="sto-3g", verbose=0)
    model = (
        dftd3.DFTD3Dispersion(molecule, xc="b3lyp", version="d3bj", atm=False)
        if dispersion == "d3bj"
        else dftd4.DFTD4Dispersion(molecule, xc="b3lyp")
    )
    level = method("b3lyp", grid_level=1)
    difference = energy_of(PyscfEngine(level.model_copy(update={"dispersion": dispersion})), water) - energy_of(
        PyscfEngine(level), water
    )
    assert difference == pytest.approx(float(model.get_dispersion()["energy"]) * HARTREE_EV, abs=1e-8)
    assert difference < -1e-4


@pytest.mark.parametrize(
    ("structure", "homo_spin", "lumo_spin"),
    [(hydroxyl(), 1, 1), (unrounded([3, 2], [[0.0, 0.1, 0.0], [0.0, 0.3, 4.0]], multiplicity=2), 0, 1)],
    ids=["OH", "LiHe"],
)
def test_orbitals_and_dipole_of_a_radical_match_pyscf_alone(
    structure: Structure, homo_spin: int, lumo_spin: int
) -> None:
    properties = PyscfEngine(method("b3lyp", "6-31g")).label(structure, 1).properties
    atoms = [(int(z), list(xyz)) for z, xyz in zip(structure.numbers, structure.positions, strict=True)]
    reference = dft.UKS(gto.M(atom=atoms, basis="6-31g", spin=1, verbose=0))
    reference.xc = "b3lyp"
    reference.kernel()
    occupied = [reference.mo_energy[spin][n - 1] for spin, n in enumerate(reference.mol.nelec)]
    virtual = [reference.mo_energy[spin][n] for spin, n in enumerate(reference.mol.nelec)]
    # The two cases differ in the spin that the HOMO has.
    assert (np.argmax(occupied), np.argmin(virtual)) == (homo_spin, lumo_spin)
    assert properties["homo"] == pytest.approx(max(occupied) * 27.211386, abs=1e-4)
    assert properties["lumo"] == pytest.approx(min(virtual) * 27.211386, abs=1e-4)
    assert properties["gap"] == pytest.approx((min(virtual) - max(occupied)) * 27.211386, abs=1e-4)
    debye = 0.20819434  # e*Angstrom
    assert properties["dipole"] == pytest.approx(reference.dip_moment(unit="Debye", verbose=0) * debye, abs=1e-5)


def test_grid_level_and_convergence_reach_pyscf() -> None:
    coarse, fine, converged = (
        PyscfEngine(method("pbe", **s)).label(bent_water(), 1)
        for s in ({"grid_level": 0}, {"grid_level": 3}, {"grid_level": 0, "convergence_hartree": 1e-13})
    )
    assert abs(coarse.properties["energy"] - fine.properties["energy"]) > 1e-4
    assert converged.attempts[0]["cycles"] > coarse.attempts[0]["cycles"]


def test_no_checkpoint_file_is_made() -> None:
    assert scf.RHF(PyscfEngine(method()).molecule(bent_water())).chkfile is None


def test_no_virtual_orbital_gives_no_lumo() -> None:
    properties = PyscfEngine(method()).label(unrounded([2], [[0, 0, 0]]), 1).properties
    assert properties["lumo"] is None
    assert properties["gap"] is None
    assert properties["homo"] < 0
    assert properties["forces"] == [[pytest.approx(0.0)] * 3]


def test_one_electron() -> None:
    properties = PyscfEngine(method(basis="6-31g")).label(unrounded([1], [[0, 0, 1.0]], multiplicity=2), 1).properties
    assert properties["energy"] == pytest.approx(-0.498233 * 27.211386, abs=1e-4)


def test_dipole_of_an_ion_does_not_depend_on_where_it_is() -> None:
    engine = PyscfEngine(method())
    here, there = (engine.label(hydroxyl(charge=-1, shift=x), 1).properties for x in (0.0, 7.0))
    assert here["dipole"] == pytest.approx(there["dipole"], abs=1e-6)
    assert here["energy"] == pytest.approx(there["energy"], abs=1e-7)


def test_rotation_turns_forces_and_dipole() -> None:
    engine, water = PyscfEngine(method()), bent_water()
    turn = Rotation.from_rotvec([0.4, -1.1, 0.7])
    first = engine.label(water, 1).properties
    second = engine.label(unrounded([8, 1, 1], turn.apply(water.positions)), 1).properties
    assert second["energy"] == pytest.approx(first["energy"], abs=1e-7)
    for name in ("forces", "dipole"):
        assert np.array(second[name]) == pytest.approx(turn.apply(np.array(first[name])), abs=1e-4)


def test_core_potential_is_applied() -> None:
    structure = unrounded([1, 53], [[0, 0, 0], [0, 0, 1.61]])
    result = PyscfEngine(method("hf", "def2-svp", ecp="def2-svp")).label(structure, 1)
    assert result.status == "ok"
    # 26 electrons in the field of a 28-electron core: hundreds, not thousands of hartree.
    assert -310 < result.properties["energy"] / 27.2114 < -290


def test_unconverged_scf_is_a_failure_without_an_energy() -> None:
    result = PyscfEngine(method("b3lyp", max_cycles=2, grid_level=1), recovery=[]).label(bent_water(), 1)
    assert result.status == "scf_not_converged"
    assert result.properties == {}
    assert [(a["name"], a["cycles"], a["converged"]) for a in result.attempts] == [("plain", 2, False)]
    assert "2 cycles" in result.message


@pytest.mark.parametrize(
    ("structure", "reason"),
    [
        (Structure.create([8, 1], np.array([[0.0, 0, 0], [0, 0, 1]])), "multiplicity 1"),
        (Structure.create([1, 1], np.array([[0.0, 0, 0], [0, 0, 1]]), multiplicity=5), "multiplicity 5"),
        (Structure.create([1], np.zeros((1, 3)), charge=1), "0 electrons"),
        (Structure.create([2], np.zeros((1, 3)), cell=np.eye(3) * 5, pbc=(True, True, True)), "periodic"),
        (Structure.create([1, 1], np.zeros((2, 3))), "closer"),
        (Structure.create([0, 2], np.array([[0.0, 0, 0], [0, 0, 1]])), "atomic number"),
        (Structure.create([], np.zeros((0, 3))), "no atoms"),
        (unrounded([2], [[np.nan, 0, 0]]), "finite"),
    ],
)
def test_invalid_structures(structure: Structure, reason: str) -> None:
    result = PyscfEngine(method()).label(structure, 1)
    assert result.status == "invalid_structure"
    assert reason in result.message
    assert result.attempts == []


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RuntimeError("two\nlines"), "engine_error"),
        (np.linalg.LinAlgError("singular"), "engine_error"),
        (MemoryError(), "out_of_memory"),
    ],
)
def test_exceptions_of_pyscf_end_as_results(error: Exception, status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(pyscf_calculator.dft.rks.RKS, "kernel", fail)
    result = PyscfEngine(method("pbe")).label(bent_water(), 1)
    assert result.status == status
    assert "\n" not in result.message


@pytest.mark.parametrize("threads", [1, 2])
def test_the_given_threads_are_used(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def report(*_: Any, **__: Any) -> None:
        raise RuntimeError(f"{lib.num_threads()} threads")

    before = lib.num_threads()
    monkeypatch.setattr(pyscf_calculator.dft.rks.RKS, "kernel", report)
    assert f"{threads} threads" in PyscfEngine(method("pbe")).label(bent_water(), threads).message
    assert lib.num_threads() == before


@pytest.mark.filterwarnings("ignore:Basis may be available")
def test_missing_basis_functions_are_an_engine_error() -> None:
    result = PyscfEngine(method(basis="6-31g*")).label(unrounded([53, 1], [[0, 0, 0], [0, 0, 1.6]]), 1)
    assert result.status == "engine_error"
    assert "I" in result.message


def test_fresh_processes_agree_and_leave_nothing_behind(tmp_path: Path) -> None:
    script = (
        "import json, sys, numpy as np\n"
        "from quarry.config.methods import PyscfMethod\n"
        "from quarry.labeling.engines.pyscf_engine import PyscfEngine\n"
        "from quarry.structures import Structure\n"
        "w = Structure.create([8, 1, 1], np.array([[0.02, 0, 0.12], [0, 0.8, -0.47], [0.1, -0.74, -0.5]]))\n"
        "method = PyscfMethod(xc='b3lyp', basis='def2-svp', ecp='def2-svp', density_fitting=True, dispersion='d4')\n"
        "r = PyscfEngine(method).label(w, 1)\n"
        "sys.stderr.write(json.dumps(r.properties))\n"
    )
    work, scratch = tmp_path / "work", tmp_path / "scratch"
    work.mkdir()
    scratch.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(LIBRARY), "TMPDIR": str(scratch), "OMP_NUM_THREADS": "1"}
    answers = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=work, env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout == ""
        answers.append(json.loads(done.stderr))
    assert answers[0]["energy"] == pytest.approx(answers[1]["energy"], abs=1e-8)
    assert np.array(answers[0]["forces"]) == pytest.approx(np.array(answers[1]["forces"]), abs=1e-7)
    assert list(work.iterdir()) == []
    assert list(scratch.iterdir()) == []


def identity(**settings: Any) -> str:
    base: dict[str, Any] = {"xc": "b3lyp", "basis": "6-31g*"}
    return canonical_json(PyscfEngine(PyscfMethod(**{**base, **settings})).method_identity())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"xc": "b3lyp"}, {"xc": " B3LYP "}),
        ({"xc": "b3lyp"}, {"xc": "b3lypg"}),
        ({"xc": "pbe0"}, {"xc": "PBE1PBE"}),
        ({"xc": "pbe"}, {"xc": "pbe,pbe"}),
        ({"xc": "pbe"}, {"xc": "gga_x_pbe, gga_c_pbe"}),
        ({"xc": "hf"}, {"xc": "HF"}),
        ({"xc": "hf", "grid_level": 3}, {"xc": "hf", "grid_level": 5}),
        ({"basis": "6-31g*"}, {"basis": "6-31G*"}),
        ({"basis": "def2-svp"}, {"basis": "Def2 SVP"}),
        ({"max_cycles": 50}, {"max_cycles": 200}),
        ({"allow_vv10": False}, {"allow_vv10": True}),
        ({"xc": "b3lyp", "dispersion": "d3bj"}, {"xc": "B3LYP", "dispersion": "d3bj"}),
    ],
)
def test_same_identity(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert identity(**one) == identity(**other)


@pytest.mark.parametrize(
    "other",
    [
        {"xc": "b3lyp5"},
        {"xc": "0.5*b3lyp"},
        {"xc": "0.25*hf + 0.75*pbe, pbe"},
        {"xc": "hf"},
        {"basis": "6-31g**"},
        {"ecp": "lanl2dz"},
        {"grid_level": 4},
        {"convergence_hartree": 1e-10},
        {"density_fitting": True},
        {"dispersion": "d3bj"},
        {"dispersion": "d4"},
    ],
)
def test_other_identity(other: dict[str, Any]) -> None:
    assert identity(**other) != identity()


def test_identity_of_an_unknown_functional_is_a_one_line_error() -> None:
    with pytest.raises(QuarryError, match="b3ylp"):
        identity(xc="b3ylp")


def test_registry_and_versions() -> None:
    engine = make_engine(PyscfLabeling(engine="pyscf", method=method("pbe", dispersion="d4")))
    assert engine.name == "pyscf"
    assert set(engine.versions()) == {"pyscf", "libxc", "pyscf-dispersion"}
    assert set(PyscfEngine(method()).versions()) == {"pyscf", "libxc"}
