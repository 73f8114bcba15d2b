"""Receipts tell whole files from damaged ones; recovery leaves what an interrupted run leaves, and every label."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarry.campaign.batch_table import BatchRow, write_batch
from quarry.campaign.loop import ArmPlan
from quarry.campaign.receipts import write_receipt
from quarry.campaign.recovery import Recovery
from quarry.labeling.record import read_records
from support.disk import BATCH, COST, ITERATIONS, STAGE_FILES, Disk, write_iteration


class TestCountIntact:
    def test_a_finished_campaign(self, disk):
        assert disk.recovery.count_intact("main") == ITERATIONS
        assert disk.recovery.count_intact("random") == 0

    @pytest.mark.parametrize("iteration", range(ITERATIONS))
    def test_any_missing_file_ends_the_count(self, disk, iteration):
        names = [
            f.as_posix()
            for stage in disk.paths.stages("main", iteration, ArmPlan(True, iteration > 0))
            for f in map(Path, stage)
        ]
        for name in [*names, str(disk.label(iteration, 0)), str(disk.label(iteration, 1))]:
            data = Path(name).read_bytes()
            Path(name).unlink()
            assert disk.recovery.count_intact("main") == iteration, name
            Path(name).write_bytes(data)
        assert disk.recovery.count_intact("main") == ITERATIONS

    def test_any_truncated_file_ends_the_count(self, disk):
        for iteration in range(ITERATIONS):
            for name in STAGE_FILES[3 if iteration == 0 else 0 :]:
                data = disk.at(name, iteration).read_bytes()
                disk.at(name, iteration).write_bytes(data[: len(data) // 2])
                assert disk.recovery.count_intact("main") == iteration, name
                disk.at(name, iteration).write_bytes(data)

    def test_a_changed_byte_in_the_last_iteration_ends_the_count(self, disk):
        for name in STAGE_FILES:
            data = disk.at(name).read_bytes()
            disk.at(name).write_bytes(data[:-5] + bytes([data[-5] ^ 1]) + data[-4:])
            assert disk.recovery.count_intact("main") == ITERATIONS - 1, name
            disk.at(name).write_bytes(data)

    def test_changed_facts_are_seen_in_every_iteration(self, disk):
        """The stop rules read them all; they carry a checksum."""
        text = disk.at("facts.json", 0).read_text()
        disk.at("facts.json", 0).write_text(text.replace('"n_train": 0', '"n_train": 9'))
        assert disk.recovery.count_intact("main") == 0

    def test_unscored_arms_have_no_scores(self, disk):
        for t in (1, 2):
            disk.at("scores.h5", t).unlink()
            disk.at("receipts/score_pool.json", t).unlink()
        assert Recovery(disk.paths, {"main": ArmPlan()}).count_intact("main") == ITERATIONS
        assert disk.recovery.count_intact("main") == 1

    def test_the_one_before_a_damaged_last_iteration_is_compared_by_hash_too(self, disk):
        for t in (1, 2):
            data = disk.at("dataset.h5", t).read_bytes()
            disk.at("dataset.h5", t).write_bytes(data[:-1] + b"y")
        assert disk.recovery.count_intact("main") == 1


class TestRepair:
    def test_a_whole_campaign_is_left_alone(self, disk):
        before = disk.content()
        assert disk.repair() == []
        assert disk.content() == before

    @pytest.mark.parametrize("iteration", range(ITERATIONS))
    @pytest.mark.parametrize("name", [*STAGE_FILES, "label", "leaf", "all leaves", "receipts"])
    def test_whichever_file_is_missing_the_labels_stay_and_a_prefix_is_left(self, disk, iteration, name):
        if iteration == 0 and name in ("scores.h5", "proposal.csv", "query.json"):
            pytest.skip("iteration 0 has none")
        special = {
            "label": [disk.label(iteration)],
            "leaf": [disk.job_input(iteration)],
            "all leaves": [disk.job_input(iteration, n) for n in range(BATCH)],
            "receipts": sorted(disk.at("receipts", iteration).iterdir()),
        }
        for path in special.get(name, [disk.at(name, iteration)]):
            path.unlink()
        labels, before = disk.labels(), disk.content()
        disk.repair()
        disk.check_labels(labels)
        harmless = name in ("leaf", "all leaves", "receipts")
        disk.check_repaired(ITERATIONS if harmless else iteration)
        after = disk.content()
        assert after.items() <= before.items()
        kept = {p for p in before if any(f"iter_{t:03d}" in p for t in range(iteration))}
        assert kept <= after.keys()

    def test_what_an_earlier_version_did_not_make_is_not_missed(self, disk):
        """A query that no receipt speaks of: an iteration cut behind its proposal keeps it, and finished ones stay finished."""
        for iteration in (1, 2):
            disk.at("query.json", iteration).unlink()
            made = [str(disk.at(name, iteration)) for name in ("proposal.csv",)]
            write_receipt(disk.at("receipts/propose_batch.json", iteration), "propose_batch", made, {})
        assert disk.recovery.count_intact("main") == ITERATIONS
        for name in ("facts.json", "metrics.json", "predictions.h5"):
            disk.at(name).unlink()
        disk.repair()
        assert disk.at("proposal.csv").exists() and disk.at("batch.csv").exists() and disk.at("model/model.h5").exists()

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def test_whatever_is_missing_or_truncated_the_labels_stay_and_a_prefix_is_left(self, finished, data):
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            shutil.copytree(finished, "results")
            disk = Disk()
            for path in data.draw(st.lists(st.sampled_from(sorted(disk.content())), max_size=8, unique=True)):
                if data.draw(st.booleans()) and "/labels/" not in path:
                    Path(path).write_bytes(Path(path).read_bytes()[:-7])
                else:
                    Path(path).unlink()
            labels = disk.labels()
            disk.repair()
            disk.check_labels(labels)
            disk.check_repaired(disk.recovery.count_intact("main"))
            labels, content = disk.labels(), disk.content()
            assert disk.repair() == [], "a start that follows a start finds nothing damaged"
            assert disk.labels() == labels and disk.content().items() <= content.items()
            disk.check_repaired(disk.recovery.count_intact("main"))

    def test_a_damaged_file_is_kept_as_evidence_and_said(self, disk):
        disk.at("dataset.h5").write_bytes(b"half")
        said = disk.repair()
        assert len(said) == 1 and "dataset.h5" in said[0] and "made again" in said[0]
        assert disk.at("dataset.h5.damaged").read_bytes() == b"half"
        disk.check_repaired(ITERATIONS - 1)

    def test_a_damaged_label_is_moved_aside_and_never_removed(self, disk):
        disk.at("facts.json").unlink()
        whole, half = disk.label(number=1).read_bytes(), disk.label().read_bytes()[:100]
        disk.label().write_bytes(half)
        said = disk.repair()
        assert len(said) == 1 and "computed again" in said[0] and "\n" not in said[0]
        assert disk.label().with_name(disk.label().name + ".damaged").read_bytes() == half
        assert not disk.label().exists() and disk.label(number=1).read_bytes() == whole
        disk.check_repaired(ITERATIONS - 1)
        assert disk.at("batch.csv").exists() and not disk.at("dataset.h5").exists()

    def test_a_second_damaged_label_does_not_replace_the_first(self, disk):
        for text in ("first", "second"):
            disk.at("facts.json").unlink(missing_ok=True)
            disk.label().write_text(text)
            disk.repair()
        kept = sorted(p.read_text() for p in disk.label().parent.glob("*.damaged*"))
        assert kept == ["first", "second"]

    def test_a_truncated_job_input_that_waits_for_its_label_draws_the_batch_again(self, disk):
        disk.at("facts.json").unlink()
        disk.label().unlink()
        disk.job_input().write_text(disk.job_input().read_text()[:-20])
        said = disk.repair()
        assert [line for line in said if "will be made again" in line]
        assert not disk.at("batch.csv").exists() and disk.at("proposal.csv").exists()
        assert read_records(disk.label(number=1))
        disk.check_repaired(ITERATIONS - 1)

    @pytest.mark.parametrize("text", ["", "structure_id,role\n", "a,b,c,d,e\n", "\xff\xfe"])
    def test_a_damaged_batch_table_without_a_receipt_is_moved_aside(self, disk, text):
        disk.at("facts.json").unlink()
        disk.at("receipts/select_batch.json").unlink()
        disk.at("batch.csv").write_text(text, encoding="latin-1")
        labels = disk.labels()
        disk.repair()
        assert disk.at("batch.csv.damaged").exists() and disk.labels() == labels
        disk.check_repaired(ITERATIONS - 1)

    def test_a_batch_table_with_a_stray_quote_is_moved_aside(self, disk):
        """One byte of a batch of 3,000 becomes a quote: the rest of the file is one field, too large for csv."""
        ids = [f"{n:020x}" for n in range(3000)]
        write_batch(disk.at("batch.csv"), [BatchRow(i, "train", i) for i in ids])
        write_receipt(disk.at("receipts/select_batch.json"), "select_batch", [str(disk.at("batch.csv"))], COST)
        text = disk.at("batch.csv").read_text()
        place = text.index(ids[0])
        disk.at("batch.csv").write_text(text[:place] + '"' + text[place + 1 :])
        disk.repair()
        assert disk.at("batch.csv.damaged").exists()

    def test_the_state_of_a_killed_training_stays(self, disk):
        """It is no file of a rule and no damage, and how the training goes on, whatever else of the iteration is made again."""
        state = disk.at("model/checkpoint/state.bin")
        for name in ("model/model.h5", "predictions.h5", "metrics.json", "facts.json", "cost.json"):
            disk.at(name).unlink()
        state.parent.mkdir()
        state.write_bytes(b"not a file that can be read")
        assert disk.repair() == [] and state.read_bytes() == b"not a file that can be read"
        disk.check_repaired(whole=2)
        disk.at("facts.json", 1).write_text("{")
        assert disk.repair() != [] and state.exists()

    def test_pool_and_products_are_looked_at_too(self, disk):
        files = {
            "pool/structures.h5": "pool/receipts/build_pool.json",
            "main/history.csv": "main/receipts/collect_results.json",
            "history.csv": "receipts/publish_results.json",
            "figures/parity.svg": "figures/receipts/draw_figures.json",
        }
        root = Path(disk.paths.root)
        for name, receipt in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text("whole")
            write_receipt(root / receipt, "rule", [str(root / name)], COST)
        assert disk.repair() == []
        for name in files:
            (root / name).write_text("whale")
        assert len(disk.repair()) == len(files)
        assert [n for n in files if (root / n).exists()] == []
        assert [n for n in files if (root / f"{n}.damaged").read_text() != "whale"] == []

    def test_other_arms_are_repaired_by_themselves(self, disk):
        write_iteration(disk.paths, "random", 0)
        Path(disk.paths.facts("random", 0)).unlink()
        main = {p: c for p, c in disk.content().items() if "/main/" in p}
        Recovery(disk.paths, {"main": ArmPlan(scored=True), "random": ArmPlan()}).repair(lambda line: None)
        assert {p: c for p, c in disk.content().items() if "/main/" in p} == main
        assert not Path(disk.paths.cost("random", 0)).exists()

    def test_a_missing_iteration_folder_reopens_the_later_ones(self, disk):
        disk.at("", 1).rename("elsewhere")
        disk.repair()
        assert disk.recovery.count_intact("main") == 1
        assert not disk.at("facts.json").exists() and not disk.at("batch.csv").exists()


def test_receipts_are_readable(disk):
    text = json.loads(disk.at("receipts/merge_labels.json").read_text())
    assert sorted(Path(p).name for p in text["outputs"]) == ["audit.csv", "dataset.h5", "failures.csv", "outliers.csv"]
