"""The audit at a merge, labels that are left out, and stops that absurd labels hold back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest

from quarry.campaign.paths import CampaignPaths
from quarry.campaign.rejected_labels import check_ids, hold_from_now, read_rejected, rejected_at
from quarry.config.targets import TARGETS
from quarry.errors import QuarryError
from quarry.evaluation.tails import error_share
from quarry.labeling.audit.findings import ERROR, Finding, read_audit, write_audit
from quarry.labeling.record import write_records
from quarry.labeling.stability import UNSTABLE
from quarry.models.base import Prediction
from quarry.reporting.audit_table import write_audit_table
from quarry.stages.auditing import AuditSettings, audit_account
from quarry.stages.errors import Evaluated
from quarry.stages.evaluation import EvaluationFiles, evaluate_model
from quarry.stages.targets import training_data
from quarry.stages.training import train_model
from quarry.stopping.progress import Progress
from quarry.stopping.rules import absurd_message, held_back, stop_reason
from quarry.structures.frames import write_extxyz
from quarry.structures.labelled import LabelledSet
from support.arms import models_in
from support.iterations import POOL, Iteration, record
from support.stages import ROWS, configuration, energy_of, make_facts, write_dataset


@pytest.fixture
def first(tmp_path) -> Iteration:
    return Iteration(tmp_path)


def put(iteration: Iteration, n: int, details: dict | None = None, **properties) -> None:
    """Write another record of a structure of the pool."""
    label = record(POOL[n])
    label = replace(label, properties={**label.properties, **properties}, details=details or {})
    write_records(iteration.folder / "labels" / f"{POOL[n].structure_id}.json", [label])


class TestMerge:
    def test_right_labels_have_no_findings(self, first):
        first.fill(range(20))
        first.merge()
        assert not any(finding.bad for finding in read_audit(first.folder / "audit.csv"))

    def test_what_is_wrong_stands_in_the_table_and_in_the_line(self, first):
        first.fill(range(20))
        put(first, 7, forces=[[0.0, 0.0, 3.0], [0.0, 0.0, -1.0]])
        assert first.merge().endswith("1 finding of the audit, see audit.csv")
        [finding] = [f for f in read_audit(first.folder / "audit.csv") if f.bad]
        assert (finding.structure_id, finding.check, finding.value) == (POOL[7].structure_id, "net_force", 1.0)
        assert len(first.dataset) == 20 and not first.dataset.rejected, "nothing is dropped"

    def test_stop_refuses_errors_in_one_line_and_leaves_the_table(self, first):
        first.fill(range(20))
        put(first, 7, energy=3e5)
        with pytest.raises(QuarryError) as caught:
            first.merge(settings=AuditSettings("stop"))
        message = str(caught.value)
        assert "\n" not in message and "(absurd_energy; 1 labels)" in message and POOL[7].structure_id in message
        assert "labeling.leave_out" in message and "labeling.audit: warn" in message
        assert not (first.folder / "dataset.h5").exists() and not (first.folder / "audit.csv").exists()
        refused = first.folder / "audit_refused.csv"
        assert str(refused) in message and [f.structure_id for f in read_audit(refused) if f.bad] == [
            POOL[7].structure_id
        ]
        first.merge(settings=AuditSettings("stop", rejected=frozenset({POOL[7].structure_id})))
        assert len(first.dataset) == 20 and not refused.exists()

    def test_stop_lets_warnings_pass(self, first):
        first.fill(range(20))
        put(first, 7, forces=[[0.0, 0.0, 1.26], [0.0, 0.0, -1.2345678]])
        first.merge(settings=AuditSettings("stop"))
        assert [f.severity for f in read_audit(first.folder / "audit.csv") if f.bad] == ["warning"]

    def test_off_looks_at_nothing(self, first):
        first.fill(range(20))
        put(first, 7, energy=3e5)
        assert "audit" not in first.merge(settings=AuditSettings("off"))
        assert read_audit(first.folder / "audit.csv") == []

    def test_left_out_labels_are_kept_and_not_used(self, first):
        first.fill(range(20), tests=[0, 1, 2])
        put(first, 7, energy=3e5)
        names = {POOL[1].structure_id, POOL[7].structure_id}
        first.merge(settings=AuditSettings(rejected=frozenset(names)))
        found = first.dataset
        assert len(found) == 20 and found.rejected == names
        assert (len(found.indices("train")), len(found.indices("test"))) == (16, 2)
        rows = read_audit(first.folder / "audit.csv")
        assert {f.structure_id for f in rows if f.check == "left_out"} == names and not any(f.bad for f in rows)
        second = first.next()
        second.fill(range(20, 25))
        second.merge()
        assert not second.dataset.rejected, "what is rejected may change, also back"
        assert [f.structure_id for f in read_audit(second.folder / "audit.csv") if f.bad] == [POOL[7].structure_id]

    def test_what_records_say_of_stability_is_not_forgotten(self, first):
        first.fill(range(10))
        put(first, 3, {"stability": {"external": UNSTABLE, "external_curvature": -0.05}})
        first.merge()
        second = first.next()
        second.fill(range(10, 15))
        second.merge()
        for iteration in (first, second):
            unstable = [f for f in read_audit(iteration.folder / "audit.csv") if f.check == "externally_unstable"]
            assert [f.structure_id for f in unstable] == [POOL[3].structure_id]

    def test_the_same_labels_give_the_same_bytes(self, first):
        first.fill(range(30))
        put(first, 7, energy=3e5)
        first.merge()
        before = (first.folder / "audit.csv").read_bytes()
        first.labels.reverse()
        first.merge()
        assert (first.folder / "audit.csv").read_bytes() == before


def test_left_out_labels_in_files(tmp_path):
    labels = LabelledSet.from_records(POOL[:4], ["train"] * 4, [0] * 4, [{"energy": float(n)} for n in range(4)])
    some = replace(labels, rejected=frozenset({POOL[2].structure_id}))
    some.write(tmp_path / "d.h5", {})
    again = LabelledSet.read(tmp_path / "d.h5")
    assert again.rejected == some.rejected and again.indices("train").tolist() == [0, 1, 3]
    write_extxyz(again, tmp_path / "d.extxyz")
    assert [atoms.get_potential_energy() for atoms in ase.io.read(tmp_path / "d.extxyz", ":")] == [0.0, 1.0, 3.0]
    part = again.subset(np.array([3, 2]))
    assert part.structures.ids.tolist() == [POOL[3].structure_id, POOL[2].structure_id]
    assert part.properties["energy"].tolist() == [3.0, 2.0] and part.indices("train").tolist() == [0]


class TestRejectedLabelsFile:
    def test_ids_and_lines_of_tables(self, tmp_path):
        a, b, c = ("0123456789abcdef0123", "f" * 20, "1" * 20)
        (tmp_path / "bad.txt").write_text(
            f"# wrong\nstructure_id,check\n{a},net_force,error,1\n\ns{b}\n{c} twice\n{c}\n,energies_and_forces,error\n"
        )
        assert read_rejected(tmp_path / "bad.txt") == [a, b, c]

    @pytest.mark.parametrize("word", ["water_17", "0123", "7.2318893525186926e97", "0123456789ABCDEF0123"])
    def test_what_is_no_id_is_one_line(self, tmp_path, word):
        (tmp_path / "bad.txt").write_text(f"{'a' * 20}\n{word}\n")
        with pytest.raises(QuarryError, match=r"line 2 of .*is no structure id"):
            read_rejected(tmp_path / "bad.txt")

    def test_unknown_ids(self):
        check_ids(["a", "b"], ["b", "a", "c"])
        with pytest.raises(QuarryError, match=r"1 of 2 ids are not in the pool \(the first: d\)"):
            check_ids(["a", "d"], ["a"])


class TestFromWhenOnItHolds:
    def campaign(self, tmp_path, monkeypatch) -> CampaignPaths:
        monkeypatch.chdir(tmp_path)
        paths = CampaignPaths("toy")
        for iteration in (0, 1):
            folder = Path(paths.iteration("", "main", iteration))
            folder.mkdir(parents=True)
            (folder / "batch.csv").touch()
            (folder / "dataset.h5").touch()
        return paths

    def test_the_last_merged_iteration_is_merged_again(self, tmp_path, monkeypatch):
        paths = self.campaign(tmp_path, monkeypatch)
        assert hold_from_now([], paths, ["main"]) == "" and not Path(paths.rejected).exists()
        assert "is merged and trained again" in hold_from_now(["b", "a"], paths, ["main"], write=False)
        assert Path(paths.iteration("dataset.h5", "main", 1)).exists(), "a dry run changes nothing"
        assert hold_from_now(["b", "a"], paths, ["main"]).startswith(
            "labeling.leave_out: 2 labels are rejected, 0 before"
        )
        assert Path(paths.iteration("dataset.h5", "main", 0)).exists()
        assert not Path(paths.iteration("dataset.h5", "main", 1)).exists()
        assert hold_from_now(["a", "b"], paths, ["main"]) == "", "said and done once"
        assert [rejected_at(paths.rejected, "main", t) for t in (0, 1, 2)] == [frozenset(), {"a", "b"}, {"a", "b"}]

    def test_a_batch_that_is_not_merged_yet_is_where_it_begins(self, tmp_path, monkeypatch):
        paths = self.campaign(tmp_path, monkeypatch)
        Path(paths.iteration("dataset.h5", "main", 1)).unlink()
        assert "again" not in hold_from_now(["a"], paths, ["main"])
        assert rejected_at(paths.rejected, "main", 1) == {"a"} and not rejected_at(paths.rejected, "main", 0)

    def test_what_held_when_is_never_forgotten(self, tmp_path, monkeypatch):
        """An iteration that must be made again after damage is made as it was."""
        paths = self.campaign(tmp_path, monkeypatch)
        hold_from_now(["a"], paths, ["main", "other"])
        folder = Path(paths.iteration("", "main", 2))
        folder.mkdir()
        (folder / "batch.csv").touch()
        hold_from_now([], paths, ["main", "other"])
        assert [sorted(rejected_at(paths.rejected, "main", t)) for t in range(4)] == [[], ["a"], [], []]
        assert rejected_at(paths.rejected, "other", 0) == frozenset(), "an arm that had not begun"
        assert rejected_at(paths.rejected, "added_later", 0) == frozenset()


class TestAbsurdLabels:
    @pytest.fixture
    def absurd(self, tmp_path, pool, features):
        """A training and a test label 3e5 eV off, and the metrics of a model of them."""

        def evaluated(rows: list[int], target: str = "energy") -> dict:
            chosen = list(ROWS)
            properties = [{"energy": energy_of(pool[n]) + 3e5 * (n in rows), "gap": energy_of(pool[n])} for n in chosen]
            labels = LabelledSet.from_records(
                [pool[n] for n in chosen], list(ROWS.values()), [0] * len(chosen), properties
            )
            paths = {name: str(tmp_path / name) for name in ("d.h5", "m.h5", "p.h5", "metrics.json", "audit.csv")}
            labels.write(paths["d.h5"], {})
            found = [
                Finding(pool[n].structure_id, "absurd_energy", ERROR, 1e5, 100.0, "eV/atom", "absurd") for n in rows
            ]
            write_audit(paths["audit.csv"], found)
            conf = configuration(target=target)
            train_model(models_in(conf, features), paths["d.h5"], paths["m.h5"])
            files = EvaluationFiles(
                *(paths[n] for n in ("m.h5", "d.h5", "p.h5", "metrics.json")), audit=paths["audit.csv"]
            )
            evaluate_model(models_in(conf, features), files)
            return json.loads(Path(paths["metrics.json"]).read_text())

        return evaluated

    def test_they_stand_in_the_facts(self, absurd):
        found = absurd([2, 9])
        assert (found["flagged"]["labels"], found["flagged"]["train"], found["flagged"]["evaluated"]) == (2, 1, 1)
        assert found["flagged"]["error_share"] > 0.3
        assert any(message.startswith("audit, absurd_energy: absurd (2 labels: ") for message in found["warnings"])

    def test_none_and_those_of_another_property(self, absurd):
        assert "flagged" not in absurd([]) and "flagged" not in absurd([9], target="gap")

    @pytest.mark.parametrize(
        "stop", [{"rrmse": 0.1, "patience": 1, "min_r2": None}, {"rrmse": None, "target_rmse": 5e4}]
    )
    def test_no_convergence_while_they_are_used(self, stop):
        conf = configuration(stop=stop)
        errors = {"test": {"rmse": 3e4, "rmse_low": 1e4, "rmse_high": 4e4}}
        history = [make_facts(t, errors=errors, rrmse=0.002 if t else 1.0, n_train=12 + t) for t in (0, 1)]
        assert stop_reason(Progress(history, [], conf)) is not None
        flagged = {"labels": 2, "train": 1, "evaluated": 1, "error_share": 0.98, "ids": ["a" * 20]}
        wrong = [replace(facts, flagged=flagged) for facts in history]
        assert stop_reason(Progress(wrong, [], conf)) is None
        said = held_back(wrong[-1], conf)
        assert (
            said is not None and "but stops nothing: 1 training labels and 1 test-set labels have absurd values" in said
        )
        assert "98 % of the squared error" in said and "labeling.leave_out" in said
        repaired = [*wrong, replace(history[1], iteration=2, rrmse=0.002, n_train=14)]
        assert stop_reason(Progress(repaired, [], conf)) is not None, "the last error is not theirs any more"

    def test_budgets_end_it_and_say_so(self):
        flagged = {"labels": 1, "train": 1, "evaluated": 0, "error_share": 0.0, "ids": ["a" * 20]}
        facts = make_facts(1, flagged=flagged)
        assert (
            absurd_message(make_facts(1)) == ""
            and absurd_message(replace(facts, flagged={**flagged, "train": 0})) == ""
        )
        reason = stop_reason(Progress([facts], [], configuration(stop={"rrmse": None, "max_labels": 18})))
        assert reason is not None and reason.rule == "max_labels" and "have absurd values" in reason.words

    def test_the_share_of_the_error(self):
        errors = np.array([3.0, 4.0, 0.0])
        assert error_share(errors, np.array([True, False, False])) == pytest.approx(9 / 25)
        assert error_share(np.zeros(3), np.ones(3, dtype=bool)) == 0.0


def test_left_out_labels_count_in_the_account(tmp_path, pool, features):
    dataset = LabelledSet.read(write_dataset(tmp_path / "d.h5", pool, ROWS))
    train = training_data(dataset, "train", features, configuration())
    write_audit(tmp_path / "audit.csv", [Finding(pool[9].structure_id, "left_out", "note", 0.0, 0.0, "", "left out")])
    results = {"test": Evaluated.of(TARGETS["energy"], train, Prediction(train.targets))}
    found, said = audit_account(configuration(), str(tmp_path / "audit.csv"), train, results)
    assert found == {"n_left_out": 1} and said == [
        "1 labels are rejected (labeling.leave_out): kept and counted, but not used"
    ]
    assert audit_account(configuration(), None, train, results) == ({"n_left_out": 0}, [])


def test_the_section_of_the_report(tmp_path):
    rows = [
        Finding("a" * 20, "net_force", ERROR, 0.5, 0.005, "eV/Angstrom", "a <net> force"),
        Finding("", "energies_and_forces", "note", 1.0, 1.0, "1", "energies and forces agree"),
    ]
    write_audit(tmp_path / "audit.csv", rows)
    write_audit(tmp_path / "none.csv", [])
    write_audit_table({"main": tmp_path / "audit.csv", "other": tmp_path / "none.csv"}, tmp_path / "audit.html")
    text = (tmp_path / "audit.html").read_text()
    assert "1 error, 0 warnings, 1 note" in text and "a &lt;net&gt; force" in text and "a" * 20 in text
    assert text.index("net force") < text.index("energies and forces") and "Nothing was looked at" in text
