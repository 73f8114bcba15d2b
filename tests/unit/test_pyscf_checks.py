"""What PySCF cannot do is refused before any job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from quarry.config.loading import load_configuration
from quarry.config.methods import Excitations, PyscfMethod
from quarry.errors import QuarryError
from quarry.labeling.engines import pyscf_checks
from quarry.labeling.engines.pyscf_calculator import PyscfCalculator
from quarry.labeling.engines.pyscf_engine import PyscfEngine
from quarry.labeling.engines.states import ChecksMolecules, one_of_each_kind
from quarry.stages.preflight import check
from support.configurations import WIGNER, changed
from support.molecules import bent_water, hydroxyl, method, unrounded

REFUSALS = {
    "misspelled": ({"xc": "b3ylp"}, [1], ".xc: 'b3ylp' is unknown.*did you mean b3lyp"),
    "nothing": ({"xc": " "}, [1], ".xc: .*names no functional"),
    "wb97x-d": ({"xc": "wB97X-D"}, [1], ".xc: .*HYB_GGA_XC_WB97X_D "),
    "wb97x-d3": ({"xc": "wb97x_d3"}, [1], ".xc: .*HYB_GGA_XC_WB97X_D3 "),
    "suffix d3": ({"xc": "b3lyp-d3bj"}, [1], ".xc: .*dispersion to d3bj or d4"),
    "suffix d4": ({"xc": "pbe-D4"}, [1], ".xc: .*dispersion to d3bj or d4"),
    "own d3": ({"xc": "cf22d"}, [1], ".xc: .*dispersion"),
    "composite": ({"xc": "b97-3c"}, [1], ".xc: .*refuses 'b97-3c'"),
    "vv10": ({"xc": "wb97m-v"}, [1], "allow_vv10: true"),
    "b2plyp": ({"xc": "b2plyp"}, [1], "double hybrid"),
    "dsd": ({"xc": "revDSD-PBEP86"}, [1], "double hybrid"),
    "xyg3": ({"xc": "xyg3"}, [1], "double hybrid"),
    "pwpb95": ({"xc": "pwpb95"}, [1], "double hybrid"),
    "pbe0-2": ({"xc": "pbe0-2"}, [1], "double hybrid"),
    "number": ({"xc": "b3lyp-7"}, [1], "reads a number"),
    "kinetic": ({"xc": "lda_k_tf"}, [1], "kinetic"),
    "laplacian": ({"xc": "mgga_x_br89"}, [1], "laplacian in meta-GGA"),
    "basis": ({"basis": "6-31h*"}, [1], ".basis: '6-31h\\*' is unknown"),
    "element": ({"basis": "6-31g*"}, [1, 53], ".basis: '6-31g\\*' has no functions for I;"),
    "gth": ({"basis": "gth-dzvp"}, [1], "GTH"),
    "basis data": ({"basis": "H S\n 1.0 1.0\n"}, [1], "name of a basis set"),
    "valence basis": ({"basis": "def2-svp"}, [1, 53], ".ecp: .*electrons of I .*set ecp to 'def2-svp'"),
    "valence basis, PySCF lists no ECP": ({"basis": "aug-cc-pvdz-pp"}, [79], ".ecp: .*electrons of Au"),
    "valence basis of a family": ({"basis": "ccECP-cc-pV5Z"}, [1, 6], ".ecp: .*set ecp to 'ccecp'"),
    "ecp": ({"basis": "def2-svp", "ecp": "nonsense"}, [1], ".ecp: 'nonsense'"),
    "ecp under all electrons": ({"basis": "6-31g*", "ecp": "lanl2dz"}, [17], ".ecp: .*core electrons of Cl"),
    "d3 parameters": ({"xc": "m06-2x", "dispersion": "d3bj"}, [1], ".dispersion: d3bj has no parameters"),
    "d4 parameters": ({"xc": "svwn", "dispersion": "d4"}, [1], ".dispersion: d4 has no parameters"),
    "foreign parameters": ({"xc": "wb97x", "dispersion": "d4"}, [1], ".dispersion: .*wB97X-V"),
    "dispersion twice": ({"xc": "wb97x-v", "allow_vv10": True, "dispersion": "d4"}, [1], ".dispersion: .*its own"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals(case: str, capfd: pytest.CaptureFixture[str]) -> None:
    settings, elements, pattern = REFUSALS[case]
    level = PyscfMethod(**{"xc": "b3lyp", "basis": "6-31g*", **settings})
    with pytest.raises(QuarryError, match=pattern) as caught:
        PyscfEngine(level).check(elements)
    assert str(caught.value).startswith("labeling.method")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("settings", "elements"),
    [
        ({}, [1, 6, 7, 8]),
        ({"xc": "HYB_GGA_XC_WB97X_D"}, [1]),
        ({"xc": "b97-1"}, [1]),
        ({"xc": "M06-2X"}, [1]),
        ({"xc": "0.25*HF + 0.75*PBE, PBE"}, [1]),
        ({"xc": "hf", "dispersion": "d3bj"}, [1, 8]),
        ({"dispersion": "d4"}, [1, 6, 17]),
        ({"basis": "def2-svp", "ecp": "def2-svp"}, [1, 8, 53]),
        ({"basis": "def2-svp"}, [1, 35]),
        ({"basis": "lanl2dz", "ecp": "lanl2dz"}, [6, 79]),
        ({"basis": "ccecp-cc-pv5z", "ecp": "ccecp"}, [1, 6]),
        ({"basis": "aug-cc-pvdz-pp", "ecp": "cc-pvdz-pp"}, [79]),
        ({"basis": "sto-3g", "xc": "hf", "density_fitting": True}, [1, 3, 53]),
        ({"max_cycles": 1}, [1]),
    ],
)
def test_accepted(settings: dict[str, Any], elements: list[int]) -> None:
    PyscfEngine(PyscfMethod(**{"xc": "b3lyp", "basis": "6-31g*", **settings})).check(elements)


def test_basis_that_is_a_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "6-31g*").write_text("H S\n 1.0 1.0\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(QuarryError, match=r"labeling\.method\.basis: give the name"):
        PyscfEngine(method(basis="6-31g*")).check([1])


def test_wigner_needs_a_hessian() -> None:
    water, radical = bent_water(), hydroxyl()
    pyscf_checks.check_wigner(method("b3lyp", dispersion="d3bj", density_fitting=True), water)
    pyscf_checks.check_wigner(method("hf"), radical)
    with pytest.raises(QuarryError, match=r"^pool\.geometry_method\.xc: the Hessian of the VV10"):
        pyscf_checks.check_wigner(method("wb97x-v", allow_vv10=True), water)
    with pytest.raises(QuarryError, match="single atom"):
        pyscf_checks.check_wigner(method(), unrounded([2], [[0, 0, 0]]))
    with pytest.raises(QuarryError, match=r"^pool\.geometry_method\.xc: 'b3ylp'"):
        pyscf_checks.check_wigner(method("b3ylp"), water)


def test_hessian_that_pyscf_lacks_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise NotImplementedError("no such\nHessian")

    monkeypatch.setattr(PyscfCalculator, "hessian", fail)
    with pytest.raises(QuarryError, match=r"no analytic Hessian.*no such Hessian.*set pool\.geometry_method"):
        pyscf_checks.check_wigner(method(), bent_water())


def test_more_states_than_a_molecule_of_the_pool_has() -> None:
    states = Excitations(n_states=11)
    engine = PyscfEngine(method("b3lyp", excitations=states))
    assert isinstance(engine, ChecksMolecules)
    engine.check_molecules([hydroxyl()])
    with pytest.raises(QuarryError) as caught:
        engine.check_molecules([hydroxyl(), bent_water()])
    assert str(caught.value) == (
        "labeling.method.excitations.n_states = 11 is more than the 10 excited states that H2O has with 5 occupied of 7 "
        "orbitals in the basis 'sto-3g'; lower it or choose a larger basis"
    )
    PyscfEngine(method("b3lyp")).check_molecules([bent_water()])
    PyscfEngine(method("b3lyp", "6-31g", excitations=states)).check_molecules([bent_water()])


def test_the_check_before_any_job_counts_states(tmp_path: Path) -> None:
    bent_water().to_atoms().write(tmp_path / "water.xyz")
    excitations = {"labeling.method.excitations": {"n_states": 11}}
    configuration = load_configuration(changed(WIGNER, excitations), "campaign.yaml")
    with pytest.raises(QuarryError, match=r"^labeling\.method\.excitations\.n_states = 11 is more than the 10 "):
        check(configuration, tmp_path)


def test_one_molecule_of_each_composition_charge_and_multiplicity() -> None:
    water, radical, ion = bent_water(), hydroxyl(), hydroxyl(charge=-1)
    turned = unrounded([1, 8, 1], water.positions)
    assert one_of_each_kind([water, radical, turned, bent_water(1.1), ion, radical]) == [water, radical, ion]
