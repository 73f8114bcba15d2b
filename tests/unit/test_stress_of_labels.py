"""Stresses and charges as labels: their shapes, data sets, the audit, and labels computed again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest

from quarry.config import load_configuration
from quarry.config.engines.replay import ReplayLabeling
from quarry.config.verification import Verification
from quarry.labeling.audit.absurd import check_absurd
from quarry.labeling.audit.repeats import label_difference
from quarry.labeling.engines.answers import plain_properties
from quarry.labeling.engines.registry import make_engine
from quarry.labeling.limits import Allocation
from quarry.labeling.store import LabelStore
from quarry.labeling.wanted import Wanted
from quarry.stages.verification import CHECK_ROTATIONS, VERIFY, compare_labels, recompute_label, rotated_copy
from quarry.structures.files import FileSource, read_files
from quarry.structures.frames import write_extxyz
from quarry.structures.labelled import LabelledSet
from support.campaigns import stand_in_configuration
from support.crystals import MOLECULE, STRESSES, STRUCTURES, VOIGT, ase_section, slope
from support.stages import METHOD_ID

JOB = Allocation(threads=1, memory_MB=2000, walltime_min=600)


class TestAnswers:
    def test_shapes_of_a_tensor(self):
        full = STRESSES[0]
        voigt = full.ravel()[VOIGT]
        symmetric = (full + full.T) / 2
        for answer in (full, full.ravel(), full.tolist()):
            assert np.array_equal(plain_properties({"stress": answer}, 4)["stress"], symmetric)
        assert np.array(plain_properties({"stress": voigt}, 4)["stress"]) == pytest.approx(full, abs=1e-9)

    @pytest.mark.parametrize(
        ("stress", "reason"),
        [
            (np.zeros((4, 3)), r"stress has the shape \(4, 3\) instead of \(3, 3\)"),
            (1.0, r"stress has the shape \(\) instead of \(3, 3\)"),
            ([[1, 0.5, 0], [0, 1, 0], [0, 0, 1]], "stress is not symmetric: components differ by 0.5 eV/Angstrom"),
            (None, "stress is no real number: None"),
        ],
    )
    def test_what_is_no_stress(self, stress, reason):
        with pytest.raises(ValueError, match=reason):
            plain_properties({"stress": stress}, 4)

    def test_only_a_target_needs_it(self):
        assert Wanted(["energy"]).lacking({"energy": 1.0}) == ""
        assert Wanted(["energy", "stress"]).lacking({"energy": 1.0}) == "no stress, which the target needs"


class TestDataSet:
    @pytest.fixture
    def written(self, tmp_path) -> tuple[LabelledSet, Path]:
        everything = [*STRUCTURES, MOLECULE]
        properties: list[dict[str, Any]] = [{"energy": -1.0, "stress": stress.tolist()} for stress in STRESSES]
        labels = LabelledSet.from_records(
            everything, ["train"] * 4, range(4), [*properties, {"energy": -2.0, "charges": [-0.5, 0.25, 0.25]}]
        )
        labels.write(tmp_path / "a.h5", {})
        write_extxyz(labels, tmp_path / "a.extxyz")
        return labels, tmp_path / "a.extxyz"

    def test_ase_gives_it_back(self, written):
        """And so MACE, which takes energies, forces and stresses of frames from what ASE gives back."""
        labels, path = written
        assert labels.properties["stress"].shape == (4, 3, 3) and labels.properties["charges"].shape == (15,)
        frames = ase.io.read(path, ":")
        for atoms, stress in zip(frames[:3], STRESSES, strict=True):
            assert atoms.get_stress(voigt=False) == pytest.approx(stress, abs=1e-8)
            assert atoms.get_stress() == pytest.approx(stress.ravel()[VOIGT], abs=1e-8)
        assert "stress" not in frames[3].calc.results and frames[3].get_charges().tolist() == [-0.5, 0.25, 0.25]

    def test_it_can_be_a_pool(self, written):
        labels, path = written
        again = read_files([FileSource(path, ":")], 0, 1, "pool.files")
        assert [s.structure_id for s in again] == labels.structures.ids.tolist()

    def test_it_can_be_replayed(self, written):
        labels, path = written
        section = {"engine": "replay", "file": path.name, "columns": {"energy": "energy", "stress": "stress"}}
        engine = make_engine(ReplayLabeling.model_validate(section), path.parent)
        for row, structure in enumerate(STRUCTURES):
            found = engine.label(structure, 1).properties["stress"]
            assert np.array(found) == pytest.approx(labels.record(row)["stress"], abs=1e-8)


class TestAudit:
    def test_a_stress_beyond_all_physics(self):
        labels = [
            {"energy": -1.0, "stress": (stress * (1e5 if k == 1 else 1)).tolist()} for k, stress in enumerate(STRESSES)
        ]
        found = check_absurd(LabelledSet.from_records(STRUCTURES, ["train"] * 3, [0] * 3, labels))
        assert [(f.structure_id, f.check, f.unit) for f in found] == [
            (STRUCTURES[1].structure_id, "absurd_stress", "eV/Angstrom^3")
        ]
        assert found[0].words.startswith("stress off the others of ")

    def test_the_labels_of_rotated_copies_are_the_same(self):
        copy, rotation = rotated_copy(STRUCTURES[0], np.random.default_rng(0))
        assert not np.allclose(slope(copy.to_atoms()), STRESSES[0], atol=1e-3)
        assert slope(copy.to_atoms()) == pytest.approx(rotation @ STRESSES[0] @ rotation.T, abs=1e-7)
        name, difference = label_difference({"stress": STRESSES[0]}, {"stress": slope(copy.to_atoms())})
        assert name == "stress" and difference < 1e-7


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    folder = tmp_path_factory.mktemp("again")
    configuration = load_configuration(stand_in_configuration(labeling=ase_section()), "campaign.yaml")
    engine = make_engine(configuration.labeling, ".")
    properties = [engine.label(s, 1).properties for s in STRUCTURES]
    LabelledSet.from_records(STRUCTURES, ["train"] * 3, [0] * 3, properties).write(folder / "dataset.h5", {})
    paths = {}
    for check in (VERIFY, CHECK_ROTATIONS):
        paths[check] = [str(folder / f"{check}_{n}.json") for n in range(3)]
        for n, path in enumerate(paths[check]):
            recompute_label(configuration, ".", check, n, str(folder / "dataset.h5"), path, JOB)
    return folder, properties, paths


class TestComputedAgain:
    """`snakemake verify` and `check_rotations` of a campaign with stresses."""

    def compare(self, case, check: str, dataset: str = "dataset.h5", **settings: Any):
        folder, _, paths = case
        store = LabelStore(folder / "store", METHOD_ID, {})
        return compare_labels(Verification(**settings), check, paths[check], str(folder / dataset), store)

    @pytest.mark.parametrize("check", [VERIFY, CHECK_ROTATIONS])
    def test_right_labels(self, case, check):
        rows = self.compare(case, check)
        assert {row.quantity for row in rows} == {"energy", "stress"} and not any(row.bad for row in rows)
        stresses = [row for row in rows if row.quantity == "stress"]
        assert len(stresses) == 3 and all(row.difference < 1e-10 for row in stresses)
        assert {row.unit for row in stresses} == {"eV/Angstrom^3"}

    @pytest.mark.parametrize("check", [VERIFY, CHECK_ROTATIONS])
    def test_a_wrong_sign_and_a_component_in_another_place(self, case, check):
        folder, properties, _ = case
        wrong = [{**p, "stress": np.array(p["stress"])} for p in properties]
        wrong[0]["stress"] = -wrong[0]["stress"]
        wrong[2]["stress"] = wrong[2]["stress"][[1, 0, 2]][:, [1, 0, 2]]
        LabelledSet.from_records(STRUCTURES, ["train"] * 3, [0] * 3, wrong).write(folder / "wrong.h5", {})
        bad = {row.structure_id for row in self.compare(case, check, "wrong.h5") if row.bad}
        assert bad == {STRUCTURES[0].structure_id, STRUCTURES[2].structure_id}

    def test_tolerances_can_be_set(self, case):
        folder, properties, _ = case
        off = [{**p, "stress": np.array(p["stress"]) + 1e-4 * np.eye(3)} for p in properties]
        LabelledSet.from_records(STRUCTURES, ["train"] * 3, [0] * 3, off).write(folder / "off.h5", {})
        assert sum(row.bad for row in self.compare(case, VERIFY, "off.h5")) == 3
        assert not any(row.bad for row in self.compare(case, VERIFY, "off.h5", tolerances={"stress": 1e-3}))
        assert not any(row.bad for row in self.compare(case, CHECK_ROTATIONS, "off.h5"))
        rows = self.compare(case, CHECK_ROTATIONS, "off.h5", rotation_tolerances={"stress": 1e-5})
        assert sum(row.bad for row in rows) == 3
