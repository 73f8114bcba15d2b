"""Labels computed again: what is drawn, what is computed, what counts as a difference, and what is said about it."""

import csv
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from hypothesis import given, settings
from hypothesis import strategies as st

from quarry import __version__
from quarry.campaign.paths import CampaignPaths
from quarry.config.verification import Verification
from quarry.errors import QuarryError
from quarry.labeling.limits import Allocation
from quarry.labeling.store import LabelStore
from quarry.stages import displaced, verification
from quarry.stages.verification import (
    CHECK_FORCES,
    CHECK_ROTATIONS,
    VERIFY,
    compare_labels,
    draw_structure,
    forget_disagreeing,
    recompute_label,
    require_agreement,
    rotated_copy,
    summary,
    write_table,
)
from quarry.structures import Structure
from quarry.structures.labelled import LabelledSet
from support.campaigns import WATER
from support.stages import METHOD_ID, configuration, label_record
from support.stand_in import morse

PYTHON = sys.version.split()[0]
JOB = Allocation(threads=1, memory_MB=2000, walltime_min=600)
"""Ten hours: limits count from the start of the process, which here is that of all tests."""


def lopsided(atoms):
    """An engine that knows which way is x."""
    answer = morse(atoms, calls="")
    return {**answer, "energy": answer["energy"] + 1e-3 * atoms.positions[0, 0]}


def hopeless(atoms):
    raise RuntimeError("no such luck")


def not_a_number(atoms):
    return {"energy": float("nan")}


def campaign(function: str = "support.stand_in:morse", **changes):
    arguments = {"calls": ""} if function.endswith("morse") else {}
    labeling = {"engine": "function", "function": function, "arguments": arguments}
    return configuration(labeling=labeling, **changes)


def structures(n: int = 6) -> list[Structure]:
    rng = np.random.default_rng(0)
    return [Structure.create([8, 1, 1], WATER + rng.normal(0, 0.06, (3, 3))) for _ in range(n)]


class Case:
    """A small product with its store, in a folder."""

    def __init__(self, folder, n: int = 6) -> None:
        self.folder = folder
        self.structures = structures(n)
        self.properties = [{k: plain(v) for k, v in morse(s.to_atoms(), calls="").items()} for s in self.structures]
        self.store = LabelStore(folder / "store", METHOD_ID, {})
        for s, p in zip(self.structures, self.properties, strict=True):
            versions = {"quarry": __version__, "python": PYTHON}
            cost = {"wall_s": 1.0, "cpu_s": 1.0, "threads": 1}
            self.store.put(label_record(s.structure_id, properties=p, versions=versions, cost=cost))
        self.write(self.properties)

    def write(self, properties) -> None:
        n = len(self.structures)
        labels = LabelledSet.from_records(self.structures, ["train"] * n, [0] * n, properties)
        labels.write(self.folder / "dataset.h5", {})

    def recompute(self, check=VERIFY, count=6, settings=None):
        settings = settings or campaign()
        paths = [str(self.folder / f"{check}_{n}.json") for n in range(count)]
        for n, path in enumerate(paths):
            recompute_label(settings, ".", check, n, str(self.folder / "dataset.h5"), path, JOB)
        return paths

    def compare(self, paths, check=VERIFY, **tolerances):
        return compare_labels(Verification(**tolerances), check, paths, str(self.folder / "dataset.h5"), self.store)


def plain(value):
    return value.tolist() if isinstance(value, np.ndarray) else value


@pytest.fixture(scope="module")
def recomputed(tmp_path_factory):
    """A product of six labels and all of them computed again."""
    case = Case(tmp_path_factory.mktemp("product"))
    return case, case.recompute()


@pytest.fixture
def fresh(recomputed):
    """The same, with the product as it should be."""
    case, paths = recomputed
    case.write(case.properties)
    return case, paths


class TestDrawing:
    def test_every_label_once(self):
        labels = LabelledSet.from_records(structures(), ["train"] * 6, [0] * 6, [{"energy": 0.0}] * 6)
        drawn = [draw_structure(campaign(), VERIFY, labels, n) for n in range(7)]
        assert {s.structure_id for s in drawn[:6]} == {s.structure_id for s in structures()}
        assert drawn[6] is None
        again = [draw_structure(campaign(), VERIFY, labels, n) for n in range(6)]
        assert [s.structure_id for s in again] == [s.structure_id for s in drawn[:6]]
        others = [draw_structure(campaign(verification={"seed": 1}), VERIFY, labels, n) for n in range(6)]
        assert [s.structure_id for s in others] != [s.structure_id for s in drawn[:6]]

    @settings(max_examples=30, deadline=None)
    @given(seed=st.integers(0, 2**32 - 1))
    def test_copies_are_the_same_molecule(self, seed):
        """All distances and the handedness stay; nearly nothing else does."""
        structure = Structure.from_atoms(molecule("CH3CH2OH"), 1, 2)
        copy, rotation = rotated_copy(structure, np.random.default_rng(seed))
        assert rotation @ rotation.T == pytest.approx(np.eye(3)) and np.linalg.det(rotation) == pytest.approx(1.0)
        assert (copy.charge, copy.multiplicity) == (1, 2) and (copy.numbers == structure.numbers).all()
        one, other = (Atoms(s.numbers, s.positions).get_all_distances() for s in (structure, copy))
        assert other == pytest.approx(one, abs=1e-12)
        moved = copy.positions - structure.positions @ rotation.T
        assert moved == pytest.approx(np.tile(moved[0], (9, 1)), abs=1e-12)
        assert np.abs(copy.positions - structure.positions).max() > 1e-2

    def test_copy_of_a_cell(self):
        """The cell turns with its atoms: fractional coordinates change by the translation only."""
        cell = np.array([[3.0, 0, 0], [0.5, 3, 0], [0, 0.2, 4]])
        structure = Structure.create([6, 8], np.array([[0, 0, 0], [1.0, 1, 1]]), cell=cell, pbc=(True, True, True))
        copy, _ = rotated_copy(structure, np.random.default_rng(0))
        one, other = (s.positions @ np.linalg.inv(s.cell) for s in (structure, copy))
        assert np.diff(other, axis=0) == pytest.approx(np.diff(one, axis=0))
        assert copy.pbc == (True, True, True) and not np.allclose(copy.cell, cell)


class TestVerify:
    def test_agreement(self, fresh):
        """Three properties against data set and store, for each label; a sample beyond the last label is no failure."""
        case, paths = fresh
        recompute_label(campaign(), ".", VERIFY, 6, str(case.folder / "dataset.h5"), str(case.folder / "6.json"), JOB)
        rows = case.compare([*paths, str(case.folder / "6.json")])
        assert len(rows) == 6 * 3 * 2 and not any(row.bad for row in rows)
        assert {(r.quantity, r.source) for r in rows} == {
            (q, s) for q in ("energy", "gap", "forces") for s in ("dataset", "store")
        }
        assert all(row.conditions == "" for row in rows)
        assert summary(rows)[-1] == "6 of 6 labels agree (36 values compared)"
        require_agreement(rows, "verify.csv")

    def test_wrong_energy_in_the_data_set(self, fresh):
        """Found, with exact numbers in one line."""
        case, paths = fresh
        wrong = [dict(p) for p in case.properties]
        wrong[2]["energy"] += 2e-6
        case.write(wrong)
        rows = case.compare(paths)
        assert [(r.structure_id, r.quantity, r.source) for r in rows if r.bad] == [
            (case.structures[2].structure_id, "energy", "dataset")
        ]
        with pytest.raises(QuarryError) as error:
            require_agreement(rows, "verify.csv")
        assert str(error.value) == (
            f"1 of 6 labels do not agree; the worst: {case.structures[2].structure_id} energy in the dataset "
            f"{wrong[2]['energy']!r}, computed again {case.properties[2]['energy']!r} eV, difference 2e-06, tolerance 1e-06: "
            "differs; table in verify.csv"
        )
        assert not any(row.bad for row in case.compare(paths, energy_tolerance_eV=3e-6))

    def test_wrong_record_in_the_store(self, fresh, tmp_path):
        """One force component of one record, and the conditions under which that record came about."""
        case, paths = fresh
        forces = np.array(case.properties[4]["forces"])
        forces[1, 2] -= 0.01
        store = LabelStore(tmp_path, METHOD_ID, {})
        store.put(
            label_record(
                case.structures[4].structure_id,
                properties={**case.properties[4], "forces": forces.tolist()},
                versions={"python": PYTHON, "quarry": __version__, "pyscf": "1.0"},
                cost={"wall_s": 1.0, "threads": 8},
            )
        )
        rows = compare_labels(Verification(), VERIFY, paths, str(case.folder / "dataset.h5"), store)
        (bad,) = [row for row in rows if row.bad]
        assert (bad.quantity, bad.source, bad.unit) == ("forces", "store", "eV/Angstrom")
        assert bad.recorded == pytest.approx(forces[1, 2]) and bad.difference == pytest.approx(0.01)
        assert bad.conditions == "pyscf 1.0 then, absent now, threads 8 then, 1 now"
        others = {row.conditions for row in rows if row.structure_id != bad.structure_id}
        assert others == {"no record in the store"}

    def test_a_property_that_is_gone(self, fresh):
        """Recorded but not computed again is a difference; without either there is nothing to compare."""
        case, paths = fresh
        answer = json.loads(Path(paths[0]).read_bytes())
        del answer["properties"]["forces"]
        path = case.folder / "gone.json"
        path.write_text(json.dumps(answer))
        rows = [row for row in case.compare([str(path)]) if row.bad]
        assert [(r.quantity, r.source) for r in rows] == [("forces", "dataset"), ("forces", "store")]
        assert all(math.isnan(row.recomputed) for row in rows)
        case.write([{"dipole": [0.0, 0.0, 0.1]}] * 6)
        rows = compare_labels(Verification(), CHECK_ROTATIONS, paths[:1], str(case.folder / "dataset.h5"), case.store)
        assert [(row.verdict, row.conditions) for row in rows] == [("failed", "no property to compare")]

    @pytest.mark.parametrize(("function", "why"), [("hopeless", "no such luck"), ("not_a_number", "energy")])
    def test_a_recomputation_that_fails(self, fresh, function, why):
        """Is a reason to fail, whatever the others say."""
        case, paths = fresh
        path = case.folder / f"{function}.json"
        settings = campaign(f"unit.test_verification:{function}")
        line = recompute_label(settings, ".", VERIFY, 0, str(case.folder / "dataset.h5"), str(path), JOB)
        assert "engine_error" in line
        rows = case.compare([str(path), *paths[1:]])
        with pytest.raises(QuarryError, match=rf"1 of 6 labels do not agree; .* could not be computed again .*{why}"):
            require_agreement(rows, "verify.csv")

    def test_only_what_disagrees_is_forgotten(self, tmp_path):
        case = Case(tmp_path, 3)
        paths = case.recompute(count=4)
        wrong = [dict(p) for p in case.properties]
        wrong[1]["gap"] += 1.0
        case.write(wrong)
        rows = case.compare(paths)
        forget_disagreeing(paths, rows)
        order = [draw_structure(campaign(), VERIFY, LabelledSet.read(tmp_path / "dataset.h5"), n) for n in range(3)]
        gone = [Path(path).exists() for path in paths].index(False)
        assert order[gone].structure_id == case.structures[1].structure_id
        assert sum(Path(path).exists() for path in paths) == 3

    def test_table(self, fresh):
        """Numbers in full."""
        case, paths = fresh
        write_table(str(case.folder / "verify.csv"), case.compare(paths))
        with open(case.folder / "verify.csv", newline="") as handle:
            table = list(csv.DictReader(handle))
        first = draw_structure(campaign(), VERIFY, LabelledSet.read(case.folder / "dataset.h5"), 0)
        energy = morse(first.to_atoms(), calls="")["energy"]
        assert table[0]["structure_id"] == first.structure_id
        assert (float(table[0]["recorded"]), float(table[0]["recomputed"])) == (energy, energy)
        assert (table[0]["unit"], table[0]["verdict"]) == ("eV", "agrees")


class TestRotations:
    def test_agreement(self, fresh):
        """Energies agree, and forces do once they are turned back (they do not before)."""
        case, _ = fresh
        paths = case.recompute(CHECK_ROTATIONS, 3)
        rows = case.compare(paths, CHECK_ROTATIONS)
        assert len(rows) == 9 and not any(row.bad for row in rows)
        assert {row.source for row in rows} == {"dataset"}
        assert max(row.difference for row in rows if row.quantity == "energy") < 1e-12
        answer = json.loads(Path(paths[0]).read_bytes())
        recorded = case.properties[[s.structure_id for s in case.structures].index(answer["structure_id"])]
        assert np.abs(np.array(answer["properties"]["forces"]) - recorded["forces"]).max() > 0.01
        energy = next(row for row in rows if row.quantity == "energy")
        assert energy.tolerance == pytest.approx(3 * 5e-5), "per atom"

    def test_an_engine_that_knows_directions(self, tmp_path):
        """Recorded energies are what it gave, and yet it is found out."""
        case = Case(tmp_path, 4)
        settings = campaign("unit.test_verification:lopsided")
        case.write(
            [
                {**p, "energy": lopsided(s.to_atoms())["energy"]}
                for s, p in zip(case.structures, case.properties, strict=True)
            ]
        )
        assert not any(r.bad for r in case.compare(case.recompute(VERIFY, 4, settings)) if r.source == "dataset")
        rows = case.compare(case.recompute(CHECK_ROTATIONS, 3, settings), CHECK_ROTATIONS)
        assert {row.quantity for row in rows if row.bad} == {"energy"}

    def test_nothing_enters_the_store(self, fresh):
        case, _ = fresh
        before = sorted(case.store.folder.rglob("*"))
        case.recompute(CHECK_ROTATIONS, 2)
        assert sorted(case.store.folder.rglob("*")) == before


def test_excitations_and_dipoles(fresh):
    """Lists are compared element by element; a list of another length differs."""
    _, paths = fresh
    answer = json.loads(Path(paths[0]).read_bytes())
    answer["properties"] |= {"excitation_energies": [5.0, 7.0], "dipole": [0.0, 0.0, 0.3]}
    recorded = {"excitation_energies": [5.0, 7.1], "dipole": np.array([0.0, 0.0, 0.3])}
    compared = lambda quantity, values: list(verification._compared(quantity, values, answer, 1e-3))  # noqa: E731
    assert compared("excitation_energies", recorded) == [(7.1, 7.0, pytest.approx(0.1), "differs")]
    assert compared("dipole", recorded) == [(0.0, 0.0, 0.0, "agrees")]
    assert [c[-1] for c in compared("excitation_energies", {"excitation_energies": [5.0]})] == ["differs"]
    assert compared("homo", recorded) == []


def test_verification_is_no_part_of_a_campaign():
    """It may be changed at any time; results beside the arms keep its folder."""
    assert campaign(verification={"seed": 5, "sample": 99}).identity() == campaign().identity()
    assert "verification" in CampaignPaths("x").names, "no arm can be called so"


def no_forces(atoms):
    return {"energy": morse(atoms, calls="")["energy"]}


class TestDisplacedCopies:
    def test_right_forces_agree(self, tmp_path):
        case = Case(tmp_path)
        paths = case.recompute(CHECK_FORCES, 2)
        rows = case.compare(paths, CHECK_FORCES)
        assert [row.quantity for row in rows] == ["energy_slope"] * 2 and not any(row.bad for row in rows)
        assert max(row.difference for row in rows) < 1e-3
        assert summary(rows)[-1] == "2 of 2 forces agree with the energies of displaced copies (2 values compared)"

    @pytest.mark.parametrize("factor", [-1.0, 0.529177, 1.05])
    def test_wrong_ones_do_not(self, tmp_path, factor):
        case = Case(tmp_path)
        case.write([{**p, "forces": (factor * np.array(p["forces"])).tolist()} for p in case.properties])
        rows = case.compare(case.recompute(CHECK_FORCES, 6), CHECK_FORCES)
        assert sum(row.bad for row in rows) >= 4
        with pytest.raises(QuarryError, match=r"of 6 labels do not agree; the worst: .* energy_slope in the dataset"):
            require_agreement(rows, "check_forces.csv")

    def test_beside_the_labels_of_verify(self, tmp_path):
        """verify compares both, and says both."""
        case = Case(tmp_path)
        rows = case.compare([*case.recompute(VERIFY, 2), *case.recompute(CHECK_FORCES, 1)], VERIFY)
        lines = summary(rows)
        assert sum(row.quantity == "energy_slope" for row in rows) == 1
        assert any(line.startswith("2 of 2 labels agree") for line in lines)
        assert lines[-1].startswith("1 of 1 forces agree")

    def test_labels_without_forces_are_passed_over(self, tmp_path):
        case = Case(tmp_path)
        case.write([{"energy": p["energy"]} for p in case.properties])
        paths = case.recompute(CHECK_FORCES, 1)
        assert json.loads(Path(paths[0]).read_text()) == {"status": "absent"}
        assert case.compare(paths, CHECK_FORCES) == []

    def test_a_failure_and_an_engine_that_gives_none(self, tmp_path):
        case = Case(tmp_path)
        paths = case.recompute(CHECK_FORCES, 1, campaign(f"{__name__}:hopeless"))
        assert [row.verdict for row in case.compare(paths, CHECK_FORCES)] == ["failed"]
        assert not case.compare(case.recompute(CHECK_FORCES, 1, campaign(f"{__name__}:no_forces")), CHECK_FORCES)[0].bad

    def test_the_direction_is_the_seeds(self):
        structure = structures()[0]
        a, b = (displaced.random_direction(structure, np.random.default_rng(s)) for s in (0, 1))
        assert np.linalg.norm(a) == pytest.approx(1.0) and not np.allclose(a, b)
        plus, minus = displaced.displaced_copies(structure, 0.01 * a)
        assert np.allclose((plus.positions + minus.positions) / 2, structure.positions)
        assert np.linalg.norm(plus.positions - minus.positions) == pytest.approx(0.02)
