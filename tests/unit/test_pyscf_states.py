"""Energies and forces of several states from PySCF: against finite differences, rotations, and a swap of the active space."""

import numpy as np
import pytest
from pydantic import ValidationError

from quarry.config.engines.pyscf import PyscfLabeling
from quarry.config.resources import LabelResources
from quarry.errors import QuarryError
from quarry.labeling.engines.pyscf_engine import PyscfEngine
from quarry.structures import Structure

METHANIMINIUM = [[0, 0, -0.75], [0, 0, 0.53], [0.94, 0, -1.3], [-0.94, 0, -1.3], [0.87, 0, 1.05], [-0.87, 0, 1.05]]
NUMBERS = [6, 7, 1, 1, 1, 1]
SPACE = {"electrons": 2, "orbitals": 2, "n_states": 2, "reference": "planar.xyz"}
STEP_A = 1e-3


def shaken(seed=0, size_A=0.04):
    return np.array(METHANIMINIUM) + size_A * np.random.default_rng(seed).normal(size=(6, 3))


def ion(positions):
    return Structure.create(NUMBERS, positions, charge=1)


def section(**changes):
    settings = {"engine": "pyscf", "method": {"xc": "hf", "basis": "sto-3g"}, "active_space": SPACE, **changes}
    return PyscfLabeling.model_validate(settings)


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    lines = [f"{symbol} {x} {y} {z}" for symbol, (x, y, z) in zip("CNHHHH", METHANIMINIUM, strict=True)]
    (folder / "planar.xyz").write_text("\n".join(["6", "", *lines, ""]))
    return PyscfEngine.of(section(), folder, LabelResources())


def slopes(label, structure_of, positions, atom, axis):
    """Forces of all states on an atom from central differences of their energies."""
    step = np.zeros_like(positions)
    step[atom, axis] = STEP_A
    ends = [np.array(label(structure_of(positions + sign * step))["state_energies"]) for sign in (1, -1)]
    return -(ends[0] - ends[1]) / (2 * STEP_A)


class TestActiveSpace:
    def test_forces_of_each_state_are_derivatives_of_its_energy(self, engine):
        def label(structure):
            return engine.label(structure, 1).properties

        found = label(ion(shaken()))
        forces = np.array(found["state_forces"])
        assert forces.shape == (6, 2, 3) and np.abs(forces.sum(axis=0)).max() < 1e-3
        assert found["energy"] == found["state_energies"][0] < found["state_energies"][1]
        assert np.array_equal(found["forces"], forces[:, 0])
        assert slopes(label, ion, shaken(), 4, 1) == pytest.approx(forces[4, :, 1], abs=1e-4)

    def test_the_states_turn_with_the_molecule(self, engine):
        rotation = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
        rotation *= np.sign(np.linalg.det(rotation))
        one, other = (engine.label(ion(x), 1) for x in (shaken(), shaken() @ rotation + 2.0))
        assert one.properties["state_energies"] == pytest.approx(other.properties["state_energies"], abs=1e-4)
        turned = np.array(one.properties["state_forces"]) @ rotation
        assert np.abs(turned - other.properties["state_forces"]).max() < 1e-3
        assert one.details["active_space"]["natural_occupations"] == pytest.approx([1.5, 0.5], abs=0.05)

    def test_other_orbitals_than_the_reference_has_are_no_label(self, engine):
        broken = shaken()
        broken[4:] += [[1.5, 1.0, 0.0], [-1.0, 0.8, 2.0]]
        result = engine.label(ion(broken), 1)
        assert result.status == "active_space_changed" and not result.properties
        assert "smallest overlap 0.0" in result.message

    def test_no_convergence_is_no_label(self, engine, monkeypatch):
        short = engine.active_space.space.model_copy(update={"max_cycles": 1})
        monkeypatch.setattr(engine.active_space, "space", short)
        result = engine.label(ion(shaken()), 1)
        assert (result.status, result.properties) == ("excitations_not_converged", {})

    def test_what_does_not_fit_is_refused_before_any_job(self, engine):
        with pytest.raises(QuarryError, match=r"active_space.reference: the pool has other atoms"):
            engine.check_molecules([Structure.create([1, 1], [[0, 0, 0], [0, 0, 0.8]])])
        for change, words in (
            ({"method": {"xc": "b3lyp", "basis": "sto-3g"}}, "CASSCF begins with Hartree-Fock"),
            ({"active_space": {**SPACE, "electrons": 4}}, "no room for excitations"),
            ({"stability": "internal"}, "set it to none"),
        ):
            with pytest.raises(ValidationError, match=words):
                section(**change)

    def test_another_reference_is_another_method(self, engine, tmp_path):
        (tmp_path / "planar.xyz").write_text("2\n\nH 0 0 0\nH 0 0 1\n")
        other = PyscfEngine.of(section(), tmp_path, LabelResources())
        assert other.method_identity() != engine.method_identity()
        with pytest.raises(QuarryError, match=r"labeling.active_space.reference: .* does not exist"):
            PyscfEngine.of(section(), tmp_path / "nowhere", LabelResources())


@pytest.mark.parametrize(("kind", "xc"), [("tda", "b3lyp"), ("tddft", "pbe")])
def test_forces_of_states_by_linear_response(kind, xc, tmp_path):
    excitations = {"n_states": 2, "kind": kind, "forces": True}
    labeling = PyscfLabeling.model_validate(
        {"engine": "pyscf", "method": {"xc": xc, "basis": "sto-3g", "excitations": excitations}}
    )
    engine = PyscfEngine.of(labeling, tmp_path, LabelResources())
    water = np.array([[0.0, 0.0, 0.0], [0.1, 0.8, 0.6], [0.0, -0.75, 0.58]])

    def of_water(positions):
        return Structure.create([8, 1, 1], positions)

    def label(structure):
        return engine.label(structure, 1).properties

    found = label(of_water(water))
    energies = found["energy"] + np.array([0.0, *found["excitation_energies"]])
    assert found["state_energies"] == pytest.approx(energies)
    assert slopes(label, of_water, water, 1, 1) == pytest.approx(np.array(found["state_forces"])[1, :, 1], abs=1e-3)
    assert {"state_energies", "state_forces"} <= labeling.gives()[1]
