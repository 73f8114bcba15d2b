"""The recovery ladder: the same energy on every step, hard cases against independent calculations, honest failures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from pyscf import dft, gto, scf

from quarry.config.engines.pyscf import PyscfLabeling
from quarry.config.methods import PyscfMethod
from quarry.files import canonical_json
from quarry.labeling.engines import pyscf_engine, pyscf_recovery
from quarry.labeling.engines.pyscf_calculator import DEFAULT_RECOVERY
from quarry.labeling.engines.pyscf_engine import PyscfEngine
from quarry.labeling.engines.pyscf_recovery import RECOVERY_STEPS
from quarry.labeling.engines.pyscf_runs import HARTREE_EV, Runs, ScfNotConverged
from quarry.labeling.engines.pyscf_stability import lowest_curvature, minimum_below
from quarry.labeling.engines.registry import make_engine
from quarry.structures import Structure
from support.hard_cases import HARD_CASES
from support.molecules import bent_water, hydroxyl, method, unrounded

TIGHT = {"convergence_hartree": 1e-11, "grid_level": 0}
CATION = unrounded([8, 1, 1], bent_water().positions, charge=1, multiplicity=2)
EASY = {
    "rhf": (method("hf", **TIGHT), bent_water()),
    "uhf-df": (method("hf", density_fitting=True, **TIGHT), CATION),
    "rks-d3bj": (method("b3lyp", dispersion="d3bj", **TIGHT), bent_water()),
    "uks-df-d4": (method("pbe0", density_fitting=True, dispersion="d4", **TIGHT), CATION),
}


def test_the_default_ladder_has_every_step_from_cheap_to_dear() -> None:
    assert tuple(RECOVERY_STEPS) == DEFAULT_RECOVERY
    assert DEFAULT_RECOVERY[0] == "plain" and DEFAULT_RECOVERY[-1] == "newton"


@pytest.mark.parametrize("case", EASY)
def test_every_step_gives_the_energy_and_forces_of_the_plain_run(case: str) -> None:
    level, structure = EASY[case]
    plain = PyscfEngine(level, recovery=[]).label(structure, 1)
    for step in DEFAULT_RECOVERY[1:]:
        result = PyscfEngine(level, recovery=[step]).label(structure, 1)
        assert result.status == "ok", result.message
        assert [a["name"] for a in result.attempts] == [step]
        assert result.properties["energy"] / HARTREE_EV == pytest.approx(
            plain.properties["energy"] / HARTREE_EV, abs=1e-8
        ), step
        for name in ("forces", "dipole", "homo", "gap"):
            assert np.array(result.properties[name]) == pytest.approx(np.array(plain.properties[name]), abs=2e-5), (
                step,
                name,
            )


def test_no_step_leaves_a_trace_in_the_calculation() -> None:
    level, structure = EASY["rks-d3bj"]
    engine = PyscfEngine(level)
    calculation = engine._calculation(engine.molecule(structure))
    for name, way in RECOVERY_STEPS.items():
        solution = way(Runs(calculation))
        assert type(solution) is type(calculation), name
        assert solution.level_shift == 0 and solution.damp == 0 and solution.callback is None
        assert solution.conv_tol == level.convergence_hartree and solution.max_cycle == level.max_cycles
        assert set(np.unique(solution.mo_occ)) == {0.0, 2.0}
    assert calculation.mo_coeff is None and not calculation.converged


def independent(structure: Structure, level: PyscfMethod, guess: str) -> float:
    """The energy (hartree) of a tight second-order calculation from another guess, after PySCF's own stability analysis."""
    atoms = list(zip(structure.numbers.tolist(), structure.positions.tolist(), strict=True))
    molecule = gto.M(atom=atoms, basis=level.basis, spin=structure.multiplicity - 1, verbose=0)
    calculation = (dft.UKS if molecule.spin else dft.RKS)(molecule, xc=level.xc)
    calculation.grids.level = level.grid_level
    solver = calculation.newton()
    solver.conv_tol, solver.max_cycle, solver.init_guess = 1e-11, 100, guess
    solver.kernel()
    for _ in range(8):
        orbitals, _, stable, _ = solver.stability(return_status=True)
        if stable:
            break
        solver.kernel(orbitals, solver.mo_occ)
    assert solver.converged and stable
    return float(solver.e_tot)


@pytest.mark.parametrize(
    ("name", "steps", "max_cycles"),
    [
        ("HF 2.8, singlet", ["plain", "newton"], 40),
        ("OH 2.5, doublet", ["plain", "level_shift", "newton"], 20),
    ],
)
def test_hard_cases_are_rescued_to_the_right_energy(name: str, steps: list[str], max_cycles: int) -> None:
    (case,) = (c for c in HARD_CASES if c.name == name)
    level = case.method.model_copy(update={"max_cycles": max_cycles, "forces": False, "grid_level": 1})
    assert PyscfEngine(level, recovery=["plain"]).label(case.structure, 1).status == "scf_not_converged"
    result = PyscfEngine(level, steps, stability="internal").label(case.structure, 1)
    assert result.status == "ok", result.message
    names = [a["name"] for a in result.attempts]
    assert names[0] == "plain" and names[-1] == "stability" and len(names) > 2
    assert [a["converged"] for a in result.attempts][-2:] == [True, True]
    # The open shell of OH turns about the axis at no cost but the grid's: on some processors a flat direction is left.
    assert result.details["stability"]["stable"] or result.details["stability"]["flat"]
    energy = result.properties["energy"] / HARTREE_EV
    assert energy == pytest.approx(independent(case.structure, level, "atom"), abs=1e-6)
    json.dumps([result.attempts, result.details], allow_nan=False)


def test_unconverged_on_every_step_is_a_failure_that_names_them() -> None:
    result = PyscfEngine(method("b3lyp", max_cycles=1, convergence_hartree=1e-13)).label(hydroxyl(), 1)
    assert result.status == "scf_not_converged"
    assert result.properties == {}
    assert [a["name"] for a in result.attempts] == list(DEFAULT_RECOVERY)
    assert not any(a["converged"] for a in result.attempts)
    assert all(a["cycles"] >= 1 and a["energy"] < -1900 and a["wall_s"] > 0 for a in result.attempts)
    assert all(f"{name} " in result.message for name in DEFAULT_RECOVERY)
    assert result.size == {"atoms": 2, "basis_functions": 6}


class TakenBack(scf.hf.RHF):
    """A calculation whose convergence PySCF takes back after the last cycle, as rounding decides in soft molecules."""

    times = 1

    def kernel(self, dm0: Any = None, **keys: Any) -> float:
        energy = super().kernel(dm0, **keys)
        self.converged &= self.times <= 0
        self.times -= 1
        return energy


@pytest.mark.parametrize(("times", "converged"), [(0, True), (1, True), (1000, False)])
def test_a_convergence_that_is_taken_back_is_not_the_end(times: int, converged: bool) -> None:
    calculation = TakenBack(gto.M(atom="H 0 0 0; F 0 0 0.9", basis="sto-3g", verbose=0))
    calculation.max_cycle = 30
    runs = Runs(calculation)
    end = runs.run(runs.fresh(times=times))
    assert end.converged is converged and end.max_cycle == 30
    assert runs.cycles == 30 if not converged else 2 <= runs.cycles < 30
    assert end.e_tot == pytest.approx(scf.RHF(calculation.mol).run().e_tot, abs=1e-8)
    # A run that is only a start is not prolonged.
    before = runs.cycles
    runs.once(runs.fresh(times=1000))
    assert runs.cycles - before < 30


def test_start_orbitals_are_rotated_always_alike() -> None:
    """By much less than a guess is wrong, and by much more than rounding."""
    engine = PyscfEngine(method("hf", "6-31g"))
    for structure in (bent_water(), hydroxyl()):
        molecule = engine.molecule(structure)
        one, other = (np.asarray(engine._calculation(molecule).get_init_guess(molecule, "minao")) for _ in range(2))
        plain = np.asarray((scf.RHF if molecule.spin == 0 else scf.UHF)(molecule).get_init_guess(molecule, "minao"))
        assert np.array_equal(one, other)
        assert one == pytest.approx(np.swapaxes(one, -1, -2), abs=1e-14)
        assert 1e-5 < np.abs(one - plain).max() < 0.02


def test_a_step_that_raises_is_recorded_and_the_next_one_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Runs) -> Any:
        raise np.linalg.LinAlgError("singular\nmatrix")

    monkeypatch.setitem(pyscf_recovery.RECOVERY_STEPS, "plain", fail)
    result = PyscfEngine(method()).label(bent_water(), 1)
    assert result.status == "ok"
    assert [(a["name"], a["converged"]) for a in result.attempts] == [("plain", False), ("guess", True)]
    assert result.attempts[0]["error"] == "LinAlgError: singular matrix" and result.attempts[0]["energy"] is None
    alone = PyscfEngine(method(), recovery=["plain"]).label(bent_water(), 1)
    assert alone.status == "engine_error" and "singular" in alone.message


def test_the_hessian_takes_the_ladder_too() -> None:
    level = method("hf", max_cycles=4, convergence_hartree=1e-10)
    with pytest.raises(Exception, match=r"did not converge.*plain 4 cycles"):
        PyscfEngine(level, recovery=["plain"]).hessian(bent_water(), 1)
    rescued = PyscfEngine(level, recovery=["plain", "newton"]).hessian(bent_water(), 1)
    plain = PyscfEngine(method("hf", convergence_hartree=1e-10), recovery=[]).hessian(bent_water(), 1)
    assert rescued == pytest.approx(plain, abs=1e-6)


class TestStability:
    @staticmethod
    def saddle(xc: str = "hf") -> tuple[Runs, scf.hf.SCF]:
        """The closed-shell solution of stretched H2 in the unrestricted energy."""
        molecule = gto.M(atom="H 0 0 0; H 0 0 2.0", basis="6-31g", verbose=0)
        calculation = scf.UHF(molecule) if xc == "hf" else dft.UKS(molecule, xc=xc)
        calculation.conv_tol = 1e-10
        half = scf.RHF(molecule).run().make_rdm1() / 2
        runs = Runs(calculation)
        return runs, runs.run(runs.fresh(), np.array([half, half]))

    @pytest.mark.parametrize("xc", ["hf", "b3lyp"])
    def test_an_instability_is_followed_to_the_minimum(self, xc: str) -> None:
        runs, solution = self.saddle(xc)
        end, found = minimum_below(runs, solution)
        # Independent: one spin on each atom from the start.
        molecule = solution.mol
        broken = scf.UHF(molecule) if xc == "hf" else dft.UKS(molecule, xc=xc)
        density = np.zeros((2, 4, 4))
        density[0, 0, 0] = density[1, 2, 2] = 1.0
        broken.conv_tol = 1e-11
        expected = broken.kernel(dm0=density)
        assert solution.e_tot - expected > 0.01
        assert end.e_tot == pytest.approx(expected, abs=1e-7)
        assert end.converged and found["stable"] and found["followed"] >= 1
        assert found["energies"][0] / HARTREE_EV == pytest.approx(solution.e_tot, abs=1e-9)
        assert found["energies"][-1] / HARTREE_EV == pytest.approx(expected, abs=1e-7)
        assert found["lowest_curvature"] > 0

    def test_the_curvature_is_the_second_derivative_of_the_energy(self) -> None:
        _, solution = self.saddle()
        curvature, direction = lowest_curvature(solution)
        solver = solution.newton()

        def energy(angle: float) -> float:
            rotation = solver.update_rotate_matrix(angle * direction, solution.mo_occ)
            orbitals = solver.rotate_mo(solution.mo_coeff, rotation)
            return float(solution.energy_tot(solution.make_rdm1(orbitals, solution.mo_occ)))

        step = 1e-2
        second = (energy(step) - 2 * energy(0.0) + energy(-step)) / step**2
        assert curvature < -0.01
        # Twice PySCF's product is the Hessian of the rotation.
        assert second == pytest.approx(curvature, rel=1e-2)

    def test_large_problems_find_the_same_curvature_as_the_whole_matrix(self, monkeypatch: pytest.MonkeyPatch) -> None:
        engine = PyscfEngine(method("hf", "6-31g*"))
        solution = Runs(engine._calculation(engine.molecule(hydroxyl()))).fresh()
        solution.kernel()
        values = []
        for limit in (10_000, 1):
            monkeypatch.setattr("quarry.labeling.engines.pyscf_stability.EXPLICIT_SIZE", limit)
            values.append(lowest_curvature(solution)[0])
        assert values[0] == pytest.approx(values[1], abs=1e-5)

    def test_stability_is_recorded_on_request_only(self) -> None:
        asked, not_asked = (PyscfEngine(method(), stability=s).label(bent_water(), 1) for s in ("internal", "none"))
        assert asked.details["stability"]["stable"] is True
        assert asked.details["stability"]["followed"] == 0
        assert asked.details["stability"]["energies"] == [asked.properties["energy"]]
        assert not_asked.details == {}
        assert asked.properties["energy"] == not_asked.properties["energy"]

    def test_without_virtual_orbitals_everything_is_stable(self) -> None:
        result = PyscfEngine(method(), stability="internal").label(unrounded([2], [[0, 0, 0]]), 1)
        assert result.details["stability"]["stable"] and result.details["stability"]["lowest_curvature"] is None
        json.dumps(result.details, allow_nan=False)

    def test_a_direction_that_leads_nowhere_lower_is_flat(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What rounding makes of a flat direction: a negative curvature, and solutions that are as low on either side."""
        runs, saddle = self.saddle()
        end, _ = minimum_below(runs, saddle)
        vector = lowest_curvature(end)[1]
        monkeypatch.setattr(
            "quarry.labeling.engines.pyscf_stability.lowest_curvature", lambda solution: (-2e-5, vector)
        )
        steps: list[float] = []
        second_order = runs.second_order

        def counted(**keys: Any) -> Any:
            found = second_order(**keys)
            steps.append(float(found.e_tot))
            return found

        monkeypatch.setattr(runs, "second_order", counted)
        again, found = minimum_below(runs, end)
        assert again is end, "the lowest solution, not the last one that was tried"
        assert (found["stable"], found["flat"], found["followed"], len(found["energies"])) == (False, True, 0, 1)
        assert len(steps) == 2 and steps == pytest.approx([end.e_tot] * 2, abs=1e-6), "both ways were tried, once"

    def test_a_way_down_that_does_not_end_is_a_failure(self, monkeypatch: pytest.MonkeyPatch) -> None:
        runs, solution = self.saddle()
        monkeypatch.setattr("quarry.labeling.engines.pyscf_stability.MAX_FOLLOWED", 0)
        with pytest.raises(ScfNotConverged, match="unstable"):
            minimum_below(runs, solution)


class TestConfiguration:
    def test_recovery_and_stability_reach_the_engine(self) -> None:
        labeling = PyscfLabeling(engine="pyscf", method=method(), recovery=["newton"], stability="internal")
        engine = make_engine(labeling)
        assert engine.recovery == ("newton",) and engine.stability == "internal"
        assert make_engine(PyscfLabeling(engine="pyscf", method=method(), recovery=[])).recovery == ("plain",)

    @pytest.mark.parametrize("steps", [["plain", "plain"], ["diisx"], [1]])
    def test_wrong_steps_are_refused(self, steps: list[Any]) -> None:
        with pytest.raises(ValidationError, match="recovery"):
            PyscfLabeling.model_validate({"engine": "pyscf", "method": {"xc": "hf", "basis": "a"}, "recovery": steps})

    def test_stability_is_part_of_the_identity_and_recovery_is_not(self) -> None:
        def identity(**settings: Any) -> str:
            return canonical_json(PyscfEngine(method(), **settings).method_identity())

        assert identity() == identity(recovery=[]) == identity(recovery=["newton", "diis"], stability="none")
        assert identity(stability="internal") != identity()
        assert "stability" not in identity()


def test_starting_the_engine_imports_no_excited_states_and_no_gradients() -> None:
    script = (
        "import sys\n"
        "from quarry.labeling.engines.pyscf_engine import PyscfEngine\n"
        "print([m for m in sys.modules if m.startswith(('pyscf.tdscf', 'pyscf.grad', 'pyscf.hessian', 'pyscf.soscf'))])\n"
    )
    library = str(Path(pyscf_engine.__file__).parents[3])
    done = subprocess.run(
        [sys.executable, "-c", script], env={"PYTHONPATH": library}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
