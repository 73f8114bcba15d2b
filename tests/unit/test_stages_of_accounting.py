"""Facts, costs and the product."""

from __future__ import annotations

import csv
from pathlib import Path

import ase.io
import pytest

from quarry.campaign.receipts import write_receipt
from quarry.errors import QuarryError
from quarry.files import write_json
from quarry.labeling.ledger import LabelLedger
from quarry.labeling.record import LabelRecord, write_records
from quarry.labeling.wanted import Wanted
from quarry.stages.assessment import Payer, account_cost, assess_iteration, progress_line
from quarry.stages.results import HISTORY_COLUMNS, collect_results, history_rows
from quarry.stopping.facts import Cost, Facts
from quarry.structures.labelled import LabelledSet
from support.stages import (
    SIZE,
    configuration,
    label_record,
    make_facts,
    write_failures,
)


class TestFacts:
    def test_sizes_and_what_the_metrics_said(self, tmp_path):
        errors = {"test": {"rmse": 0.0213, "rmse_low": 0.01, "rmse_high": 0.03}}
        changes = {"rrmse": 0.5, "rrmse_low": 0.1, "rrmse_high": 0.9}
        counts = {"n_train": 12, "n_test": 6, "n_labels": 18}
        write_json(tmp_path / "m.json", {**counts, **changes, "errors": errors, "hyperparameters": {"a": 1.0}})
        failures = write_failures(tmp_path / "f.csv", ["a", "b"])
        arguments = (str(tmp_path / "m.json"), failures, SIZE, str(tmp_path / "facts.json"))
        found = assess_iteration(configuration(), "main", 2, *arguments)
        assert Facts.read(tmp_path / "facts.json") == found
        assert (found.n_failed, found.pool_size, found.pool_left) == (2, SIZE, SIZE - 18 - 2)
        assert (found.phase, found.iteration, found.rmse, found.rrmse) == ("query", 2, 0.0213, 0.5)
        assert assess_iteration(configuration(), "main", 0, *arguments).phase == "initial"

    @pytest.mark.parametrize(
        ("facts", "line"),
        [
            ({}, "main iteration 0: 12 training labels (3 new, 2 reused)"),
            (
                {"errors": {"test": {"rmse": 0.05, "rmse_low": 0.04, "rmse_high": 0.0612}}, "n_failed": 2},
                "main iteration 0: 12 training labels, 2 failed; test RMSE 50 meV (95 %: 40 to 61.2); rRMSE 1.0",
            ),
            (
                {
                    "t": 3,
                    "errors": {"test": {"rmse": 0.5, "rmse_low": 0.4, "rmse_high": 0.6}},
                    "rrmse": 0.25,
                    "rrmse_low": 0.125,
                },
                "main iteration 3: 12 training labels; test RMSE 0.5 eV (95 %: 0.4 to 0.6); rRMSE 0.250 (0.125 to 1.000)",
            ),
            (
                {
                    "t": 1,
                    "errors": {
                        "test": {
                            "rmse": 0.001216,
                            "rmse_low": 0.0009,
                            "rmse_high": None,
                            "rmse_over_std": 0.0123,
                            "r2": 0.99985,
                            "rmse_per_atom": 0.000412,
                        }
                    },
                    "rrmse": 0.5,
                    "rrmse_low": 0.0,
                    "rrmse_high": None,
                },
                "main iteration 1: 12 training labels; test RMSE 1.216 meV (95 %: 0.9 upwards; 0.012 of the std, "
                "R2 0.99985; 0.41 meV/atom); rRMSE 0.500 (0.000 upwards)",
            ),
            (
                {"errors": {"test": {"rmse": 0.5, "rmse_low": None, "rmse_high": None, "r2": None}}},
                "main iteration 0: 12 training labels; test RMSE 0.5 eV (95 %: no interval); rRMSE 1.0",
            ),
            (
                {"target": "dipole", "errors": {"test": {"rmse": 0.05, "rmse_low": 0.04, "rmse_high": 0.06}}},
                "main iteration 0: 12 training labels; test RMSE 50 me*Angstrom (95 %: 40 to 60); rRMSE 1.0",
            ),
        ],
    )
    def test_the_line_in_the_terminal(self, facts, line):
        assert progress_line(make_facts(**facts), Cost(3, 2, 0, 0.0, 0.0, 0.0, 0.0)) == line


PAYER = Payer("mine", "main", 1)


class TestCost:
    def account(self, folder: Path, records: list[LabelRecord], receipts: dict[str, dict] | None = None) -> Cost:
        labels = []
        for number, record in enumerate(records):
            labels.append(str(folder / f"{number}.json"))
            write_records(labels[-1], [record])
        for rule, cost in (receipts or {}).items():
            write_receipt(folder / "receipts" / f"{rule}.json", rule, [], cost)
        found = account_cost(
            PAYER,
            labels,
            [folder / "receipts"],
            LabelLedger(folder / "failed"),
            Wanted(("energy",)),
            str(folder / "cost.json"),
        )
        assert Cost.read(folder / "cost.json") == found
        return found

    def test_new_reused_and_failed_labels(self, tmp_path):
        """Each label costs 36 s on 2 threads: 0.02 core-hours."""
        origin = label_record("x").origin
        records = [
            label_record("a"),
            label_record("b"),
            label_record("c", status="out_of_time"),
            label_record("d", origin={**origin, "arm": "random"}),
            label_record("e", origin={**origin, "iteration": 0}),
            label_record("f", origin={**origin, "campaign_id": "another"}),
            label_record("g", origin={}),
        ]
        found = self.account(tmp_path, records)
        assert (found.labels_new, found.labels_reused, found.labels_failed) == (2, 4, 1)
        assert found.label_core_hours == pytest.approx(3 * 0.02)
        assert found.campaign_label_core_hours == pytest.approx(5 * 0.02)
        assert found.label_cpu_s == pytest.approx(210)

    def test_a_label_that_lacks_the_target_is_counted_as_the_merge_counts_it(self, tmp_path):
        records = [label_record("a"), label_record("b", properties={"gap": 1.0})]
        found = self.account(tmp_path, records)
        assert (found.labels_new, found.labels_reused, found.labels_failed) == (1, 0, 1)
        assert found.label_core_hours == pytest.approx(2 * 0.02), "it was paid for all the same"

    def test_core_hours_of_models_are_those_of_the_receipts_but_bookkeeping(self, tmp_path):
        jobs = {
            "train_model": {"wall_s": 1800.0, "threads": 4},
            "evaluate_model": {"wall_s": 900.0, "threads": 2},
            "select_batch": {"wall_s": 3600.0, "threads": 1},
            "merge_labels": {"wall_s": 3600.0, "threads": 1},
            "assess_iteration": {"wall_s": 3600.0, "threads": 1},
        }
        found = self.account(tmp_path, [], jobs)
        assert found.train_core_hours == found.model_core_hours == pytest.approx(2.5)

    def test_what_the_pool_took_is_paid_once(self, tmp_path):
        """Of dynamics its normal modes, whose Hessian would be counted again for each iteration to come."""
        for place, rule, wall_s in (("0", "train_model", 1800.0), ("pool", "compute_normal_modes", 7200.0)):
            write_receipt(tmp_path / place / "receipts" / f"{rule}.json", rule, [], {"wall_s": wall_s, "threads": 1})
        folders = [[tmp_path / place / "receipts"] for place in ("0", "pool")]
        output = str(tmp_path / "cost.json")
        account_cost(PAYER, [], folders[0], LabelLedger(tmp_path / "failed"), Wanted(), output, folders[1])
        found = Cost.read(output)
        assert (found.train_core_hours, found.pool_core_hours, found.model_core_hours) == (2.5, 2.0, 0.5)
        assert Cost(1, 0, 0, 0.0, 0.0, 0.5, 1.0).model_core_hours == 0.5, "of an earlier version"

    def test_a_damaged_record_is_refused(self, tmp_path):
        (tmp_path / "a.json").write_text("[")
        with pytest.raises(QuarryError, match="damaged label record"):
            account_cost(
                PAYER,
                [str(tmp_path / "a.json")],
                [],
                LabelLedger(tmp_path / "failed"),
                Wanted(),
                str(tmp_path / "cost.json"),
            )
        assert not (tmp_path / "cost.json").exists()


FACTS = [
    make_facts(0, errors={"test": {"rmse": 0.5, "mae": 0.25, "maxe": 1.0}}),
    make_facts(1, errors={"test": {"rmse": 1 / 3, "mae": 0.125, "maxe": 0.5}}, rrmse=0.5, n_labels=23),
]
COSTS = [Cost(8, 1, 0, 0.5, 0.75, 0.25, 1.0), Cost(5, 0, 2, 0.25, 0.25, 0.125, 1.0)]


class TestProduct:
    def test_history(self):
        first, last = history_rows(FACTS, COSTS, "enough")
        assert first["unit"] == "eV", "of its errors"
        assert tuple(first) == tuple(last) == HISTORY_COLUMNS
        assert (first["iteration"], first["phase"], first["rmse"], first["n_labels"]) == ("0", "initial", "0.5", "18")
        assert (last["iteration"], last["phase"], last["rmse"], last["n_labels"]) == (
            "1",
            "query",
            "0.3333333333",
            "23",
        )
        assert (first["labels_new"], first["labels_reused"], last["labels_failed"]) == ("8", "1", "2")
        assert (first["stop_reason"], last["stop_reason"]) == ("", "enough")
        # Costs add up over iterations: what the campaign paid for the labels used, and the models.
        assert [float(row["core_hours_total"]) for row in (first, last)] == [1.0, 1.375]
        assert (first["label_core_hours"], last["train_core_hours"]) == ("0.5", "0.125")
        assert first["mae_low"] == ""

    def test_errors_are_those_of_the_stop_metric(self):
        errors = {"test": {"rmse": 9.0}, "validation": {"rmse": 0.5}}
        [row] = history_rows([make_facts(metric="validation", errors=errors)], COSTS[:1], "")
        assert (row["metric"], row["rmse"]) == ("validation", "0.5")

    def test_facts_and_costs_must_be_of_the_same_iterations(self):
        with pytest.raises(ValueError, match="zip"):
            history_rows(FACTS, COSTS[:1], "")

    def test_collect_results(self, tmp_path, trained):
        files = []
        for f, c in zip(FACTS, COSTS, strict=True):
            folder = tmp_path / f"iter_{f.iteration:03d}"
            f.write(folder / "facts.json")
            c.write(folder / "cost.json")
            files.append(str(folder / "facts.json"))
        names = {
            "history": "history.csv",
            "failures": "failures.csv",
            "outliers": "outliers.csv",
            "audit": "audit.csv",
            "dataset": "dataset.h5",
        }
        names |= {"extxyz": "dataset.extxyz", "model": "model.h5"}
        output = {key: str(tmp_path / name) for key, name in names.items()}
        last = {key: str(trained / names[key]) for key in ("dataset", "failures", "outliers", "audit", "model")}
        collect_results(files, "enough, said the rule", last, output)
        with open(output["history"], newline="") as handle:
            assert list(csv.DictReader(handle)) == history_rows(FACTS, COSTS, "enough, said the rule")
        for key, source in last.items():
            assert Path(output[key]).read_bytes() == Path(source).read_bytes()
        labelled = LabelledSet.read(output["dataset"])
        energies = [atoms.get_potential_energy() for atoms in ase.io.read(output["extxyz"], index=":")]
        assert energies == pytest.approx(labelled.properties["energy"].tolist(), rel=1e-12)
