"""External instabilities: closed shells against unrestricted calculations of PySCF's own, looked for, followed, and recorded."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError
from pyscf import dft, gto, scf
from scipy.spatial.transform import Rotation
from scipy.stats import ortho_group

from quarry.config.engines.pyscf import PyscfLabeling
from quarry.config.methods import Excitations
from quarry.files import canonical_json
from quarry.labeling.engines import pyscf_stability
from quarry.labeling.engines.pyscf_engine import PyscfEngine
from quarry.labeling.engines.pyscf_runs import HARTREE_EV, Runs
from quarry.labeling.engines.pyscf_stability import (
    below_closed_shell,
    external_curvature,
    lowest_curvature,
    minimum_below,
)
from quarry.labeling.engines.registry import make_engine
from quarry.labeling.stability import external_instability, external_looked_for
from quarry.structures import Structure
from support.molecules import bent_water, hydroxyl, method, unrounded

LEVEL = method("b3lyp", "6-31g", grid_level=1)
FORMALDEHYDE = unrounded([6, 8, 1, 1], [[0, 0, -0.53], [0, 0, 0.68], [0, 0.93, -1.11], [0, -0.93, -1.11]])


def hydrogen(distance_A: float) -> Structure:
    return unrounded([1, 1], [[0, 0, 0], [0, 0, distance_A]])


def solved(structure: Structure, level: Any = LEVEL) -> scf.hf.SCF:
    engine = PyscfEngine(level)
    return engine._calculation(engine.molecule(structure)).run()


def unrestricted(atoms: str, xc: str, basis: str, grid_level: int) -> tuple[float, float]:
    """Energy (hartree) and <S^2> of the lowest spin-polarised calculation by PySCF alone that a wide search finds.

    Starts: HOMO and LUMO mixed; three pairs, in either sense; spin up on the first atom and down on the last one. From the
    lowest end PySCF's own analysis leads on. One start alone may end in a metastable minimum, as rounding will.
    """
    molecule = gto.M(atom=atoms, basis=basis, verbose=0)
    calculation = scf.UHF(molecule) if xc == "hf" else dft.UKS(molecule, xc=xc)
    if xc != "hf":
        calculation.grids.level = grid_level
    calculation.conv_tol = 1e-11
    closed = (scf.RHF(molecule) if xc == "hf" else dft.RKS(molecule, xc=xc)).run()
    half = molecule.nelectron // 2
    rotation = np.sqrt(0.5) * np.array([[1, 1], [-1, 1]])
    starts = []
    for senses in ((1,), (1, 1, 1), (1, -1, 1)):
        if len(senses) > min(half, molecule.nao - half):
            continue
        densities = []
        for spin in (1, -1):
            orbitals = closed.mo_coeff.copy()
            for k, sense in enumerate(senses):
                pair = [half - 1 - k, half + k]
                orbitals[:, pair] = orbitals[:, pair] @ (rotation if sense * spin > 0 else rotation.T)
            densities.append(orbitals[:, :half] @ orbitals[:, :half].T)
        starts.append(np.array(densities))
    first, last = (molecule.aoslice_by_atom()[atom, 2:] for atom in (0, -1))
    share = np.zeros(molecule.nao)
    share[slice(*first)], share[slice(*last)] = 1, -1
    atoms_density = calculation.get_init_guess()[0]
    for part in (0.3, 0.9):
        weights = [np.sqrt(1 + spin * part * share) for spin in (1, -1)]
        starts.append(np.array([atoms_density * np.outer(w, w) for w in weights]))
    solvers = [calculation.copy().newton() for _ in starts]
    for each, start in zip(solvers, starts, strict=True):
        each.kernel(dm0=start)
    solver = min(solvers, key=lambda each: each.e_tot)
    for _ in range(4):
        orbitals, _, stable, _ = solver.stability(return_status=True)
        if stable:
            break
        solver.kernel(orbitals, solver.mo_occ)
    return float(solver.e_tot), float(solver.spin_square()[0])


def degenerate_rotated(solution: scf.hf.SCF, seed: int) -> NDArray[np.float64]:
    """Return the orbitals of a closed shell, degenerate ones turned into each other at random."""
    random = np.random.default_rng(seed)
    groups = np.cumsum(np.diff(solution.mo_energy, prepend=solution.mo_energy[0]) > 1e-4)
    orbitals = np.array(solution.mo_coeff)
    for group in np.unique(groups):
        (members,) = np.nonzero(groups == group)
        if len(members) > 1:
            orbitals[:, members] = orbitals[:, members] @ ortho_group.rvs(len(members), random_state=random)
    return orbitals


class TestLooking:
    @pytest.mark.parametrize(("distance", "stable"), [(1.4, True), (1.7, False)])
    def test_stretched_hydrogen(self, distance: float, stable: bool) -> None:
        result = PyscfEngine(LEVEL, stability="internal").label(hydrogen(distance), 1)
        found = result.details["stability"]
        assert (found["stable"], found["internal"]) == (True, "stable")
        assert found["external"] == ("stable" if stable else "unstable")
        assert (found["external_curvature"] > 0) == stable
        assert found["not_looked_for"] == ["real -> complex", "UHF -> GHF"]
        known = external_instability(result.details)
        assert known is None if stable else known == found["external_curvature"]
        assert external_looked_for(result.details)

    @pytest.mark.parametrize("xc", ["hf", "pbe", "b3lyp"])
    def test_the_curvature_is_the_lowest_of_the_unrestricted_energy(self, xc: str) -> None:
        solution = solved(hydrogen(1.7), method(xc, "6-31g", grid_level=1))
        expected, direction = lowest_curvature(solution.to_uks() if xc != "hf" else solution.to_uhf())
        curvature, found = pyscf_stability._external(solution)
        assert curvature == pytest.approx(expected, abs=1e-6)
        assert curvature < -0.01
        opposed = np.concatenate([found, -found]) / np.sqrt(2)
        assert abs(opposed @ direction) == pytest.approx(1, abs=1e-4)
        assert external_curvature(solution)[0] == pytest.approx(expected, abs=3e-3)

    @pytest.mark.parametrize("xc", ["hf", "b3lyp"])
    def test_a_look_finds_what_the_whole_matrix_has(self, xc: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Formaldehyde: its lowest eigenvector is none of those of its softest orbital pairs."""
        solution = solved(FORMALDEHYDE, method(xc, "6-31g", grid_level=1))
        found = []
        for limit in (10_000, 1):
            monkeypatch.setattr(pyscf_stability, "EXPLICIT_SIZE", limit)
            found.append((external_curvature(solution)[0], pyscf_stability.look(solution)["lowest_curvature"]))
        assert found[0] == pytest.approx(found[1], abs=3e-3)

    def test_close_to_zero_the_curvature_is_exact(self) -> None:
        level = method("b3lyp", "6-31g", grid_level=3)
        distance = 1.477
        solution = solved(hydrogen(distance), level)
        exact, _ = pyscf_stability._external(solution)
        assert abs(exact) < pyscf_stability.UNCERTAIN_HARTREE / 2
        # Two solutions of one eigenproblem: equal to the rounding of its matrix, some thousand times the last digit.
        assert external_curvature(solution)[0] == pytest.approx(exact, abs=1e-12)

    def test_looking_changes_no_number_and_no_identity(self) -> None:
        looked, plain = (PyscfEngine(LEVEL, looks=looks) for looks in (True, False))
        one, other = (engine.label(hydrogen(1.7), 1) for engine in (looked, plain))
        assert one.properties == other.properties and other.details == {}
        assert looked.method_identity() == plain.method_identity()
        assert one.details["stability"]["external"] == "unstable"
        assert one.details["stability"]["energies"] == [one.properties["energy"]]
        assert not external_looked_for(other.details) and external_instability(other.details) is None

    def test_open_shells_and_what_has_no_virtual_orbitals(self) -> None:
        for structure, word in ((hydroxyl(), "open shell"), (unrounded([2], [[0, 0, 0]]), "stable")):
            result = PyscfEngine(method(), looks=True).label(structure, 1)
            assert result.details["stability"]["external"] == word
            assert external_looked_for(result.details) and external_instability(result.details) is None
            json.dumps(result.details, allow_nan=False)

    def test_a_functional_without_second_derivatives_keeps_its_label(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def missing(*_: Any, **__: Any) -> None:
            raise NotImplementedError("libxc does not support derivative order 2")

        monkeypatch.setattr(dft.libxc, "test_deriv_order", missing)
        result = PyscfEngine(LEVEL, looks=True).label(bent_water(), 1)
        assert result.status == "ok", result.message
        found = result.details["stability"]
        assert (found["internal"], found["external"]) == ("not looked for", "not looked for")
        assert found["not_looked_for"] == ["RHF -> UHF", "real -> complex", "UHF -> GHF"]
        assert not external_looked_for(result.details)

    def test_records_of_earlier_versions_say_nothing(self) -> None:
        old = {"stability": {"stable": True, "flat": False, "followed": 0, "energies": [-1.0], "lowest_curvature": 0.4}}
        assert external_instability(old) is None and not external_looked_for(old)


class TestFollowing:
    @pytest.mark.parametrize(
        ("structure", "xc", "atoms"),
        [
            (hydrogen(1.7), "b3lyp", "H 0 0 0; H 0 0 1.7"),
            (hydrogen(2.5), "hf", "H 0 0 0; H 0 0 2.5"),
            (unrounded([7, 7], [[0, 0, 0], [0, 0, 1.8]]), "hf", "N 0 0 0; N 0 0 1.8"),
            (unrounded([8, 8], [[0, 0, 0], [0, 0, 1.21]]), "b3lyp", "O 0 0 0; O 0 0 1.21"),
        ],
        ids=["H2 b3lyp", "H2 hf", "N2 hf", "O2 b3lyp"],
    )
    def test_ends_where_an_unrestricted_calculation_does(self, structure: Structure, xc: str, atoms: str) -> None:
        level = method(xc, "6-31g", grid_level=1, forces=False)
        result = PyscfEngine(level, stability="external").label(structure, 1)
        assert result.status == "ok", result.message
        found = result.details["stability"]
        energy, squared = unrestricted(atoms, xc, "6-31g", 1)
        assert found["external"] == "followed" and found["external_curvature"] < 0
        assert result.properties["energy"] / HARTREE_EV == pytest.approx(energy, abs=2e-6)
        assert found["spin_squared"] == pytest.approx(squared, abs=1e-3)
        assert found["energies"][-1] == result.properties["energy"] < found["energies"][0]
        assert found["followed"] == len(found["energies"]) - 1
        assert external_looked_for(result.details) and external_instability(result.details) is None
        (last,) = result.attempts[1:]
        assert last["name"] == "stability" and last["converged"] and last["cycles"] > 0

    @pytest.mark.parametrize(("number", "distance", "expected"), [(7, 1.8, -108.746502), (6, 1.25, -75.482154)])
    def test_neither_orientation_nor_degenerate_orbitals_decide(
        self, number: int, distance: float, expected: float
    ) -> None:
        """N2 and C2: below a closed shell of lower symmetry lies a minimum 3.2 and 1.1 eV above the one expected."""
        for seed in range(2):
            rotation = Rotation.random(random_state=seed).as_matrix()
            structure = unrounded([number] * 2, np.array([[0, 0, 0], [0, 0, distance]]) @ rotation.T)
            engine = PyscfEngine(method("hf", "6-31g"), stability="external")
            molecule = engine.molecule(structure)
            runs, unrestricted = (Runs(engine._calculation(molecule, unrestricted=u)) for u in (False, True))
            solution = runs.run(runs.fresh())
            solution.mo_coeff = degenerate_rotated(solution, seed)
            end, found = minimum_below(runs, solution)
            assert found["followed"] > 0, "the closed shell itself is no minimum"
            lowest = below_closed_shell(end, found, unrestricted, before=solution)
            assert lowest.e_tot == pytest.approx(expected, abs=2e-6), seed
            assert found["external"] == "followed" and found["stable"] and found["external_curvature"] < 0
            assert found["followed"] == len(found["energies"]) - 1
            assert found["energies"][0] == solution.e_tot * HARTREE_EV
            assert found["energies"][-1] == lowest.e_tot * HARTREE_EV

    @pytest.mark.parametrize("sign", [1, -1])
    def test_the_sign_of_a_direction_does_not_decide(self, sign: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """OH: the two ways down end 1.2 eV apart."""

        def signed(solution: scf.hf.SCF) -> tuple[float, Any]:
            curvature, direction = lowest_curvature(solution)
            return curvature, sign * direction

        monkeypatch.setattr(pyscf_stability, "lowest_curvature", signed)
        structure = unrounded([8, 1], [[0, 0, 0], [0, 0, 2.5]], multiplicity=2)
        result = PyscfEngine(method("hf", "6-31g", forces=False), stability="internal").label(structure, 1)
        assert result.details["stability"]["followed"] > 0
        assert result.properties["energy"] / HARTREE_EV == pytest.approx(-75.278837, abs=2e-6)

    def test_the_forces_are_those_of_the_unrestricted_energy(self) -> None:
        engine = PyscfEngine(method("hf", "6-31g", convergence_hartree=1e-11), stability="external")
        step = 1e-3
        here, *beside = (engine.label(hydrogen(2.0 + shift), 1) for shift in (0, step, -step))
        slope = (beside[0].properties["energy"] - beside[1].properties["energy"]) / (2 * step)
        assert here.properties["forces"][1][2] == pytest.approx(-slope, abs=1e-4)

    def test_a_stable_closed_shell_stays_one(self) -> None:
        one, other = (PyscfEngine(LEVEL, stability=s).label(hydrogen(1.4), 1) for s in ("internal", "external"))
        assert one.properties == other.properties
        assert one.details == other.details


class TestConfiguration:
    def test_following_is_part_of_the_identity(self) -> None:
        def identity(**settings: Any) -> str:
            return canonical_json(PyscfEngine(method(), **settings).method_identity())

        assert len({identity(), identity(stability="internal"), identity(stability="external")}) == 3
        assert identity(looks=True) == identity()

    def test_the_keys_reach_the_engine(self) -> None:
        labeling = PyscfLabeling(engine="pyscf", method=method(), stability="external", look_for_instabilities=True)
        engine = make_engine(labeling)
        assert engine.stability == "external" and engine.looks

    def test_excitations_of_broken_symmetry_are_refused(self) -> None:
        excited = method().model_copy(update={"excitations": Excitations(n_states=1)})
        with pytest.raises(ValidationError, match="set stability to internal, or excitations to null"):
            PyscfLabeling(engine="pyscf", method=excited, stability="external")
