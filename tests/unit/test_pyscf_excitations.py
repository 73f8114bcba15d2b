"""Excited states: against a full diagonalisation of the response matrices, and never a list that lacks a root."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pyscf import dft, gto, scf, tdscf

from quarry.config.methods import Excitations, PyscfMethod
from quarry.errors import QuarryError
from quarry.files import canonical_json
from quarry.labeling.engines import pyscf_excitations
from quarry.labeling.engines.base import EngineResult
from quarry.labeling.engines.pyscf_engine import PyscfEngine
from quarry.labeling.engines.pyscf_excitations import ExcitationsNotConverged, count_excitations, excited_states
from quarry.labeling.engines.pyscf_runs import HARTREE_EV
from quarry.structures import Structure
from support.molecules import bent_water, hydroxyl, method, unrounded

TIGHT = {"convergence_hartree": 1e-11, "grid_level": 0}
HYDROGEN = unrounded([1, 1], [[0.0, 0.0, 0.0], [0.0, 0.0, 0.8]])


def label(structure: Structure, level: PyscfMethod, **settings: Any) -> EngineResult:
    return PyscfEngine(level.model_copy(update={"excitations": Excitations(**settings)})).label(structure, 1)


def ground_state(structure: Structure, level: PyscfMethod) -> scf.hf.SCF:
    atoms = [(int(z), list(xyz)) for z, xyz in zip(structure.numbers, structure.positions, strict=True)]
    molecule = gto.M(atom=atoms, basis=level.basis, spin=structure.multiplicity - 1, verbose=0)
    open_shell = molecule.spin > 0
    if level.xc == "hf":
        solution = (scf.UHF if open_shell else scf.RHF)(molecule)
    else:
        solution = (dft.UKS if open_shell else dft.RKS)(molecule, xc=level.xc)
        solution.grids.level = level.grid_level
    if level.density_fitting:
        solution = solution.density_fit()
    solution.conv_tol = 1e-11
    solution.kernel()
    return solution


def full_response(solution: scf.hf.SCF, kind: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Energies (eV) and oscillator strengths of all states from the matrices A and B, for a closed shell.

    Casida's Hermitian form (A - B)^1/2 (A + B) (A - B)^1/2 Z = w^2 Z; in the Tamm-Dancoff approximation A X = w X.
    """
    a, b = tdscf.rhf.get_ab(solution)
    occupied = solution.mo_coeff[:, solution.mo_occ > 0]
    virtual = solution.mo_coeff[:, solution.mo_occ == 0]
    size = occupied.shape[1] * virtual.shape[1]
    a, b = a.reshape(size, size), b.reshape(size, size)
    if kind == "tda":
        energies, amplitudes = np.linalg.eigh(a)
    else:
        values, vectors = np.linalg.eigh(a - b)
        root = (vectors * np.sqrt(values)) @ vectors.T
        squares, vectors = np.linalg.eigh(root @ (a + b) @ root)
        energies = np.sqrt(squares)
        amplitudes = root @ vectors / np.sqrt(energies)
    with solution.mol.with_common_orig((0.3, -0.2, 0.1)):
        dipoles = np.einsum("xpq,po,qv->xov", solution.mol.intor("int1e_r"), occupied, virtual).reshape(3, size)
    # The square root of 2 is the singlet's normalisation over the two spins.
    transitions = np.sqrt(2.0) * dipoles @ amplitudes
    return energies * HARTREE_EV, 2 / 3 * energies * (transitions**2).sum(axis=0)


@pytest.mark.parametrize("kind", ["tda", "tddft"])
@pytest.mark.parametrize(
    ("xc", "settings"),
    [("hf", {}), ("b3lyp", {}), ("pbe", {}), ("hf", {"density_fitting": True}), ("HYB_GGA_XC_WB97X_D", {})],
    ids=["hf", "b3lyp", "pbe", "hf-df", "wb97x-d"],
)
def test_states_are_those_of_the_full_matrices(kind: str, xc: str, settings: dict[str, Any]) -> None:
    level = method(xc, "6-31g", **TIGHT, **settings)
    level = level.model_copy(update={"forces": False})
    result = label(bent_water(), level, n_states=8, kind=kind, convergence=1e-6)
    assert result.status == "ok", result.message
    energies, strengths = full_response(ground_state(bent_water(), level), kind)
    # PySCF's matrices hold no density fitting: the excitation energies differ by a few meV.
    tolerance = 2e-2 if settings else 1e-5
    assert result.properties["excitation_energies"] == pytest.approx(energies[:8], abs=tolerance)
    assert result.properties["oscillator_strengths"] == pytest.approx(strengths[:8], abs=2e-3 if settings else 1e-5)
    assert np.diff(result.properties["excitation_energies"]).min() > 0
    assert max(strengths[:8]) > 0.05
    json.dumps(result.properties, allow_nan=False)
    assert result.details["excitations"][0]["converged"] == [True] * 8
    assert {"energy", "homo", "lumo", "gap", "dipole"} < set(result.properties)


def test_all_states_of_a_basis() -> None:
    level = method("hf", "6-311++g**", **TIGHT)
    n_states = count_excitations(PyscfEngine(level).molecule(HYDROGEN))
    result = label(HYDROGEN, level, n_states=n_states, kind="tddft")
    assert result.status == "ok", result.message
    energies, strengths = full_response(ground_state(HYDROGEN, level), "tddft")
    assert result.properties["excitation_energies"] == pytest.approx(energies, abs=1e-4)
    assert sum(result.properties["oscillator_strengths"]) == pytest.approx(strengths.sum(), abs=1e-4)


def test_cis_of_water_matches_the_literature() -> None:
    """Crawford group, Programming Project 12 (water, STO-3G, singlets of CIS and RPA in hartree).

    The molecule is symmetric: PySCF's own start vectors lack the symmetry of some low states, and it misses those.
    """
    structure = unrounded([8, 1, 1], np.array(CRAWFORD_BOHR) * 0.52917721067)
    level = method("hf", "sto-3g", convergence_hartree=1e-11)
    for kind, expected in CRAWFORD_SINGLETS.items():
        found = label(structure, level, n_states=len(expected), kind=kind).properties["excitation_energies"]
        assert np.array(found) / HARTREE_EV == pytest.approx(expected, abs=2e-6)


# https://github.com/CrawfordGroup/ProgrammingProjects, Project #12.
CRAWFORD_BOHR = [
    [0.0, -0.143225816552, 0.0],
    [1.638036840407, 1.136548822547, 0.0],
    [-1.638036840407, 1.136548822547, 0.0],
]
CRAWFORD_SINGLETS = {
    "tda": [0.3564617587, 0.4160717386, 0.5056282877, 0.5551918860, 0.6553184485],
    "tddft": [0.3547782530, 0.4153174946, 0.5001011401, 0.5513718846, 0.6502707118],
}


@pytest.mark.parametrize("kind", ["tda", "tddft"])
@pytest.mark.parametrize("xc", ["hf", "pbe"])
def test_open_shell_states_match_the_full_unrestricted_matrices(kind: str, xc: str) -> None:
    # A bent radical: on a line the shell would be degenerate.
    radical = unrounded([8, 1, 1], bent_water().positions, multiplicity=2, charge=1)
    level = method(xc, "sto-3g", **TIGHT)
    result = label(radical, level, n_states=4, kind=kind)
    assert result.status == "ok", result.message
    atoms = [(int(z), list(xyz)) for z, xyz in zip(radical.numbers, radical.positions, strict=True)]
    molecule = gto.M(atom=atoms, basis="sto-3g", spin=1, charge=1, verbose=0)
    solution = scf.UHF(molecule) if xc == "hf" else dft.UKS(molecule, xc=xc)
    if xc != "hf":
        solution.grids.level = 0
    solution.conv_tol = 1e-11
    solution.kernel()
    (aa, ab, bb), (baa, bab, bbb) = tdscf.uhf.get_ab(solution)
    n_a, n_b = aa.shape[0] * aa.shape[1], bb.shape[0] * bb.shape[1]

    def joined(same_a: Any, mixed: Any, same_b: Any) -> NDArray[np.float64]:
        mixed = mixed.reshape(n_a, n_b)
        return np.block([[same_a.reshape(n_a, n_a), mixed], [mixed.T, same_b.reshape(n_b, n_b)]])

    a, b = joined(aa, ab, bb), joined(baa, bab, bbb)
    expected = np.linalg.eigvalsh(a) if kind == "tda" else np.sqrt(np.sort(np.linalg.eigvals((a - b) @ (a + b)).real))
    assert result.properties["excitation_energies"] == pytest.approx(expected[:4] * HARTREE_EV, abs=1e-4)


def test_low_states_are_not_filtered_out() -> None:
    """PySCF alone drops roots below 0.86 eV here and hands the next one back (8.9 eV) as the lowest."""
    sodium = unrounded([11, 11], [[0.0, 0.0, 0.0], [0.0, 0.0, 5.6]])
    level = method("pbe", "sto-3g", **TIGHT)
    result = label(sodium, level, n_states=1, kind="tddft")
    assert result.status == "ok", result.message
    energies, _ = full_response(ground_state(sodium, level), "tddft")
    assert energies[0] < 0.86
    assert result.properties["excitation_energies"] == pytest.approx(energies[:1], abs=1e-4)


@pytest.mark.parametrize("xc", ["pbe", "b3lyp"])
def test_a_degenerate_ground_state_is_a_failure_whatever_the_grid_makes_of_it(xc: str) -> None:
    """The hole of OH turns about the axis at no cost: 0.01 eV or an imaginary energy, by processor and orientation."""
    level = method(xc, "6-31g", grid_level=1)
    for axis in ([0.3, 0.4, 0.85], [0.0, 0.0, 0.98], [0.7, -0.69, 0.0], [-0.2, 0.9, 0.3]):
        radical = unrounded([8, 1], [[0, 0, 0], axis], multiplicity=2)
        result = label(radical, level, n_states=2, kind="tddft")
        assert result.status == "excitations_not_converged", axis
        assert "degenerate" in result.message and "excitations.kind to tda" in result.message
        assert label(radical, level, n_states=2, kind="tda").status == "ok"


def test_more_states_than_the_basis_has_is_a_typed_failure_before_the_scf() -> None:
    result = label(HYDROGEN, method(), n_states=2)
    assert result.status == "excitations_not_converged"
    assert result.message.startswith("2 excited states are asked for, and the basis of this structure has 1;")
    assert result.attempts == [] and result.properties == {}
    assert label(HYDROGEN, method(), n_states=1).status == "ok"


def test_counting_excitations_of_both_spins() -> None:
    assert count_excitations(PyscfEngine(method()).molecule(bent_water())) == 5 * 2
    assert count_excitations(PyscfEngine(method()).molecule(hydroxyl())) == 5 * 1 + 4 * 2


def test_unconverged_roots_are_named_and_nothing_is_a_label() -> None:
    result = label(bent_water(), method("hf", "6-31g**"), n_states=6, max_cycles=1, convergence=1e-9)
    assert result.status == "excitations_not_converged"
    assert result.properties == {}
    assert "not converged: " in result.message and result.message.endswith("of 6")
    first, second = result.details["excitations"]
    assert len(first["converged"]) == 6 and not all(first["converged"])
    assert second["roots"] > first["roots"]
    assert [a["converged"] for a in result.attempts] == [True]


def test_a_second_attempt_rescues_slow_roots() -> None:
    level = method("hf", "6-31g")
    quick, slow = (label(bent_water(), level, n_states=3, kind="tda", max_cycles=n) for n in (100, 3))
    assert len(slow.details["excitations"]) == 2 and slow.status == "ok"
    assert slow.properties["excitation_energies"] == pytest.approx(quick.properties["excitation_energies"], abs=1e-6)


@pytest.mark.parametrize("lost", [0, 2])
def test_a_lost_root_is_a_failure(lost: int, monkeypatch: pytest.MonkeyPatch) -> None:
    solve = pyscf_excitations._solve

    def lossy(*arguments: Any) -> Any:
        solver, *parts = solve(*arguments)
        return solver, *(np.delete(part, lost)[:3] for part in parts)

    monkeypatch.setattr(pyscf_excitations, "_solve", lossy)
    result = label(bent_water(), method(), n_states=4)
    assert result.status == "excitations_not_converged"
    assert "found 3 of 4" in result.message


@pytest.mark.parametrize("kind", ["tda", "tddft"])
@pytest.mark.parametrize("xc", ["hf", "pbe"])
def test_an_unstable_ground_state_is_a_failure(xc: str, kind: str) -> None:
    """The closed-shell solution of stretched H2 is no minimum of the unrestricted energy: a root is negative or imaginary."""
    molecule = gto.M(atom="H 0 0 0; H 0 0 2.5", basis="6-31g", verbose=0)
    solution = scf.UHF(molecule) if xc == "hf" else dft.UKS(molecule, xc=xc)
    density = scf.RHF(molecule).run().make_rdm1()
    solution.kernel(dm0=np.array([density, density]) / 2)
    assert solution.converged
    with pytest.raises(ExcitationsNotConverged, match="unstable"):
        excited_states(solution, Excitations(n_states=3, kind=kind), [])


def test_forces_can_be_left_out() -> None:
    with_forces = PyscfEngine(method("pbe")).label(bent_water(), 1).properties
    without = PyscfEngine(method("pbe", forces=False)).label(bent_water(), 1).properties
    assert set(with_forces) - set(without) == {"forces"}
    assert without["energy"] == pytest.approx(with_forces["energy"], abs=1e-9)


def identity(**settings: Any) -> dict[str, Any]:
    return PyscfEngine(method("b3lyp", "6-31g*", **settings)).method_identity()


def test_identity_names_excited_states_only_where_asked_for() -> None:
    assert set(identity()) == {
        *("engine", "functional", "basis", "ecp", "grid_level", "convergence_hartree", "density_fitting", "dispersion")
    }
    some = {n: identity(excitations=Excitations(n_states=n)) for n in (2, 3)}
    assert some[2]["excitations"] == {"n_states": 2, "kind": "tddft", "convergence": 1e-5}
    assert len({canonical_json(i) for i in (*some.values(), identity(), identity(forces=False))}) == 4
    assert identity(excitations=Excitations(n_states=2, max_cycles=7)) == some[2]


def test_checks_name_what_pyscf_cannot_do() -> None:
    states = Excitations(n_states=20)
    PyscfEngine(method("pbe", excitations=states)).check([1, 8])
    with pytest.raises(QuarryError, match=r"^labeling\.method\.excitations: .*VV10") as caught:
        PyscfEngine(method("wb97x-v", allow_vv10=True, excitations=states)).check([1])
    assert "\n" not in str(caught.value)
