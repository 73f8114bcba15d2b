"""The audit of labels: every planted mistake is found, and right labels are let alone."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from quarry.config.base import ENERGY_UNITS_EV
from quarry.config.units import BOHR_A
from quarry.labeling.audit.absurd import absurd_labels
from quarry.labeling.audit.balance import balance_details, imbalance
from quarry.labeling.audit.findings import ERROR, NOTE, WARNING, read_audit, sentences, write_audit
from quarry.labeling.audit.precision import spacing
from quarry.labeling.audit.stability import CHECK, LOOKED, check_stability
from quarry.labeling.audit.work import hypotheses
from quarry.labeling.stability import FOLLOWED, NOT_LOOKED_FOR, STABLE, UNSTABLE
from quarry.structures import Structure
from quarry.structures.labelled import LabelledSet
from support.audits import audit, bad, chain_energy, chains, changed, labels_of, waters

HARTREE, KCAL = ENERGY_UNITS_EV["hartree"], ENERGY_UNITS_EV["kcal/mol"]
WORK = "energies_and_forces"


class TestNoFalseAlarm:
    @pytest.mark.parametrize("n", [1, 2, 3, 7, 15, 40, 150])
    @pytest.mark.parametrize("make", [waters, chains])
    def test_right_labels(self, make, n):
        for seed in range(30 if n < 100 else 5):
            assert bad(make(n, seed), seed) == {}

    @pytest.mark.parametrize("spread", [0.01, 0.2])
    def test_far_and_near_neighbours(self, spread):
        for seed in range(20):
            assert bad(chains(30, seed, spread), seed) == {}

    def test_neighbours_too_far_for_anything(self):
        for seed in range(10):
            assert WORK not in bad(chains(30, seed, 0.5), seed)

    def test_a_few_reactive_geometries(self):
        """One fragment far away, one geometry compressed: energies of several eV and forces of many eV/A are legitimate."""
        labels = chains(40)
        structures = list(labels.structures)
        for row, factor in ((3, 0.6), (9, 1.6), (11, 3.0)):
            structures[row] = Structure.create(structures[row].numbers, structures[row].positions * factor)
        answers = [chain_energy(s.positions) for s in structures]
        assert max(np.abs(f).max() for _, f in answers) > 50
        assert bad(labels_of(structures, [e for e, _ in answers], [f for _, f in answers])) == {}

    def test_several_compositions_without_forces(self):
        rng = np.random.default_rng(0)
        structures = [
            Structure.create([6, *[1] * n], rng.normal(0, 2, (n + 1, 3))) for n in range(2, 9) for _ in range(5)
        ]
        energies = [-1030 - 15.0 * len(s) + rng.normal(0, 0.5) for s in structures]
        assert audit(labels_of(structures, energies)) == []

    def test_a_set_without_labels_or_of_one_property(self):
        assert audit(labels_of([], [])) == []
        structures = [Structure.create([1, 1], np.array([[0, 0, 0], [0, 0, 1.0]]))]
        only = LabelledSet.from_records(structures, ["train"], [0], [{"gap": 1.0}])
        assert audit(only) == []


class TestBalance:
    def test_by_hand(self):
        """Two atoms 2 A apart: a force of 0.3 on one of them, and a pair that turns them."""
        positions = np.array([[0.0, 0, 0], [2.0, 0, 0]])
        assert imbalance(positions, np.array([[0.3, 0, 0], [0, 0, 0]]), True) == pytest.approx((0.15, 0.0))
        assert imbalance(positions, np.array([[0.0, -0.2, 0], [0, 0.2, 0]]), True) == pytest.approx((0.0, 0.2))
        assert np.isnan(imbalance(positions, np.zeros((2, 3)), False)[1])

    def test_it_does_not_depend_on_the_frame(self):
        labels = chains(5)
        forces = labels.record(0)["forces"] + np.array([0.1, 0.2, 0.3])
        positions = labels.structures[0].positions
        turn = Rotation.random(rng=np.random.default_rng(1)).as_matrix()
        assert imbalance(positions @ turn + 5.0, forces @ turn, True) == pytest.approx(
            imbalance(positions, forces, True)
        )

    def test_details_of_a_record(self):
        molecule = Structure.create([1, 1], np.array([[0.0, 0, 0], [0, 0, 1.0]]))
        found = balance_details(molecule, [[0.0, 0.0, 0.5], [0.0, 0.0, -0.4]])
        assert found == {"net_force": pytest.approx(0.05), "net_torque": pytest.approx(0.0)}
        assert balance_details(molecule, None) == {}
        crystal = Structure.create([1, 1], molecule.positions, cell=np.eye(3) * 3, pbc=(True, True, True))
        assert balance_details(crystal, [[0.0, 0.0, 0.5], [0.0, 0.0, -0.5]]) == {"net_force": 0.0, "net_torque": None}

    def test_a_pull_on_every_label(self):
        """The case of a net force of 1.5 eV/A on three atoms."""
        labels = waters(3)
        found = bad(changed(labels, forces=labels.properties["forces"] + [0.5, 0, 0]))
        assert [f.structure_id for f in found["net_force"]] == labels.structures.ids.tolist()
        assert {f.severity for f in found["net_force"]} == {ERROR} and found.keys() == {"net_force"}
        assert found["net_force"][0].value == pytest.approx(0.5, abs=1e-5)

    def test_one_label_in_twenty(self):
        labels = chains(20)
        forces = labels.properties["forces"].copy()
        forces[35:40] += [0.02, 0, 0]
        found = bad(changed(labels, forces=forces))
        assert [(f.structure_id, f.severity) for f in found["net_force"]] == [(labels.structures.ids[7], WARNING)]

    def test_forces_in_another_order_of_the_atoms_turn_the_molecule(self):
        labels = chains(1)
        found = bad(changed(labels, forces=labels.properties["forces"][::-1]))
        assert found.keys() == {"net_torque"} and found["net_torque"][0].severity == ERROR


FAULTS = {
    "gradient": (-1.0, "wrong sign"),
    "hartree/bohr": (BOHR_A / HARTREE, "the forces are in hartree/bohr"),
    "gradient in hartree/bohr": (
        -BOHR_A / HARTREE,
        "wrong sign, as a gradient has, and the forces are in hartree/bohr",
    ),
    "kcal/mol": (1 / KCAL, "the forces are in kcal/mol/Angstrom"),
    "hartree/Angstrom": (1 / HARTREE, "the forces are in hartree/Angstrom"),
    "eV/bohr": (BOHR_A, "the forces are in eV/bohr"),
}


class TestWork:
    @pytest.mark.parametrize("name", FAULTS)
    @pytest.mark.parametrize("make", [waters, chains])
    def test_units_and_signs_of_forces(self, make, name):
        factor, words = FAULTS[name]
        labels = make(60)
        found = bad(changed(labels, forces=factor * labels.properties["forces"]))
        [finding] = found[WORK]
        assert finding.severity == ERROR and words in finding.words
        assert finding.value == pytest.approx(1 / factor, rel=0.1)

    @pytest.mark.parametrize("unit", ["hartree", "kcal/mol"])
    def test_units_of_energies(self, unit):
        labels = waters(60)
        found = bad(changed(labels, energy=labels.properties["energy"] / ENERGY_UNITS_EV[unit]))
        [finding] = found[WORK]
        assert f"the energies are in {unit}" in finding.words

    @pytest.mark.parametrize("name", ["gradient", "hartree/bohr", "kcal/mol"])
    def test_twenty_labels_are_enough(self, name):
        count = 0
        for seed in range(20):
            labels = waters(20, seed)
            found = bad(changed(labels, forces=FAULTS[name][0] * labels.properties["forces"]), seed)
            count += WORK in found
        assert count >= 19

    def test_too_few_labels_are_a_note(self):
        labels = chains(8)
        [note] = [f for f in audit(changed(labels, forces=-labels.properties["forces"])) if f.check == WORK]
        assert note.severity == NOTE and "too few" in note.words

    def test_energies_of_other_structures(self):
        labels = waters(120)
        found = bad(changed(labels, energy=np.random.default_rng(1).permutation(labels.properties["energy"])))
        assert "do not follow" in found[WORK][0].words

    def test_right_ones_are_said_to_agree(self):
        [note] = audit(waters(60))
        assert (
            note.severity == NOTE
            and note.words.startswith("energies and forces agree")
            and note.value == pytest.approx(1, abs=0.1)
        )
        # "slope 1, 1 to 1" tells nobody how well it is known.
        found = re.search(r"slope (\S+) from \d+ near pairs, 99\.6 %: (\S+) to (\S+)\)", note.words)
        assert found is not None and all(len(number) >= 6 for number in found.groups())
        assert float(found[2]) < float(found[1]) < float(found[3])

    def test_a_wrong_sign_among_absurd_values_and_in_crystals(self):
        """A crystal of springs: displacements to the nearest image, across the faces of the cell."""
        rng = np.random.default_rng(0)
        cell, sites = np.diag([3.0, 3.2, 3.4]), np.array([[0.0, 0, 0], [1.4, 1.6, 1.7]])
        structures, energies, forces = [], [], []
        for _ in range(60):
            u = rng.normal(0, 0.1, (2, 3))
            u -= u.mean(axis=0)
            wrapped = (sites + u) % np.diag(cell)
            structures.append(Structure.create([11, 17], wrapped, cell=cell, pbc=(True, True, True)))
            energies.append(-50.0 + 2.0 * (u**2).sum() + 3.0 * (u[0] ** 2).sum())
            forces.append(-4.0 * u - np.array([[1.0], [-1.0]]) * 3.0 * u[0])
        right = labels_of(structures, energies, forces)
        assert bad(right) == {}
        assert "agree" in next(f for f in audit(right) if f.check == WORK).words
        energies[5] += 3e5
        found = bad(labels_of(structures, energies, [-f for f in forces]))
        assert "wrong sign" in found[WORK][0].words and len(found["absurd_energy"]) == 1

    def test_hypotheses_hold_the_numbers_of_textbooks(self):
        slopes = dict(hypotheses())
        assert slopes["the forces are in hartree/bohr"] == pytest.approx(51.422067, rel=1e-6)
        assert slopes["the energies are in kcal/mol"] == pytest.approx(23.0605, rel=1e-4)
        assert slopes["the forces are in hartree/Angstrom"] == pytest.approx(27.211386, rel=1e-6)


class TestPrecision:
    def test_single_precision(self):
        """The case of energies near -40,000 eV in float32: 0.0039 eV apart."""
        labels = waters(10)
        coarse = np.float64(np.float32(labels.properties["energy"] - 38_000.0))
        [finding] = bad(changed(labels, energy=coarse))["precision"]
        assert finding.value == pytest.approx(2**-8) and "single precision in eV" in finding.words

    @pytest.mark.parametrize("unit", ["hartree", "kcal/mol"])
    def test_in_other_units(self, unit):
        factor = ENERGY_UNITS_EV[unit]
        values = np.float64(np.float32((waters(12).properties["energy"] - 38_000.0) / factor)) * factor
        step, message = spacing(values)
        assert unit in message and step == pytest.approx(float(np.spacing(np.float32(40_078.0 / factor))) * factor)

    def test_single_precision_less_a_constant(self):
        values = np.float64(np.float32(waters(12).properties["energy"] - 38_000.0)) + 40_078.123456789
        step, message = spacing(values)
        assert step == pytest.approx(2**-8) and "apart" in message

    def test_few_decimals(self):
        labels = waters(12)
        [finding] = bad(changed(labels, energy=np.round(labels.properties["energy"], 2)))["precision"]
        assert "2 decimals in eV" in finding.words and finding.severity == ERROR

    def test_what_does_not_matter(self):
        labels = waters(12)
        assert bad(changed(labels, energy=np.round(labels.properties["energy"], 6))) == {}
        assert bad(changed(labels, forces=np.float64(np.float32(labels.properties["forces"])))) == {}
        assert spacing(np.full(20, -76.25)) is None, "equal energies say nothing"

    def test_doubles_lie_on_no_grid(self):
        for seed in range(200):
            assert spacing(-2078 + np.random.default_rng(seed).normal(0, 0.3, 5)) is None


class TestAbsurd:
    @pytest.mark.parametrize(("n", "wrong"), [(5, [0, 3]), (20, [11]), (3, [2])])
    def test_energies(self, n, wrong):
        labels = waters(n)
        energies = labels.properties["energy"].copy()
        energies[wrong] += 3e5
        found = bad(changed(labels, energy=energies))
        assert [f.structure_id for f in found["absurd_energy"]] == [labels.structures.ids[k] for k in wrong]
        assert absurd_labels(found["absurd_energy"], ["energy"]) and not absurd_labels(found["absurd_energy"], ["gap"])
        assert WORK not in found, "the others are compared without them"

    def test_forces(self):
        labels = chains(20)
        forces = labels.properties["forces"].copy()
        forces[50:55] *= 1e6
        found = bad(changed(labels, forces=forces))
        assert [f.structure_id for f in found["absurd_forces"]] == [labels.structures.ids[10]]
        assert found.keys() == {"absurd_forces"}, "an absurd label is said once"

    def test_orbitals_dipoles_and_excitations(self):
        structures = list(waters(6).structures)
        energies = waters(6).properties["energy"]
        odd = [[0.1, 0, 0]] * 5 + [[1e4, 0, 0]]
        states = [[5.0, 6.0]] * 5 + [[5.0, 6000.0]]
        labels = labels_of(
            structures,
            energies,
            homo=[-9.0] * 5 + [9e9],
            dipole=odd,
            excitation_energies=states,
            oscillator_strengths=states,
        )
        assert bad(labels).keys() == {"absurd_homo", "absurd_dipole", "absurd_excitation_energies"}

    def test_among_compositions(self):
        rng = np.random.default_rng(0)
        structures = [
            Structure.create([6, *[1] * n], rng.normal(0, 2, (n + 1, 3))) for n in range(2, 9) for _ in range(5)
        ]
        energies = np.array([-1030 - 15.0 * len(s) + rng.normal(0, 0.5) for s in structures])
        energies[[3, 17]] += 3e5
        found = bad(labels_of(structures, energies))
        assert [f.structure_id for f in found["absurd_energy"]] == [structures[k].structure_id for k in (3, 17)]


class TestCopies:
    def test_rotated_mirrored_and_permuted(self):
        labels = waters(6)
        first = labels.structures[2]
        turn = Rotation.random(rng=np.random.default_rng(3)).as_matrix() * [1, 1, -1]
        order = [0, 2, 1]
        copy = Structure.create(first.numbers[order], (first.positions @ turn.T)[order])
        energies = [*labels.properties["energy"], labels.properties["energy"][2]]
        structures = [*labels.structures, copy]
        assert bad(labels_of(structures, energies)) == {}
        energies[-1] += 0.1
        [finding] = bad(labels_of(structures, energies))["copies"]
        assert finding.structure_id == copy.structure_id and finding.severity == ERROR
        assert first.structure_id in finding.words and finding.value == pytest.approx(0.1)
        energies[-1] -= 0.095
        assert bad(labels_of(structures, energies))["copies"][0].severity == WARNING


class TestStability:
    def test_records_tell_and_are_carried_on(self):
        first = {
            "a" * 20: {"stability": {"external": UNSTABLE, "external_curvature": -0.02}},
            "b" * 20: {"stability": {"external": STABLE}},
            "c" * 20: {"stability": {"external": FOLLOWED}},
            "d" * 20: {"stability": {"external": NOT_LOOKED_FOR}},
            "e" * 20: {},
        }
        found = check_stability(first, [], ())
        assert [(f.check, f.structure_id) for f in found if f.bad] == [(CHECK, "a" * 20)]
        assert (found[-1].check, found[-1].value, found[-1].tolerance) == (LOOKED, 3, 4)
        later = check_stability({"f" * 20: {"stability": {"external": STABLE}}}, found, ())
        assert [f.structure_id for f in later if f.bad] == ["a" * 20] and (later[-1].value, later[-1].tolerance) == (
            4,
            5,
        )
        assert not any(f.bad for f in check_stability({}, found, {"a" * 20}))
        assert check_stability({"e" * 20: {}}, [], ()) == []


def test_the_table_comes_back_and_says_what_is_worst(tmp_path):
    labels = waters(20)
    forces = labels.properties["forces"] + [0.5, 0, 0]
    found = audit(changed(labels, forces=forces, energy=np.float64(np.float32(labels.properties["energy"] - 38_000))))
    write_audit(tmp_path / "audit.csv", found)
    assert read_audit(tmp_path / "audit.csv") == found
    lines = sentences(found)
    assert [line.split(":")[0] for line in lines] == ["audit, net_force", "audit, precision"]
    assert "20 labels: " in lines[0] and "and 17 more" in lines[0]
