"""The model of a campaign as a calculator of ASE: what it gives, and what ASE does with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.emt import EMT
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import thermalize_momenta
from ase.md.verlet import VelocityVerlet
from ase.mep import NEB
from ase.optimize import BFGS, FIRE
from ase.vibrations import Vibrations

from quarry.calculator import QuarryCalculator
from quarry.errors import QuarryError
from quarry.structures import Structure
from support.calculators import write_calculator
from support.campaigns import REPOSITORY
from support.crystals import strained
from support.model_folders import DISTANCES, GMNN, LCMD, labels_of, published, water, waters, with_model
from support.toys import EQUILIBRIUM, NUMBERS, energy_and_forces


def copper_cells(count: int = 24) -> list[Atoms]:
    cells = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        strain = rng.normal(0, 0.02, (3, 3))
        atoms = strained(bulk("Cu", "fcc", a=3.6, cubic=True), strain + strain.T)
        atoms.positions += rng.normal(0, 0.04, (4, 3))
        cells.append(atoms)
    return cells


@pytest.fixture(scope="module")
def copper(tmp_path_factory) -> Path:
    """Energies, forces and stresses of EMT."""
    labels = []
    cells = copper_cells()
    for atoms in cells:
        atoms.calc = EMT()
        labels.append(
            {
                "energy": atoms.get_potential_energy(),
                "forces": atoms.get_forces().tolist(),
                "stress": atoms.get_stress(voigt=False).tolist(),
            }
        )
    made = [Structure.from_atoms(atoms) for atoms in cells]
    target = ["energy", "forces", "stress"]
    return published(
        tmp_path_factory.mktemp("copper"), made, labels, target=target, model=GMNN, query=LCMD, descriptor=None
    )


class TestWhatAseDoesWithIt:
    @pytest.mark.parametrize("optimiser", [BFGS, FIRE])
    def test_relaxation(self, potential, optimiser):
        atoms = with_model(water(0.1), potential)
        assert optimiser(atoms, logfile=None).run(fmax=0.02, steps=200)
        assert atoms.get_distance(0, 1) == pytest.approx(0.96, abs=0.02)
        assert atoms.get_distance(0, 2) == pytest.approx(0.96, abs=0.02)

    def test_dynamics_keeps_the_energy(self, potential):
        atoms = with_model(water(), potential)
        thermalize_momenta(atoms, temperature_K=300, rng=np.random.default_rng(1))
        energies = []
        dynamics = VelocityVerlet(atoms, 0.25 * units.fs)
        dynamics.attach(lambda: energies.append((atoms.get_total_energy(), atoms.get_kinetic_energy())))
        dynamics.run(200)
        total, kinetic = np.array(energies).T
        assert np.ptp(kinetic) > 0.02 and np.ptp(total) < 0.03 * np.ptp(kinetic)

    def test_thermostat(self, potential):
        atoms = with_model(water(), potential)
        options = {"temperature_K": 200, "friction": 0.02 / units.fs, "fixcm": False, "rng": np.random.default_rng(2)}
        Langevin(atoms, 0.25 * units.fs, **options).run(100)
        assert atoms.get_kinetic_energy() > 0 and np.isfinite(atoms.get_forces()).all()

    def test_frequencies_are_those_of_the_labels(self, potential, tmp_path):
        def frequencies(atoms, name):
            BFGS(atoms, logfile=None).run(fmax=0.005, steps=200)
            vibrations = Vibrations(atoms, name=str(tmp_path / name))
            vibrations.run()
            return vibrations.get_frequencies()[-3:].real

        class Reference(EMT):
            def calculate(self, atoms=None, properties=("energy",), system_changes=("positions",)):
                self.atoms = atoms.copy()
                energy, forces = energy_and_forces(atoms.positions)
                self.results = {"energy": energy, "free_energy": energy, "forces": forces}

        truth = water()
        truth.calc = Reference()
        found = frequencies(with_model(water(), potential), "model")
        assert found == pytest.approx(frequencies(truth, "labels"), rel=0.05)

    def test_band_of_images(self, potential):
        """From one end of the bond's vibration to the other: the barrier is none."""
        ends = [water(-0.05), water(0.05)]
        images = [ends[0], *(ends[0].copy() for _ in range(3)), ends[1]]
        band = NEB(images, method="improvedtangent")
        band.interpolate()
        for image in images:
            image.calc = QuarryCalculator(potential)
        assert BFGS(band, logfile=None).run(fmax=0.1, steps=60)
        assert all(np.isfinite(image.get_potential_energy()) for image in images)

    def test_forces_are_minus_the_gradient(self, potential):
        atoms, step = with_model(water(0.05), potential), 1e-3
        forces = atoms.get_forces()
        for index in np.ndindex(3, 3):
            values = []
            for sign in (1, -1):
                atoms.positions[index] += sign * step
                values.append(atoms.get_potential_energy())
                atoms.positions[index] -= sign * step
            assert forces[index] == pytest.approx(-(values[0] - values[1]) / (2 * step), abs=5e-3), index


class TestCells:
    def test_stress_is_the_derivative_by_the_strain(self, copper):
        atoms = with_model(copper_cells(1)[0], copper)
        stress, step = atoms.get_stress(voigt=False), 1e-3
        for i, j in [(0, 0), (1, 1), (0, 1), (1, 2)]:
            strain = np.zeros((3, 3))
            strain[i, j] += step / 2
            strain[j, i] += step / 2
            up, down = (with_model(strained(atoms, s), copper).get_potential_energy() for s in (strain, -strain))
            assert stress[i, j] == pytest.approx((up - down) / (2 * step) / atoms.get_volume(), abs=2e-4), (i, j)

    def test_it_is_that_of_the_labels(self, copper):
        atoms = with_model(copper_cells(30)[-1], copper)
        found = atoms.get_stress()
        atoms.calc = EMT()
        assert found == pytest.approx(atoms.get_stress(), abs=0.02)

    def test_a_primitive_cell_has_neighbours(self, copper):
        """One atom, but no free one; a larger cell has as much energy an atom."""
        one = with_model(bulk("Cu", "fcc", a=3.6), copper)
        many = with_model(bulk("Cu", "fcc", a=3.6) * (2, 2, 1), copper)
        assert 4 * one.get_potential_energy() == pytest.approx(many.get_potential_energy(), abs=1e-4)

    def test_a_molecule_has_no_stress(self, gmnn_folder):
        with pytest.raises(PropertyNotImplementedError, match="not periodic in three directions"):
            with_model(water(), gmnn_folder).get_stress()


class TestResults:
    def test_energies_with_their_uncertainty(self, kreg_folder):
        atoms, far = with_model(water(), kreg_folder), with_model(water(0.4), kreg_folder)
        near = atoms.calc.get_property("energy_uncertainty", atoms)
        assert 0 < near < far.calc.get_property("energy_uncertainty", far)
        assert atoms.calc.get_property("energy", atoms) == atoms.get_potential_energy(force_consistent=True)

    def test_a_committee_knows_its_errors_of_energies_and_forces(self, tmp_path):
        made, committee = waters(20), {**GMNN, "epochs": 20, "uncertainty": "committee", "members": 2}
        labels = labels_of(made, "energy", "forces")
        keys = {"target": "energy_forces", "model": committee, "query": LCMD, "descriptor": None}
        atoms = with_model(water(), published(tmp_path, made, labels, **keys))
        assert atoms.calc.get_property("energy_uncertainty", atoms) > 0
        spread = atoms.calc.get_property("forces_uncertainty", atoms)
        # In one plane, as the forces.
        assert spread.shape == (3, 3) and (spread[:, :2] > 0).all()
        assert "stress_uncertainty" not in atoms.calc.implemented_properties

    def test_how_much_a_label_would_tell(self, gmnn_folder, monkeypatch):
        atoms, far = with_model(water(), gmnn_folder), with_model(water(0.4), gmnn_folder)
        said = [a.calc.get_property("informativeness", a) for a in (atoms, far)]
        assert 0 < said[0] < 2 and said[1] > said[0]
        # What the training structures fix is found once.
        asked, ready = [], atoms.calc.model._ready
        monkeypatch.setattr(atoms.calc.model, "_ready", lambda *given: asked.append(len(given[0])) or ready(*given))
        atoms.positions[2, 1] += 0.4
        assert atoms.calc.get_property("informativeness", atoms) == pytest.approx(
            QuarryCalculator(gmnn_folder).get_property("informativeness", atoms), rel=1e-9
        )
        assert set(asked) == {1}

    @pytest.mark.parametrize("name", ["homo", "gap"])
    def test_other_properties(self, tmp_path, name):
        made = waters(20)
        folder = published(
            tmp_path, made, labels_of(made, name), target=name, model={"kind": "gpr"}, descriptor=DISTANCES
        )
        calculator = QuarryCalculator(folder)
        value = calculator.get_property(name, made[0].to_atoms())
        assert value == pytest.approx(labels_of(made[:1], name)[0][name], abs=0.02)
        assert calculator.get_property(f"{name}_uncertainty", made[0].to_atoms()) >= 0
        with pytest.raises(PropertyNotImplementedError, match=f"has learnt {name} and no energies"):
            calculator.get_property("forces", made[0].to_atoms())

    @pytest.mark.parametrize("uncertainty", ["committee", "mc_dropout", "none"])
    def test_networks(self, tmp_path, uncertainty):
        model = {"kind": "mlp", "hidden": [12], "epochs": 40, "uncertainty": uncertainty}
        model |= {"members": 2} if uncertainty == "committee" else {}
        made = waters(30)
        folder = published(tmp_path, made, labels_of(made, "energy"), model=model, descriptor=DISTANCES, query=LCMD)
        atoms = with_model(water(), folder)
        assert atoms.get_forces().shape == (3, 3)
        if uncertainty == "none":
            with pytest.raises(PropertyNotImplementedError, match=r"kind: mlp\) has no standard deviations of energy"):
                atoms.calc.get_property("energy_uncertainty", atoms)
        else:
            assert atoms.calc.get_property("energy_uncertainty", atoms) > 0

    def test_classes(self, tmp_path):
        made = waters(30)
        energies = [label["energy"] for label in labels_of(made, "energy")]
        section = {"property": "energy", "boundaries": [float(np.median(energies))], "names": ["low", "high"]}
        folder = published(
            tmp_path,
            made,
            labels_of(made, "energy"),
            target="class",
            classification=section,
            model={"kind": "mlp", "hidden": [12], "epochs": 60},
            descriptor=DISTANCES,
            query=LCMD,
        )
        calculator = QuarryCalculator(folder)
        assert calculator.get_property("class_name", water()) == "low"
        assert calculator.get_property("probabilities", water()).sum() == pytest.approx(1)

    @pytest.mark.parametrize("kind", ["gpr", "gmnn"])
    def test_with_a_baseline(self, tmp_path, kind):
        """Delta learning: the baseline is added again, its class is looked for in base."""
        baseline = {"kind": "ase", "calculator": write_calculator(tmp_path, f"pairs_beneath_{kind}")}
        model = {**(GMNN if kind == "gmnn" else {"kind": kind}), "baseline": baseline}
        made = waters(20)
        descriptor = DISTANCES if kind == "gpr" else None
        names = ("energy", "forces")[: 1 + (kind == "gmnn")]
        target = "energy_forces" if kind == "gmnn" else "energy"
        keys = {"target": target, "model": model, "descriptor": descriptor, "query": LCMD}
        folder = published(tmp_path / "results", made, labels_of(made, *names), base=tmp_path, **keys)
        atoms, step = water(0.03), 1e-3
        atoms.calc = QuarryCalculator(folder, base=tmp_path)
        force = atoms.get_forces()[1, 0]
        energies = []
        for sign in (1, -1):
            atoms.positions[1, 0] += sign * step
            energies.append(atoms.get_potential_energy())
            atoms.positions[1, 0] -= sign * step
        assert force == pytest.approx(-(energies[0] - energies[1]) / (2 * step), abs=5e-3)
        assert energies[0] == pytest.approx(energy_and_forces(atoms.positions)[0], abs=0.2)
        if kind == "gmnn":
            atoms.positions *= 9
            with pytest.raises(QuarryError, match="no two atoms are within the model's cutoff"):
                atoms.get_forces()
        assert f"Needs its baseline (`ase`, `{baseline['calculator']}`)" in (folder / "README.md").read_text()

    def test_a_descriptor_without_derivatives_has_energies_only(self, tmp_path):
        made = waters(20)
        folder = published(tmp_path, made, labels_of(made, "energy"), descriptor={"kind": "coulomb_matrix"})
        atoms = with_model(water(), folder)
        assert np.isfinite(atoms.get_potential_energy())
        with pytest.raises(
            PropertyNotImplementedError, match=r"coulomb_matrix, whose derivatives .* are not known; use inverse"
        ):
            atoms.get_forces()

    def test_two_processes_say_the_same(self, kreg_folder, gmnn_folder):
        code = (
            "import sys; from ase import Atoms; from quarry.calculator import QuarryCalculator as Q\n"
            f"a = Atoms({list(NUMBERS)}, {EQUILIBRIUM.tolist()}); a.positions[1, 0] += 0.05\n"
            "for path in sys.argv[1:]:\n"
            "    a.calc = Q(path); print(a.get_forces().tobytes().hex(), a.get_potential_energy().hex())"
        )
        environment = {"PYTHONPATH": str(REPOSITORY / "workflow_scripts"), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", code, str(kreg_folder), str(gmnn_folder)]
        both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        said = [process.communicate()[0] for process in both]
        assert said[0] == said[1] and len(said[0].split()) == 4
