"""Receipts tell whole files from damaged ones; recovery leaves what an interrupted run leaves, and every label."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarry.campaign.batch_table import BatchRow, write_batch
from quarry.campaign.paths import CampaignPaths
from quarry.campaign.receipts import write_receipt
from quarry.campaign.recovery import Recovery
from quarry.labeling.record import LabelRecord, read_records, write_records
from quarry.stopping.facts import Cost, Facts
from quarry.structures import Structure
from quarry.structures.files import LeafEntry, write_leaf

ITERATIONS = 3
BATCH = 2
RULES = {
    "score_pool": ["scores.h5"],
    "propose_batch": ["proposal.csv"],
    "select_batch": ["batch.csv", "batch", "planned.csv", "reused.csv"],
    "merge_labels": ["dataset.h5", "failures.csv", "outliers.csv"],
    "train_model": ["model/model.h5"],
    "evaluate_model": ["predictions.h5", "metrics.json"],
    "assess_iteration": ["facts.json", "cost.json"],
}
"""The outputs of every rule of an iteration in the order in which they run (labels come after select_batch)."""
COST = {"wall_s": 1.0, "cpu_s": 1.0, "threads": 1, "host": "here"}
STAGE_FILES = [f for files in RULES.values() for f in files if f != "batch"]


def structure(iteration: int, number: int) -> Structure:
    return Structure.create([1, 1], np.array([[0.0, 0.0, 0.0], [0.0, iteration, 0.7 + number]]))


def write_iteration(paths: CampaignPaths, arm: str, t: int) -> None:
    """Write a finished iteration as its rules do; only the gates and labels have real content."""

    def at(name: str) -> Path:
        return Path(paths.iteration(name, arm, t))

    structures = [structure(t, n) for n in range(BATCH)]
    for rule, names in RULES.items():
        if t == 0 and rule in ("score_pool", "propose_batch"):
            continue
        if rule == "select_batch":
            write_batch(at("batch.csv"), [BatchRow(s.structure_id, "train", s.structure_id) for s in structures])
            at("batch").mkdir(exist_ok=True)
            for s in structures:
                write_leaf(at(f"batch/{s.structure_id}.extxyz"), [LeafEntry(s)])
        elif rule == "assess_iteration":
            counts = dict.fromkeys(("n_train", "n_test", "n_labels", "n_failed", "pool_size", "pool_left"), t)
            changes = dict.fromkeys(("rrmse", "rrmse_low", "rrmse_high"), 1.0)
            Facts(
                arm=arm, iteration=t, phase="query", target="energy", metric="test", errors={}, **counts, **changes
            ).write(at("facts.json"))
            Cost(BATCH, 0, 0, 0.0, 0.0, 0.0, 0.0).write(at("cost.json"))
        for name in names:
            if name != "batch" and not at(name).exists():
                at(name).parent.mkdir(parents=True, exist_ok=True)
                at(name).write_text(f"{arm} {t} {name} " + "x" * 200)
        write_receipt(at(f"receipts/{rule}.json"), rule, [str(at(n)) for n in names], COST)
        if rule == "select_batch":
            for s in structures:
                write_records(at(f"labels/{s.structure_id}.json"), [record(s.structure_id)])


def record(structure_id: str) -> LabelRecord:
    cost = {"wall_s": 1.0, "cpu_s": 1.0, "threads": 1, "peak_memory_MB": 1.0}
    return LabelRecord(structure_id, "m", {}, "ok", "", {"energy": 1.0}, [], cost, {}, "here", {}, "now")


class Disk:
    """A finished campaign of three iterations in the working directory, and what recovery does with it."""

    paths = CampaignPaths("toy")

    @property
    def recovery(self) -> Recovery:
        return Recovery(self.paths, ["main"], {"main"})

    def mend(self) -> list[str]:
        said: list[str] = []
        self.recovery.mend(said.append)
        return said

    def at(self, name: str, iteration: int = ITERATIONS - 1) -> Path:
        return Path(self.paths.iteration(name, "main", iteration))

    def label(self, iteration: int = ITERATIONS - 1, number: int = 0) -> Path:
        return self.at(f"labels/{structure(iteration, number).structure_id}.json", iteration)

    def leaf(self, iteration: int = ITERATIONS - 1, number: int = 0) -> Path:
        return self.at(f"batch/{structure(iteration, number).structure_id}.extxyz", iteration)

    def content(self) -> dict[str, bytes]:
        return {str(p): p.read_bytes() for p in sorted(Path("results").rglob("*")) if p.is_file()}

    def labels(self) -> dict[str, tuple[bytes, int]]:
        found = Path("results").rglob("labels/*.json")
        return {str(p): (p.read_bytes(), p.stat().st_mtime_ns) for p in found}

    def check_mended(self, whole: int) -> None:
        """After mending, the disk is as an interrupted run leaves it: a prefix of the stages, and every label."""
        assert self.recovery.count_whole("main") == whole
        for t in range(whole, ITERATIONS):
            labels = all(self.label(t, n).exists() for n in range(BATCH))
            stages = self.paths.stages("main", t, scored=True, proposed=t > 0)
            there = [[Path(f).exists() for f in stage] for stage in stages]
            if t == whole:
                place = stages.index([])
                there[place] = [] if labels else [False]  # labels stay whatever is missing before them
                flags = list(itertools.chain(*there))
                assert flags == sorted(flags, reverse=True), f"iteration {t} is no prefix: {there}"
            else:
                assert not self.at("batch.csv", t).exists()
            assert not self.at("facts.json", t).exists() and not self.at("cost.json", t).exists()


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    with contextlib.chdir(folder):
        for t in range(ITERATIONS):
            write_iteration(Disk.paths, "main", t)
    return folder / "results"


@pytest.fixture
def disk(finished, tmp_path, monkeypatch) -> Disk:
    shutil.copytree(finished, tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    return Disk()


class TestCountWhole:
    def test_a_finished_campaign(self, disk):
        assert disk.recovery.count_whole("main") == ITERATIONS
        assert disk.recovery.count_whole("random") == 0

    @pytest.mark.parametrize("iteration", range(ITERATIONS))
    def test_any_missing_file_ends_the_count(self, disk, iteration):
        names = [
            f.as_posix()
            for stage in disk.paths.stages("main", iteration, True, iteration > 0)
            for f in map(Path, stage)
        ]
        for name in [*names, str(disk.label(iteration, 0)), str(disk.label(iteration, 1))]:
            data = Path(name).read_bytes()
            Path(name).unlink()
            assert disk.recovery.count_whole("main") == iteration, name
            Path(name).write_bytes(data)
        assert disk.recovery.count_whole("main") == ITERATIONS

    def test_any_truncated_file_ends_the_count(self, disk):
        for iteration in range(ITERATIONS):
            for name in STAGE_FILES[2 if iteration == 0 else 0 :]:
                data = disk.at(name, iteration).read_bytes()
                disk.at(name, iteration).write_bytes(data[: len(data) // 2])
                assert disk.recovery.count_whole("main") == iteration, name
                disk.at(name, iteration).write_bytes(data)

    def test_a_changed_byte_in_the_last_iteration_ends_the_count(self, disk):
        for name in STAGE_FILES:
            data = disk.at(name).read_bytes()
            disk.at(name).write_bytes(data[:-5] + bytes([data[-5] ^ 1]) + data[-4:])
            assert disk.recovery.count_whole("main") == ITERATIONS - 1, name
            disk.at(name).write_bytes(data)

    def test_changed_facts_are_seen_in_every_iteration(self, disk):
        """The stop rules read them all; they carry a checksum."""
        text = disk.at("facts.json", 0).read_text()
        disk.at("facts.json", 0).write_text(text.replace('"n_train": 0', '"n_train": 9'))
        assert disk.recovery.count_whole("main") == 0

    def test_unscored_arms_have_no_scores(self, disk):
        for t in (1, 2):
            disk.at("scores.h5", t).unlink()
            disk.at("receipts/score_pool.json", t).unlink()
        assert Recovery(disk.paths, ["main"], set()).count_whole("main") == ITERATIONS
        assert disk.recovery.count_whole("main") == 1

    def test_the_one_before_a_damaged_last_iteration_is_compared_by_hash_too(self, disk):
        for t in (1, 2):
            data = disk.at("dataset.h5", t).read_bytes()
            disk.at("dataset.h5", t).write_bytes(data[:-1] + b"y")
        assert disk.recovery.count_whole("main") == 1


class TestMend:
    def test_a_whole_campaign_is_left_alone(self, disk):
        before = disk.content()
        assert disk.mend() == []
        assert disk.content() == before

    @pytest.mark.parametrize("iteration", range(ITERATIONS))
    @pytest.mark.parametrize("name", [*STAGE_FILES, "label", "leaf", "all leaves", "receipts"])
    def test_whichever_file_is_missing_the_labels_stay_and_a_prefix_is_left(self, disk, iteration, name):
        if iteration == 0 and name in ("scores.h5", "proposal.csv"):
            pytest.skip("iteration 0 has none")
        special = {
            "label": [disk.label(iteration)],
            "leaf": [disk.leaf(iteration)],
            "all leaves": [disk.leaf(iteration, n) for n in range(BATCH)],
            "receipts": sorted(disk.at("receipts", iteration).iterdir()),
        }
        for path in special.get(name, [disk.at(name, iteration)]):
            path.unlink()
        labels, before = disk.labels(), disk.content()
        disk.mend()
        assert disk.labels() == labels
        harmless = name in ("leaf", "all leaves", "receipts")
        disk.check_mended(ITERATIONS if harmless else iteration)
        after = disk.content()
        assert after.items() <= before.items()
        kept = {p for p in before if any(f"iter_{t:03d}" in p for t in range(iteration))}
        assert kept <= after.keys()

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
            disk.mend()
            assert disk.labels() == labels
            disk.check_mended(disk.recovery.count_whole("main"))
            content = disk.content()
            assert disk.mend() == [], "a start that follows a start finds nothing damaged"
            assert disk.labels() == labels and disk.content().items() <= content.items()
            disk.check_mended(disk.recovery.count_whole("main"))

    def test_a_damaged_file_is_kept_as_evidence_and_said(self, disk):
        disk.at("dataset.h5").write_bytes(b"half")
        said = disk.mend()
        assert len(said) == 1 and "dataset.h5" in said[0] and "made again" in said[0]
        assert disk.at("dataset.h5.damaged").read_bytes() == b"half"
        disk.check_mended(ITERATIONS - 1)

    def test_a_damaged_label_is_moved_aside_and_never_removed(self, disk):
        disk.at("facts.json").unlink()
        whole, half = disk.label(number=1).read_bytes(), disk.label().read_bytes()[:100]
        disk.label().write_bytes(half)
        said = disk.mend()
        assert len(said) == 1 and "computed again" in said[0] and "\n" not in said[0]
        assert disk.label().with_name(disk.label().name + ".damaged").read_bytes() == half
        assert not disk.label().exists() and disk.label(number=1).read_bytes() == whole
        disk.check_mended(ITERATIONS - 1)
        assert disk.at("batch.csv").exists() and not disk.at("dataset.h5").exists()

    def test_a_second_damaged_label_does_not_replace_the_first(self, disk):
        for text in ("first", "second"):
            disk.at("facts.json").unlink(missing_ok=True)
            disk.label().write_text(text)
            disk.mend()
        kept = sorted(p.read_text() for p in disk.label().parent.glob("*.damaged*"))
        assert kept == ["first", "second"]

    def test_a_truncated_leaf_that_waits_for_its_label_draws_the_batch_again(self, disk):
        disk.at("facts.json").unlink()
        disk.label().unlink()
        disk.leaf().write_text(disk.leaf().read_text()[:-20])
        said = disk.mend()
        assert [line for line in said if "will be made again" in line]
        assert not disk.at("batch.csv").exists() and disk.at("proposal.csv").exists()
        assert read_records(disk.label(number=1))
        disk.check_mended(ITERATIONS - 1)

    @pytest.mark.parametrize("text", ["", "structure_id,role\n", "a,b,c,d,e\n", "\xff\xfe"])
    def test_a_damaged_batch_table_without_a_receipt_is_moved_aside(self, disk, text):
        disk.at("facts.json").unlink()
        disk.at("receipts/select_batch.json").unlink()
        disk.at("batch.csv").write_text(text, encoding="latin-1")
        labels = disk.labels()
        disk.mend()
        assert disk.at("batch.csv.damaged").exists() and disk.labels() == labels
        disk.check_mended(ITERATIONS - 1)

    def test_a_batch_table_with_a_stray_quote_is_moved_aside(self, disk):
        """One byte of a batch of 3,000 becomes a quote: the rest of the file is one field, too large for csv."""
        ids = [f"{n:020x}" for n in range(3000)]
        write_batch(disk.at("batch.csv"), [BatchRow(i, "train", i) for i in ids])
        write_receipt(disk.at("receipts/select_batch.json"), "select_batch", [str(disk.at("batch.csv"))], COST)
        text = disk.at("batch.csv").read_text()
        place = text.index(ids[0])
        disk.at("batch.csv").write_text(text[:place] + '"' + text[place + 1 :])
        disk.mend()
        assert disk.at("batch.csv.damaged").exists()

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
        assert disk.mend() == []
        for name in files:
            (root / name).write_text("whale")
        assert len(disk.mend()) == len(files)
        assert [n for n in files if (root / n).exists()] == []
        assert [n for n in files if (root / f"{n}.damaged").read_text() != "whale"] == []

    def test_other_arms_are_mended_by_themselves(self, disk):
        write_iteration(disk.paths, "random", 0)
        Path(disk.paths.facts("random", 0)).unlink()
        main = {p: c for p, c in disk.content().items() if "/main/" in p}
        Recovery(disk.paths, ["main", "random"], {"main"}).mend(lambda line: None)
        assert {p: c for p, c in disk.content().items() if "/main/" in p} == main
        assert not Path(disk.paths.cost("random", 0)).exists()

    def test_a_missing_iteration_folder_reopens_the_later_ones(self, disk):
        disk.at("", 1).rename("elsewhere")
        disk.mend()
        assert disk.recovery.count_whole("main") == 1
        assert not disk.at("facts.json").exists() and not disk.at("batch.csv").exists()


def test_receipts_are_readable(disk):
    text = json.loads(disk.at("receipts/merge_labels.json").read_text())
    assert sorted(Path(p).name for p in text["outputs"]) == ["dataset.h5", "failures.csv", "outliers.csv"]
