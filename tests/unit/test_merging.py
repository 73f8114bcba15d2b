"""Merging: nothing is lost or taken for something else, and failures are accounted for."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from quarry.campaign.batch_table import BatchRow, read_batch, write_batch
from quarry.campaign.failure_table import FAILURE_COLUMNS, REMEDIES, open_failures, put_off, read_failures
from quarry.errors import QuarryError
from quarry.failures import FAILURE_CLASSES
from quarry.labeling.ledger import LabelLedger
from quarry.labeling.outliers import read_outliers
from quarry.labeling.record import write_records
from quarry.labeling.wanted import Wanted
from quarry.structures import StructureSet
from quarry.structures.files import write_pool
from support.iterations import METHOD_ID, POOL, Iteration, energy, record


@pytest.fixture
def first(tmp_path) -> Iteration:
    return Iteration(tmp_path)


class TestGood:
    def test_every_structure_gets_its_own_label(self, first):
        first.fill([7, 3, 11, 0], tests=[7, 3])
        first.labels.reverse()
        assert first.merge() == "4 labels merged, 0 failed; 4 in all"
        assert first.dataset.structures.ids.tolist() == [POOL[n].structure_id for n in (7, 3, 11, 0)]
        assert first.dataset.properties["energy"].tolist() == [energy(POOL[n]) for n in (7, 3, 11, 0)]
        assert first.dataset.properties["forces"].shape == (8, 3)
        assert first.dataset.roles.tolist() == ["test", "test", "train", "train"]
        assert read_failures(first.folder / "failures.csv") == []

    def test_later_iterations_are_added_behind(self, first):
        first.fill([0, 1], tests=[0])
        first.merge()
        second = first.next()
        second.fill([5, 4])
        assert second.merge() == "2 labels merged, 0 failed; 4 in all"
        assert second.dataset.structures.ids.tolist() == [POOL[n].structure_id for n in (0, 1, 5, 4)]
        assert second.dataset.iterations.tolist() == [0, 0, 1, 1]
        assert second.dataset.properties["energy"].tolist() == [energy(POOL[n]) for n in (0, 1, 5, 4)]

    def test_the_bytes_do_not_depend_on_the_order_in_which_labels_came(self, first, tmp_path):
        first.fill([7, 3, 11], {3: "out_of_time"})
        first.merge(0.5)
        before = [(first.folder / name).read_bytes() for name in ("dataset.h5", "failures.csv")]
        first.labels = first.labels[::-1]
        first.merge(0.5)
        assert [(first.folder / name).read_bytes() for name in ("dataset.h5", "failures.csv")] == before

    def test_several_structures_in_one_job(self, first):
        write_batch(first.folder / "batch.csv", [BatchRow(POOL[n].structure_id, "train", "job0") for n in (4, 2)])
        write_pool(first.folder / "batch.h5", StructureSet.from_structures([POOL[4], POOL[2]]))
        first.labels = [str(first.folder / "labels" / "job0.json")]
        write_records(first.labels[0], [record(POOL[2]), record(POOL[4])])
        assert first.merge() == "2 labels merged, 0 failed; 2 in all"
        assert first.dataset.structures.ids.tolist() == [POOL[4].structure_id, POOL[2].structure_id]


class TestRefused:
    def test_a_missing_label_file(self, first):
        first.fill(range(4))
        first.labels.pop(1)
        message = first.refused()
        assert "names 4 jobs, but 3 label files were given (1 missing, 0 not in the batch)" in message
        assert "nothing was merged" in message

    def test_no_label_files_at_all(self, first):
        """What Snakemake gave a rule behind a checkpoint on resume (issue 3862)."""
        first.fill(range(4))
        first.labels = []
        assert "(4 missing, 0 not in the batch)" in first.refused()

    def test_an_extra_label_file(self, first):
        first.fill(range(4))
        extra = first.folder / "labels" / f"{POOL[9].structure_id}.json"
        write_records(extra, [record(POOL[9])])
        first.labels.append(str(extra))
        assert "names 4 jobs, but 5 label files were given (0 missing, 1 not in the batch)" in first.refused()

    def test_one_label_file_in_place_of_another(self, first):
        first.fill(range(4))
        extra = first.folder / "labels" / f"{POOL[9].structure_id}.json"
        write_records(extra, [record(POOL[9])])
        first.labels[0] = str(extra)
        assert "(1 missing, 1 not in the batch)" in first.refused()

    def test_the_same_label_file_twice(self, first):
        first.fill(range(4))
        first.labels.append(first.labels[0])
        assert "5 label files were given" in first.refused()

    def test_a_label_file_with_the_record_of_another_structure(self, first):
        first.fill(range(4))
        write_records(first.labels[2], [record(POOL[9])])
        message = first.refused()
        assert f"no record of structure {POOL[2].structure_id}" in message and first.labels[2] in message

    def test_a_label_of_another_method(self, first):
        first.fill(range(4))
        write_records(first.labels[2], [record(POOL[2], method_id="f" * 16)])
        message = first.refused()
        assert "method " + "f" * 16 in message and METHOD_ID in message and first.labels[2] in message

    @pytest.mark.parametrize("damage", ["truncated", "digit", "empty"])
    def test_a_damaged_record(self, first, damage):
        first.fill(range(4))
        path = Path(first.labels[2])
        whole = path.read_bytes()
        damaged = {"truncated": whole[:-40], "digit": whole.replace(b"90.0", b"91.0"), "empty": b""}[damage]
        assert damaged != whole
        path.write_bytes(damaged)
        message = first.refused()
        assert "damaged label record" in message and first.labels[2] in message and "start again" in message


FAILURE = {"status": "out_of_time", "message": "", "retried": "", "straggler": "", "key": "a"}


class TestFailures:
    def test_they_are_left_out_and_accounted_for(self, first):
        first.fill(range(10), {2: "scf_not_converged", 7: "out_of_memory"}, tests=[7, 8])
        assert first.merge() == "8 labels merged, 2 failed; 8 in all"
        assert len(first.dataset) == 8
        rows = read_failures(first.folder / "failures.csv")
        assert rows[1] == {
            "structure_id": POOL[7].structure_id,
            "key": POOL[7].structure_id,
            "role": "test",
            "iteration": "0",
            "job": POOL[7].structure_id,
            "status": "out_of_memory",
            "message": "out_of_memory, said the engine",
            "tried": "diis; newton",
            "wall_s": "90.0",
            "core_hours": "0.050000",
            "straggler": "",
            "retried": "",
        }
        assert [r["status"] for r in rows] == ["scf_not_converged", "out_of_memory"]
        with open(first.folder / "failures.csv", newline="") as handle:
            assert tuple(next(csv.reader(handle))) == FAILURE_COLUMNS

    def test_they_add_up_over_iterations(self, first):
        first.fill(range(10), {2: "out_of_time"})
        first.merge()
        second = first.next()
        second.fill(range(10, 20), {12: "out_of_time", 15: "engine_error"})
        assert second.merge() == "8 labels merged, 2 failed; 17 in all"
        rows = read_failures(second.folder / "failures.csv")
        assert [(r["iteration"], r["structure_id"]) for r in rows] == [
            ("0", POOL[2].structure_id),
            ("1", POOL[12].structure_id),
            ("1", POOL[15].structure_id),
        ]

    def test_exactly_the_limit_goes_on(self, first):
        first.fill(range(10), dict.fromkeys((1, 2), "out_of_time"))
        first.merge(limit=0.2)

    def test_above_the_limit_is_one_line_with_a_table_of_classes(self, first):
        failed = {1: "out_of_time", 2: "scf_not_converged", 3: "scf_not_converged"}
        first.fill(range(10), failed)
        message = first.refused(limit=0.2)
        assert message.startswith("3 of 10 labels have failed (scf_not_converged 2, out_of_time 1), more than ")
        assert "labeling.max_failed_fraction = 0.2" in message
        assert "the last says: scf_not_converged, said the engine" in message
        assert first.merge(limit=0.3) == "7 labels merged, 3 failed; 7 in all"

    def test_the_share_is_that_of_all_iterations(self, first):
        first.fill(range(20))
        first.merge()
        second = first.next()
        second.fill(range(20, 25), dict.fromkeys((20, 21, 22, 23, 24), "engine_error"))
        assert second.merge(limit=0.2) == "0 labels merged, 5 failed; 20 in all"
        third = second.next()
        third.fill(range(25, 27), dict.fromkeys((25, 26), "engine_error"))
        assert "7 of 27 labels have failed (engine_error 7)" in third.refused(limit=0.2)

    @pytest.mark.parametrize("limit", [0.0, 0.2, 1.0])
    def test_all_failed(self, first, limit):
        first.fill(range(3), dict.fromkeys(range(3), "invalid_structure"))
        assert "3 of 3 labels have failed (invalid_structure 3)" in first.refused(limit)

    @pytest.mark.parametrize("failure", FAILURE_CLASSES)
    def test_the_advice_fits_the_cause(self, first, failure):
        """The method may be changed only as long as no label stands for it."""
        first.fill(range(3), dict.fromkeys(range(3), failure))
        message = first.refused()
        assert f"{failure}: {REMEDIES[failure]}; then try them again with the target retry_failed" in message
        assert "every key may be changed" in message and "\n" not in message
        first.labels.clear()
        first.fill(range(3, 6), dict.fromkeys((3, 4), failure))
        message = first.refused(limit=0.2)
        assert REMEDIES[failure] in message and "needs a campaign of another name" in message
        assert "every key may be changed" not in message

    def test_the_advice_is_about_the_two_most_frequent_causes(self, first):
        causes = ["out_of_time", "scf_not_converged", "engine_error", "scf_not_converged", "out_of_time"]
        first.fill(range(8), dict(enumerate(causes)))
        message = first.refused(limit=0.2)
        named = [cause for cause in FAILURE_CLASSES if f"{cause}: {REMEDIES.get(cause)}" in message]
        assert sorted(named) == ["out_of_time", "scf_not_converged"]

    def test_none_is_allowed_at_a_limit_of_zero(self, first):
        first.fill(range(10), {3: "out_of_time"})
        assert "1 of 10" in first.refused(limit=0.0)

    def test_exactly_the_limit_goes_on_whatever_the_rounding(self, tmp_path):
        from quarry.stages.merging import _check_failed_fraction

        _check_failed_fraction([FAILURE] * 29, iteration=0, n_good=71, limit=0.29)


class TestRetries:
    def fill_with_retry(self, iteration, numbers, retried, failed=None):
        """A batch in which one row tries a failed label again."""
        iteration.fill(numbers, failed)
        structure_id = POOL[retried].structure_id
        rows = [
            BatchRow(r.structure_id, r.role, f"{structure_id}_r1", retry_of=structure_id)
            if r.structure_id == structure_id
            else r
            for r in read_batch(iteration.folder / "batch.csv")
        ]
        write_batch(iteration.folder / "batch.csv", rows)
        old = iteration.folder / "labels" / f"{structure_id}.json"
        new = old.with_name(f"{structure_id}_r1.json")
        old.rename(new)
        iteration.labels = [str(new) if path == str(old) else path for path in iteration.labels]

    def test_a_retry_in_the_next_batch_closes_the_failure(self, first):
        first.fill(range(10), {2: "out_of_time"})
        first.merge()
        second = first.next()
        self.fill_with_retry(second, [2, *range(10, 15)], retried=2)
        assert second.merge() == "6 labels merged, 0 failed; 15 in all"
        [row] = read_failures(second.folder / "failures.csv")
        assert row["retried"] == f"{POOL[2].structure_id}_r1" and open_failures([row]) == []

    def test_a_retry_that_fails_again_is_counted_once(self, first):
        first.fill(range(10), {2: "out_of_time"})
        first.merge()
        second = first.next()
        self.fill_with_retry(second, [2, *range(10, 15)], retried=2, failed={2: "engine_error"})
        second.merge(limit=1 / 15)
        rows = read_failures(second.folder / "failures.csv")
        assert [r["status"] for r in rows] == ["out_of_time", "engine_error"]
        assert [r["key"] for r in open_failures(rows)] == [f"{POOL[2].structure_id}_r1"]

    def test_a_label_tried_again_before_its_batch_was_merged_is_accounted_for(self, first):
        """As after a stop by max_failed_fraction: the first record stands in the ledger alone."""
        self.fill_with_retry(first, range(10), retried=3)
        LabelLedger(first.folder / "failed").put(POOL[3].structure_id, record(POOL[3], "scf_not_converged"))
        assert first.merge() == "10 labels merged, 0 failed; 10 in all"
        [row] = read_failures(first.folder / "failures.csv")
        assert (row["status"], row["job"]) == ("scf_not_converged", POOL[3].structure_id)
        assert row["retried"] == f"{POOL[3].structure_id}_r1"

    def test_stragglers_that_come_back_do_not_stop_the_campaign(self, first):
        first.fill(range(10))
        for n in (1, 2, 3):
            late = replace(record(POOL[n], "out_of_time"), details={"straggler": True})
            write_records(first.folder / "labels" / f"{POOL[n].structure_id}.json", [late])
        first.merge(limit=0.0)
        rows = read_failures(first.folder / "failures.csv")
        assert [row["structure_id"] for row in put_off(rows, 0)] == [POOL[n].structure_id for n in (1, 2, 3)]
        second = first.next()
        second.fill(range(10, 15))
        assert "3 of 15 labels have failed" not in second.merge(limit=0.2)


def test_outliers_are_flagged_and_kept(first):
    first.fill(range(20))
    wrong = record(POOL[7])
    energy = wrong.properties["energy"] + 500.0
    wrong = replace(wrong, properties={**wrong.properties, "energy": energy})
    write_records(first.folder / "labels" / f"{POOL[7].structure_id}.json", [wrong])
    assert "stand out" in first.merge() and len(first.dataset) == 20
    assert {o.structure_id for o in read_outliers(first.folder / "outliers.csv")} == {POOL[7].structure_id}
    second = first.next()
    second.fill(range(20, 30))
    second.merge()
    assert {o.structure_id for o in read_outliers(second.folder / "outliers.csv")} >= {POOL[7].structure_id}


def test_three_outliers_are_named_and_none_is_looked_for_unasked(first):
    first.fill(range(40))
    far = [7, 11, 13, 29]
    for n in far:
        wrong = record(POOL[n])
        properties = {**wrong.properties, "energy": wrong.properties["energy"] + 500.0 + n}
        write_records(first.folder / "labels" / f"{POOL[n].structure_id}.json", [replace(wrong, properties=properties)])
    line = first.merge()
    flagged = {o.structure_id for o in read_outliers(first.folder / "outliers.csv")}
    assert flagged >= {POOL[n].structure_id for n in far}
    assert f"see outliers.csv ({', '.join(sorted(flagged)[:3])})" in line
    assert "stand out" not in first.merge(outlier_z=None)
    assert read_outliers(first.folder / "outliers.csv") == []


class TestLabelsThatLackTheTarget:
    """One rule for forces, states and orbitals: they count as failed, by name, and are no hole in the data set."""

    @pytest.mark.parametrize(
        ("wanted", "properties", "message"),
        [
            (Wanted(("energy", "forces")), {"energy": 1.0}, "the label has no forces, which the target needs"),
            (Wanted(("lumo",)), {"energy": 1.0, "lumo": None}, "the label has no lumo, which the target needs"),
            (Wanted(("gap", "dipole")), {"energy": 1.0}, "the label has no gap and no dipole, which the target needs"),
            (
                Wanted(("excitation_energies", "oscillator_strengths"), 2),
                {"excitation_energies": [5.0, 6.0], "oscillator_strengths": [0.1]},
                "the label has 1 excited states where spectrum.n_states asks for 2",
            ),
            (
                Wanted(("excitation_energies", "oscillator_strengths"), 2),
                {"energy": 1.0},
                "the label has 0 excited states where spectrum.n_states asks for 2",
            ),
        ],
    )
    def test_they_count_as_failed(self, first, wanted, properties, message):
        full = {
            "energy": 2.0,
            "forces": [[0.0] * 3] * 2,
            "lumo": 1.0,
            "gap": 3.0,
            "dipole": [0.0] * 3,
            "excitation_energies": [5.0, 6.0],
            "oscillator_strengths": [0.1, 0.2],
        }
        first.fill(range(3))
        for number, path in enumerate(first.labels):
            write_records(path, [replace(record(POOL[number]), properties=properties if number == 1 else full)])
        assert first.merge(0.5, wanted) == "2 labels merged, 1 failed; 2 in all"
        [failure] = read_failures(first.folder / "failures.csv")
        assert (failure["structure_id"], failure["status"]) == (POOL[1].structure_id, "lacks_target")
        assert failure["message"] == message
        assert POOL[1].structure_id not in first.dataset.structures.ids

    def test_they_end_the_campaign_where_all_lack_it(self, first):
        first.fill(range(3))
        with pytest.raises(
            QuarryError, match=r"3 of 3 labels have failed \(lacks_target 3\).*no homo, which the target"
        ):
            first.merge(0.5, Wanted(("homo",)))
